# SPDX-License-Identifier: Apache-2.0
"""What densification goes by: the backward pass adds up what gsplat's own strategy works out after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gsplat.strategy import DefaultStrategy
from kernel_scenes import FAST_BACKEND, Scene, one_torch_thread, random_scene, three_cameras

from img3d_kernels import rasterization
from img3d_kernels.grad_stats import GradStats


def partly_transparent() -> Scene:
    """Some Gaussians are in view, but too transparent to be blended: they count, with a gradient of 0."""
    scene = random_scene(seed=3)
    scene.opacities[::4] = 1e-3
    return scene


def train_step(scene: Scene, backend: str, stats: GradStats) -> dict[str, Any]:
    """The meta of a render whose backward pass has run."""
    inputs = scene.tensors()
    options: dict[str, Any] = {"backend": backend, "absgrad": stats.absgrad, "grad_stats": stats, **scene.options}
    with one_torch_thread():
        render, _, meta = rasterization(**inputs, Ks=scene.Ks, width=scene.width, height=scene.height, **options)
        meta["means2d"].retain_grad()
        weights = torch.randn(render.shape, generator=torch.Generator().manual_seed(1))
        (render * weights).sum().backward()
    return meta


@pytest.mark.parametrize("backend", sorted({FAST_BACKEND, "torch"}))
@pytest.mark.parametrize("scene", [random_scene, partly_transparent, three_cameras])
@pytest.mark.parametrize("absgrad", [False, True])
@pytest.mark.parametrize("with_radii", [False, True])
def test_they_are_upstreams(backend: str, scene: Callable[[], Scene], absgrad: bool, with_radii: bool) -> None:
    upstream = DefaultStrategy(absgrad=absgrad)
    expected = upstream.initialize_state()
    params: Any = {"means": scene().means}
    n = len(scene().means)
    stats = GradStats(torch.zeros(n), torch.zeros(n), torch.zeros(n) if with_radii else None, absgrad)
    for _ in range(2):
        meta = train_step(scene(), backend, stats)
        upstream._update_state(params, expected, meta)
    assert 0 < (stats.count > 0).sum() and stats.grad2d.max() > 0
    # Sums over hundreds of pixels that cancel in part, in single precision; a view left out or a wrong scale is 10 %.
    torch.testing.assert_close(stats.grad2d, expected["grad2d"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stats.count, expected["count"])
    if with_radii:  # by hand: of several cameras upstream takes any, not the one that sees it largest
        torch.testing.assert_close(stats.radii, meta["radii"].amax(dim=0) / scene().width)


@pytest.mark.parametrize("options", [{"backend": "gsplat"}, {"absgrad": False}])
def test_who_cannot_add_them_up_says_so(options: dict[str, Any]) -> None:
    scene = random_scene(seed=3)
    n = len(scene.means)
    stats = GradStats(torch.zeros(n), torch.zeros(n), absgrad=True)
    with pytest.raises(ValueError, match="grad_stats"):
        rasterization(**scene.tensors(), Ks=scene.Ks, width=48, height=32, sh_degree=3, grad_stats=stats, **options)
