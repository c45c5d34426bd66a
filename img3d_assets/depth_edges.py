# SPDX-License-Identifier: Apache-2.0
"""Where depth maps jump from one surface to another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MAX_JUMP = 0.05
"""Largest relative difference to a neighbouring pixel: beyond it, a pixel may mix foreground and background."""


def is_continuous(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Mask of the pixels of a depth map `[H, W]` whose depth is known and close to that of all four neighbours."""
    padded = np.pad(depth, 1, mode="edge")
    neighbours = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return (depth > 0) & (np.abs(neighbours - depth) <= MAX_JUMP * depth).all(axis=0)
