# SPDX-License-Identifier: Apache-2.0
"""How much faster `img3d-batch` makes many objects than one after another.

    python benchmarks/batch_throughput.py --folder outputs/batch_throughput [--objects cc0_objects] [--items 20]

Pictures of objects, the last of them cut off in the middle of its file, become Gaussians and an export each: by
`img3d-batch` with one core an item, and by the same command with `--jobs 1`. Prints both times, their ratio and the
processor. Without --objects (a folder of meshes), the objects are img3d-tiny's held-out ones. Both reports stay in the
folder. The times say something only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from kernels import describe_machine
from own_generator import task_of

from img3d_generators.image_preparation import to_pil
from img3d_generators.procedural_objects import object_views

SIZE = 256


@torch.no_grad()
def write_pictures(folder: Path, objects: Path | None, count: int) -> None:
    """Writes pictures of `count` objects, the last of which is broken."""
    folder.mkdir(parents=True)
    meshes = sorted(objects.glob("*.glb")) if objects is not None else []
    for number in range(count):
        if objects is None:
            picture = object_views(number, "held-out", 1, 0, SIZE).rgba(0)
        else:
            task = task_of(meshes[number * len(meshes) // count], number)
            assert task is not None, f"no view shows {meshes[number]}"
            picture = task.given
        to_pil(picture).save(folder / f"object-{number + 1:02d}.png")
    broken = folder / f"object-{count:02d}.png"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])


def seconds_of(pictures: Path, output: Path, method: str, options: list[str]) -> float:
    """Wall time of a batch of which one item fails.

    Raises:
        SystemExit: None or several failed.
    """
    program = Path(sys.executable).parent / "img3d-batch"
    steps = ["--options=--max-num-iterations 0", "--export", "object.spz"]
    command = [program, pictures, "--output-dir", output, "--method", method, *steps, "--cpus-per-item", "1", *options]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode != 1 or "1 item failed" not in done.stderr + done.stdout:
        raise SystemExit(f"One item of the batch should have failed:\n{done.stdout}{done.stderr}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder")
    parser.add_argument("--objects", type=Path)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--method", default="img3d-object")
    options = parser.parse_args()
    if options.folder.exists():
        parser.error(f"{options.folder} exists: its items would not be made again")
    write_pictures(options.folder / "pictures", options.objects, options.items)
    together = seconds_of(options.folder / "pictures", options.folder / "together", options.method, [])
    alone = seconds_of(options.folder / "pictures", options.folder / "alone", options.method, ["--jobs", "1"])
    print(f"{options.items} items, one of them broken: {together:.0f} s; one after another {alone:.0f} s; ", end="")
    print(f"ratio {alone / together:.2f}. {describe_machine()}")


if __name__ == "__main__":
    main()
