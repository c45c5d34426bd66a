# SPDX-License-Identifier: Apache-2.0
"""Gaussians as rasterisers take and networks produce them: differentiable tensors, after the activation functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from img3d_assets.axes import UpAxis
from img3d_assets.gaussian_frames import rotated_harmonics
from img3d_assets.gaussians import Gaussians
from img3d_assets.quantised import MIN_ALPHA
from img3d_kernels import rasterization
from img3d_kernels.poses import intrinsics, viewmats
from img3d_kernels.spherical_harmonics import rgb_to_sh, sh_to_rgb

MIN_SCALE = 1e-8
"""World units; smaller scales are raised to this, since their logarithms are stored."""


@dataclass
class ActivatedGaussians:
    """N Gaussians after the activation functions. `Gaussians` holds the values before them, as files do."""

    means: Float[Tensor, "N 3"]
    """Centres, world coordinates."""
    quats: Float[Tensor, "N 4"]
    """Rotations as unit quaternions w, x, y, z."""
    scales: Float[Tensor, "N 3"]
    """Standard deviations along the rotated axes."""
    opacities: Float[Tensor, "N"]
    """In [0, 1]."""
    colors: Float[Tensor, "N 3"] | Float[Tensor, "N K 3"]
    """RGB in [0, 1] if `sh_degree` is None, else coefficients of spherical harmonics."""
    sh_degree: int | None = None
    """Degree of the harmonics; None: one view-independent colour per Gaussian."""

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
        """The same Gaussians with all tensors on the CPU."""
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
        """Converts `Gaussians` to tensors for rendering. Their `origin` is dropped: means stay relative to it."""
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
        """Converts to `Gaussians`: arrays of the values before the activation functions, for files.

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

    def pruned(self, min_opacity: float = 0.005) -> ActivatedGaussians:
        """The Gaussians with at least this opacity; the default is LGM's threshold for its files."""
        return self[self.opacities >= min_opacity]

    def transformed(self, transform: Float[Tensor, "4 4"]) -> ActivatedGaussians:
        """Moves all Gaussians by a rigid transform; view-dependent colours turn with them."""
        rotation = transform[:3, :3].to(self.means)
        return ActivatedGaussians(
            self.means @ rotation.T + transform[:3, 3].to(self.means),
            _multiplied(_quaternion(transform).to(self.quats), self.quats),
            self.scales,
            self.opacities,
            self._turned_colors(rotation),
            self.sh_degree,
        )

    def _turned_colors(self, rotation: Float[Tensor, "3 3"]) -> Tensor:
        if not self.sh_degree:
            return self.colors
        harmonics = rotated_harmonics(rotation.detach().cpu().double().numpy(), self.sh_degree)
        count = len(harmonics)
        turned = torch.from_numpy(harmonics).to(self.colors) @ self.colors[:, 1 : 1 + count]
        return torch.cat([self.colors[:, :1], turned, self.colors[:, 1 + count :]], dim=1)

    def render(
        self,
        camera_to_worlds: Float[Tensor, "V 3 4"],
        fov: float,
        size: int,
        background: float = 1.0,
        antialiased: bool = False,
    ) -> tuple[Float[Tensor, "V S S 3"], Float[Tensor, "V S S 1"]]:
        """Renders square pictures and their alpha, differentiably.

        Args:
            camera_to_worlds: OpenGL axes (x right, y up, z backward).
            fov: Field of view in degrees.
            size: Height and width in pixels.
            background: Grey value behind everything; LGM's is white.
            antialiased: Whether small Gaussians fade instead of growing (`Gaussians.antialiased`).
        """
        count = len(camera_to_worlds)
        render, alpha, _ = self.rasterized(
            viewmats(camera_to_worlds).to(self.means),
            intrinsics(fov, size).to(self.means).repeat(count, 1, 1),
            size,
            size,
            antialiased,
            backgrounds=self.means.new_full((count, 3), background),
        )
        return render, alpha

    def rasterized(
        self,
        viewmats: Float[Tensor, "V 4 4"],
        Ks: Float[Tensor, "V 3 3"],
        width: int,
        height: int,
        antialiased: bool = False,
        **options: Any,
    ) -> tuple[Float[Tensor, "V H W D"], Float[Tensor, "V H W 1"], dict[str, Any]]:
        """The Gaussians' pictures, alpha and `meta` from `img3d_kernels.rasterization`.

        Args:
            viewmats: World-to-camera matrices, OpenCV axes.
            Ks: Intrinsics in pixels.
            width: Width in pixels.
            height: Height in pixels.
            antialiased: Whether small Gaussians fade instead of growing (`Gaussians.antialiased`).
            options: Further arguments of `rasterization`.
        """
        return rasterization(
            self.means,
            self.quats,
            self.scales,
            self.opacities,
            self.colors,
            viewmats,
            Ks,
            width,
            height,
            sh_degree=self.sh_degree,
            rasterize_mode="antialiased" if antialiased else "classic",
            **options,
        )


def _array(values: Tensor) -> Float[np.ndarray, "..."]:
    return values.detach().float().cpu().numpy()


def _quaternion(transform: Float[Tensor, "4 4"]) -> Float[Tensor, "4"]:
    """The rotation of a rigid transform as a unit quaternion w, x, y, z."""
    matrix = transform[:3, :3].detach().cpu().double().numpy()
    return torch.from_numpy(Rotation.from_matrix(matrix).as_quat(scalar_first=True).astype(np.float32))


def _multiplied(left: Float[Tensor, "4"], right: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """Hamilton product of quaternions wxyz: the rotation `right` followed by `left`."""
    w, x, y, z = left.tolist()
    matrix = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return right @ matrix.to(right).T
