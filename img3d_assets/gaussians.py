# SPDX-License-Identifier: Apache-2.0
"""Gaussians with the values that 3DGS files hold: the type that all splat formats are read into and written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Integer
from torch import Tensor

from img3d_assets.axes import UpAxis
from img3d_assets.precision import needs_double_precision
from img3d_kernels.spherical_harmonics import rgb_to_sh, sh_to_rgb

MIN_OPACITY_LOGIT = -5.5373
"""logit(1/255): rasterisers skip less opaque Gaussians, and ns-export leaves them out."""
SH_COEFFICIENTS = {0: 0, 1: 3, 2: 8, 3: 15}
"""Number of coefficients per colour channel beyond degree 0, by degree."""
OPAQUE_LOGIT = 13.8
"""Replaces infinite logits, of either sign: an alpha of 0.999999."""
FLAT_LOG_SCALE, FLATTER = float(np.log(1e-6)), float(np.log(1e3))
"""Replaces log scales of minus infinity, as in other programs; and the least difference to the other two axes."""
ROUNDING = 1 / 32
"""Largest displacement by rounding a Gaussian's centre, as a share of its width."""
TRAINABLE = 1e-4
"""Distance from 0 and 1 to which opacities and colours are clamped at the start of training."""
ARRAYS = ("means", "quats", "log_scales", "opacities", "sh_dc", "sh_rest")
"""The arrays of `Gaussians`, with one row per Gaussian."""


@dataclass
class Gaussians:
    """N Gaussians before the activation functions, as in the 3DGS PLY (Kerbl et al. 2023)."""

    means: Float[np.ndarray, "N 3"]
    """Centres in world coordinates relative to `origin`. float32, except while a reader has yet to call `at`."""
    quats: Float32[np.ndarray, "N 4"]
    """Rotations as quaternions wxyz of any length."""
    log_scales: Float32[np.ndarray, "N 3"]
    """Logarithms of the standard deviations along the rotated axes."""
    opacities: Float32[np.ndarray, "N"]
    """Logits."""
    sh_dc: Float32[np.ndarray, "N 3"]
    """Spherical harmonics coefficients of degree 0."""
    sh_rest: Float32[np.ndarray, "N K 3"]
    """The other coefficients; K is 0, 3, 8 or 15 for degree 0 to 3."""
    antialiased: bool = False
    """Whether they were trained, and should be rendered, with gsplat's rasterize_mode "antialiased" (Mip-Splatting's
    2D filter). PLY, SPZ and SOG store this; the other formats cannot."""
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """World position that `means` are relative to. It is zero unless float32 would blur the shape, as with
    georeferenced coordinates."""
    up: UpAxis | None = None
    """The axis that points up; None if unknown, as after a rotation."""

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: Integer[np.ndarray, "M"] | Bool[np.ndarray, "N"] | slice) -> Gaussians:
        return replace(self, **{name: getattr(self, name)[index] for name in ARRAYS})

    def save(self, path: str | Path) -> int:
        """Writes a splat file in the format of its ending: .ply, .compressed.ply, .splat, .spz, .sog, .glb or .gltf.

        Only Gaussians that a rasteriser would draw are written. If `up` is known, they are rotated to the axes that the
        format prescribes.

        Args:
            path: The file. Missing folders are created; an existing file is replaced.

        Returns:
            The number of Gaussians written.

        Raises:
            InputError: The ending is unknown, the file cannot be written, or nothing is visible.
        """
        from img3d_assets.splat_files import check_output, write_splats  # imports this module

        path = Path(path)
        check_output(path, force=True)
        return write_splats(self.visible(), path, self.up)

    @staticmethod
    def joined(parts: Sequence[Gaussians]) -> Gaussians:
        """Concatenates Gaussians of the same degree, origin and `antialiased`."""
        return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS})

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics."""
        return next(degree for degree, count in SH_COEFFICIENTS.items() if count == self.sh_rest.shape[1])

    def alphas(self) -> Float[np.ndarray, "N"]:
        """Opacities in [0, 1]."""
        return 1 / (1 + np.exp(-self.opacities.astype(np.float64)))

    def colors(self) -> Float[np.ndarray, "N 3"]:
        """View-independent part of the colours as RGB; mostly, but not always, in [0, 1]."""
        return sh_to_rgb(self.sh_dc.astype(np.float64))

    def at(self, means: Float[np.ndarray, "N 3"]) -> Gaussians:
        """Replaces the centres by ones in double precision; sets `origin` if float32 needs one to represent them.

        Args:
            means: World coordinates.
        """
        with np.errstate(all="ignore"):  # non-finite values are handled later
            rounded = means.astype(np.float32)
            usable = np.isfinite(rounded).all(axis=1)
            moved = np.abs(rounded[usable] - means[usable]).max(axis=1, initial=0)
            widths = np.exp(self.log_scales[usable].max(axis=1))
        # Centres that float32 represents exactly, such as those that came in it, keep the origin at zero.
        blurred = moved.any() and (
            np.median(moved) > ROUNDING * np.median(widths) or needs_double_precision(means[usable])
        )
        if not blurred:
            return replace(self, means=rounded, origin=(0.0, 0.0, 0.0))
        x, y, z = np.round(np.median(means[usable], axis=0))
        return replace(self, means=(means - (x, y, z)).astype(np.float32), origin=(float(x), float(y), float(z)))

    def finite(self) -> Gaussians:
        """Replaces meaningful infinities by finite values: logits ±inf (opaque, transparent), log scales -inf (flat).

        They come from formats that store opacities and scales themselves, which may be 0 or 1, and from 2DGS, which has
        two scales.
        """
        infinite, flat = np.isinf(self.opacities), self.log_scales == -np.inf
        if not infinite.any() and not flat.any():
            return self
        others = np.where(flat, np.inf, self.log_scales).min(axis=1, keepdims=True)
        return replace(
            self,
            opacities=np.where(infinite, np.copysign(np.float32(OPAQUE_LOGIT), self.opacities), self.opacities),
            log_scales=np.where(flat, np.minimum(FLAT_LOG_SCALE, others - FLATTER), self.log_scales).astype(np.float32),
        )

    def usable(self) -> Bool[np.ndarray, "N"]:
        """Mask of the Gaussians whose values are all finite and whose quaternion is not zero."""
        values = [getattr(self, name) for name in ARRAYS]
        finite = np.logical_and.reduce([np.isfinite(value).all(axis=tuple(range(1, value.ndim))) for value in values])
        return finite & (np.abs(self.quats).max(axis=1) > 0)

    def visible(self) -> Gaussians:
        """The Gaussians that are usable and opaque enough to be drawn, with finite values."""
        splats = self.finite()
        drawn = splats.usable() & (splats.opacities >= MIN_OPACITY_LOGIT)
        return splats if drawn.all() else splats[drawn]

    def importance(self) -> Float[np.ndarray, "N"]:
        """Opacity times the area of the Gaussian's largest cross-section: how much of a picture it may cover."""
        widest = np.sort(self.log_scales, axis=1)[:, 1:].sum(axis=1)
        return np.exp(np.minimum(widest, 80)) * self.alphas()


