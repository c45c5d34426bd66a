# SPDX-License-Identifier: Apache-2.0
"""What stereo cannot see becomes a hole rather than nonsense: a white wall, a mirror, somebody who walks through."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import kernel_scenes
import pytest
import torch
from stereo_scenes import BALL, RADIUS, stereo_scene
from torch import Tensor

from img3d_kernels.stereo.depth_maps import StereoOptions, stereo_depth_maps
from img3d_kernels.stereo.views import StereoView, rays

pytestmark = kernel_scenes.needs_compiled

VIEWS, DEPTHS, _ = stereo_scene()
MIN_DEPTH, MAX_DEPTH = 2.0, 10.0
CLOSE = 0.03
"""Maximum relative difference from the true depth of what is no nonsense."""


def noise(seed: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 255, (height, width), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def white_wall(grey: Tensor, index: int) -> Tensor:
    """The wall behind the ball has no texture."""
    pose = torch.linalg.inv(VIEWS[index].viewmat)
    points = (rays(VIEWS[index].K, 80, 96) * DEPTHS[index][..., None]).double() @ pose[:3, :3].T + pose[:3, 3]
    grey[(points - torch.tensor(BALL)).norm(dim=-1) > 1.01 * RADIUS] = 240
    return grey


def mirror(grey: Tensor, index: int) -> Tensor:
    """Every view shows something else in one part of the scene."""
    grey[:, 60:] = noise(index, 80, 36)
    return grey


def passer_by(grey: Tensor, index: int) -> Tensor:
    """Somebody, textured, is at another place in each view."""
    left = (5, 30, 55, 72, 18)[index]
    grey[10:70, left : left + 18] = noise(99, 60, 18)
    return grey


@pytest.mark.parametrize(
    ("spoil", "most_wrong", "least_right"), [(white_wall, 0.1, 0.25), (mirror, 0.05, 0.45), (passer_by, 0.03, 0.5)]
)
def test_holes_rather_than_nonsense(
    spoil: Callable[[Tensor, int], Tensor], most_wrong: float, least_right: float
) -> None:
    views: list[StereoView] = [
        dataclasses.replace(view, grey=spoil(view.grey.clone(), i)) for i, view in enumerate(VIEWS)
    ]
    sources = [[j for j in range(5) if j != i] for i in range(5)]
    maps = stereo_depth_maps(views, sources, [(MIN_DEPTH, MAX_DEPTH)] * 5, StereoOptions())
    for found, truth in zip(maps, DEPTHS, strict=True):
        known = found.depth > 0
        right = known & ((found.depth - truth).abs() <= CLOSE * truth)
        assert (known & ~right).float().mean() <= most_wrong
        assert right.float().mean() >= least_right
