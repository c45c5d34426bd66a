# SPDX-License-Identifier: Apache-2.0
"""Gaussians as a rasteriser takes them and a network gives them: tensors with gradients, after their activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from img3d_assets.axes import UpAxis
from img3d_assets.gaussians import Gaussians
from img3d_kernels import rasterization
from img3d_kernels.poses import intrinsics, viewmats
from img3d_kernels.spherical_harmonics import rgb_to_sh, sh_to_rgb

MIN_SCALE = 1e-8
"""World units; what has no extent gets that."""
MIN_ALPHA = 1e-6
"""How far from 0 and 1 opacities are kept, whose logits are infinite there."""


@dataclass
class ActivatedGaussians:
    """N Gaussians after their activations. `Gaussians` is the same before them, as files have it."""

    means: Float[Tensor, "N 3"]
    """Centres, world coordinates."""
    quats: Float[Tensor, "N 4"]
    """Rotations as unit quaternions w, x, y, z."""
    scales: Float[Tensor, "N 3"]
    """Standard deviations along the rotated axes."""
    opacities: Float[Tensor, "N"]
    """In [0, 1]."""
    colors: Float[Tensor, "N 3"] | Float[Tensor, "N K 3"]
    """RGB in [0, 1] where `sh_degree` is None, else coefficients of spherical harmonics."""
    sh_degree: int | None = None
    """Of the harmonics; None: one colour each, seen alike from everywhere."""

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: Int[Tensor, "M"] | Bool[Tensor, "N"] | slice) -> ActivatedGaussians:
        return ActivatedGaussians(
            self.means[index],
            self.quats[index],
            self.scales[index],
            self.opacities[index],
            self.colors[index],
            self.sh_degree,
        )

    def cpu(self) -> ActivatedGaussians:
        """Copies on the CPU of those tensors that are elsewhere."""
        return ActivatedGaussians(
            self.means.cpu(),
            self.quats.cpu(),
            self.scales.cpu(),
            self.opacities.cpu(),
            self.colors.cpu(),
            self.sh_degree,
        )

    @staticmethod
    def of(splats: Gaussians) -> ActivatedGaussians:
        """The same Gaussians as tensors, ready to be drawn; their `origin` is left out."""
        values = [torch.from_numpy(np.ascontiguousarray(array)) for array in (splats.means, splats.quats)]
        harmonics = torch.from_numpy(np.concatenate([splats.sh_dc[:, None], splats.sh_rest], axis=1))
        degree = splats.sh_degree
        return ActivatedGaussians(
            values[0],
            torch.nn.functional.normalize(values[1], dim=-1),
            torch.from_numpy(splats.log_scales).exp(),
            torch.from_numpy(splats.opacities).sigmoid(),
            harmonics if degree > 0 else sh_to_rgb(harmonics[:, 0]),
            degree if degree > 0 else None,
        )

    def asset(self, up: UpAxis | None = None) -> Gaussians:
        """The same Gaussians as files have them: before their activations, as arrays.

        Args:
            up: The axis that points up.
        """
        colors = self.colors if self.sh_degree is not None else rgb_to_sh(self.colors)[:, None]
        harmonics = _array(colors)
        return Gaussians(
            means=_array(self.means),
            quats=_array(self.quats),
            log_scales=_array(self.scales.clamp_min(MIN_SCALE).log()),
            opacities=_array(self.opacities.logit(eps=MIN_ALPHA)),
            sh_dc=harmonics[:, 0],
            sh_rest=harmonics[:, 1:],
            up=up,
        )

    def pruned(self, least_opacity: float = 0.005) -> ActivatedGaussians:
        """Those at least so opaque; by default, those that LGM keeps in its files."""
        return self[self.opacities >= least_opacity]

    def transformed(self, transform: Float[Tensor, "4 4"]) -> ActivatedGaussians:
        """All of them moved by a rigid transform."""
        rotation = transform[:3, :3].to(self.means)
        return ActivatedGaussians(
            self.means @ rotation.T + transform[:3, 3].to(self.means),
            _multiplied(_quaternion(transform).to(self.quats), self.quats),
            self.scales,
            self.opacities,
            self.colors,
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
            self.colors,
            viewmats(camera_to_worlds).to(self.means),
            intrinsics(fov, size).to(self.means).repeat(count, 1, 1),
            size,
            size,
            sh_degree=self.sh_degree,
            backgrounds=self.means.new_full((count, 3), background),
        )
        return render, alpha


def _array(values: Tensor) -> Float[np.ndarray, "..."]:
    return values.detach().float().cpu().numpy()


def _quaternion(transform: Float[Tensor, "4 4"]) -> Float[Tensor, "4"]:
    """The rotation of a rigid transform as a unit quaternion w, x, y, z."""
    matrix = transform[:3, :3].detach().cpu().double().numpy()
    return torch.from_numpy(Rotation.from_matrix(matrix).as_quat(scalar_first=True).astype(np.float32))


def _multiplied(left: Float[Tensor, "4"], right: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """Hamilton's product of quaternions w, x, y, z: first the right rotation, then the left one."""
    w, x, y, z = left.tolist()
    matrix = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return right @ matrix.to(right).T
