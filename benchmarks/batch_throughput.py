# SPDX-License-Identifier: Apache-2.0
"""How much faster `img3d-batch` makes many objects than the same commands one after another.

    python benchmarks/batch_throughput.py --folder outputs/batch_throughput [--objects cc0_objects] [--items 20]

Pictures of objects, the last of them cut off in the middle of its file, become Gaussians and a PLY file each: by
`img3d-batch` with one core an item, and by `ns-train` and `img3d-export`, one process after another with all cores.
Prints both times, their ratio and the processor. Without --objects (a folder of meshes), the objects are img3d's
held-out ones. The batch's report stays in the folder. The times say something only on a machine that does nothing else.
Where that lasts a few minutes at a time, `--way` and `--part` measure one of the two and some of its items.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from kernels import describe_machine
from own_generator import task_of

from img3d_batch.work import PICTURE, PICTURE_OPTIONS
from img3d_generators.image_preparation import to_pil
from img3d_generators.procedural_objects import object_views
from img3d_generators.small.objects import read_object

SIZE = 256
TRAINING = ("--max-num-iterations", "0")
EXPORT = "object.ply"


@torch.no_grad()
def write_pictures(folder: Path, objects: Path | None, count: int) -> None:
    """Writes pictures of `count` objects, the last of which is broken."""
    folder.mkdir(parents=True)
    meshes = sorted(objects.glob("*.glb")) if objects is not None else []
    for number in range(count):
        if objects is None:
            picture = object_views(number, "held-out", 1, 0, SIZE).rgba(0)
        else:
            mesh = meshes[number * len(meshes) // count]
            task = task_of(mesh.stem, read_object(mesh), number)
            assert task is not None, f"no view shows {mesh}"
            picture = task.given
        to_pil(picture).save(folder / f"object-{number + 1:02d}.png")
    broken = folder / f"object-{count:02d}.png"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])


def seconds_of_batch(pictures: Path, output: Path, method: str) -> tuple[float, int]:
    """Wall time of a batch, and how many of its items failed."""
    options = ["--method", method, f"--options={shlex.join(TRAINING)}", "--export", EXPORT, "--cpus-per-item", "1"]
    began = time.perf_counter()
    done = called("img3d-batch", str(pictures), "--output-dir", str(output), *options)
    seconds = time.perf_counter() - began
    failed = re.search(r"(\d+) failed: ", done.stdout)
    if failed is None:
        raise SystemExit(f"{done.stdout}{done.stderr}")
    return seconds, int(failed[1])


def seconds_of_commands(pictures: Path, output: Path, method: str) -> tuple[float, int]:
    """Wall time of the commands that `img3d-batch` runs, one after another, and how many items failed."""
    failed = 0
    began = time.perf_counter()
    for picture in sorted(pictures.glob("*.png")):
        names = ("--output-dir", str(output), "--experiment-name", picture.stem, "--timestamp", "run")
        run = output / picture.stem / method / "run"
        config = ("--load-config", str(run / "config.yml"))
        for command in (
            ("ns-train", method, "--data", str(picture), *names, "--vis", "tensorboard", *TRAINING),
            ("img3d-export", "splat", *config, "--output", str(run / EXPORT)),
            ("img3d-export", "video", *config, "--output", str(run / PICTURE), *PICTURE_OPTIONS),
        ):
            if called(*command).returncode != 0:
                failed += 1
                break
    return time.perf_counter() - began, failed


def called(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of this environment."""
    path = Path(sys.executable).parent / program
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder")
    parser.add_argument("--objects", type=Path)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--method", default="img3d-small")
    parser.add_argument("--way", choices=WAYS, help="only this one")
    parser.add_argument("--part", type=int, nargs=2, metavar=("FIRST", "LAST"), help="only these items")
    options = parser.parse_args()
    pictures = options.folder / "pictures"
    if not pictures.exists():
        write_pictures(pictures, options.objects, options.items)
    first, last = options.part or (1, options.items)
    seconds: dict[str, float] = {}
    for way in [options.way] if options.way else WAYS:
        folder = options.folder / f"{way}-{first}-{last}"
        given = folder / "pictures"  # its own: what has been made of a picture is kept beside it
        given.mkdir(parents=True)
        for picture in sorted(pictures.iterdir())[first - 1 : last]:
            shutil.copy(picture, given)
        seconds[way], failed = WAYS[way](given, folder / "made", options.method)
        print(f"{way}, items {first} to {last}: {seconds[way]:.0f} s, {failed} failed", flush=True)
    if len(seconds) > 1:
        print(f"ratio {seconds['commands'] / seconds['batch']:.2f}")
    print(describe_machine())


WAYS = {"batch": seconds_of_batch, "commands": seconds_of_commands}

if __name__ == "__main__":
    main()
