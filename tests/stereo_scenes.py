# SPDX-License-Identifier: Apache-2.0
"""A small textured scene with true depth: a ball before a slanted wall, painted with noise, alike for all cameras."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from img3d_kernels.stereo.views import StereoView, rays

BALL, RADIUS = (0.1, -0.05, 4.0), 0.9
WALL_NORMAL, WALL_DISTANCE = (0.25, 0.1, -1.0), -5.5
"""Points of the wall have this inner product with its normal."""
PLACES = [(0.0, 0.0), (0.6, 0.05), (-0.6, -0.1), (0.1, 0.55), (-0.05, -0.6)]
"""Of the cameras, which all look at the ball."""


def paint(points: Tensor, texture: Tensor) -> Tensor:
    """Grey values in [0, 1] of points `[N, 3]`, from `texture` `[1, 1, D, D, D]` that repeats."""
    found = torch.zeros(len(points), dtype=points.dtype)
    for scale, weight in ((1.0, 0.6), (2.3, 0.4)):
        grid = (points * scale * 0.8) % 2 - 1
        found += weight * F.grid_sample(texture, grid[None, None, None], align_corners=True)[0, 0, 0, 0]
    return found


def stereo_scene(
    width: int = 96, height: int = 80, seed: int = 0
) -> tuple[list[StereoView], list[Tensor], list[Tensor]]:
    """Views, true depths `[H, W]`, and true normals `[H, W, 3]` in camera axes, towards the camera."""
    generator = torch.Generator().manual_seed(seed)
    texture = torch.rand(1, 1, 24, 24, 24, generator=generator, dtype=torch.float64)
    views, depths, all_normals = [], [], []
    for x, y in PLACES:
        center = torch.tensor([x, y, 0.0], dtype=torch.float64)
        forward = F.normalize(torch.tensor(BALL, dtype=torch.float64) - center, dim=0)
        right = F.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), forward), dim=0)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        viewmat = torch.eye(4, dtype=torch.float64)
        viewmat[:3, :3], viewmat[:3, 3] = rotation, -rotation @ center
        fine = 2
        K = torch.tensor([[1.2 * width, 0, width / 2 + 1], [0, 1.2 * width, height / 2 - 2], [0, 0, 1]])
        K_fine = K * torch.tensor([fine, fine, 1.0])[:, None]
        points, _, _ = _seen(rays(K_fine, fine * height, fine * width).double() @ rotation, center, forward)
        colors = paint(points.reshape(-1, 3), texture).reshape(height, fine, width, fine).mean(dim=(1, 3))
        _, depth, normals = _seen(rays(K, height, width).double() @ rotation, center, forward)
        views.append(StereoView((colors * 255).round().to(torch.uint8), K, viewmat))
        depths.append(depth.float())
        all_normals.append((normals @ rotation.T).float())
    return views, depths, all_normals


def _seen(directions: Tensor, center: Tensor, forward: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points, depths and normals where rays of depth 1 end."""
    ball, wall = torch.tensor(BALL, dtype=torch.float64), torch.tensor(WALL_NORMAL, dtype=torch.float64)
    depth = (WALL_DISTANCE - center @ wall) / (directions @ wall)
    normals = F.normalize(wall, dim=0).expand_as(directions)
    a, b = (directions**2).sum(-1), directions @ (center - ball)
    inside = b**2 - a * ((center - ball) @ (center - ball) - RADIUS**2)
    on_ball = inside > 0
    to_ball = (-b - inside.clamp_min(0).sqrt()) / a
    depth = torch.where(on_ball, to_ball, depth)
    points = center + directions * depth[..., None]
    normals = torch.where(on_ball[..., None], (points - ball) / RADIUS, normals)
    assert math.isclose(float((directions @ forward).mean()), 1, abs_tol=1e-6)
    return points, depth, normals
