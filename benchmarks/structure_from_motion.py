# SPDX-License-Identifier: Apache-2.0
"""What structure from motion makes of plain photos: how many, how exactly, how fast and in how much memory.

The photos, without anything that tells their poses, are copied to a temporary folder and solved there by a fresh
process. The poses are then compared with the true ones after the similarity transform that brings the camera centres
closest (Umeyama 1991). Memory is that of the process, of its child that runs COLMAP's mappers, and of both at the same
time, what both share (libraries) counting twice.

    python benchmarks/structure_from_motion.py fountain
    python benchmarks/structure_from_motion.py synthetic --photos 500
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from kernels import describe_machine
from synthetic_rooms import make_rooms

from img3d_base.errors import InputError
from img3d_dataparsers.formats.strecha import read_strecha
from img3d_dataparsers.formats.transforms_json import read_transforms
from img3d_dataparsers.posed_photos import Frame

FloatArray = npt.NDArray[np.float64]

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("IMG3D_DATA", REPOSITORY.parent / "shared" / "data"))
GIBIBYTE = 2.0**30
SOLVE_HERE = "--solve-here"
"""What the fresh process is told."""


@dataclass(frozen=True)
class Scene:
    """Photos, and the cameras that they are compared with."""

    folder: Path
    read: Callable[[Path], Sequence[Frame]]
    """The true cameras of the folder's photos."""
    unit: str
    cameras: str
    """Where the true cameras come from."""


def _frames_of_transforms(folder: Path) -> Sequence[Frame]:
    return read_transforms(folder / "transforms.json").frames


SCENES = {
    "fountain": Scene(
        DATA / "fountain_p11", lambda folder: read_strecha(folder).frames, "m", "cameras surveyed by laser"
    ),
    "fox": Scene(
        DATA / "fox", _frames_of_transforms, "units", "the data set's own poses, an estimate by COLMAP and no truth"
    ),
    "sample": Scene(REPOSITORY / "sample" / "still_life", _frames_of_transforms, "m", "the cameras that rendered it"),
    "synthetic": Scene(Path("rooms"), _frames_of_transforms, "m", "the cameras that rendered it"),
}


@dataclass
class Measured:
    """What the fresh process found out."""

    registered: int
    photos: int
    points: int
    mean_reprojection_error: float
    """Pixels."""
    mapper: str
    seconds: dict[str, float]
    """Wall time of each stage."""
    seconds_within: dict[str, float]
    """Of what is done within the stages."""
    total_seconds: float
    pairs: int
    """Photos matched with each other."""
    cameras: dict[str, list[list[float]]]
    """Name of each registered photo and its camera to world, axes right, up, back."""


def solve_here(photos: Path, cache: Path) -> Measured:
    """Solves for the poses in this process, with a clock in what is called on the way."""
    from rich.status import Status

    from img3d_dataparsers.sfm import matching, solve

    pairs: list[tuple[int, int]] = []
    seconds: dict[str, float] = {}
    moments: list[tuple[str, float]] = []
    choose, solve_for_cameras = matching.pairs_to_match, solve._map

    def timed_choice(descriptors: Any) -> list[tuple[int, int]]:
        began = time.monotonic()
        pairs.extend(choose(descriptors))
        seconds["choosing pairs"] = time.monotonic() - began
        return pairs

    def timed_mapping(work: Path) -> None:
        moments.append(("start of the child", time.monotonic()))
        solve_for_cameras(work)
        moments.append(("end", time.monotonic()))

    class TimedStatus(Status):
        def update(self, status: Any = None, **options: Any) -> None:
            moments.append((str(status).rpartition(": ")[2], time.monotonic()))
            print(f"{moments[-1][1] - start:6.0f} s: {moments[-1][0]}", flush=True)
            super().update(status, **options)

    matching.pairs_to_match, solve._map = timed_choice, timed_mapping
    solve.CONSOLE.status = functools.partial(TimedStatus, console=solve.CONSOLE)
    start = time.monotonic()
    try:
        solution = solve.solve(photos, cache)
    except InputError as error:
        sys.exit(f"{error} [after {time.monotonic() - start:.0f} s, {len(pairs)} pairs]")
    total = time.monotonic() - start
    report = solution.report
    seconds.update((stage, end - begin) for (stage, begin), (_, end) in itertools.pairwise(moments))
    return Measured(
        registered=report.registered,
        photos=len(solution.photo_set.photos),
        points=report.points,
        mean_reprojection_error=report.mean_reprojection_error,
        mapper=report.mapper,
        seconds=report.seconds,
        seconds_within=seconds,
        total_seconds=total,
        pairs=len(pairs),
        cameras={frame.name: frame.camera_to_world.tolist() for frame in solve.posed_photos(solution).frames},
    )


