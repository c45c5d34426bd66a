# SPDX-License-Identifier: Apache-2.0
"""How many planes the stereo kernel compares with one source in a second: against a plain C++ loop, which g++ compiles
here, and the torch twin, and as a share of the processor's multiply-adds. On one thread, with photos of the still life.

    python benchmarks/stereo_speed.py
    IMG3D_ISA=avx2 python benchmarks/stereo_speed.py
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from kernels import ceilings, describe_machine

from img3d_kernels.stereo.patch_match import projection, sweep
from img3d_kernels.stereo.plane_sweep import plane_costs
from img3d_kernels.stereo.views import StereoView

STILL_LIFE = Path(__file__).resolve().parents[1] / "sample" / "still_life"
NUM_SOURCES = 8
FMAS = 32 * 15
"""Multiply-adds per plane and source: for each of 32 samples, 6 to project, 2 to divide, 3 to interpolate, 4 to sum."""
REPEATS = 5


def still_life_views() -> list[StereoView]:
    """The first photos of the bundled still life."""
    meta = json.loads((STILL_LIFE / "transforms.json").read_text())
    K = torch.tensor([[meta["fl_x"], 0, meta["cx"]], [0, meta["fl_y"], meta["cy"]], [0, 0, 1]])
    views = []
    for frame in meta["frames"][: 1 + NUM_SOURCES]:
        grey = cv2.imread(str(STILL_LIFE / frame["file_path"]), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        pose = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1.0, -1.0, 1.0])
        views.append(StereoView(torch.from_numpy(grey), K, torch.from_numpy(np.linalg.inv(pose))))
    return views


def plain_loop() -> Callable[..., None]:
    """benchmarks/stereo_plain.cpp, compiled for this processor."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "stereo_plain.so"
        command = ["g++", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-o", str(library)]
        subprocess.run([*command, str(Path(__file__).with_suffix("").parent / "stereo_plain.cpp")], check=True)
        return ctypes.CDLL(str(library)).plane_costs


def rate(call: Callable[[], object], hypotheses: int, repeats: int = REPEATS) -> float:
    """Hypotheses per second, of the fastest call."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return hypotheses / min(seconds)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    reference, *sources = still_life_views()
    height, width = reference.size
    pose = torch.linalg.inv(reference.viewmat)
    depth = float(pose[:3, 3].norm())  # the cameras look at the origin
    planes = torch.zeros(height, width, 3)
    planes[..., 0] = 1 / depth
    number = reference.grey.numel()

    function, costs = plain_loop(), torch.empty(height, width)
    flat = [projection(reference, source).float() for source in sources]

    def plain() -> None:
        for source, matrix in zip(sources, flat, strict=True):
            pointers = (ctypes.c_void_p(each.data_ptr()) for each in (matrix, matrix[9:], planes, costs))
            grey = (ctypes.c_void_p(view.grey.data_ptr()) for view in (reference, source))
            function(*grey, width, height, *pointers)

    rows = {
        "kernel": rate(
            lambda: sweep(reference, sources, depth / 2, depth * 2, planes.clone(), iterations=0),
            number * len(sources),
        ),
        "plain C++ loop": rate(plain, number * len(sources), 2),
        "torch twin": rate(lambda: plane_costs(reference, sources[:3], planes), number * 3, 2),
    }
    fmas, _ = ceilings()
    print(describe_machine())
    print("| | million hypotheses a second | of multiply-adds |\n|---|---:|---:|")
    for name, found in rows.items():
        print(f"| {name} | {found / 1e6:.2f} | {found * FMAS / fmas:.1%} |")


if __name__ == "__main__":
    main()
