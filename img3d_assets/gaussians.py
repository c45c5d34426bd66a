# SPDX-License-Identifier: Apache-2.0
"""Gaussians as the 3DGS files hold them: what every splat format is written from, and read into."""

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
"""logit(1/255): what rasterisers skip and ns-export leaves out."""
SH_COEFFICIENTS = {0: 0, 1: 3, 2: 8, 3: 15}
"""Coefficients per colour channel beyond the constant one, by degree."""
OPAQUE_LOGIT = 13.8
"""What stands for infinity, of either sign: an alpha of 0.999999."""
FLAT_LOG_SCALE, FLATTER = float(np.log(1e-6)), float(np.log(1e3))
"""What stands for minus infinity, as other programs have it; and at least so much less than the other two axes."""
ROUNDING = 1 / 32
"""Of a Gaussian's width: what rounding its centre may move it by."""
TRAINABLE = 1e-4
"""How far from 0 and 1 what a sigmoid gives is kept at the start of training."""
ARRAYS = ("means", "quats", "log_scales", "opacities", "sh_dc", "sh_rest")
"""What `Gaussians` has for each Gaussian."""


@dataclass
class Gaussians:
    """N Gaussians, before their activations, in the layout of the 3DGS PLY (Kerbl et al. 2023)."""

    means: Float[np.ndarray, "N 3"]
    """Centres, world coordinates; in double precision only until `at` has said what they count from."""
    quats: Float32[np.ndarray, "N 4"]
    """Rotations as w, x, y, z; of any length."""
    log_scales: Float32[np.ndarray, "N 3"]
    """Logarithms of the standard deviations along the rotated axes."""
    opacities: Float32[np.ndarray, "N"]
    """Logits."""
    sh_dc: Float32[np.ndarray, "N 3"]
    """Constant spherical harmonics coefficients."""
    sh_rest: Float32[np.ndarray, "N K 3"]
    """The other coefficients; K is 0, 3, 8 or 15 for degree 0 to 3."""
    antialiased: bool = False
    """Whether they were trained, and are to be drawn, with gsplat's rasterize_mode "antialiased" (Mip-Splatting's 2D
    filter). PLY, SPZ and SOG say so; the other formats cannot."""
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The place in the world that `means` count from: not zero only where single precision would lose the shape, as in
    georeferenced coordinates."""
    up: UpAxis | None = None
    """The axis that points up, where it is known; turning the Gaussians forgets it."""

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: Integer[np.ndarray, "M"] | Bool[np.ndarray, "N"] | slice) -> Gaussians:
        return replace(self, **{name: getattr(self, name)[index] for name in ARRAYS})

    def save(self, path: str | Path) -> int:
        """Write a splat file in the format of its ending: .ply, .compressed.ply, .splat, .spz, .sog, .glb or .gltf.

        Only what a rasteriser would draw is written. Formats that prescribe axes get these, as far as `up` is known.

        Args:
            path: Its folder is made; a file that is there is replaced.

        Returns:
            How many Gaussians were written.

        Raises:
            InputError: The ending is unknown, the file cannot be written, or nothing is visible.
        """
        from img3d_assets.splat_files import check_output, write_splats  # imports this module

        path = Path(path)
        check_output(path, force=True)
        return write_splats(self.visible(), path, self.up)

    @staticmethod
    def joined(parts: Sequence[Gaussians]) -> Gaussians:
        """All of these, which have the same degree and origin, and are drawn in the same way."""
        return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS})

    @property
    def sh_degree(self) -> int:
        """Of the spherical harmonics."""
        return next(degree for degree, count in SH_COEFFICIENTS.items() if count == self.sh_rest.shape[1])

    def alphas(self) -> Float[np.ndarray, "N"]:
        """Opacities in [0, 1]."""
        return 1 / (1 + np.exp(-self.opacities.astype(np.float64)))

    def colors(self) -> Float[np.ndarray, "N 3"]:
        """RGB without what depends on the view; mostly, but not always, within [0, 1]."""
        return sh_to_rgb(self.sh_dc.astype(np.float64))

    def at(self, means: Float[np.ndarray, "N 3"]) -> Gaussians:
        """These, with other centres, given in double precision; `origin` is theirs as far as single precision needs it.

        Args:
            means: World coordinates.
        """
        with np.errstate(all="ignore"):  # numbers that are not finite are dealt with later
            rounded = means.astype(np.float32)
            usable = np.isfinite(rounded).all(axis=1)
            moved = np.abs(rounded[usable] - means[usable]).max(axis=1, initial=0)
            widths = np.exp(self.log_scales[usable].max(axis=1))
        # What single precision holds as it is, as what came in it, stays where it is.
        blurred = moved.any() and (
            np.median(moved) > ROUNDING * np.median(widths) or needs_double_precision(means[usable])
        )
        if not blurred:
            return replace(self, means=rounded, origin=(0.0, 0.0, 0.0))
        x, y, z = np.round(np.median(means[usable], axis=0))
        return replace(self, means=(means - (x, y, z)).astype(np.float32), origin=(float(x), float(y), float(z)))

    def finite(self) -> Gaussians:
        """Infinities that mean something as numbers: opacities of all and of nothing, scales of nothing (-inf): flat.

        Zeros in formats that hold opacities and scales themselves read so, as does what has two scales, as 2DGS has.
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
        """Which have finite numbers, and a rotation."""
        values = [getattr(self, name) for name in ARRAYS]
        finite = np.logical_and.reduce([np.isfinite(value).all(axis=tuple(range(1, value.ndim))) for value in values])
        return finite & (np.abs(self.quats).max(axis=1) > 0)

    def visible(self) -> Gaussians:
        """Those that are usable and opaque enough to be drawn, all numbers finite."""
        splats = self.finite()
        drawn = splats.usable() & (splats.opacities >= MIN_OPACITY_LOGIT)
        return splats if drawn.all() else splats[drawn]

    def importance(self) -> Float[np.ndarray, "N"]:
        """Opacity times the area of the Gaussian seen broadside: how much of a picture it may cover."""
        widest = np.sort(self.log_scales, axis=1)[:, 1:].sum(axis=1)
        return np.exp(np.minimum(widest, 80)) * self.alphas()


