# SPDX-License-Identifier: Apache-2.0
"""The backdrop that renders show in holes: how far away it is, what it shows, and where it takes its colours from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gaussian_scenes import looking_at
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.poses import viewmats
from img3d_kernels.stereo.views import DepthMap, StereoView, rays
from img3d_methods.mvs.backdrop import Backdrop, backdrop_of

WALL = 5.0
"""Distance of a wall from the origin, in direction x."""
HEIGHT, WIDTH = 60, 80
K = torch.tensor([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]], dtype=torch.float64)
MEAN = torch.tensor([0.2, 0.4, 0.6])


def painted(places: Float[Tensor, "*S 3"]) -> Float[Tensor, "*S 3"]:
    """What the wall shows at its places."""
    y, z = places[..., 1], places[..., 2]
    return torch.stack([0.5 + 0.4 * (y / 2).sin(), 0.5 + 0.4 * (z / 2).cos(), 0.3 + 0.1 * z.sin()], dim=-1)


def on_wall(view: StereoView) -> Float[Tensor, "H W 3"]:
    """The places of the wall that a view's pixels show."""
    pose = torch.linalg.inv(view.viewmat.double())
    directions = rays(view.K, *view.size).double() @ pose[:3, :3].T
    return pose[:3, 3] + directions * ((WALL - pose[0, 3]) / directions[..., :1])


def view_from(y: float, z: float) -> tuple[np.ndarray, StereoView]:
    """A photo of the wall from a place beside the origin, and its camera."""
    viewmat = viewmats(looking_at((0.0, y, z), (WALL, y, z))[None])[0].double()
    view = StereoView(torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8), K, viewmat)
    return (painted(on_wall(view)) * 255).round().to(torch.uint8).numpy(), view


@pytest.fixture(scope="module")
def photos() -> list[tuple[np.ndarray, StereoView]]:
    return [view_from(y, z) for y, z in ((0.5, 0.0), (-0.5, 0.1), (0.0, -0.4))]


@pytest.fixture(scope="module")
def points() -> Tensor:
    """Of the wall, but for its middle."""
    y, z = torch.meshgrid(torch.linspace(-6, 6, 200), torch.linspace(-6, 6, 200), indexing="ij")
    places = torch.stack([torch.full_like(y, WALL), y, z], dim=-1).reshape(-1, 3)
    return places[places[:, 1:].norm(dim=-1) > 1.5].double()


def made(photos: list[tuple[np.ndarray, StereoView]], points: Tensor, maps: list[DepthMap]) -> Backdrop:
    colors, views = zip(*photos, strict=True)
    return backdrop_of(points, colors, views, maps, MEAN)


def seen(backdrop: Backdrop, view: StereoView) -> tuple[Tensor, Tensor]:
    """Colours `[H, W, 3]` and places `[H, W, 3]` of the backdrop in a view."""
    pose = torch.linalg.inv(view.viewmat.double()).float()
    directions = (rays(view.K, *view.size) @ pose[:3, :3].T).reshape(-1, 3)
    origins = pose[:3, 3].expand_as(directions)
    hits = backdrop.scene().cast(origins, directions)
    assert hits.is_hit.all()
    return hits.rgb.reshape(HEIGHT, WIDTH, 3), (origins + directions * hits.depth[:, None]).reshape(HEIGHT, WIDTH, 3)


def test_a_new_view_sees_what_the_photos_show_in_its_place(
    photos: list[tuple[np.ndarray, StereoView]], points: Tensor
) -> None:
    backdrop = made(photos, points, [DepthMap.empty(HEIGHT, WIDTH)] * 3)
    _, view = view_from(0.2, 0.3)
    colors, places = seen(backdrop, view)
    assert (places[..., 0] - WALL).abs().quantile(0.9) < 0.05 * WALL  # also in the middle, where there are no points
    inner = (slice(12, -12), slice(12, -12))
    assert (colors - painted(on_wall(view)))[inner].abs().mean() < 0.02


def test_known_depth_does_not_paint_it(photos: list[tuple[np.ndarray, StereoView]], points: Tensor) -> None:
    """Something red stands before the right half of the wall, with known depth: the backdrop is not red."""
    spoiled, maps = [], []
    for rgb, view in photos:
        rgb, depth = rgb.copy(), torch.zeros(HEIGHT, WIDTH)
        rgb[:, 40:] = (255, 0, 0)
        depth[:, 40:] = 1.0
        spoiled.append((rgb, view))
        maps.append(DepthMap(depth, torch.zeros(HEIGHT, WIDTH, 3), torch.zeros(HEIGHT, WIDTH)))
    colors, _ = seen(made(spoiled, points, maps), photos[0][1])
    assert (colors[:, 44:, 0] < 0.95).all() and (colors[:, 44:, 2] > 0.1).all()


def test_where_no_photo_shows_anything_colours_spread(
    photos: list[tuple[np.ndarray, StereoView]], points: Tensor
) -> None:
    everywhere = DepthMap(torch.ones(HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH, 3), torch.zeros(HEIGHT, WIDTH))
    backdrop = made(photos, points, [everywhere] * 3)
    np.testing.assert_allclose(backdrop.picture.numpy() / 255, MEAN.expand(*backdrop.picture.shape), atol=0.003)
    behind = made(photos, points, [DepthMap.empty(HEIGHT, WIDTH)] * 3).picture.float()
    assert behind[:, 768].std(dim=0).max() < 60 and behind[:, 768].min() > 0


def test_cameras_are_inside_although_points_are_near(photos: list[tuple[np.ndarray, StereoView]]) -> None:
    centers = torch.stack([torch.linalg.inv(view.viewmat)[:3, 3] for _, view in photos])
    near = centers.mean(dim=0) + 0.01 * torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double()
    backdrop = made(photos, near, [DepthMap.empty(HEIGHT, WIDTH)] * 3)
    reach = float((centers - centers.mean(dim=0)).norm(dim=-1).max())
    assert float(backdrop.radii.min()) >= 1.49 * reach and math.isfinite(float(backdrop.radii.max()))
    seen(backdrop, photos[0][1])
