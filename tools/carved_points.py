# SPDX-License-Identifier: Apache-2.0
"""What renders of an object with depth say about points: inside, outside, and which colour the surface has. A point is
outside if one view sees through it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from img3d_kernels.poses import viewmats
from img3d_kernels.projection import in_picture

OPAQUE = 0.5
"""Share of a pixel's rays that have to hit the object for its depth to count."""


@dataclass
class Renders:
    """V renders of an object at the origin, by cameras that see all of it."""

    poses: Float[Tensor, "V 3 4"]
    """Camera to world, OpenGL axes."""
    K: Float[Tensor, "3 3"]
    """Intrinsics in pixels."""
    rgb: Float[Tensor, "V S S 3"]
    """On white."""
    depth: Float[Tensor, "V S S"]
    """Along the optical axis; 0 where nothing is."""
    alpha: Float[Tensor, "V S S"]

    def __post_init__(self) -> None:
        self._viewmats = viewmats(self.poses)

    def rays(self) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """Origins and unit directions of the rays through all pixels, and their colours on white."""
        in_camera = self._in_camera()
        directions = torch.nn.functional.normalize(in_camera, dim=-1)
        origins = self.poses[:, None, :, 3].expand(-1, len(in_camera), -1)
        turned = directions @ self.poses[:, :, :3].transpose(1, 2)
        return origins.reshape(-1, 3), turned.reshape(-1, 3), self.rgb.reshape(-1, 3)

    def surface(self) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P 3"]]:
        """Points on the surface, one per pixel that the object covers whole, and their colours."""
        in_camera = self._in_camera()
        points, colors = [], []
        for pose, rgb, depth, alpha in zip(self.poses, self.rgb, self.depth, self.alpha, strict=True):
            whole = (alpha == 1).flatten()
            points.append((in_camera[whole] * depth.flatten()[whole, None]) @ pose[:, :3].T + pose[:, 3])
            colors.append(rgb.reshape(-1, 3)[whole])
        return torch.cat(points), torch.cat(colors)

    def inside(self, points: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
        """Which points no view sees through; what no view sees at all counts as inside."""
        size = self.rgb.shape[1]
        inside = torch.ones(len(points), dtype=torch.bool)
        for viewmat, depth, alpha in zip(self._viewmats, self.depth, self.alpha, strict=True):
            left = inside.nonzero()[:, 0]
            seen, pixels, in_camera = in_picture(points[left], self.K, viewmat, size, size)
            columns, rows = pixels.long().clamp(0, size - 1).unbind(dim=-1)
            behind = (alpha[rows, columns] > OPAQUE) & (in_camera[:, 2] >= depth[rows, columns])
            inside[left] = behind & seen
        return inside

    def _in_camera(self) -> Float[Tensor, "P 3"]:
        """Directions through all pixels in OpenGL camera axes, with depth 1."""
        size, focal, middle = self.rgb.shape[1], self.K[0, 0], self.K[0, 2]
        rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
        directions = [(columns - middle) / focal, (middle - rows) / focal, -torch.ones_like(rows)]
        return torch.stack(directions, dim=-1).reshape(-1, 3)
