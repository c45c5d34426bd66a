# SPDX-License-Identifier: Apache-2.0
"""Square pictures of one object with exact cameras: the output of view generators and the input of 3D networks and
data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.poses import focal_length


@dataclass(frozen=True)
class PosedViews:
    """Pictures of an object at the origin, each with its pose, all with the same centred, square pinhole camera.

    The world is right-handed with y up and +z towards the viewer of the input image. Its unit is arbitrary: only the
    ratio of the object's size to the cameras' distance is meaningful. Cameras have OpenGL axes: x right, y up, z
    backwards.
    """

    images: Float[Tensor, "V 3 S S"]
    """sRGB in [0, 1], on white."""
    camera_to_worlds: Float[Tensor, "V 3 4"]
    """Poses in float32 on the CPU: rotation | position."""
    fov: float
    """Field of view in degrees, from edge to edge, horizontally and vertically."""
    alphas: Float[Tensor, "V 1 S S"] | None = None
    """The object's coverage of each pixel in [0, 1]; None if unknown (generated on white)."""

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def focal(self) -> float:
        """Focal length in pixels, as `fl_x` and `fl_y` of a transforms.json; the principal point is the centre."""
        return focal_length(self.fov, self.images.shape[-1])

    def pick(self, indices: Sequence[int]) -> PosedViews:
        """The views with these indices, in this order."""
        chosen = torch.as_tensor(indices)
        alphas = None if self.alphas is None else self.alphas[chosen]
        return PosedViews(self.images[chosen], self.camera_to_worlds[chosen], self.fov, alphas)
