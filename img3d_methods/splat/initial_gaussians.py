# SPDX-License-Identifier: Apache-2.0
"""Initial Gaussian parameters for a coloured point cloud, as in 3DGS (arXiv 2308.04079, section 5)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.spherical_harmonics import rgb_to_sh


def initial_gaussians(
    points: Float[Tensor, "N 3"],
    colors: Float[Tensor, "N 3"],
    sh_degree: int,
    opacity: float,
    relative_scale: float,
    max_gaussians: int,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Makes one isotropic Gaussian per point, as wide as the mean distance to its three nearest neighbours.

    Args:
        points: World coordinates; at least one.
        colors: Colours in [0, 1].
        sh_degree: Degree of spherical harmonics to allocate; 0 stores colours as logits, as splatfacto does.
        opacity: Initial opacity, in (0, 1).
        relative_scale: Factor on the width.
        max_gaussians: If there are more points, this many are chosen at random.
        seed: Random seed.

    Returns:
        Splatfacto's parameters before activation: means `[N, 3]`, scales `[N, 3]` (log), quats `[N, 4]` (wxyz),
        features_dc `[N, 3]`, features_rest `[N, K - 1, 3]`, opacities `[N, 1]` (logit).
    """
    generator = torch.Generator().manual_seed(seed)
    if len(points) > max_gaussians:
        kept = torch.randperm(len(points), generator=generator)[:max_gaussians].sort().values
        points, colors = points[kept], colors[kept]
    num = len(points)
    width = relative_scale * _mean_neighbor_distance(points)
    if sh_degree > 0:
        features_dc = rgb_to_sh(colors)
    else:
        features_dc = torch.logit(colors, eps=1e-4)
    return {
        "means": points.float().contiguous().clone(),
        "scales": torch.log(width)[:, None].repeat(1, 3),
        "quats": torch.nn.functional.normalize(torch.randn(num, 4, generator=generator), dim=-1),
        "features_dc": features_dc.float(),
        "features_rest": torch.zeros(num, (sh_degree + 1) ** 2 - 1, 3),
        "opacities": torch.full((num, 1), math.log(opacity / (1 - opacity))),
    }


def _mean_neighbor_distance(points: Float[Tensor, "N 3"], num_neighbors: int = 3) -> Float[Tensor, "N"]:
    """Mean distance to the nearest neighbours, at least a thousandth of the median, so that coincident points do not
    get 0."""
    from scipy.spatial import KDTree

    k = min(num_neighbors, len(points) - 1)
    if k == 0:
        return torch.full((len(points),), 0.01)
    xyz = points.double().cpu().numpy()
    distances, _ = KDTree(xyz).query(xyz, k=k + 1)
    mean = torch.from_numpy(distances[:, 1:]).mean(dim=-1).float()
    usual = mean.median().clamp_min(1e-6)
    return mean.clamp_min(1e-3 * usual.item())
