# SPDX-License-Identifier: Apache-2.0
"""What a generator gives: Gaussians as plain tensors, with the values they have after their activations."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from img3d_generators.cameras import intrinsics
from img3d_kernels import rasterization
from img3d_kernels.poses import viewmats


@dataclass
class Gaussians:
    """N Gaussians with one colour each, seen alike from everywhere."""

    means: Float[Tensor, "N 3"]
    """Centres; y up, +z towards the viewer of the input image."""
    quats: Float[Tensor, "N 4"]
    """Rotations as unit quaternions w, x, y, z."""
    scales: Float[Tensor, "N 3"]
    """Standard deviations along the rotated axes."""
    opacities: Float[Tensor, "N"]
    """In [0, 1]."""
    rgbs: Float[Tensor, "N 3"]
    """In [0, 1]."""

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: Int[Tensor, "M"] | Bool[Tensor, "N"] | slice) -> Gaussians:
        return Gaussians(*(getattr(self, field.name)[index] for field in fields(self)))

    def pruned(self, least_opacity: float = 0.005) -> Gaussians:
        """Those at least so opaque; by default, those that LGM keeps in its files."""
        return self[self.opacities >= least_opacity]

    def transformed(self, transform: Float[Tensor, "4 4"]) -> Gaussians:
        """All of them moved by a rigid transform."""
        rotation = transform[:3, :3].to(self.means)
        return Gaussians(
            self.means @ rotation.T + transform[:3, 3].to(self.means),
            multiplied(quaternion(transform).to(self.quats), self.quats),
            self.scales,
            self.opacities,
            self.rgbs,
        )

    def render(
        self, camera_to_worlds: Float[Tensor, "V 3 4"], fov: float, size: int, background: float = 1.0
    ) -> tuple[Float[Tensor, "V S S 3"], Float[Tensor, "V S S 1"]]:
        """Pictures and their alpha, with gradients.

        Args:
            camera_to_worlds: OpenGL axes.
            fov: field of view in degrees.
            size: height and width in pixels.
            background: the grey value behind everything; LGM's is white.
        """
        count = len(camera_to_worlds)
        render, alpha, _ = rasterization(
            self.means,
            self.quats,
            self.scales,
            self.opacities,
            self.rgbs,
            viewmats(camera_to_worlds).to(self.means),
            intrinsics(fov, size).to(self.means).repeat(count, 1, 1),
            size,
            size,
            backgrounds=self.means.new_full((count, 3), background),
        )
        return render, alpha


def without_white(on_white: Float[Tensor, "*V 3 S S"], alpha: Float[Tensor, "*V 1 S S"]) -> Float[Tensor, "*V 3 S S"]:
    """The object's own colours in pictures on white that it covers in part."""
    return ((on_white - (1 - alpha)) / alpha.clamp(min=1 / 255)).clamp(0, 1)


def quaternion(transform: Float[Tensor, "4 4"]) -> Float[Tensor, "4"]:
    """The rotation of a rigid transform as a unit quaternion w, x, y, z."""
    matrix = transform[:3, :3].detach().cpu().double().numpy()
    return torch.from_numpy(Rotation.from_matrix(matrix).as_quat(scalar_first=True).astype(np.float32))


def multiplied(left: Float[Tensor, "4"], right: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """Hamilton's product of quaternions w, x, y, z: first the right rotation, then the left one."""
    w, x, y, z = left.tolist()
    matrix = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return right @ matrix.to(right).T
