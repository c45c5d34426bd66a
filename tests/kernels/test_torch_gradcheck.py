# SPDX-License-Identifier: Apache-2.0
"""The torch twin's gradients are those of finite differences, for every input and option."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from kernel_scenes import Scene, one_torch_thread, random_scene
from torch import Tensor

from img3d_kernels import rasterization

OPTIONS: dict[str, dict[str, Any]] = {
    "classic": {},
    "antialiased": {"rasterize_mode": "antialiased"},
    "depth": {"render_mode": "D"},
    "expected depth": {"render_mode": "RGB+ED"},
    "absgrad": {"absgrad": True},
}


def check(scene: Scene) -> None:
    inputs = scene.tensors(torch.float64)

    def render(*values: Tensor) -> Tensor:
        image, alpha, _ = rasterization(
            **dict(zip(inputs, values, strict=True)),
            Ks=scene.Ks.double(),
            width=scene.width,
            height=scene.height,
            backend="torch",
            **scene.options,
        )
        return torch.cat([image, alpha], dim=-1)

    # fast_mode checks a random projection of the Jacobian: every input entry and every pixel takes part in it. Central
    # differences cross a jump at alpha = 1/255 only where a pixel is within 1e-6 of it: not with these seeds.
    with one_torch_thread():
        assert torch.autograd.gradcheck(render, tuple(inputs.values()), eps=1e-7, atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("sh_degree", [None, 0, 1, 2, 3])
def test_colors(sh_degree: int | None) -> None:
    check(random_scene(n=6, width=19, height=9, seed=1, sh_degree=sh_degree))


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    scene = random_scene(n=6, n_cameras=2, width=18, height=7, seed=2)
    scene = replace(scene, backgrounds=torch.tensor([[0.3, 0.1, 0.7], [0.6, 0.2, 0.9]]))
    scene.options.update(OPTIONS[name])
    check(scene)


def test_field_of_view_clamp() -> None:
    scene = random_scene(n=4, width=20, height=12, seed=3)
    scene.viewmats = torch.eye(4)[None]
    scene.means = torch.tensor([[4.0, 0.1, 1.0], [-4.2, 0.3, 1.1], [0.2, 3.0, 1.2], [0.1, 0.2, 2.0]])
    scene.scales = scene.scales + 1.0
    scene.Ks[:, [0, 1], [0, 1]] = 6.0
    check(scene)


def test_saturated() -> None:
    scene = random_scene(n=8, width=18, height=9, seed=4)
    scene.opacities[:] = 0.9995  # above the clamp in the middle, below it further out
    scene.scales *= 2.0
    check(scene)


def test_every_entry_of_the_jacobian() -> None:
    """Slow mode, entry by entry, on the tiniest scene."""
    scene = random_scene(n=2, width=5, height=4, seed=5, sh_degree=1)
    inputs = scene.tensors(torch.float64)

    def render(*values: Tensor) -> Tensor:
        named = dict(zip(inputs, values, strict=True))
        image, alpha, _ = rasterization(
            **named, Ks=scene.Ks.double(), width=5, height=4, backend="torch", **scene.options
        )
        return torch.cat([image, alpha], dim=-1)

    with one_torch_thread():
        assert torch.autograd.gradcheck(render, tuple(inputs.values()), eps=1e-7, atol=1e-5, rtol=1e-4)
