# SPDX-License-Identifier: Apache-2.0
"""Reading a data set's point cloud from a PLY file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from img3d_base.errors import InputError, warn
from img3d_base.ply_tables import read_ply
from img3d_dataparsers.posed_photos import SeedPoints
from img3d_pictures.file_resolver import Kind

POINT_FILES = Kind("point files", (".ply",))


def read_ply_points(path: Path) -> SeedPoints | None:
    """Points and colours of a PLY file, grey if it has no colours; None, with a warning, if it cannot be read."""
    try:
        vertices = read_ply(path, ["vertex"]).tables["vertex"]
        xyz = np.stack([vertices[axis] for axis in "xyz"], axis=-1).astype(np.float64)
        rgb = np.full(xyz.shape, 128, dtype=np.uint8)
        if {"red", "green", "blue"} <= set(vertices.dtype.names or ()):
            rgb = np.stack([vertices[channel] for channel in ("red", "green", "blue")], axis=-1)
            if np.issubdtype(rgb.dtype, np.floating):
                rgb = np.clip(rgb * 255, 0, 255)
    except (InputError, KeyError, ValueError) as error:  # KeyError and ValueError: it has no points
        reason = error if isinstance(error, InputError) else f"{path} has no points"
        warn(f"seed points: {reason}; training starts from random points")
        return None
    return xyz, rgb.astype(np.uint8)