@dataclass
class Memory:
    """The most that was resident, in bytes, seen four times a second.

    Not from getrusage: what it says of a child begins with what the parent had when it started the child.
    """

    process: int = 0
    child: int = 0
    together: int = 0
    """At the same time."""

    def look(self, process: psutil.Process) -> None:
        """Updates it from what the system says of a process and its children."""
        try:
            own = process.memory_info().rss
            children = [child.memory_info().rss for child in process.children()]
        except psutil.Error:  # one of them has just ended
            return
        self.process = max(self.process, own)
        self.child = max(self.child, *children, 0)
        self.together = max(self.together, own + sum(children))


def solve_in_fresh_process(photos: Path, folder: Path) -> tuple[Measured, Memory]:
    """Solves for the poses with nothing in memory before."""
    result = folder / "measured.json"
    command = [sys.executable, __file__, SOLVE_HERE, str(photos), str(folder / "cache"), str(result)]
    process, memory = psutil.Popen(command), Memory()
    try:
        while process.poll() is None:
            memory.look(process)
            time.sleep(0.25)
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        sys.exit(process.returncode)
    return Measured(**json.loads(result.read_text())), memory


@dataclass(frozen=True)
class Errors:
    """How far estimated cameras are from the true ones after alignment."""

    centres: FloatArray
    """`[N]`, in the truth's unit."""
    rotations: FloatArray
    """`[N]`, degrees."""
    extent: float
    """The greatest distance between two true cameras."""

    @property
    def share(self) -> float:
        """Mean error of the centres as a share of the extent."""
        return float(self.centres.mean()) / self.extent


def compare(estimated: FloatArray, true: FloatArray) -> Errors:
    """Brings the estimated camera centres to the true ones by a similarity transform and measures what remains.

    Args:
        estimated: camera to world, `[N, 3, 4]` or `[N, 4, 4]`.
        true: the same for the true cameras.
    """
    centres, true_centres = estimated[:, :3, 3], true[:, :3, 3]
    scale, rotation, translation = umeyama(centres, true_centres)
    moved = scale * centres @ rotation.T + translation
    between = np.einsum("nij,nik->njk", rotation @ estimated[:, :3, :3], true[:, :3, :3])
    # From the sine, not the cosine, which is 1 for all small angles.
    sines = np.linalg.norm(between - between.transpose(0, 2, 1), axis=(1, 2)) / np.sqrt(8)
    angles = np.arctan2(sines, (np.trace(between, axis1=1, axis2=2) - 1) / 2)
    extent = np.linalg.norm(true_centres[:, None] - true_centres, axis=-1).max()
    return Errors(np.linalg.norm(moved - true_centres, axis=1), np.degrees(angles), float(extent))


