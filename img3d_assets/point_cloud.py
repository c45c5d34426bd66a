# SPDX-License-Identifier: Apache-2.0
"""A point cloud with colours and normals."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer

from img3d_assets.gaussian_frames import points_in_original_frame


@dataclass
class PointCloud:
    """N points of a surface."""

    points: Float[np.ndarray, "N 3"]
    """World coordinates."""
    colors: Float32[np.ndarray, "N 3"]
    """RGB in [0, 1]."""
    normals: Float32[np.ndarray, "N 3"]
    """Outward unit normals of the surface."""

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Integer[np.ndarray, "M"] | Bool[np.ndarray, "N"] | slice) -> PointCloud:
        return PointCloud(*(getattr(self, field.name)[index] for field in fields(self)))

    def in_original_frame(self, dataparser_transform: Float[np.ndarray, "3 4"], dataparser_scale: float) -> PointCloud:
        """Transforms to the frame of the photos' original poses; see `gaussian_frames.in_original_frame`."""
        points = points_in_original_frame(self.points, dataparser_transform, dataparser_scale)
        normals = (self.normals @ dataparser_transform[:, :3]).astype(np.float32)
        return PointCloud(points, self.colors, normals)
