# SPDX-License-Identifier: Apache-2.0
"""What a training step of `img3d-splat` costs with a given number of Gaussians, and how the cost grows.

The trainer is the one that `ns-train img3d-splat` runs, on fox, from the seed points that it would start from, copied
with some jitter or thinned out to the number asked for, at full size and degree of spherical harmonics from the first
step on, and without densification. After 200 steps, 100 are timed. "Compiled" is the share of their time spent
inside `img3d_kernels._C`. Then frames are rendered (colour, depth and accumulation) as for the viewer and ns-render.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --gaussians 10000 30000 100000 300000 1000000 --warm-up 20 --timed 12 --fit
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from kernels import describe_machine
from nerfstudio.engine.trainer import TrainerConfig
from scipy.spatial import KDTree
from time_to_quality import SCENES

from img3d_kernels import _C
from img3d_methods.specs import img3d_splat
from img3d_methods.splat.model import Img3dSplatModel
from img3d_methods.splat.trainer import Img3dSplatTrainer
from img3d_methods.training.clock import TrainingClock

SIZES = {"270x480": "fox", "540x960": "fox-540x960"}
KERNELS: tuple[str, ...] = (
    "project_forward",
    "project_backward",
    "rasterize_forward",
    "rasterize_backward",
    "l1_ssim",
    "adam_step",
)


class CompiledTime:
    """Seconds spent in each of the compiled functions since `clear`."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(KERNELS, 0.0)

    def clear(self) -> None:
        """Start from zero."""
        self.seconds = dict.fromkeys(KERNELS, 0.0)

    @contextmanager
    def counting(self) -> Generator[None, None, None]:
        """Put a clock around the compiled functions."""
        originals = {name: getattr(_C, name) for name in KERNELS}
        for name, function in originals.items():
            setattr(_C, name, self._timed(name, function))
        try:
            yield
        finally:
            for name, function in originals.items():
                setattr(_C, name, function)

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            result = function(*args)
            self.seconds[name] += time.perf_counter() - began
            return result

        return timed


class StepTimer(Img3dSplatTrainer):
    """Keeps the wall time of every step after the warm-up."""

    warm_up: int
    compiled: CompiledTime
    step_seconds: list[float]

    def _step(self, step: int, clock: TrainingClock) -> None:
        if step == self.warm_up:
            self.compiled.clear()
        began = time.perf_counter()
        super()._step(step, clock)
        if step >= self.warm_up:
            self.step_seconds.append(time.perf_counter() - began)

    def _after_train(self) -> None:
        """Nothing is saved or measured."""


