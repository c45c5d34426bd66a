# SPDX-License-Identifier: Apache-2.0
"""Gaussians in the layout that viser's page draws, and the scene node that holds them, for all versions of viser.

The page takes one colour per Gaussian instead of spherical harmonics, and 32 bytes each: position, factored
covariance in half precision, and RGBA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.quaternions import rotation_matrices
from img3d_kernels.spherical_harmonics import sh_to_rgb

BYTES_PER_SPLAT = 32
MIN_OPACITY = 1 / 255
"""Below this opacity neither the page nor the rasteriser draws anything."""
FLATTEST = 1e-3
"""Minimum ratio of a Gaussian's smallest to its largest scale: the page factors covariances in half precision, which
has no more digits."""


@dataclass(frozen=True)
class ShownGaussians:
    """The viewer's sliders: which Gaussians are shown, and how."""

    limit: int
    """Maximum number of Gaussians; those with the largest opacity times area are kept."""
    size: float = 1.0
    """Factor on scales."""
    opacity: float = 1.0
    """Factor on opacities, in (0, 1]."""

    def of(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """The Gaussians to show.

        Args:
            params: splatfacto's parameters of N Gaussians: "means" `[N, 3]`, "scales" `[N, 3]` (logarithms),
                "opacities" `[N, 1]` (logits), and any others `[N, ...]`.

        Returns:
            The same names, for at most `limit` Gaussians in their original order.
        """
        params = dict(params)
        if len(params["means"]) > self.limit:
            keep = importance(params).topk(self.limit).indices.sort().values
            params = {name: value[keep] for name, value in params.items()}
        if self.size != 1:
            params["scales"] = params["scales"] + float(np.log(self.size))
        if self.opacity != 1:
            params["opacities"] = torch.logit(params["opacities"].sigmoid() * self.opacity, eps=1e-6)
        return params


def importance(params: dict[str, Tensor]) -> Float[Tensor, "N"]:
    """Opacity times the area of the largest cross-section, in squared world units, up to a constant factor."""
    log_area = params["scales"].topk(2, dim=-1).values.sum(dim=-1)
    return log_area.exp() * params["opacities"][:, 0].sigmoid()


@dataclass(frozen=True)
class BrowserSplats:
    """The arguments of viser's functions for splats."""

    centers: npt.NDArray[np.float32]
    """`[N, 3]`, in the page's units."""
    covariances: npt.NDArray[np.float64]
    """`[N, 3, 3]`, in the page's units, positive definite."""
    rgbs: npt.NDArray[np.uint8]
    """`[N, 3]`, sRGB."""
    opacities: npt.NDArray[np.uint8]
    """`[N, 1]`."""


@torch.no_grad()
def browser_splats(params: dict[str, Tensor], sh_degree: int, units: float) -> BrowserSplats:
    """The visible Gaussians as viser's arguments.

    Args:
        params: splatfacto's parameters of N Gaussians: "means" `[N, 3]`, "scales" `[N, 3]` (logarithms), "quats"
            `[N, 4]` (w first, of any length), "opacities" `[N, 1]` (logits), "features_dc" `[N, 3]`.
        sh_degree: Degree of the model's spherical harmonics; at 0 features_dc are logits of colours.
        units: Units of the page per world unit.
    """
    names = ("means", "scales", "quats", "opacities", "features_dc")
    numbers = torch.cat([params[name].detach() for name in names], dim=1)
    visible = numbers.isfinite().all(dim=1) & (params["opacities"][:, 0].sigmoid() >= MIN_OPACITY)
    numbers = numbers[visible].cpu()
    means, log_scales, quats, opacities, features = numbers.split([3, 3, 4, 1, 3], dim=1)
    scales = log_scales.double().exp() * units
    scales = torch.maximum(scales, FLATTEST * scales.amax(dim=1, keepdim=True))
    factor = rotation_matrices(quats.double()) * scales[:, None, :]
    # Only the constant harmonic: the means of the others over all directions are 0.
    rgbs = sh_to_rgb(features) if sh_degree > 0 else features.sigmoid()
    return BrowserSplats(
        centers=(means * units).numpy(),
        covariances=(factor @ factor.transpose(1, 2)).numpy(),
        rgbs=_to_uint8(rgbs),
        opacities=_to_uint8(opacities.sigmoid()),
    )


def _to_uint8(values: Tensor) -> npt.NDArray[np.uint8]:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


class SplatNode:
    """The splats in a viser scene.

    Args:
        server: A `viser.ViserServer`: 0.2.7, where the function is private, or from 1.0 on, where it is public.
    """

    def __init__(self, server: Any) -> None:
        self.server = server
        self.bytes_sent = 0
        """Size of the last message to each page."""
        self._handle: Any = None
        self._visible = False
        self._count = 0

    @property
    def visible(self) -> bool:
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        if visible == self._visible:
            return
        self._visible = visible
        if self._handle is not None:
            self._handle.visible = visible

    def replace(self, splats: BrowserSplats) -> None:
        """Replaces the splats in every page that is or will be open.

        Does not use viser's `atomic()`, because training would then wait for anything else that holds its lock.
        """
        scene, old = self.server.scene, self._handle
        add = getattr(scene, "add_gaussian_splats", None) or scene._add_gaussian_splats
        self.bytes_sent = BYTES_PER_SPLAT * len(splats.centers)
        self._handle = None
        if len(splats.centers) > 0:
            self._count += 1  # 0.2.7's page would keep the old splats if the name were the same
            self._handle = add(
                f"/gaussian_splats_{self._count}",
                centers=splats.centers,
                covariances=splats.covariances,
                rgbs=splats.rgbs,
                opacities=splats.opacities,
                visible=self._visible,
            )
        if old is not None:
            old.remove()
