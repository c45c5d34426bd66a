# SPDX-License-Identifier: Apache-2.0
"""Fields along rays with gradients for any loss: the same as the fused pass, normals, light."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import kernel_scenes
import pytest
import torch
from small_fields import BOX, MARCHING, small_field, some_colors, some_rays
from torch import Tensor

from img3d_kernels.fields.differentiable_picture import differentiable_picture
from img3d_kernels.fields.radiance_field import FieldParameters
from img3d_kernels.fields.rays import Rays, Samples
from img3d_kernels.fields.surface_samples import (
    SurfaceSamples,
    lambertian,
    looking_away,
    normals,
    surface_normals,
    surface_samples,
)
from img3d_kernels.fields.volume_rendering import march, render

pytestmark = kernel_scenes.needs_compiled
COUNT = 40


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    with kernel_scenes.one_torch_thread():
        yield


def plain(rays: Rays) -> Rays:
    return replace(rays, **{name: value.detach() for name, value in vars(rays).items()})


def scene(dtype: torch.dtype = torch.float32) -> tuple[FieldParameters, Rays, Samples]:
    field, rays = small_field(BOX, dtype=dtype), plain(some_rays(COUNT, dtype))
    samples = march(small_field(BOX), plain(some_rays(COUNT)), MARCHING["box"])
    return field, rays, Samples(samples.counts, samples.middles.to(dtype), samples.lengths.to(dtype))


def test_they_add_up_to_what_is_rendered() -> None:
    field, rays, samples = scene()
    seen, expected = surface_samples(field, rays, samples), render(field, rays, samples)
    torch.testing.assert_close(seen.along_rays(seen.colors), expected.rgb, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.accumulation()[:, 0], expected.accumulation, atol=1e-4, rtol=1e-4)
    assert float(expected.accumulation.max()) > 0.5


def of_colors(rgb: Tensor, opacity: Tensor) -> Tensor:
    return (rgb * some_colors(COUNT, 1, rgb.dtype)).sum()


def of_opacity(rgb: Tensor, opacity: Tensor) -> Tensor:
    return (opacity.square() + 0.01).sqrt().mean()


def of_both(rgb: Tensor, opacity: Tensor) -> Tensor:
    return 0.5 * ((rgb + (1 - opacity) * 0.7) - some_colors(COUNT, 2, rgb.dtype)).square().sum() + of_opacity(
        rgb, opacity
    )


@pytest.mark.parametrize("loss", [of_colors, of_opacity, of_both])
def test_the_picture_has_the_gradients_of_autograd(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    found = []
    for dtype in (torch.float32, torch.float64):  # compiled, and in torch
        field, rays, samples = scene(dtype)
        value = loss(*differentiable_picture(field, rays, samples))
        found.append((value.detach(), *torch.autograd.grad(value, [field.table, field.networks])))
    for actual, expected in zip(*found, strict=True):
        error = (actual.double() - expected).norm() / expected.norm()
        assert float(error) < (0.03 if loss is of_opacity else 1e-3)


def test_normals_have_gradients() -> None:
    field, rays, _ = scene()
    (gradient,) = torch.autograd.grad(normals(field, rays.origins, 0.02)[:, 0].sum(), [field.table])
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_normals_of_what_rays_meet_are_the_same() -> None:
    field, rays, _ = scene()
    depth = torch.linspace(0.2, 1.0, COUNT).where(torch.arange(COUNT) % 3 > 0, 0)
    facing = surface_normals(field, rays, depth, 0.02)
    expected = normals(field, rays.origins + depth[:, None] * rays.directions, 0.02).detach()
    torch.testing.assert_close(facing, expected * (depth > 0)[:, None], atol=1e-2, rtol=0)
    double, its_rays, _ = scene(torch.float64)
    twin = surface_normals(double, its_rays, depth.double(), 0.02)
    torch.testing.assert_close(facing.double(), twin, atol=1e-2, rtol=0)


def test_a_light_shines_on_what_faces_it() -> None:
    points = torch.zeros(3, 3)
    facing = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 0.6, 0.8]])
    brightness = lambertian(points, facing, torch.tensor([0.0, 0.0, 2.0]), 0.25)
    torch.testing.assert_close(brightness, torch.tensor([[1.0], [0.25], [0.85]]))


def test_normals_that_look_away_cost_something() -> None:
    directions = torch.tensor([[0.0, 0, -1], [0.0, 0, -1]])
    weights = torch.tensor([0.5, 0.25, 0.75])
    samples = SurfaceSamples(torch.tensor([0, 0, 1]), torch.zeros(3, 3), weights, torch.zeros(3, 3), 2)
    towards, away = torch.tensor([[0.0, 0, 1]]), torch.tensor([[0.0, 0, -1]])
    assert float(looking_away(samples, towards.expand(3, 3), directions)) == 0
    assert float(looking_away(samples, torch.cat([towards, away, away]), directions)) == pytest.approx(0.5)
