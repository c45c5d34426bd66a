# SPDX-License-Identifier: Apache-2.0
"""What a panorama of splats costs: the compiled kernel against the same in torch, in turns.

Random Gaussians all around the camera, 0.1 to 5 units away, as large as the distance to their neighbours.

    python benchmarks/panoramas.py --gaussians 50000 200000
"""

from __future__ import annotations

import argparse
import statistics
import time
from unittest.mock import patch

import torch
from kernels import describe_machine

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_methods.splat import ray_compositing
from img3d_methods.splat.ray_compositing import composite_rays


def gaussians_around(count: int) -> ActivatedGaussians:
    """`count` flat Gaussians with harmonics of degree 3, dense enough to be opaque together."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    distance = 0.1 + 4.9 * torch.rand(count, 1, generator=generator)
    return ActivatedGaussians(
        means=distance * directions,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=1),
        scales=distance * 4 / count**0.5 * torch.tensor([1.0, 1.0, 0.2]),
        opacities=torch.rand(count, generator=generator),
        colors=0.3 * torch.randn(count, 16, 3, generator=generator),
        sh_degree=3,
    )


def panorama_rays(height: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Origins, directions and pixel pitches of a panorama twice as wide as high."""
    latitude, longitude = torch.meshgrid(
        torch.pi * ((torch.arange(height) + 0.5) / height - 0.5),
        torch.pi * ((torch.arange(2 * height) + 0.5) / height - 1),
        indexing="ij",
    )
    flat = latitude.cos()
    directions = torch.stack([flat * longitude.cos(), flat * longitude.sin(), latitude.sin()], dim=-1).reshape(-1, 3)
    pitch = (torch.pi / height) * flat.clamp_min(0.01).sqrt().flatten()
    return torch.zeros_like(directions), directions, pitch


@torch.no_grad()
def seconds(gaussians: ActivatedGaussians, height: int, backend: str) -> float:
    """Of one panorama."""
    origins, directions, pitch = panorama_rays(height)
    with patch.object(ray_compositing, "default_backend", lambda means: backend):
        began = time.perf_counter()
        composite_rays(gaussians, origins, directions, torch.zeros(3), pixel_pitch=pitch)
        return time.perf_counter() - began


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--height", type=int, default=128, help="of the panorama, which is twice as wide")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"{describe_machine()}. Seconds: median of {args.repeats}.\n")
    print("| panorama | Gaussians | torch | compiled | ratio |\n|---|---:|---:|---:|---:|")
    for count in args.gaussians:
        gaussians = gaussians_around(count)
        turns = [[seconds(gaussians, args.height, b) for b in ("torch", "cpu")] for _ in range(args.repeats)]
        plain, compiled = (statistics.median(times) for times in zip(*turns, strict=True))
        size = f"{2 * args.height}x{args.height}"
        print(f"| {size} | {count:,} | {plain:.2f} | {compiled:.3f} | {plain / compiled:.0f} |", flush=True)


if __name__ == "__main__":
    main()
