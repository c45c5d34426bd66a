# SPDX-License-Identifier: Apache-2.0
"""Reducing the number of Gaussians by merging neighbouring pairs, preserving mass, mean and covariance.

Pairs are chosen as in Ward's clustering (1963): those whose merging changes a picture least, by how much of it they
cover, their distance relative to their size, and the difference of their colours.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from img3d_assets.gaussians import Gaussians
from img3d_assets.quantised import logits
from img3d_kernels.quaternions import rotation_matrices

NEIGHBOURS = 6
COLOR_WEIGHT = 16.0
"""Weight of a squared difference of colours, relative to a squared distance in standard deviations."""
MAX_ALPHA = 0.99
MIN_VARIANCE = 1e-20


def merged(splats: Gaussians, target: int) -> Gaussians:
    """Merges Gaussians until at most `target` are left.

    Args:
        splats: N Gaussians, all finite.
        target: The number of Gaussians to keep, at least 1.
    """
    while len(splats) > target:
        splats = _merged_once(splats, len(splats) - target)
    return splats


def covariances(splats: Gaussians) -> Float[np.ndarray, "N 3 3"]:
    """Covariances in world axes."""
    axes = rotation_matrices(torch.from_numpy(splats.quats).double()).numpy()
    factors = axes * np.exp(splats.log_scales.astype(np.float64))[:, None, :]
    return factors @ factors.transpose(0, 2, 1)


def _merged_once(splats: Gaussians, at_most: int) -> Gaussians:
    """Merges up to `at_most` pairs of neighbours, at least one."""
    pairs = _pairs(splats)[:at_most]
    alone = np.ones(len(splats), bool)
    alone[pairs] = False
    return Gaussians.joined([splats[alone], _merged_pairs(splats[pairs[:, 0]], splats[pairs[:, 1]])])


def _pairs(splats: Gaussians) -> Int64[np.ndarray, "P 2"]:
    """Pairs of neighbours that are mutually best, in order of increasing cost."""
    count = min(NEIGHBOURS + 1, len(splats))
    _, neighbours = KDTree(splats.means).query(splats.means, k=count)
    edges = np.stack([np.repeat(np.arange(len(splats)), count), np.ravel(neighbours)], axis=1)
    edges = edges[edges[:, 0] != edges[:, 1]]
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    first, second = edges.T
    mass = splats.importance()
    variance = np.exp(2 * splats.log_scales.astype(np.float64)).mean(axis=1)
    apart = ((splats.means[first] - splats.means[second]) ** 2).sum(axis=1) / (variance[first] + variance[second])
    colors = splats.colors()
    unlike = ((colors[first] - colors[second]) ** 2).sum(axis=1)
    cost = mass[first] * mass[second] / (mass[first] + mass[second]) * (apart + COLOR_WEIGHT * unlike)
    edges = edges[np.argsort(cost, kind="stable")]
    rank = np.arange(len(edges))
    best = np.full(len(splats), len(edges))
    np.minimum.at(best, edges.ravel(), np.repeat(rank, 2))
    return edges[(best[edges[:, 0]] == rank) & (best[edges[:, 1]] == rank)]


def _merged_pairs(first: Gaussians, second: Gaussians) -> Gaussians:
    """Merges each pair into one Gaussian with the moments of their sum."""
    masses = np.stack([first.importance(), second.importance()], axis=1)
    shares = masses / masses.sum(axis=1, keepdims=True)

    def mean(values: Float[np.ndarray, "P ..."], others: Float[np.ndarray, "P ..."]) -> Float[np.ndarray, "P ..."]:
        own, other = shares.reshape(len(shares), 2, *[1] * (values.ndim - 1)).swapaxes(0, 1)
        return own * values + other * others

    means = mean(first.means, second.means)
    spread = mean(*(_moment(each, means) for each in (first, second)))
    variances, axes = np.linalg.eigh(spread)
    axes[..., 0] *= np.sign(np.linalg.det(axes))[:, None]
    quats = Rotation.from_matrix(axes).as_quat(scalar_first=True)
    log_scales = 0.5 * np.log(np.maximum(variances, MIN_VARIANCE))
    area = np.exp(log_scales[:, 1:].sum(axis=1))  # of the largest cross-section: eigenvalues ascend
    return Gaussians(
        means.astype(np.float32),
        quats.astype(np.float32),
        log_scales.astype(np.float32),
        logits(np.minimum(masses.sum(axis=1) / area, MAX_ALPHA)).astype(np.float32),
        mean(first.sh_dc, second.sh_dc).astype(np.float32),
        mean(first.sh_rest, second.sh_rest).astype(np.float32),
        first.antialiased,
        first.origin,
    )


def _moment(splats: Gaussians, centers: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3 3"]:
    """Second moments about the given centres."""
    offsets = splats.means - centers
    return covariances(splats) + offsets[:, :, None] * offsets[:, None, :]