def gaussians_of_parameters(params: Mapping[str, Tensor], sh_degree: int) -> Gaussians:
    """Converts the parameters of splatfacto and its relatives to `Gaussians`.

    Args:
        params: The model's `gauss_params`: "means" `[N, 3]`, "features_dc" `[N, 3]`, "features_rest" `[N, K, 3]`,
            "opacities" `[N, 1]`, "scales" `[N, 3]`, "quats" `[N, 4]`.
        sh_degree: The model's degree of spherical harmonics; with 0, colours are the sigmoids of "features_dc".
    """

    def array(name: str) -> Float32[np.ndarray, "..."]:
        return np.ascontiguousarray(params[name].detach().float().cpu().numpy())

    sh_dc, sh_rest = array("features_dc"), array("features_rest")
    if sh_degree == 0:
        sh_dc = rgb_to_sh(1 / (1 + np.exp(-sh_dc))).astype(np.float32)
        sh_rest = np.zeros((len(sh_dc), 0, 3), np.float32)
    return Gaussians(array("means"), array("quats"), array("scales"), array("opacities")[:, 0], sh_dc, sh_rest)


def parameters_of_gaussians(splats: Gaussians, sh_degree: int) -> dict[str, Tensor]:
    """The inverse of `gaussians_of_parameters`: initial parameters of splatfacto or a relative.

    Opacities and, with degree 0, colours are clamped away from 0 and 1, where their gradients would vanish.

    Args:
        splats: N Gaussians whose `origin` is zero.
        sh_degree: The model's degree; missing coefficients are 0, surplus ones are dropped.
    """
    values = {name: torch.from_numpy(np.ascontiguousarray(getattr(splats, name))) for name in ARRAYS}
    rest = torch.zeros(len(splats), SH_COEFFICIENTS[sh_degree], 3)
    shared = min(rest.shape[1], values["sh_rest"].shape[1])
    rest[:, :shared] = values["sh_rest"][:, :shared]
    dc = values["sh_dc"]
    return {
        "means": values["means"],
        "scales": values["log_scales"],
        "quats": values["quats"],
        "features_dc": dc if sh_degree > 0 else sh_to_rgb(dc).logit(eps=TRAINABLE),
        "features_rest": rest,
        "opacities": values["opacities"].sigmoid().logit(eps=TRAINABLE)[:, None],
    }
