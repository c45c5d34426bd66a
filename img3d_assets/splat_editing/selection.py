# SPDX-License-Identifier: Apache-2.0
"""Selecting the Gaussians that are written to a file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from img3d_assets.gaussians import SH_COEFFICIENTS, Gaussians
from img3d_base.errors import InputError, warn

Point = tuple[float, float, float]
FAR, NEAR_SHARE, FEW = 1000, 0.98, 0.01
"""Outliers are Gaussians more than FAR times as far from the median as the share NEAR_SHARE of all; if more than the
share FEW would be outliers, none are."""


def select(
    splats: Gaussians,
    sh_degree: int | None = None,
    crop_min: Point | None = None,
    crop_max: Point | None = None,
    min_opacity: float | None = None,
    max_splats: int | None = None,
) -> Gaussians:
    """Filters Gaussians; their order is kept.

    Args:
        splats: N Gaussians, all finite.
        sh_degree: Highest degree of spherical harmonics to keep; 0 leaves view-independent colours.
        crop_min: Lower corner of a box that must contain the centres, in world coordinates.
        crop_max: Upper corner of that box.
        min_opacity: Lowest opacity, in [0, 1].
        max_splats: Largest number of Gaussians; the ones with the largest `importance` are kept.

    Raises:
        InputError: An argument is invalid, or nothing is left.
    """
    if sh_degree is not None and sh_degree not in SH_COEFFICIENTS:
        raise InputError(f"--sh-degree is {sh_degree}: it must be 0 to 3.")
    if min_opacity is not None and not 0 <= min_opacity <= 1:
        raise InputError(f"--min-opacity is {min_opacity}: it must be between 0 and 1.")
    if max_splats is not None and max_splats < 1:
        raise InputError(f"--max-splats is {max_splats}: it must be at least 1.")
    keep = np.ones(len(splats), bool)
    if crop_min is not None:
        keep &= (splats.means >= np.subtract(crop_min, splats.origin)).all(axis=1)
    if crop_max is not None:
        keep &= (splats.means <= np.subtract(crop_max, splats.origin)).all(axis=1)
    if min_opacity is not None:
        keep &= splats.alphas() >= min_opacity
    if not keep.any():
        ends = splats.origin + splats.means.min(axis=0), splats.origin + splats.means.max(axis=0)
        low, high = (np.array2string(end, precision=2) for end in ends)
        raise InputError(
            f"None of the {len(splats):,} Gaussians is left: their centres are between {low} and {high}, "
            f"the highest opacity is {splats.alphas().max():.2f}."
        )
    if max_splats is not None and keep.sum() > max_splats:
        importance = np.where(keep, splats.importance(), -np.inf)
        keep = np.zeros(len(splats), bool)
        keep[np.argpartition(-importance, max_splats - 1)[:max_splats]] = True
    if not keep.all():
        splats = splats[keep]
    if sh_degree is not None:
        splats = replace(splats, sh_rest=splats.sh_rest[:, : SH_COEFFICIENTS[sh_degree]])
    return splats


def without_outliers(splats: Gaussians) -> Gaussians:
    """Removes the few Gaussians that training left extremely far from all others, with a warning.

    For formats that quantise positions over the bounding box: there a single outlier ruins the precision of all.

    Args:
        splats: At least one, all finite.
    """
    distances = np.abs(splats.means - np.median(splats.means, axis=0)).max(axis=1)
    width = np.exp(np.median(splats.log_scales.max(axis=1)))
    far = distances > FAR * max(float(np.quantile(distances, NEAR_SHARE)), float(width))
    if not far.any() or far.mean() > FEW:
        return splats
    warn(
        f"{far.sum():,} of {len(splats):,} Gaussians are left out: they are more than {FAR:,} times as far away as "
        "nearly all others, whose positions would lose their precision in this format."
    )
    return splats[~far]
