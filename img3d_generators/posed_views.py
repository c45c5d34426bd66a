# SPDX-License-Identifier: Apache-2.0
"""Square pictures of one object with exact cameras: what a view generator gives and a 3D network or data set takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.poses import focal_length


@dataclass(frozen=True)
class PosedViews:
    """Pictures of an object around the origin, each with its pose; all with one pinhole lens, centred and square.

    The world is right-handed with y up and +z towards the viewer of the input image; its unit is arbitrary (only the
    object's size over the cameras' distance means anything). Cameras have OpenGL axes: x right, y up, z backwards.
    """

    images: Float[Tensor, "V 3 S S"]
    """sRGB in [0, 1], on white."""
    camera_to_worlds: Float[Tensor, "V 3 4"]
    """Poses in float32 on the CPU: rotation | position."""
    fov: float
    """Field of view in degrees, from edge to edge of a picture, the same across and upwards."""
    alphas: Float[Tensor, "V 1 S S"] | None = None
    """The object's coverage of each pixel in [0, 1]; None where nobody knows it (generated on white)."""

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def focal(self) -> float:
        """Focal length in pixels, as `fl_x` and `fl_y` of a transforms.json; the principal point is the centre."""
        return focal_length(self.fov, self.images.shape[-1])

    def pick(self, indices: Sequence[int]) -> PosedViews:
        """The views of these indices, in this order."""
        chosen = torch.as_tensor(indices)
        alphas = None if self.alphas is None else self.alphas[chosen]
        return PosedViews(self.images[chosen], self.camera_to_worlds[chosen], self.fov, alphas)
