# SPDX-License-Identifier: Apache-2.0
"""Differences between gsplat releases in the `meta` that `rasterization` returns."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata

from torch import Tensor


@lru_cache(maxsize=1)
def gsplat_version() -> tuple[int, int]:
    """(major, minor) of the installed gsplat; if there is none, (1, 4), the release that Nerfstudio 1.1.5 pins."""
    try:
        major, minor = metadata.version("gsplat").split(".")[:2]
    except metadata.PackageNotFoundError:
        return 1, 4
    return int(major), int(minor)


def gsplat_radii(radii: Tensor) -> Tensor:
    """Radii in the installed gsplat's layout: `[C, N]` before 1.5, one per image axis `[C, N, 2]` from then on."""
    if gsplat_version() >= (1, 5):
        return radii[..., None].expand(*radii.shape, 2).contiguous()
    return radii
