# SPDX-License-Identifier: Apache-2.0
"""Silhouettes tell where a surface without texture is; pictures, where it is not on the hull."""

from __future__ import annotations

import dataclasses
import math

import kernel_scenes
import torch
import torch.nn.functional as F
from torch import Tensor

from img3d_kernels.stereo.depth_maps import StereoOptions, stereo_depth_maps
from img3d_kernels.stereo.filling import filled
from img3d_kernels.stereo.silhouettes import hull_maps, visual_hull
from img3d_kernels.stereo.views import DepthMap, StereoView, rays

SIZE, DISTANCE, RADIUS = 64, 4.0, 1.0
RANGE = (2.0, 6.0)


def around(count: int) -> list[StereoView]:
    """Views of a white ball at the origin, which has no texture, from all sides."""
    views = []
    for i in range(count):
        height, angle = 1 - (2 * i + 1) / count, i * math.pi * (3 - math.sqrt(5))
        flat = math.sqrt(1 - height**2)
        forward = -torch.tensor([flat * math.cos(angle), flat * math.sin(angle), height], dtype=torch.float64)
        right = F.normalize(torch.linalg.cross(torch.tensor([0.3, 0.9, 0.1], dtype=torch.float64), forward), dim=0)
        viewmat = torch.eye(4, dtype=torch.float64)
        viewmat[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
        viewmat[:3, 3] = torch.tensor([0, 0, DISTANCE])
        K = torch.tensor([[1.3 * SIZE, 0, SIZE / 2], [0, 1.3 * SIZE, SIZE / 2], [0, 0, 1]])
        outline = ball_depth(K) > 0
        grey = torch.full((SIZE, SIZE), 255, dtype=torch.uint8)
        views.append(StereoView(grey, K, viewmat, outline, outline))
    return views


def ball_depth(K: Tensor) -> Tensor:
    directions = rays(K, SIZE, SIZE)
    a, b = (directions**2).sum(-1), DISTANCE * directions[..., 2]
    inside = b**2 - a * (DISTANCE**2 - RADIUS**2)
    return torch.where(inside > 0, (b - inside.clamp_min(0).sqrt()) / a, 0.0)


VIEWS = around(40)
TRUTH = ball_depth(VIEWS[0].K)


def test_the_hull_of_many_views_is_the_ball() -> None:
    maps = hull_maps(VIEWS, [RANGE] * len(VIEWS))
    assert maps is not None
    both = (maps[3].depth > 0) & (TRUTH > 0)
    assert both.sum() > 0.97 * (TRUTH > 0).sum()
    assert ((maps[3].depth - TRUTH).abs() / TRUTH)[both].quantile(0.95) < 0.02
    assert not (maps[3].depth > 0)[TRUTH == 0].any()
    towards = F.normalize(rays(VIEWS[0].K, SIZE, SIZE) * TRUTH[..., None] - torch.tensor([0, 0, DISTANCE]), dim=-1)
    assert ((maps[3].normals * towards).sum(dim=-1)[both] > 0.9).float().mean() > 0.9


def test_few_or_contradicting_outlines_make_no_hull() -> None:
    assert visual_hull(VIEWS[:5], [RANGE] * 5) is None
    assert hull_maps([dataclasses.replace(view, outline=None) for view in VIEWS], [RANGE] * 40) is None
    shift = torch.tensor([0.4, 0, 0], dtype=torch.float64)
    wrong = []
    for i, view in enumerate(VIEWS):
        viewmat = view.viewmat.clone()
        viewmat[:3, 3] += shift * (-1) ** i
        wrong.append(dataclasses.replace(view, viewmat=viewmat))
    assert hull_maps(wrong, [RANGE] * 40) is None


@kernel_scenes.needs_compiled
def test_a_ball_without_texture_gets_depth() -> None:
    views = VIEWS[::2]
    axes = torch.stack([view.viewmat[2, :3] for view in views])
    sources = [row[row != i][:3].tolist() for i, row in enumerate((axes @ axes.T).argsort(dim=1, descending=True))]
    maps = stereo_depth_maps(views, sources, [RANGE] * 20, StereoOptions(geometric_passes=1))
    known = maps[0].depth > 0
    assert known.sum() > 0.7 * (TRUTH > 0).sum()  # near the rim, too few views see it
    assert ((maps[0].depth - TRUTH).abs() / TRUTH)[known].quantile(0.9) < 0.04
    blind = [dataclasses.replace(view, outline=None) for view in views]
    nothing = stereo_depth_maps(blind, sources, [RANGE] * 20, StereoOptions(geometric_passes=1))
    right = (nothing[0].depth - TRUTH).abs() <= 0.02 * TRUTH
    assert (right & (TRUTH > 0)).sum() < 0.3 * (TRUTH > 0).sum()


class TestFilling:
    hull = DepthMap(TRUTH, torch.tensor([0.0, 0.0, -1.0]).expand(SIZE, SIZE, 3) * (TRUTH > 0)[..., None], TRUTH * 0)

    def view(self) -> StereoView:
        """The ball with texture in a disc in its middle."""
        noise = torch.randint(0, 255, (SIZE, SIZE), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        return dataclasses.replace(VIEWS[0], grey=torch.where(self.disc(10), noise, 255))

    def disc(self, radius: float) -> Tensor:
        y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        return (x - SIZE / 2) ** 2 + (y - SIZE / 2) ** 2 < radius**2

    def test_a_hollow_that_pictures_show_is_kept(self) -> None:
        """Around it, the surface goes back to the hull."""
        found = DepthMap(TRUTH * 1.1, self.hull.normals, TRUTH * 0)
        costs, hull_costs = torch.where(self.disc(10), 0.05, 4.0), torch.where(self.disc(10), 0.9, 4.0)
        result = filled(self.view(), found, costs, self.hull, hull_costs)
        factor = result.depth / TRUTH
        torch.testing.assert_close(factor[self.disc(8)], torch.full_like(factor[self.disc(8)], 1.1))
        beside = (TRUTH > 0) & ~self.disc(12)
        assert 1 < factor[beside].min() and factor[beside].max() < 1.1
        assert factor[SIZE // 2, 12] < factor[SIZE // 2, 18]

    def test_chance_matches_along_an_edge_are_not(self) -> None:
        found = DepthMap(TRUTH * 1.1, self.hull.normals, TRUTH * 0)
        ring = self.disc(10) & ~self.disc(8)
        costs = torch.where(ring, 0.05, 4.0)
        hull_costs = torch.where(ring, 0.5, torch.where(self.disc(10), 0.05, 4.0))
        result = filled(self.view(), found, costs, self.hull, hull_costs)
        torch.testing.assert_close(result.depth, TRUTH, rtol=1e-3, atol=0)