def resampled(points: torch.Tensor, n: int) -> torch.Tensor:
    """`n` of the points `[M, 3]`; where there are fewer, copies half a neighbour's distance away."""
    rng = np.random.default_rng(0)
    xyz = points.numpy().astype(np.float64)
    picks = np.concatenate([rng.permutation(len(xyz)) for _ in range(-(-n // len(xyz)))])[:n]
    result = xyz[picks]
    again = np.arange(n) >= len(xyz)
    if again.any():
        spacing = KDTree(xyz).query(result[again], k=2)[0][:, 1:]
        result[again] += 0.5 * spacing * rng.standard_normal((again.sum(), 3))
    return torch.from_numpy(result).float()


def fixed_run(n: int, size: str, folder: Path) -> Any:
    """The method's configuration for a run whose steps are all alike: full size and colours, no densification, and
    no removal, after which optimizers would hold parameters that are no longer there.

    The run writes into `folder`, which must outlive it: Tensorboard's writer goes on in a thread of its own.
    """
    scene = SCENES[SIZES[size]]
    config: TrainerConfig = copy.deepcopy(img3d_splat.config)
    config.data = config.pipeline.datamanager.data = scene.folder
    config.pipeline.datamanager.dataparser.downscale_factor = scene.downscale_factor  # pyright: ignore
    model_config: Any = config.pipeline.model
    model_config.max_gaussians = n
    model_config.random_init_opacity = model_config.init_opacity
    model_config.num_downscales = 0
    model_config.sh_degree_interval = 1
    model_config.stop_split_at = 1
    model_config.camera_clearance = model_config.free_space = 0.0
    config.logging.steps_per_log = 50
    config.output_dir = folder
    config.set_timestamp()
    return config


def start_with(trainer: Img3dSplatTrainer, n: int) -> None:
    """Replace what a set-up trainer starts from by `n` Gaussians."""
    model = trainer.pipeline.model
    model.place_random_points(resampled(model.means.detach().cpu(), n))
    trainer.optimizers = trainer.setup_optimizers()


def measure(n: int, size: str, warm_up: int, timed: int, folder: Path) -> tuple[float, float, CompiledTime, int]:
    """Median milliseconds of a step and of a rendered frame, seconds in the compiled functions, number of Gaussians."""
    config = fixed_run(n, size, folder)
    config._target = StepTimer
    config.max_num_iterations = warm_up + timed
    config.vis = "viewer"  # ns-train's default; no page is open
    config.get_base_dir().mkdir(parents=True)  # ns-train does
    compiled = CompiledTime()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.warm_up, trainer.compiled, trainer.step_seconds = warm_up, compiled, []
    trainer.setup()
    start_with(trainer, n)
    model = cast(Img3dSplatModel, trainer.pipeline.model)
    with compiled.counting():
        trainer.train()
    frame_seconds = []
    model.eval()
    cameras = trainer.pipeline.datamanager.train_dataset.cameras
    for i in range(20):
        began = time.perf_counter()
        model.get_outputs_for_camera(cameras[i : i + 1])  # what the viewer and ns-render call
        frame_seconds.append(time.perf_counter() - began)
    medians = [1e3 * statistics.median(seconds) for seconds in (trainer.step_seconds, frame_seconds)]
    return medians[0], medians[1], compiled, model.num_points


def resident_mib(peak: bool) -> float:
    """Memory of this process in MiB: now, or the most it has had."""
    field = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    """Print the table."""
    after_imports = resident_mib(peak=False)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, nargs="+", default=[12_000, 50_000, 200_000])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--warm-up", type=int, default=200, help="steps before those that are timed")
    parser.add_argument("--timed", type=int, default=100, help="steps that are timed")
    parser.add_argument("--fit", action="store_true", help="fit step time = c * Gaussians^p * pixels^q")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for size, n in itertools.product(arguments.sizes, arguments.gaussians):
            milliseconds, frame, compiled, count = measure(n, size, arguments.warm_up, arguments.timed, Path(folder))
            parts = {name: 1e3 * seconds / arguments.timed for name, seconds in compiled.seconds.items()}
            share = sum(parts.values()) / milliseconds
            cells = " | ".join(f"{parts[name]:.1f}" for name in KERNELS)
            rows.append(
                (
                    size,
                    count,
                    milliseconds,
                    f"| {size} | {count:,} | {milliseconds:.1f} | {cells} | {share:.0%} | {1e3 / frame:.0f} |",
                )
            )
    print(f"\n{describe_machine()}. Milliseconds per step: median; of the parts: mean.\n")
    print(
        f"| image | Gaussians | step | {' | '.join(name.replace('_', ' ') for name in KERNELS)} | compiled | frames/s |"
    )
    print("|---|" + "---:|" * (len(KERNELS) + 4))
    for *_, row in rows:
        print(row)
    print(f"\nPeak memory: {resident_mib(peak=True) - after_imports:,.0f} MiB above Python's imports (all runs).")
    if arguments.fit:
        # log(time) = p log(Gaussians) + q log(pixels) + constant, by least squares.
        pixels = [np.prod([int(side) for side in size.split("x")]) for size, *_ in rows]
        counts, times = [row[1] for row in rows], [row[2] for row in rows]
        terms = np.stack([np.log(counts), np.log(pixels), np.ones(len(rows))], axis=1)
        p, q, _ = np.linalg.lstsq(terms, np.log(times), rcond=None)[0]
        print(f"\nStep time grows with Gaussians^{p:.2f} and pixels^{q:.2f}.")


if __name__ == "__main__":
    main()
