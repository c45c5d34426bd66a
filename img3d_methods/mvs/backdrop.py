# SPDX-License-Identifier: Apache-2.0
"""What renders show where nothing was reconstructed: a painted backdrop around the scene, as on a stage.

It is no part of the mesh, and claims no geometry: a surface around the cameras, as far away in each direction as the
reconstructed points there, or around there, painted with the photos' pixels without depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from img3d_kernels.mesh_rendering import MeshScene
from img3d_kernels.projection import in_picture
from img3d_kernels.stereo.views import DepthMap, StereoView

ROWS, COLUMNS = 65, 129
"""Number of vertices of the surface from pole to pole, and around; the first and the last column are the same."""
PICTURE_ROWS = 768
"""Height in pixels of the picture on it, which is twice as wide."""
FARTHEST = 0.9
"""Quantile of the distances of a direction's points that counts as its distance."""
RIM = 2
"""Distance in pixels from known depth of pixels that paint the backdrop: nearer ones show the edge of the surface."""
FEATHER = 0.1
"""Share of a photo's longer side over which its weight falls towards its border."""


@dataclass(frozen=True)
class Backdrop:
    """A surface around a point, with a picture on it. Rows begin at the upper pole; the world's z axis points up."""

    center: Float32[Tensor, "3"]
    radii: Float32[Tensor, "R C"]
    """Distances of the vertices from the centre."""
    picture: UInt8[Tensor, "H W 3"]
    """sRGB, equirectangular."""

    def scene(self) -> MeshScene:
        """The surface prepared for ray casting."""
        rows, columns = self.radii.shape
        v, u = torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0, 1, columns), indexing="ij")
        vertices = self.center + self.radii[..., None] * _directions(v, u)
        corner = (torch.arange(rows - 1)[:, None] * columns + torch.arange(columns - 1)).flatten()
        faces = torch.cat(
            [
                torch.stack([corner, corner + columns, corner + 1], dim=-1),
                torch.stack([corner + 1, corner + columns, corner + columns + 1], dim=-1),
            ]
        )
        uvs = torch.stack([u, 1 - v], dim=-1).reshape(-1, 2)
        vertices = vertices.reshape(-1, 3)
        return MeshScene(vertices, faces, torch.zeros_like(vertices), uvs, self.picture.float() / 255)


def backdrop_of(
    points: Float[Tensor, "P 3"],
    colors: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    views: Sequence[StereoView],
    maps: Sequence[DepthMap],
    color: Float[Tensor, "3"],
) -> Backdrop:
    """The backdrop of a reconstruction.

    Args:
        points: Reconstructed points, world coordinates with z up.
        colors: The photos, sRGB.
        views: Their cameras and masks.
        maps: Their depth maps, 0 where nothing was reconstructed.
        color: RGB in [0, 1] of directions around which no photo shows anything.
    """
    centers = torch.stack([torch.linalg.inv(view.viewmat.double())[:3, 3] for view in views])
    center = centers.mean(dim=0)
    reach = float((centers - center).norm(dim=-1).max())
    radii = _radii(points.double() - center, 1.5 * reach)
    height, width = PICTURE_ROWS, 2 * PICTURE_ROWS
    v, u = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    grid = torch.stack([u, v], dim=-1)[None] * 2 - 1
    distances = F.grid_sample(radii[None, None], grid, mode="bilinear", align_corners=True)[0, 0]
    places = center + (distances[..., None] * _directions(v, u)).double().reshape(-1, 3)
    total, weights = torch.zeros(height * width, 3), torch.zeros(height * width, 1)
    for rgb, view, found in zip(colors, views, maps, strict=True):
        inside, pixels, _ = in_picture(places, view.K, view.viewmat, view.size[1], view.size[0])
        column, row = pixels[inside].long().unbind(dim=1)
        weight = _weights(view, found)[row, column, None]
        total[inside] += weight * torch.from_numpy(rgb)[row, column]
        weights[inside] += weight
    painted = torch.cat([total / 255, weights], dim=-1).T.reshape(1, 4, height, width)
    painted[:, :3] /= painted[:, 3:].clamp_min(1e-12)
    picture = _spread(painted[:, :3], (painted[:, 3:] > 0).float(), color.float())[0].permute(1, 2, 0)
    return Backdrop(center.float(), radii, (picture * 255).round().to(torch.uint8))


def _directions(v: Float[Tensor, "*S"], u: Float[Tensor, "*S"]) -> Float[Tensor, "*S 3"]:
    """Unit vectors: v from 0 at the upper pole to 1 at the lower, u from 0 to 1 around."""
    polar, azimuth = math.pi * v, 2 * math.pi * u
    return torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()], dim=-1)


def _radii(points: Float[Tensor, "P 3"], least: float) -> Float32[Tensor, "R C"]:
    """Distances of the surface in the directions of its vertices, from points relative to its centre."""
    distance = points.norm(dim=-1)
    points, distance = points[distance > 0], distance[distance > 0]
    v = torch.acos((points[:, 2] / distance).clamp(-1, 1)) / math.pi
    u = torch.atan2(points[:, 1], points[:, 0]) / (2 * math.pi) % 1
    columns = COLUMNS - 1
    cell = (v * (ROWS - 1)).round().long() * columns + (u * columns).round().long() % columns
    order = torch.argsort(distance)
    order = order[torch.argsort(cell[order], stable=True)]
    counts = torch.bincount(cell, minlength=ROWS * columns)
    chosen = counts.cumsum(dim=0) - 1 - ((1 - FARTHEST) * counts).long()
    known = counts > 0
    found = torch.zeros(ROWS * columns)
    found[known] = distance[order][chosen[known]].clamp_min(least).log().float()
    usual = found[known].median() if known.any() else torch.tensor(least).log()
    image, mask = (each.reshape(1, 1, ROWS, columns) for each in (found, known.float()))
    filled = _spread(image, mask, usual[None])[0, 0].exp()
    return torch.cat([filled, filled[:, :1]], dim=1)


def _weights(view: StereoView, found: DepthMap) -> Float32[Tensor, "H W"]:
    """Of a photo's pixels, 0 where depth is known or the mask excludes them."""
    free = (found.depth == 0) if view.mask is None else (found.depth == 0) & view.mask
    kernel = np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)
    free = torch.from_numpy(np.asarray(cv2.erode(free.numpy().astype(np.uint8), kernel)))
    height, width = view.size
    from_side = [torch.minimum(torch.arange(n) + 1, n - torch.arange(n)) for n in (height, width)]
    border = torch.minimum(from_side[0][:, None], from_side[1]) / (FEATHER * max(view.size))
    return free * border.clamp_max(1.0).float()


def _spread(
    image: Float32[Tensor, "1 C H W"], known: Float32[Tensor, "1 1 H W"], otherwise: Float[Tensor, "C"]
) -> Float32[Tensor, "1 C H W"]:
    """Fills unknown pixels smoothly from the known ones around them, by a pyramid (Gortler et al. 1996, push-pull)."""
    if not known.any():
        return otherwise.reshape(1, -1, 1, 1).expand_as(image)
    if known.all():
        return image
    size = (math.ceil(image.shape[2] / 2), math.ceil(image.shape[3] / 2))
    weight = F.adaptive_avg_pool2d(known, size)
    coarse = F.adaptive_avg_pool2d(image * known, size) / weight.clamp_min(1e-12)
    below = _spread(coarse, (weight > 0).float(), otherwise)
    smooth = F.interpolate(below, image.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(known > 0, image, smooth)
