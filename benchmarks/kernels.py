# SPDX-License-Identifier: Apache-2.0
"""How long the rasteriser takes: forward, and forward with backward, for each backend, in one run on one scene.

The Gaussians lie where a real capture's do (the garden's point cloud, `garden_points` in the data directory), each as
large as the distance to its neighbours, half of them opaque; seen by that capture's cameras.

    python benchmarks/kernels.py --gaussians 10000 50000 --sizes 270x480
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import KDTree
from threadpoolctl import threadpool_limits
from torch import Tensor

from img3d_kernels import rasterization
from img3d_kernels.rendering import Backend
from img3d_kernels.spherical_harmonics import rgb_to_sh

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
POINTS = Path("garden_points") / "test_garden.npz"
SH_DEGREE = 3


@dataclass
class Scene:
    """Gaussians after activation, and one camera `[1, ...]`."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor


def load_scene(path: Path, n: int, height: int, width: int) -> Scene:
    """`n` Gaussians at points of the cloud; where it has fewer, the same again a neighbour's distance away."""
    with np.load(path) as data:
        points, rgb = data["means3d"], data["colors"] / 255.0
        viewmats, Ks, original_width = data["viewmats"], data["Ks"], int(data["width"])
    rng = np.random.default_rng(0)
    picks = np.concatenate([rng.permutation(len(points)) for _ in range(-(-n // len(points)))])[:n]
    means = points[picks]
    again = np.arange(n) >= len(points)
    spacing = KDTree(points).query(means[again], k=2)[0][:, 1:]
    means[again] += spacing * rng.standard_normal((again.sum(), 3))
    distances = KDTree(means).query(means, k=4)[0][:, 1:].mean(axis=1, keepdims=True)

    K = Ks[0] * (width / original_width)
    K[0, 2], K[1, 2], K[2, 2] = width / 2, height / 2, 1.0
    sh = 0.05 * rng.standard_normal((n, (SH_DEGREE + 1) ** 2, 3))
    sh[:, 0] = rgb_to_sh(rgb[picks])
    quats, opacities = rng.standard_normal((n, 4)), rng.random(n)
    return Scene(
        means=_float32(means),
        quats=_float32(quats),
        scales=_float32(distances.repeat(3, axis=1)),
        opacities=_float32(opacities),
        colors=_float32(sh),
        viewmats=_float32(viewmats[:1]),
        Ks=_float32(K[None]),
    )


def _float32(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def milliseconds(scene: Scene, height: int, width: int, backend: Backend, backward: bool, repeats: int) -> float:
    """Median over `repeats` calls, after one to warm up."""
    inputs = [scene.means, scene.quats, scene.scales, scene.opacities, scene.colors]
    inputs = [value.detach().requires_grad_(backward) for value in inputs]
    means, quats, scales, opacities, colors = inputs
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with torch.set_grad_enabled(backward):
            render, _, _ = rasterization(
                means,
                quats,
                scales,
                opacities,
                colors,
                scene.viewmats,
                scene.Ks,
                width,
                height,
                sh_degree=SH_DEGREE,
                backend=backend,
            )
        if backward:
            torch.autograd.grad(render.sum(), inputs)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


@dataclass
class Blending:
    """What one core does in the blending kernels."""

    pairs: int
    """Pixels times Gaussians calculated: whole vectors, whether or not each pixel lies in its ellipse."""
    forward_seconds: float
    """With sorting and binning."""
    backward_seconds: float


def blending_on_one_core(scene: Scene, height: int, width: int, repeats: int) -> Blending:
    """Time the compiled blending alone, on one thread; medians."""
    from img3d_kernels import _C, cpu_backend

    threads = _C.num_threads()
    _C.set_num_threads(1)
    radii, means2d, depths, conics, opacities, colors = cpu_backend.project_gaussians(
        scene.means,
        scene.quats,
        scene.scales,
        scene.opacities,
        scene.colors,
        scene.viewmats,
        scene.Ks,
        width,
        height,
        near_plane=0.01,
        far_plane=1e10,
        radius_clip=0.0,
        eps2d=0.3,
        sh_degree=SH_DEGREE,
        antialiased=False,
    )
    inputs = [value[0].contiguous() for value in (means2d, conics, colors, opacities)]
    render, alpha = torch.empty(height, width, 3), torch.empty(height, width)
    v_render, v_alpha = torch.randn(height, width, 3), torch.zeros(height, width)
    gradients = [torch.zeros_like(value) for value in inputs]
    forward, backward, pairs = [], [], 0
    for _ in range(repeats + 1):
        start = time.perf_counter()
        state = _C.rasterize_forward(*inputs, radii[0], depths[0], None, width, height, True, render, alpha)
        middle = time.perf_counter()
        _C.rasterize_backward(state, render, alpha, v_render, v_alpha, *gradients, None)
        backward.append(time.perf_counter() - middle)
        forward.append(middle - start)
        pairs = state.n_pixel_pairs
    _C.set_num_threads(threads)
    return Blending(pairs, statistics.median(forward[1:]), statistics.median(backward[1:]))


FORWARD_FMAS, BACKWARD_FMAS = 16, 32
"""Multiplications and fused multiply-adds per pair (csrc/rasterize.h), which share the processor's two such units."""


def ceilings() -> tuple[float, float]:
    """Multiply-adds and exponentials per second on one core: the best of a matrix product, and of exp in the cache.

    torch multiplies by MKL, which holds back on AMD's processors; numpy's OpenBLAS does not.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    n = 768
    a, b = torch.rand(n, n), torch.rand(n, n)
    x, out = torch.rand(4096), torch.empty(4096)
    products: tuple[Callable[[], object], ...] = (lambda: torch.mm(a, b), lambda: a.numpy() @ b.numpy())
    with threadpool_limits(1, user_api="blas"):
        fmas = max(n**3 / _seconds(product) for product in products for _ in range(20))
    exps = max(200 * len(x) / _seconds(lambda: [torch.exp(x, out=out) for _ in range(200)]) for _ in range(20))
    torch.set_num_threads(threads)
    return fmas, exps


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def describe_machine() -> str:
    """Processor, cores, threads in use and, where the compiled backend is there, its instruction set."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return f"{model}, {threads}, " + (f"compiled for {isa()}" if isa() else "no compiled backend")


def isa() -> str | None:
    """The compiled backend's instruction set, None where it is not built."""
    try:
        from img3d_kernels import cpu_backend
    except ImportError:
        return None
    return cpu_backend.isa()


def size(text: str) -> tuple[int, int]:
    """`HEIGHTxWIDTH` in pixels."""
    try:
        height, width = (int(part) for part in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 270x480") from None
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("IMG3D_DATA", DEFAULT_DATA), help="data directory")
    parser.add_argument("--gaussians", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--sizes", type=size, nargs="+", default=[(270, 480), (540, 960)], metavar="HEIGHTxWIDTH")
    parser.add_argument("--backends", nargs="+", choices=["cpu", "torch"], default=["cpu", "torch"])
    parser.add_argument("--torch-max-gaussians", type=int, default=10_000, help="the torch twin is left out above this")
    parser.add_argument("--repeats", type=int, default=7, help="calls to take the median of")
    args = parser.parse_args()
    path = args.data / POINTS
    if "cpu" in args.backends and isa() is None:
        sys.exit("The compiled backend is not built: install the package, or choose --backends torch.")
    if not path.exists():
        sys.exit(f"{path} is missing: give the data directory by --data or the environment variable IMG3D_DATA.")

    print(f"{describe_machine()}. Milliseconds, median of {args.repeats}; ratio to {args.backends[0]}.\n")
    print("| Gaussians | image | backend | forward | ratio | forward + backward | ratio |")
    print("|---:|---|---|---:|---:|---:|---:|")
    for n in args.gaussians:
        for height, width in args.sizes:
            scene = load_scene(path, n, height, width)
            base: list[float] = []
            for backend in args.backends:
                if backend == "torch" and n > args.torch_max_gaussians:
                    continue
                times = [milliseconds(scene, height, width, backend, back, args.repeats) for back in (False, True)]
                base = base or times
                cells = " | ".join(f"{t:.1f} | {t / b:.1f}×" for t, b in zip(times, base, strict=True))
                print(f"| {n:,} | {height}×{width} | {backend} | {cells} |", flush=True)
    if "cpu" in args.backends:
        fmas, exps = ceilings()
        print(
            f"\nBlending on one core, which can do {fmas / 1e9:.1f} G multiply-adds/s (a matrix product) and "
            f"{exps / 1e9:.2f} G exp/s (torch's, in the cache).\n"
        )
        print("| Gaussians | image | pairs | forward pairs/s | of FMA | of exp | backward pairs/s | of FMA | of exp |")
        print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
        for n in args.gaussians:
            for height, width in args.sizes:
                b = blending_on_one_core(load_scene(path, n, height, width), height, width, args.repeats)
                forward, backward = b.pairs / b.forward_seconds, b.pairs / b.backward_seconds
                print(
                    f"| {n:,} | {height}×{width} | {b.pairs / 1e6:.1f} M "
                    f"| {forward / 1e6:.0f} M | {forward * FORWARD_FMAS / fmas:.0%} | {forward / exps:.0%} "
                    f"| {backward / 1e6:.0f} M | {backward * BACKWARD_FMAS / fmas:.0%} | {backward / exps:.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
