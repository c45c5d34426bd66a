# SPDX-License-Identifier: Apache-2.0
"""A picture with depth: what surfaces are fused from, coloured by, and textured with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32


@dataclass
class SurfaceView:
    """A perspective picture with the depth of each pixel's surface."""

    rgb: Float32[np.ndarray, "H W 3"]
    """sRGB in [0, 1]."""
    depth: Float32[np.ndarray, "H W"]
    """Along the optical axis, in world units; 0 is unknown, infinite is free space."""
    viewmat: Float[np.ndarray, "4 4"]
    """World to camera, OpenCV axes: x right, y down, z forward."""
    K: Float[np.ndarray, "3 3"]
    """Intrinsics in pixels of this picture; the centre of the upper left pixel is (0.5, 0.5)."""
    measured: Float32[np.ndarray, "h w"] | None = None
    """Depth that was measured in this picture, at any size, 0 where it is unknown. Where a mesh lies in front of it or
    behind it, the picture shows something else. None: nothing was measured."""

    def in_frame(self, transform: Float[np.ndarray, "3 4"], scale: float) -> SurfaceView:
        """The same picture in the coordinates of another world.

        Args:
            transform: From that world to the present one, without the scale, as Nerfstudio's dataparser_transform;
                its left part is orthogonal.
            scale: Applied after the transform, as Nerfstudio's dataparser_scale. Depth is converted to the new
                units.
        """
        viewmat = np.eye(4)
        viewmat[:3] = self.viewmat[:3, :3] @ transform.astype(np.float64)
        viewmat[:3, 3] += self.viewmat[:3, 3] / scale
        measured = None if self.measured is None else (self.measured / scale).astype(np.float32)
        return replace(self, viewmat=viewmat, depth=(self.depth / scale).astype(np.float32), measured=measured)
