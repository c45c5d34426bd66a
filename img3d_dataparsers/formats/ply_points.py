# SPDX-License-Identifier: Apache-2.0
"""Reads the point cloud that a data set brings along as a PLY file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from img3d_base.errors import InputError, warn
from img3d_base.ply_tables import read_ply
from img3d_dataparsers.posed_photos import SeedPoints
from img3d_pictures.file_resolver import Kind

POINT_FILES = Kind("files of points", (".ply",))


def read_ply_points(path: Path) -> SeedPoints | None:
    """Points and colours of a PLY point cloud; grey where it has no colours, None (with a warning) if unreadable."""
    try:
        vertices = read_ply(path, ["vertex"]).tables["vertex"]
        xyz = np.stack([vertices[axis] for axis in "xyz"], axis=-1).astype(np.float64)
        rgb = np.full(xyz.shape, 128, dtype=np.uint8)
        if {"red", "green", "blue"} <= set(vertices.dtype.names or ()):
            rgb = np.stack([vertices[channel] for channel in ("red", "green", "blue")], axis=-1)
            if np.issubdtype(rgb.dtype, np.floating):
                rgb = np.clip(rgb * 255, 0, 255)
    except (InputError, KeyError, ValueError) as error:  # the latter two: it has no points
        reason = error if isinstance(error, InputError) else f"{path} has no points"
        warn(f"seed points: {reason}; training starts from random points")
        return None
    return xyz, rgb.astype(np.uint8)
