# SPDX-License-Identifier: Apache-2.0
"""Small scenes for the kernel tests, the ordinary and the awkward, and how to render one with all its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from img3d_kernels import rasterization

try:
    import img3d_kernels._C  # pyright: ignore[reportMissingImports]

    HAS_COMPILED = True
except ImportError:
    HAS_COMPILED = False

if HAS_COMPILED:
    import img3d_kernels.cpu_backend  # noqa: F401 # takes torch's thread count when imported: before a test lowers it

needs_compiled = pytest.mark.skipif(not HAS_COMPILED, reason="img3d_kernels._C is not built")
BACKENDS = ["torch", pytest.param("cpu", marks=needs_compiled)]
FAST_BACKEND = "cpu" if HAS_COMPILED else "torch"


@dataclass
class Scene:
    """Float32 inputs of `rasterization`, and its options."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int
    backgrounds: Tensor | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def tensors(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The differentiable inputs by name, as new leaves."""
        names = ["means", "quats", "scales", "opacities", "colors", "viewmats"]
        inputs = {name: getattr(self, name) for name in names}
        if self.backgrounds is not None:
            inputs["backgrounds"] = self.backgrounds
        return {name: value.detach().to(dtype, copy=True).requires_grad_() for name, value in inputs.items()}


@dataclass
class Rendered:
    """What came out of a scene, and the gradients of a random weighted sum of it."""

    render: Tensor
    alpha: Tensor
    meta: dict[str, Any]
    gradients: dict[str, Tensor]


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch's threads cost these tiny tensors more than they save, and 50 times as much on a busy machine."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def render_with_gradients(scene: Scene, backend: str, dtype: torch.dtype = torch.float32) -> Rendered:
    """Render, and differentiate a sum over render and alpha whose weights are random but the same for every backend.

    An input without influence (colours where depth is rendered) gets zeros, whether or not the backend says None.
    """
    if backend == "torch":
        with one_torch_thread():
            return _render_with_gradients(scene, backend, dtype)
    return _render_with_gradients(scene, backend, dtype)


def _render_with_gradients(scene: Scene, backend: str, dtype: torch.dtype) -> Rendered:
    inputs = scene.tensors(dtype)
    render, alpha, meta = rasterization(
        **inputs, Ks=scene.Ks.to(dtype), width=scene.width, height=scene.height, backend=backend, **scene.options
    )
    generator = torch.Generator().manual_seed(5)
    render_weights = torch.randn(render.shape, generator=generator).to(dtype)
    alpha_weights = torch.randn(alpha.shape, generator=generator).to(dtype)
    meta["means2d"].retain_grad()
    ((render * render_weights).sum() + (alpha * alpha_weights).sum()).backward()
    gradients = {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in inputs.items()}
    gradients["means2d"] = meta["means2d"].grad
    if scene.options.get("absgrad"):
        gradients["absgrad"] = meta["means2d"].absgrad
    return Rendered(render.detach(), alpha.detach(), meta, gradients)


def look_at(eye: Tensor, target: Tensor) -> Tensor:
    """World-to-camera matrix `[4, 4]`, OpenCV convention."""
    z = torch.nn.functional.normalize(target - eye, dim=0)
    x = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.1, 1.0, 0.2]), z), dim=0)
    y = torch.linalg.cross(z, x)
    viewmat = torch.eye(4)
    viewmat[:3, :3] = torch.stack([x, y, z])
    viewmat[:3, 3] = -viewmat[:3, :3] @ eye
    return viewmat


def random_scene(
    n: int = 60, n_cameras: int = 1, width: int = 45, height: int = 35, seed: int = 0, sh_degree: int | None = 3
) -> Scene:
    """Gaussians in a ball of radius about 1, seen from a distance of about 4; spherical harmonics unless None."""
    g = torch.Generator().manual_seed(seed)
    eyes = torch.randn(n_cameras, 3, generator=g)
    eyes = 4.0 * eyes / eyes.norm(dim=-1, keepdim=True)
    focal = 1.2 * max(width, height)
    return Scene(
        means=0.6 * torch.randn(n, 3, generator=g),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=-1),
        scales=torch.exp(-2.3 + 0.7 * torch.randn(n, 3, generator=g)),
        opacities=0.1 + 0.85 * torch.rand(n, generator=g),
        colors=torch.rand(n, 4, generator=g)
        if sh_degree is None
        else 0.5 * torch.randn(n, (sh_degree + 1) ** 2, 3, generator=g),
        viewmats=torch.stack([look_at(eye, 0.1 * eye.flip(0)) for eye in eyes]),
        Ks=torch.tensor([[focal, 0.0, 0.47 * width], [0.0, 1.1 * focal, 0.53 * height], [0.0, 0.0, 1.0]]).repeat(
            n_cameras, 1, 1
        ),
        width=width,
        height=height,
        options={"sh_degree": sh_degree},
    )


def _with(scene: Scene, **options: Any) -> Scene:
    return replace(scene, options={**scene.options, **options})


def _in_front(scene: Scene) -> Scene:
    """The same with the first camera at the origin looking along +z, so that means are in its frame."""
    return replace(scene, viewmats=torch.eye(4)[None], Ks=scene.Ks[:1], means=scene.means + torch.tensor([0.0, 0.0, 4]))


def behind_the_camera() -> Scene:
    scene = _in_front(random_scene(seed=1))
    scene.means[::2, 2] *= -1.0
    scene.means[0] = 0.0  # in the camera's centre: z = 0, and no direction to look from
    return scene


def on_the_near_plane() -> Scene:
    scene = _with(_in_front(random_scene(seed=2)), near_plane=3.5)
    scene.means[:20, 2] = 3.5  # exactly on it: stays
    return scene


def off_the_screen() -> Scene:
    scene = _in_front(random_scene(seed=3))
    scene.means[::2, 0] += 8.0
    scene.means[1::4, 1] -= 8.0
    return scene


def huge() -> Scene:
    scene = random_scene(seed=4)
    scene.scales[::3] *= 100.0
    scene.opacities[::3] *= 0.1
    return scene


def needle_thin() -> Scene:
    scene = random_scene(seed=5)
    scene.scales[::4] = torch.tensor([1e-5, 0.4, 1e-5])
    scene.scales[2::4] = torch.tensor([4e-3, 0.4, 4e-3])
    return scene


def transparent() -> Scene:
    scene = random_scene(seed=6)
    scene.opacities[::2] = 0.0
    scene.opacities[1::4] = 0.003  # just below 1/255
    return scene


def saturated() -> Scene:
    scene = random_scene(n=200, seed=7)
    scene.opacities[:] = 1.0
    return scene


def empty() -> Scene:
    return replace(random_scene(n=0), backgrounds=torch.tensor([[0.2, 0.4, 0.6]]))


def everything_left_out() -> Scene:
    scene = _in_front(random_scene(n=20))
    scene.means[:, 2] -= 40.0
    return replace(scene, backgrounds=torch.tensor([[0.2, 0.4, 0.6]]))


def one_depth() -> Scene:
    scene = _in_front(random_scene(seed=8))
    scene.means[:, 2] = 4.0
    return scene


def unnormalised_quats() -> Scene:
    scene = random_scene(seed=9)
    scene.quats[::2] *= 7.0
    scene.quats[1::2] *= 0.03
    return scene


def wide_angle() -> Scene:
    """A field of view of 127 degrees and Gaussians outside it, large enough to reach in: the margin's clamp acts."""
    scene = _in_front(random_scene(n=120, seed=10))
    generator = torch.Generator().manual_seed(0)
    scene.means[:, :2] = 8.0 * torch.randn(120, 2, generator=generator)
    scene.means[:, 2] = 0.5 + 3.0 * torch.rand(120, generator=generator)
    scene.scales *= 8.0
    scene.Ks[:, [0, 1], [0, 1]] = scene.width / 4.0
    return scene


def not_finite() -> Scene:
    """NaN and infinite parameters, and a zero quaternion, in some Gaussians: those are left out, the rest unharmed."""
    scene = random_scene(seed=11)
    scene.means[0, 0] = math.nan
    scene.means[1, 1] = math.inf
    scene.quats[2] = 0.0
    scene.scales[3, 2] = math.inf
    scene.scales[4, 0] = math.nan
    return scene


def many_layers() -> Scene:
    """More than a thousand Gaussians over every pixel, most of them behind what is opaque already."""
    scene = random_scene(n=1500, width=20, height=18, seed=12)
    scene.scales *= 4.0
    return scene


def three_cameras() -> Scene:
    return replace(random_scene(n_cameras=3, seed=13), backgrounds=torch.eye(3))


def one_pixel() -> Scene:
    return random_scene(width=1, height=1, seed=14)


def with_depth(render_mode: str) -> Callable[[], Scene]:
    def scene() -> Scene:
        return replace(
            _with(random_scene(seed=15), render_mode=render_mode), backgrounds=torch.tensor([[0.9, 0.5, 0.1]])
        )

    return scene


SCENES: dict[str, Callable[[], Scene]] = {
    "spherical harmonics": random_scene,
    "four plain channels": lambda: random_scene(sh_degree=None, seed=16),
    "degree 0": lambda: random_scene(sh_degree=0, seed=17),
    "degree 1 of 3": lambda: _with(random_scene(seed=18), sh_degree=1),
    "degree 2": lambda: random_scene(sh_degree=2, seed=19),
    "behind the camera": behind_the_camera,
    "on the near plane": on_the_near_plane,
    "between near and far": lambda: _with(random_scene(seed=20), near_plane=3.6, far_plane=4.3),
    "off the screen": off_the_screen,
    "huge": huge,
    "needle-thin": needle_thin,
    "transparent": transparent,
    "saturated": saturated,
    "no Gaussian": empty,
    "everything left out": everything_left_out,
    "one pixel": one_pixel,
    "tall": lambda: random_scene(width=13, height=70, seed=21),
    "whole tiles": lambda: random_scene(width=48, height=32, seed=22),
    "three cameras": three_cameras,
    "one depth": one_depth,
    "antialiased": lambda: _with(random_scene(seed=23), rasterize_mode="antialiased"),
    "antialiased needles": lambda: _with(needle_thin(), rasterize_mode="antialiased"),
    "backgrounds": lambda: replace(random_scene(seed=24), backgrounds=torch.tensor([[0.9, 0.5, 0.1]])),
    "absgrad": lambda: _with(random_scene(seed=25), absgrad=True),
    "absgrad, three cameras": lambda: _with(three_cameras(), absgrad=True),
    "radius clip": lambda: _with(random_scene(seed=26), radius_clip=6.0),
    "more blur": lambda: _with(random_scene(seed=27), eps2d=2.0),
    "unnormalised quats": unnormalised_quats,
    "wide angle": wide_angle,
    "not finite": not_finite,
    "many layers": many_layers,
    **{mode: with_depth(mode) for mode in ("D", "ED", "RGB+D", "RGB+ED")},
}
