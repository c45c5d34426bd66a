# SPDX-License-Identifier: Apache-2.0
"""Depth of an object whose pictures have too little texture, with the help of its visual hull.

A surface lies on the hull or behind it. Where pictures match better under stereo's depth than under the hull's, stereo
is right, unless it is a few pixels along an edge where most others around them match on the hull. Where there is no
texture, the logarithm of the factor from the hull's depth to the surface's is harmonic, which is the smoothest function
between known values; it is 0 at the object's outlines, where the surface touches the hull.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg
from torch import Tensor

from img3d_kernels.stereo.contrast import contrast_of
from img3d_kernels.stereo.views import DepthMap, StereoView, from_planes

STEP = 8.0
"""Neighbouring pixels whose depths differ by more than this many times the size of a pixel on the surface are on
different parts of the hull."""
MAX_COST = 0.4
"""Maximum photometric cost of pictures that match."""
BETTER = 0.1
"""Minimum difference of costs that speaks for one of two depths."""
MIN_CONTRAST, MAX_CONTRAST = 4.0, 20.0
"""Minimum standard deviation of the grey values of a patch whose cost means something: noise and rounding match by
chance. Votes count in proportion to it, up to the maximum."""
NEAR = 0.01
"""Relative difference up to which a depth of stereo speaks for the hull, and is kept in any case."""
HULL_VOTE = 3.0
"""Votes of a pixel that matches on the hull: stereo may match by chance in many places, and the hull in one."""
PATCH = 11
"""Width and height of a patch in pixels."""
AROUND = 0.04
"""Distance up to which pixels vote for stereo or for the hull, as a share of the picture's longer side."""
IN_FRONT = 0.02
"""Maximum relative distance by which a kept depth may lie in front of the hull."""


RIM_WEIGHT, EVERYWHERE_WEIGHT = 0.1, 1e-4
"""Weights at outlines, and at all pixels, with which the factor is 1; a known factor has weight 1."""
REACH = 2
"""Distance in pixels of the neighbours from which the slope of a depth map is taken."""


def filled(
    view: StereoView,
    found: DepthMap,
    costs: Float32[Tensor, "H W"],
    hull: DepthMap,
    hull_costs: Float32[Tensor, "H W"],
) -> DepthMap:
    """A map with depths at all pixels where the hull is in view.

    Args:
        view: The view.
        found: Depth and normals from stereo.
        costs: Photometric cost of these.
        hull: Depth and normals of the hull.
        hull_costs: Photometric cost of these.
    """
    there = hull.depth > 0
    behind = found.depth >= hull.depth * (1 - IN_FRONT)
    contrast = contrast_of(view, PATCH)
    there_textured = there & (contrast >= MIN_CONTRAST)
    for_stereo = there_textured & behind & (costs <= MAX_COST) & (costs < hull_costs - BETTER)
    for_hull = there_textured & (hull_costs <= MAX_COST) & ~for_stereo
    reach = round(AROUND * max(view.size))
    near = (found.depth - hull.depth).abs() <= NEAR * hull.depth
    against = (for_stereo & ~near).float() - HULL_VOTE * (for_hull | (for_stereo & near)).float()
    votes = (against * contrast.clamp_max(MAX_CONTRAST))[None, None]
    stereo_wins = torch.nn.functional.avg_pool2d(votes, 2 * reach + 1, 1, reach)[0, 0] > 0
    kept, on_hull = for_stereo & (stereo_wins | near), for_hull & ~stereo_wins
    factor = torch.where(kept, found.depth / torch.where(kept, hull.depth, 1.0), 1.0)
    focal = float((view.K[0, 0] * view.K[1, 1]).sqrt())
    smooth_factor = _harmonic(factor.log(), kept | on_hull, hull.depth, STEP / focal).exp()
    depth = torch.where(kept, found.depth, torch.where(on_hull, hull.depth, hull.depth * smooth_factor))
    planes, smooth = _slopes(depth, STEP / focal)
    normals = torch.where(smooth[..., None], from_planes(view.K, planes)[1], hull.normals)
    normals = torch.where(kept[..., None], found.normals, normals)
    return DepthMap(depth, normals * there[..., None], torch.where(there, 0.0, 2.0))


def _harmonic(
    known: Float32[Tensor, "H W"], kept: Bool[Tensor, "H W"], depth: Float32[Tensor, "H W"], max_step: float
) -> Float32[Tensor, "H W"]:
    """The smoothest function with known values at some pixels, on each piece of a depth map (0 where there is none)."""
    there = (depth > 0).numpy()
    index = np.full(there.shape, -1, np.int64)
    index[there] = np.arange(there.sum())
    logarithm = np.log(np.where(there, depth.numpy(), 1.0))
    weights = np.where(kept.numpy(), 1.0, EVERYWHERE_WEIGHT)
    rows: list[npt.NDArray[np.int64]] = []
    columns: list[npt.NDArray[np.int64]] = []
    for axis in (0, 1):
        first, second = (np.moveaxis(index, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        nearer, farther = (np.moveaxis(logarithm, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        joined = (first >= 0) & (second >= 0) & (np.abs(nearer - farther) <= max_step)
        rows.append(first[joined])
        columns.append(second[joined])
        # At an outline the surface touches the hull: beside nothing, or beside something farther.
        around = np.moveaxis(weights, axis, 0)
        for of, other, step, part in (
            (first, second, farther - nearer, slice(None, -1)),
            (second, first, nearer - farther, slice(1, None)),
        ):
            rim = (of >= 0) & ((other < 0) | (step > max_step))
            around[part] = np.where(rim, np.maximum(around[part], RIM_WEIGHT), around[part])
    row, column = np.concatenate(rows), np.concatenate(columns)
    size = int(there.sum())
    if size == 0:
        return torch.zeros_like(known)
    links = coo_matrix((np.ones(len(row)), (row, column)), shape=(size, size))
    links = links + links.T
    matrix = (diags(np.asarray(links.sum(axis=1))[:, 0] + weights[there]) - links).tocsr()
    solution, _ = cg(
        matrix, weights[there] * known.numpy()[there], rtol=1e-4, maxiter=1000, M=diags(1 / matrix.diagonal())
    )
    result = np.zeros(there.shape, np.float32)
    result[there] = solution
    return torch.from_numpy(result)


def _slopes(depth: Float32[Tensor, "H W"], max_step: float) -> tuple[Float32[Tensor, "H W 3"], Bool[Tensor, "H W"]]:
    """Planes as in `views.to_planes` through pixels and their neighbours, and where all of these are of one piece."""
    inverse = torch.where(depth > 0, 1 / depth.clamp_min(1e-20), 0.0)
    planes = torch.stack([inverse, torch.zeros_like(inverse), torch.zeros_like(inverse)], dim=-1)
    smooth = depth > 0
    for axis in (1, 0):
        before, after = torch.roll(inverse, REACH, axis), torch.roll(inverse, -REACH, axis)
        planes[..., 2 - axis] = (after - before) / (2 * REACH)
        for other in (before, after):
            smooth &= (other > 0) & ((other - inverse).abs() <= REACH * max_step * inverse)
        edge = [slice(None), slice(None)]
        for edge[axis] in (slice(0, REACH), slice(-REACH, None)):
            smooth[tuple(edge)] = False
    return planes, smooth
