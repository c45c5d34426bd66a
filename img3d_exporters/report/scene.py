# SPDX-License-Identifier: Apache-2.0
"""Orthographic pictures of a scene from above and from the side, cut open where its outside would hide its inside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.gaussians import Gaussians
from img3d_kernels.spherical_harmonics import rgb_to_sh

Side = Literal["above", "side"]
AXES: dict[Side, tuple[int, int]] = {"above": (0, 1), "side": (0, 2)}
"""The axes that point to the right and up."""
REACH = 1.5
"""Radius of the drawn region around the centre of the cameras, relative to the farthest camera."""
MARGIN = 0.06
"""Margin around the drawn region, relative to its longest side."""
PIXELS = 900
"""Longer side of a picture, in pixels."""
DISTANCE = 100.0
"""Viewing distance, relative to the longest side: so large that the projection is practically parallel."""
POINT_SIZE = 0.002
"""Standard deviation of a point without size, relative to the longest side."""


@dataclass
class Plan:
    """A picture with its coordinates."""

    picture: UInt8[np.ndarray, "H W 3"]
    """On white."""
    low: Float[np.ndarray, "3"]
    """World coordinates of the lower left corner, at the far end."""
    high: Float[np.ndarray, "3"]
    """World coordinates of the upper right corner, at the near end."""
    cut: bool
    """Whether the scene is cut open."""


def plan(side: Side, splats: Gaussians | None, cameras: Float[np.ndarray, "C 3"]) -> Plan:
    """Draws the surroundings of the cameras, seen from one side.

    Args:
        side: "above": x to the right and y up; "side": seen from -y, x to the right and z up.
        splats: The Gaussians in world coordinates, z up; None leaves the picture white.
        cameras: Centres of the cameras.
    """
    low, high = _extent(splats, cameras)
    right, up = AXES[side]
    size = high - low
    scale = PIXELS / max(size[right], size[up])
    width, height = (max(1, round(scale * size[axis])) for axis in (right, up))
    white = np.full((height, width, 3), 255, np.uint8)
    if splats is None:
        return Plan(white, low, high, cut=False)
    near, far = low.copy(), high.copy()
    cut = _surround(splats, cameras)
    if cut:  # a ceiling or wall would hide the room
        if side == "above":
            far[2] = min(far[2], cameras[:, 2].max() + MARGIN * size.max() / 2)
        else:
            near[1] = max(near[1], cameras[:, 1].min() - MARGIN * size.max() / 2)
    inside = splats[((splats.means >= near) & (splats.means <= far)).all(axis=1)]
    if len(inside) == 0:
        return Plan(white, low, high, cut)
    return Plan(_projected(inside, side, low, high, width, height), low, high, cut)


def splats_of_points(positions: Float[np.ndarray, "N 3"], colors: Float[np.ndarray, "N 3"]) -> Gaussians:
    """Small opaque balls at these positions.

    Args:
        positions: World coordinates, at least one.
        colors: RGB in [0, 1].
    """
    size = POINT_SIZE * max(float(np.ptp(np.quantile(positions, (0.02, 0.98), axis=0), axis=0).max()), 1e-6)
    return Gaussians(
        means=positions.astype(np.float32),
        quats=np.tile(np.array([1, 0, 0, 0], np.float32), (len(positions), 1)),
        log_scales=np.full((len(positions), 3), np.log(size), np.float32),
        opacities=np.full(len(positions), 6, np.float32),
        sh_dc=rgb_to_sh(colors).astype(np.float32),
        sh_rest=np.zeros((len(positions), 0, 3), np.float32),
    )


def _extent(splats: Gaussians | None, cameras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a box around all cameras and almost all splats, except distant ones."""
    low, high = cameras.min(axis=0).astype(np.float64), cameras.max(axis=0).astype(np.float64)
    if splats is not None:
        center = np.median(cameras, axis=0)
        reach = REACH * float(np.linalg.norm(cameras - center, axis=1).max()) or np.inf
        ends = np.quantile(splats.means, (0.01, 0.99), axis=0).clip(center - reach, center + reach)
        low, high = np.minimum(low, ends[0]), np.maximum(high, ends[1])
    margin = MARGIN * max(float((high - low).max()), 1e-6)
    return low - margin, high + margin


def _surround(splats: Gaussians, cameras: np.ndarray) -> bool:
    """Whether a large part of the scene is outside the ring of cameras, as in a room; otherwise it is an object."""
    center = np.median(cameras[:, :2], axis=0)
    ring = np.median(np.linalg.norm(cameras[:, :2] - center, axis=1))
    return float(np.mean(np.linalg.norm(splats.means[:, :2] - center, axis=1) > ring)) > 0.1


def _projected(
    splats: Gaussians, side: Side, low: np.ndarray, high: np.ndarray, width: int, height: int
) -> UInt8[np.ndarray, "H W 3"]:
    right, up = (np.eye(3)[axis] for axis in AXES[side])
    rotation = np.stack([right, -up, np.cross(right, -up)])  # OpenCV: x right, y down, z forward
    distance = DISTANCE * float((high - low).max())
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = -rotation @ (low + high) / 2 + [0, 0, distance]
    focal = distance * width / float((high - low) @ right)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    colors = torch.from_numpy(splats.colors().clip(0, 1).astype(np.float32))
    picture, _, _ = replace(ActivatedGaussians.of(splats), colors=colors, sh_degree=None).rasterized(
        torch.from_numpy(viewmat).float()[None],
        torch.from_numpy(K).float()[None],
        width,
        height,
        backgrounds=torch.ones(1, 3),
    )
    return (255 * picture[0].clamp(0, 1)).round().byte().numpy()
