# SPDX-License-Identifier: Apache-2.0
"""Vector quantisation: a codebook for scalars, a palette for vectors (k-means; Lloyd 1957, published 1982).

k-means in two levels, first into groups and then within each, takes seconds for the tens of thousands of entries of a
palette; in a single level, as in scikit-learn, it would take hours.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from img3d_base.progress import with_progress

ROUNDS, CODEBOOK_ROUNDS = 4, 500
HISTOGRAM = 1 << 16
BLOCK = 1 << 24
"""Number of distances computed at once."""
GROUP, SAMPLE = 512, 32768
"""Approximate number of vectors in a group, and number of vectors sampled to place the groups."""


def codebook(values: Float[np.ndarray, "..."], size: int = 256) -> Float32[np.ndarray, "S"]:
    """Ascending values that minimise the mean squared quantisation error of the given ones.

    Computed on a histogram of 65,536 bins, so that millions of values take no longer than a few.
    """
    values = np.asarray(values, np.float64).ravel()
    low, high = values.min(), values.max()
    if high == low:
        return np.full(size, low, np.float32)
    counts, edges = np.histogram(values, HISTOGRAM, (low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    # The optimal density of codes is the cube root of the values' density (Panter and Dite 1951), here over 256 bins.
    share = np.cumsum(np.repeat(np.cbrt(counts.reshape(-1, 256).sum(axis=1)), 256))
    codes = np.interp((np.arange(size) + 0.5) / size, share / share[-1], middles)
    weights, moments = np.cumsum(np.r_[0, counts]), np.cumsum(np.r_[0, counts * middles])
    for _ in range(CODEBOOK_ROUNDS):
        bounds = np.r_[0, np.searchsorted(middles, (codes[1:] + codes[:-1]) / 2), HISTOGRAM]
        weight, moment = np.diff(weights[bounds]), np.diff(moments[bounds])
        codes = np.sort(np.where(weight > 0, moment / np.maximum(weight, 1), codes))
    return codes.astype(np.float32)


def nearest_codes(values: Float[np.ndarray, "..."], codes: Float[np.ndarray, "S"]) -> Int64[np.ndarray, "..."]:
    """The index of the nearest of the ascending codes for each value."""
    return np.searchsorted((codes[1:] + codes[:-1]) / 2, values)


def palette(
    vectors: Float32[np.ndarray, "N D"], size: int
) -> tuple[Float32[np.ndarray, "S D"], Int64[np.ndarray, "N"]]:
    """Quantises vectors to at most `size` entries; returns these and each vector's index. Shows its progress."""
    if len(vectors) <= size:
        return vectors.copy(), np.arange(len(vectors))
    points = torch.from_numpy(np.ascontiguousarray(vectors))
    generator = torch.Generator().manual_seed(0)
    sample = points[torch.randperm(len(points), generator=generator)[:SAMPLE]]
    centers, _ = _k_means(sample, max(1, min(len(points) // GROUP, len(sample) // 8)), generator)
    group_of = _nearest(points, centers)
    # The number of entries in a group is proportional to its squared error.
    spread = torch.zeros(len(centers)).index_add_(0, group_of, (points - centers[group_of]).square().sum(dim=1))
    shares = 1 + ((size - len(centers)) * spread / spread.sum().clamp_min(1e-30)).int()
    labels = torch.empty_like(group_of)
    entries: list[Tensor] = []
    for i, share in enumerate(with_progress(shares.tolist(), "Palette of colours", len(shares))):
        members = (group_of == i).nonzero()[:, 0]
        if len(members):
            own, nearest = _k_means(points[members], min(share, len(members)), generator)
            labels[members] = nearest + sum(map(len, entries))
            entries.append(own)
    return torch.cat(entries).numpy(), labels.numpy()


def _k_means(points: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Centres `[count, D]`, and for each point the index of its centre."""
    centers = points[torch.randperm(len(points), generator=generator)[:count]]
    nearest = _nearest(points, centers)
    for _ in range(ROUNDS if count < len(points) else 0):
        sums = torch.zeros_like(centers).index_add_(0, nearest, points)
        members = torch.zeros(count).index_add_(0, nearest, torch.ones(len(points)))[:, None]
        centers = torch.where(members > 0, sums / members.clamp_min(1), centers)
        nearest = _nearest(points, centers)
    return centers, nearest


def _nearest(points: Tensor, centers: Tensor) -> Tensor:
    blocks = points.split(max(1, BLOCK // len(centers)))
    half_squares = centers.square().sum(dim=1) / 2
    return torch.cat([(half_squares - block @ centers.T).argmin(dim=1) for block in blocks])
