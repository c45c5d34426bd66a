# SPDX-License-Identifier: Apache-2.0
"""All that img3d is to show on a CUDA device, in one go, in under nine minutes, on a machine without a network.

It needs nvcc, PyTorch and the usual scientific packages; what else is needed comes as wheels (wheels.txt,
fetch_wheels.py). It builds img3d's kernels and gsplat's, of 1.4.0 and of 1.5.3, runs the tests marked `cuda`, trains
fox, chair and the still life with img3d-splat and splatfacto for the same time, and times frames and steps. What fails
is noted with its last lines, and the rest goes on. The results are written after every stage:

    python benchmarks/cuda/cuda_benchmark.py --wheels wheels/ --data DATA --output results/
    python benchmarks/cuda/cuda_benchmark.py --dry-run --output results/      # the same, tiny, on a CPU
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from guarded_stages import Record, Stage, Stages

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
TOTAL_SECONDS = 520
GSPLAT_RELEASES = ("1.4.0", "1.5.3")
METHODS = ("img3d-splat", "splatfacto")
IMPORTS = (
    "import cv2, scipy.spatial, sklearn.neighbors, torchvision, nerfstudio.scripts.train, img3d_dataparsers.photos;"
    "import img3d_methods.splat.trainer as trainer; print(trainer.__file__)"
)
NO_DEVICE = "there is no CUDA device"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is done."""

    train_seconds: float
    downscale: float
    """Of fox and chair, beside their usual sizes."""
    calibration: int
    gaussians: tuple[int, ...]
    frame: tuple[int, int]
    """Width and height."""
    repeats: int
    training_limit: float
    """Seconds, for the start, the training and the measurement together."""


FULL = Sizes(12, 1, 300, (10_000, 50_000, 200_000, 1_000_000), (960, 540), 20, 80)
TINY = Sizes(3, 4, 10, (500, 1_000), (64, 48), 2, 240)