def umeyama(points: FloatArray, targets: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Scale, rotation `[3, 3]` and translation `[3]` that bring points `[N, 3]` closest to targets (Umeyama 1991)."""
    middle, target_middle = points.mean(axis=0), targets.mean(axis=0)
    points, targets = points - middle, targets - target_middle
    u, singular, vt = np.linalg.svd(targets.T @ points)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = np.matmul(u * signs, vt)
    scale = float((singular * signs).sum() / (points**2).sum())
    translation: FloatArray = target_middle - scale * (rotation @ middle)
    return scale, rotation, translation


def copy_without_poses(scene: Scene, photos: Path) -> dict[str, FloatArray]:
    """Copies a scene's photos, and nothing else, to a folder, and gives the true camera of each by name."""
    true = {}
    for frame in scene.read(scene.folder):
        name = frame.image_path.relative_to(scene.folder).as_posix()
        if frame.image_path.is_file():
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(frame.image_path, photos / name)
            true[name] = np.asarray(frame.camera_to_world, dtype=np.float64)[:3]
    return true


def describe(measured: Measured, memory: Memory, errors: Errors, scene: Scene) -> str:
    """Everything that was found out, line by line."""
    n = measured.photos
    stages = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in measured.seconds.items())
    within = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in measured.seconds_within.items())
    return "\n".join(
        [
            f"{measured.registered} of {n} photos registered by the {measured.mapper} mapper, "
            f"{measured.points:,} points, {measured.mean_reprojection_error:.3f} px mean reprojection error",
            f"{measured.pairs:,} pairs matched of {n * (n - 1) // 2:,}",
            f"seconds: {stages}; total {measured.total_seconds:.0f}",
            f"of which: {within}",
            f"peak memory in GiB: process {memory.process / GIBIBYTE:.2f}, child {memory.child / GIBIBYTE:.2f}, "
            f"both at the same time {memory.together / GIBIBYTE:.2f}",
            f"compared with {scene.cameras}:",
            f"camera centres in {scene.unit}: {_summary(errors.centres)}; mean {errors.share:.3%} of the extent, "
            f"{errors.extent:.3f}",
            f"rotations in degrees: {_summary(errors.rotations)}",
        ]
    )


def table(name: str, measured: Measured, memory: Memory, errors: Errors, scene: Scene) -> str:
    """The same as a row of a table, with its head."""
    n, stages = measured.photos, measured.seconds
    cells = {
        "scene": name,
        "registered": f"{measured.registered} of {n}",
        "pairs matched": f"{measured.pairs:,} of {n * (n - 1) // 2:,}",
        "points": f"{measured.points:,}",
        "reprojection px": f"{measured.mean_reprojection_error:.2f}",
        "centres": f"{_in_unit(float(errors.centres.mean()), scene.unit)} ({errors.share:.3%})",
        "rotations": f"{errors.rotations.mean():.3f}°",
        "features + matches + mapping s": " + ".join(f"{seconds:.0f}" for seconds in stages.values()),
        "total s": f"{measured.total_seconds:.0f}",
        "peak GiB": f"{memory.together / GIBIBYTE:.1f}",
    }
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells, ["---"] * len(cells), cells.values()))


def _summary(errors: FloatArray) -> str:
    return f"mean {errors.mean():.5f}, median {np.median(errors):.5f}, most {errors.max():.5f}"


def _in_unit(length: float, unit: str) -> str:
    return f"{1000 * length:.2f} mm" if unit == "m" else f"{length:.4f} {unit}"


def main() -> None:
    """Solve for the poses of one scene and print what came out."""
    if sys.argv[1:2] == [SOLVE_HERE]:
        photos, cache, result = map(Path, sys.argv[2:])
        result.write_text(json.dumps(asdict(solve_here(photos, cache))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--photos", type=int, default=500, help="of the synthetic scene")
    arguments = parser.parse_args()
    scene = SCENES[arguments.scene]
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.scene == "synthetic":
            scene = replace(scene, folder=folder / scene.folder)
            make_rooms(scene.folder, arguments.photos)
        elif not scene.folder.is_dir():
            sys.exit(f"No data at {scene.folder}: set IMG3D_DATA to the folder that holds it.")
        true = copy_without_poses(scene, folder / "photos")
        measured, memory = solve_in_fresh_process(folder / "photos", folder)
    names = sorted(measured.cameras)
    errors = compare(np.array([measured.cameras[name] for name in names]), np.array([true[name] for name in names]))
    print(describe(measured, memory, errors, scene))
    print(f"\n    python benchmarks/structure_from_motion.py {' '.join(sys.argv[1:])}\n")
    print(table(arguments.scene, measured, memory, errors, scene))


if __name__ == "__main__":
    main()