def gaussians_of_parameters(params: Mapping[str, Tensor], sh_degree: int) -> Gaussians:
    """The Gaussians of a model of splatfacto's family.

    Args:
        params: Its `gauss_params`: "means" `[N, 3]`, "features_dc" `[N, 3]`, "features_rest" `[N, K, 3]`,
            "opacities" `[N, 1]`, "scales" `[N, 3]`, "quats" `[N, 4]`.
        sh_degree: Its degree of the spherical harmonics; with 0, splatfacto's colours are the sigmoids of the features.
    """

    def array(name: str) -> Float32[np.ndarray, "..."]:
        return np.ascontiguousarray(params[name].detach().float().cpu().numpy())

    sh_dc, sh_rest = array("features_dc"), array("features_rest")
    if sh_degree == 0:
        sh_dc = rgb_to_sh(1 / (1 + np.exp(-sh_dc))).astype(np.float32)
        sh_rest = np.zeros((len(sh_dc), 0, 3), np.float32)
    return Gaussians(array("means"), array("quats"), array("scales"), array("opacities")[:, 0], sh_dc, sh_rest)


def parameters_of_gaussians(splats: Gaussians, sh_degree: int) -> dict[str, Tensor]:
    """The reverse of `gaussians_of_parameters`: what a model of splatfacto's family starts training from.

    Opacities and, with degree 0, colours are kept a little away from 0 and 1, where nothing would train them.

    Args:
        splats: N Gaussians, whose `origin` is zero.
        sh_degree: The model's; coefficients that the Gaussians lack are 0, those that the model lacks are left out.
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
