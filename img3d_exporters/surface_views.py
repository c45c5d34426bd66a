# SPDX-License-Identifier: Apache-2.0
"""Pictures with depth of what is to become a mesh: what fusing them and baking a texture from them have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32


@dataclass
class SurfaceView:
    """A perspective picture and how far away each pixel's surface is."""

    rgb: Float32[np.ndarray, "H W 3"]
    """sRGB in [0, 1]."""
    depth: Float32[np.ndarray, "H W"]
    """Along the optical axis, in world units; 0 where it is not known, infinite where nothing is in the way."""
    viewmat: Float[np.ndarray, "4 4"]
    """World to camera, OpenCV axes: x right, y down, z forward."""
    K: Float[np.ndarray, "3 3"]
    """Intrinsics in pixels of this picture; the centre of the upper left pixel is (0.5, 0.5)."""
