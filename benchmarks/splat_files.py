# SPDX-License-Identifier: Apache-2.0
"""Splat files of a run: seconds to write, size and PSNR after reading back, and what splat-transform makes of the same.

Also how long a PLY of a million Gaussians takes, and ns-export's loop in the same run. PSNR is between pictures of the
run's first photo cameras before and after, in decibels. splat-transform is used if IMG3D_NODE_TOOLS names it (see
node_tools.py); without a GPU it takes a quarter of an hour for the SOG of 100,000 Gaussians, which --timeout ends.

    python benchmarks/splat_files.py --load-config outputs/…/config.yml
"""

from __future__ import annotations

import argparse
import math
import subprocess
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from nerfstudio.scripts.exporter import ExportGaussianSplat
from node_tools import NoNodeToolError, splat_transform

from img3d_assets.axes import TO_Y_UP
from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import Gaussians, gaussians_of_parameters
from img3d_assets.splat_files import FORMATS, in_3dgs_axes, read_splats, write_splats
from img3d_exporters.load_run import Run, load_run
from img3d_exporters.splats.streamed_sog import INDEX, write_streamed_sog
from img3d_kernels import rasterization
from img3d_kernels.poses import viewmats

NUM_VIEWS, LONGER_SIDE = 3, 400
THEIR_FORMATS = (".compressed.ply", ".spz", ".sog", ".glb")


def pictures(splats: Gaussians, run: Run) -> torch.Tensor:
    """`[C, H, W, 3]` from the first photos' cameras."""
    cameras = run.cameras[:NUM_VIEWS]
    scale = LONGER_SIDE / max(int(cameras.width[0]), int(cameras.height[0]))
    Ks = cameras.get_intrinsics_matrices()
    Ks[:, :2] *= scale
    colors = np.concatenate([splats.sh_dc[:, None], splats.sh_rest], axis=1)
    image, _, _ = rasterization(
        means=torch.from_numpy(splats.means),
        quats=torch.from_numpy(splats.quats),
        scales=torch.from_numpy(splats.log_scales).exp(),
        opacities=torch.from_numpy(splats.opacities).sigmoid(),
        colors=torch.from_numpy(colors),
        viewmats=viewmats(cameras.camera_to_worlds),
        Ks=Ks,
        width=round(int(cameras.width[0]) * scale),
        height=round(int(cameras.height[0]) * scale),
        sh_degree=splats.sh_degree,
    )
    return image.clamp(0, 1)


def psnr_of(path: Path, run: Run, reference: torch.Tensor) -> str:
    """Of the pictures of what a file holds."""
    splats, up = read_splats(path)
    if up != "z":
        splats = rotated(splats, TO_Y_UP["z"].T @ TO_Y_UP[up])
    error = float((pictures(splats, run) - reference).square().mean())
    return f"{-10 * math.log10(error):.1f}" if error else "equal"


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes, once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ns_export(splats: Gaussians, path: Path) -> None:
    """ns-export's writer, which goes through the Gaussians one by one."""
    rest = splats.sh_rest.transpose(0, 2, 1).reshape(len(splats), -1)
    table = [splats.means, np.zeros_like(splats.means), splats.sh_dc, rest, splats.opacities[:, None]]
    columns = np.concatenate([*table, splats.log_scales, splats.quats], axis=1).T
    ExportGaussianSplat.write_ply(str(path), len(splats), OrderedDict((f"c{i}", c) for i, c in enumerate(columns)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--load-config", type=Path, required=True)
    parser.add_argument("--gaussians", type=int, default=1_000_000, help="of the large PLY: the run's, many times")
    parser.add_argument("--baseline-gaussians", type=int, default=20_000, help="that ns-export's loop writes")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for each file of splat-transform")
    options = parser.parse_args()

    run = load_run(options.load_config)
    splats = gaussians_of_parameters(dict(run.model.gauss_params.items()), run.model.config.sh_degree).visible()  # pyright: ignore
    reference = pictures(splats, run)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"{len(splats):,} Gaussians, spherical harmonics of degree {splats.sh_degree}\n")
        print("| format | seconds | MB | PSNR | splat-transform: MB | PSNR |\n|---|---|---|---|---|---|")
        for ending in (".ply", *FORMATS):
            path = folder / f"ours{ending}"
            seconds = seconds_of(lambda path=path: write_splats(splats, path, "z"))
            row = [ending, f"{seconds:.2f}", f"{path.stat().st_size / 1e6:.2f}", psnr_of(path, run, reference)]
            row += theirs(folder, ending, options.timeout, lambda path: psnr_of(path, run, reference))
            print(f"| {' | '.join(row)} |", flush=True)

        seconds = seconds_of(lambda: write_streamed_sog(in_3dgs_axes(splats, "z"), folder / "lod"))
        last = sorted(path.name for path in (folder / "lod").iterdir() if path.is_dir())[-1]
        first = [folder / "lod" / INDEX, *(folder / "lod" / last).iterdir()]
        kilobytes = sum(path.stat().st_size for path in first) / 1e3
        print(f"\nStreamed SOG: {seconds:.1f} s; the whole scene is there, coarsely, after {kilobytes:.0f} kB")

        many, few = (np.resize(np.arange(len(splats)), n) for n in (options.gaussians, options.baseline_gaussians))
        large, small = splats[many], splats[few]
        ours = seconds_of(lambda: write_splats(large, folder / "large.ply", "z"))
        loop = seconds_of(lambda: ns_export(small, folder / "small.ply"))
        ratio = (loop / len(small)) / (ours / len(large))
        print(f"\nPLY of {len(large):,}: {ours:.2f} s; ns-export's loop of {len(small):,}: {loop:.2f} s,")
        print(f"{ratio:.0f} times as long for each Gaussian")


def theirs(folder: Path, ending: str, timeout: float, psnr: Callable[[Path], str]) -> list[str]:
    """The size of splat-transform's file of the same Gaussians and their PSNR, where it writes such files."""
    if ending not in THEIR_FORMATS:
        return ["", ""]
    # It takes every PLY to be in 3DGS's axes.
    source = folder / "source.ply"
    if not source.exists():
        splats, up = read_splats(folder / "ours.ply")
        write_splats(in_3dgs_axes(splats, up), source, "-y")
    try:
        path = splat_transform(source, folder / f"theirs{ending}", timeout)
    except NoNodeToolError:
        return ["not installed", ""]
    except subprocess.TimeoutExpired:
        return [f"more than {timeout:.0f} s", ""]
    return [f"{path.stat().st_size / 1e6:.2f}", psnr(path)]


if __name__ == "__main__":
    main()
