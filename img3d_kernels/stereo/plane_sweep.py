# SPDX-License-Identifier: Apache-2.0
"""The torch twin of the stereo kernel: the same cost of a plane at each pixel, and a plane sweep.

Collins 1996, "A space-sweep approach to true multi-image matching". All planes face the camera, and their depths are
fixed: no propagation and no random numbers. The cost is that of COLMAP and Gipuma; see csrc/stereo/patch_match.h.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from img3d_kernels.stereo.patch_match import MAX_COST, projection
from img3d_kernels.stereo.views import DepthMap, StereoView, from_planes

OFFSETS = [(x, y) for y in range(-5, 6, 2) for x in range(-5, 6, 2) if x * x + y * y < 50]
"""Offsets (x, y) of a patch's 32 samples from its centre, in pixels."""
SIGMA_SPACE = 5.0
"""Standard deviation in pixels of the spatial weight of a sample."""
SIGMA_COLOR = 0.2 * 255
"""Standard deviation in grey values of the weight by difference from the patch's centre."""
MIN_VARIANCE = 1e-5 * 255**2
"""Minimum variance of the grey values in a patch; below it, the patch has no texture to match."""
BEST = 3
"""Number of sources whose costs are averaged at a pixel: those with the lowest costs."""


def plane_costs(
    reference: StereoView, sources: Sequence[StereoView], planes: Float[Tensor, "H W 3"]
) -> Float[Tensor, "H W"]:
    """One minus the bilaterally weighted normalised cross-correlation, averaged over the `BEST` sources.

    Args:
        reference: The view.
        sources: The other views.
        planes: A plane for each pixel, as from `views.to_planes`. Their depths and angles are not checked.

    Returns:
        The costs; 2 * `MAX_COST` where there is no texture, and outside the mask.
    """
    dtype = planes.dtype
    height, width = reference.size
    grey = reference.grey.to(dtype)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    offsets = torch.tensor(OFFSETS)
    rows = (y[..., None] + offsets[:, 1]).clamp(0, height - 1)
    columns = (x[..., None] + offsets[:, 0]).clamp(0, width - 1)
    patches = grey[rows, columns]
    near = -(offsets.to(dtype) ** 2).sum(dim=1) / (2 * SIGMA_SPACE**2)
    if reference.mask is not None:
        near = torch.where(reference.mask[rows, columns], near, -torch.inf)
    weights = torch.softmax(near - (patches - grey[..., None]) ** 2 / (2 * SIGMA_COLOR**2), dim=-1).nan_to_num(0.0)
    centred = patches - (weights * patches).sum(dim=-1, keepdim=True)
    variance = (weights * centred**2).sum(dim=-1)

    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).to(dtype)
    ox, oy = offsets.to(dtype).unbind(dim=1)
    around = pixels[..., None, :] + torch.stack([ox, oy, torch.zeros_like(ox)], dim=-1)
    inverse_depths = planes[..., :1] + planes[..., 1:2] * ox + planes[..., 2:] * oy
    costs = []
    for source in sources:
        flat = projection(reference, source).to(dtype)
        A, b = flat[:9].reshape(3, 3), flat[9:12]
        middle = pixels @ A.T + planes[..., :1] * b
        inside = _inside(middle, source) & (variance > MIN_VARIANCE)
        seen = _interpolated(source, around @ A.T + inverse_depths[..., None] * b)
        mean = (weights * seen).sum(dim=-1, keepdim=True)
        variance_there = (weights * (seen - mean) ** 2).sum(dim=-1)
        correlation = (weights * centred * seen).sum(dim=-1) / (variance * variance_there).clamp_min(1e-6).sqrt()
        textured = inside & (variance_there > MIN_VARIANCE)
        costs.append(torch.where(textured, (1 - correlation).clamp(0, MAX_COST), MAX_COST))
    best = torch.stack(costs).sort(dim=0).values[:BEST].mean(dim=0)
    usable = variance > MIN_VARIANCE
    if reference.mask is not None:
        usable &= reference.mask
    return torch.where(usable, best, 2 * MAX_COST)


def plane_sweep(
    reference: StereoView, sources: Sequence[StereoView], nearest: float, farthest: float, number: int
) -> DepthMap:
    """For each pixel, the plane with the lowest cost among planes that face the camera.

    Args:
        reference: The view.
        sources: The other views.
        nearest: The nearest depth.
        farthest: The farthest depth.
        number: Number of planes, evenly spaced in inverse depth.
    """
    height, width = reference.size
    best = torch.zeros(height, width, 3)
    best[..., 0] = 1 / farthest
    least = torch.full((height, width), 2 * MAX_COST)
    for inverse in torch.linspace(1 / farthest, 1 / nearest, number).tolist():
        planes = torch.zeros(height, width, 3)
        planes[..., 0] = inverse
        costs = plane_costs(reference, sources, planes)
        best = torch.where((costs < least)[..., None], planes, best)
        least = torch.minimum(costs, least)
    depth, normals = from_planes(reference.K, best)
    return DepthMap(depth, normals, least.float()).where(least < MAX_COST)


def _inside(homogeneous: Float[Tensor, "H W 3"], source: StereoView) -> Bool[Tensor, "H W"]:
    """Which homogeneous pixels are in front of the source and inside its picture and mask; centres at integers."""
    height, width = source.size
    z = homogeneous[..., 2]
    u, v = (homogeneous[..., :2] / z[..., None]).unbind(dim=-1)
    inside = (z > 0) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    if source.mask is not None:
        column, row = ((torch.where(inside, each, 0) + 0.5).long() for each in (u, v))
        inside &= source.mask[row, column]
    return inside


def _interpolated(source: StereoView, homogeneous: Float[Tensor, "H W S 3"]) -> Float[Tensor, "H W S"]:
    """Grey values by bilinear interpolation; pixel centres at integers; clamped to the border."""
    height, width = source.size
    at = homogeneous[..., :2] / homogeneous[..., 2:]
    grid = (at + 0.5) * 2 / at.new_tensor([width, height]) - 1
    picture = source.grey.to(at.dtype)[None, None]
    found = F.grid_sample(picture, grid.reshape(1, 1, -1, 2), padding_mode="border", align_corners=False)
    return found.reshape(at.shape[:-1])