class Plan:
    """The stages.

    Args:
        arguments: Of the command line.
        work: Folder for what is installed and built.
        has_device: Whether there is a CUDA device.
    """

    def __init__(self, arguments: argparse.Namespace, work: Path, has_device: bool) -> None:
        self._arguments, self._work = arguments, work
        self._sizes = TINY if arguments.dry_run else FULL
        self._no_device = None if has_device else NO_DEVICE
        self._wheels = sorted(arguments.wheels.glob("*.whl")) if arguments.wheels else []

    def groups(self) -> Iterator[tuple[Stage, ...]]:
        """Stages that run side by side, group after group; what matters most comes first."""
        yield (self._install(),)
        yield (self._script("describe", ["describe"], 60),)
        yield (self._kernels(), *(self._gsplat(release) for release in GSPLAT_RELEASES))
        yield (self._imports(),)
        for release in GSPLAT_RELEASES:
            yield (self._tests(release),)
            yield (self._steps(release),)
        for scene in ("fox", "chair", "still_life"):
            for method in METHODS:
                yield (self._training(scene, method, GSPLAT_RELEASES[0]),)
        for method in METHODS:
            yield (self._training("fox", method, GSPLAT_RELEASES[1]),)

    # ------------------------------------------------------------------------------------------------- installing

    def _site(self, release: str) -> Path:
        return self._work / f"gsplat-{release}"

    def _environment(self, release: str) -> dict[str, str]:
        """Of what runs with this release of gsplat."""
        paths = [self._work / "site", HERE, REPOSITORY, os.environ.get("PYTHONPATH", "")]
        if self._wheels:
            paths.insert(0, self._site(release))
        return {
            "PYTHONPATH": os.pathsep.join(str(path) for path in paths if str(path)),
            "TORCH_EXTENSIONS_DIR": str(self._work / f"extensions-{release}"),
            "MAX_JOBS": str(max(1, (os.cpu_count() or 2) // len(GSPLAT_RELEASES))),
            "PYTHONSAFEPATH": "1",  # what is installed, not what lies uncompiled in the working folder
            "MPLBACKEND": "Agg",
            "WANDB_MODE": "offline",
        }

    def _install(self) -> Stage:
        if not self._wheels:
            return Stage("install", (), 0, skip="no wheels are given (--wheels): what is installed is used")
        commands = [self._pip(self._work / "site", [w for w in self._wheels if not w.name.startswith("gsplat-")])]
        for release in GSPLAT_RELEASES:
            commands.append(self._pip(self._site(release), [w for w in self._wheels if f"gsplat-{release}-" in w.name]))
        return Stage("install", ("bash", "-ec", "\n".join(commands)), 90)

    def _pip(self, target: Path, wheels: list[Path]) -> str:
        options = "--quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade"
        return f"{sys.executable} -m pip install {options} --target {target} {' '.join(map(str, wheels))}"

    def _kernels(self) -> Stage:
        """img3d's own, for the parts that stay on the CPU."""
        if not self._wheels:
            return Stage("img3d-kernels", (), 0, skip="what is installed is used")
        command = f"{sys.executable} -m pip install --quiet --no-deps --no-index --no-build-isolation --upgrade"
        return Stage(
            "img3d-kernels",
            ("bash", "-ec", f"{command} --target {self._work / 'site'} {REPOSITORY}"),
            240,
            needs=("install",),
        )

    def _gsplat(self, release: str) -> Stage:
        name = f"build-gsplat-{release}"
        if self._no_device is None and shutil.which("nvcc") is None:
            return Stage(name, (), 0, skip="there is no nvcc")
        return self._script(name, ["build-gsplat"], 270, release, self._no_device)

    def _imports(self) -> Stage:
        """Whether all can be imported; if not with the carried NumPy, then with that of the machine."""
        command = f"{sys.executable} -c {shlex.quote(IMPORTS)}"
        carried = self._work / "site" / "numpy"
        script = f"{command} || {{ rm -rf {carried} {carried}-* {carried}.libs; {command}; }}"
        needs = ("install",) if self._wheels else ()
        return Stage("imports", ("bash", "-c", script), 90, needs, environment=self._environment(GSPLAT_RELEASES[0]))

    # --------------------------------------------------------------------------------------------------- measuring

    def _script(
        self,
        name: str,
        arguments: list[str],
        seconds: float,
        release: str = GSPLAT_RELEASES[0],
        skip: str | None = None,
    ) -> Stage:
        command = [sys.executable, str(HERE / "cuda_work.py"), *arguments]
        return Stage(name, command, seconds, self._needed(release, name), skip, self._environment(release))

    def _needed(self, release: str, name: str) -> tuple[str, ...]:
        installed = ("install",) if self._wheels else ()
        builds = () if self._no_device or name.startswith(("build", "describe")) else (f"build-gsplat-{release}",)
        return installed + builds

    def _tests(self, release: str) -> Stage:
        tests = [str(REPOSITORY / name) for name in ("tests/kernels", "tests/methods/splat", "tests/generators")]
        command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-c", str(REPOSITORY / "pyproject.toml")]
        command += ["--continue-on-collection-errors", *tests]  # as of tests of kernels that could not be built
        name = f"cuda-tests-gsplat-{release}"
        return Stage(name, command, 60, self._needed(release, name), self._no_device, self._environment(release))

    def _steps(self, release: str) -> Stage:
        sizes = self._sizes
        width, height = sizes.frame
        arguments = ["time-steps", "--gaussians", *map(str, sizes.gaussians), "--repeats", str(sizes.repeats)]
        skip = self._no_device if release != GSPLAT_RELEASES[0] else None  # without a device: the CPU's, once
        return self._script(
            f"steps-gsplat-{release}", [*arguments, "--width", str(width), "--height", str(height)], 45, release, skip
        )

    def _training(self, scene: str, method: str, release: str) -> Stage:
        sizes = self._sizes
        name = f"{scene}-{method}" + ("" if release == GSPLAT_RELEASES[0] else f"-gsplat-{release}")
        folder, downscale = {
            "fox": (self._arguments.data / "fox", 4 * sizes.downscale),
            "chair": (self._arguments.data / "chair", 2 * sizes.downscale),
            "still_life": (REPOSITORY / "sample" / "still_life", sizes.downscale),
        }[scene]
        skip = None
        if not folder.is_dir():
            skip = f"there are no data at {folder}"
        elif self._no_device and (method == "splatfacto" or release != GSPLAT_RELEASES[0]):
            skip = f"{NO_DEVICE}, and without one gsplat renders nothing"
        seconds = ["--seconds", str(sizes.train_seconds), "--calibration", str(sizes.calibration)]
        arguments = ["train", method, str(folder), "--downscale", str(downscale), *seconds]
        return self._script(name, arguments, sizes.training_limit, release, skip)


# --------------------------------------------------------------------------------------------------------- reporting


def markdown(records: list[Record]) -> str:
    """One table of all stages, one of the trainings, one of the timings, and what failed with its last lines."""
    lines = ["| stage | state | seconds | |", "|---|---|---|---|"]
    lines += [f"| {r.name} | {r.state} | {r.seconds:.0f} | {r.reason} |" for r in records]
    trainings = [r for r in records if isinstance(r.result, dict) and "method" in r.result]
    if trainings:
        lines += [
            "",
            "| training | seconds | steps | ms a step | Gaussians | PSNR dB | SSIM |",
            "|---|---|---|---|---|---|---|",
        ]
        for r in trainings:
            n = r.result
            quality = f"{n['psnr']:.2f} | {n['ssim']:.4f}" if "psnr" in n else "– | –"
            lines.append(
                f"| {r.name} | {n['seconds']:.1f} | {n['steps']:,} | {n['ms per step']:.2f} | {n['Gaussians']:,} "
                f"| {quality} |"
            )
    timings = [r for r in records if isinstance(r.result, dict) and "rows" in r.result]
    if timings:
        lines += ["", "| timing | size | Gaussians | frame ms | step ms |", "|---|---|---|---|---|"]
        for r in timings:
            lines += [
                f"| {r.name} | {r.result['size']} | {n['Gaussians']:,} | {n['frame ms']:.2f} | {n['step ms']:.2f} |"
                for n in r.result["rows"]
            ]
    for r in records:
        if r.last_lines:
            lines += ["", f"{r.name} {r.state} ({r.reason}):", "", "```", *r.last_lines, "```"]
    return "\n".join(lines) + "\n"


def write(records: list[Record], output: Path) -> None:
    """Both files, as far as things have come."""
    values = [dataclasses.asdict(record) for record in records]
    (output / "cuda.json").write_text(json.dumps(values, indent=1), "utf8")
    (output / "cuda.md").write_text(markdown(records), "utf8")


def main() -> None:
    """Run all stages. The exit status says only whether the script itself came to its end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for cuda.json, cuda.md and the logs")
    parser.add_argument("--wheels", type=Path, help="folder that fetch_wheels.py has filled")
    parser.add_argument("--work", type=Path, help="folder for what is built; default: in the output's")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("IMG3D_DATA", REPOSITORY.parent / "shared" / "data")),
        help="folder with fox and chair",
    )
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="of all stages together, at most")
    parser.add_argument("--dry-run", action="store_true", help="the same stages with tiny sizes, without CUDA")
    arguments = parser.parse_args()
    for name in ("output", "wheels", "work", "data"):
        if (path := getattr(arguments, name)) is not None:
            setattr(arguments, name, path.resolve())
    import torch

    has_device = torch.cuda.is_available() and not arguments.dry_run
    arguments.output.mkdir(parents=True, exist_ok=True)
    if has_device:
        capability = ".".join(map(str, torch.cuda.get_device_capability()))
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", capability)  # one architecture compiles fastest
    stages = Stages(arguments.output / "logs", arguments.seconds, lambda records: write(records, arguments.output))

    def leave(*_: object) -> NoReturn:
        stages.end()
        sys.exit(143)

    signal.signal(signal.SIGTERM, leave)
    for group in Plan(arguments, arguments.work or arguments.output / "work", has_device).groups():
        stages.run(*group)
        for record in stages.records[-len(group) :]:
            print(f"{record.name}: {record.state} {record.seconds:.0f} s {record.reason}", flush=True)
    print(markdown(stages.records))


if __name__ == "__main__":
    main()
