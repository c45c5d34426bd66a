# SPDX-License-Identifier: Apache-2.0
"""Gaussians as the 3DGS files hold them: what every splat format is written from, and read into."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer

from img3d_dataparsers.errors import InputError
from img3d_methods.initial_gaussians import SH_C0
from img3d_methods.splat_ply import LEAST_OPACITY_LOGIT

if TYPE_CHECKING:
    from nerfstudio.models.splatfacto import SplatfactoModel

UpAxis = Literal["z", "y", "-y"]
SH_COEFFICIENTS = {0: 0, 1: 3, 2: 8, 3: 15}
"""Coefficients per colour channel beyond the constant one, by degree."""


@dataclass
class Splats:
    """N Gaussians, before their activations, in the layout of the 3DGS PLY (Kerbl et al. 2023)."""

    means: Float32[np.ndarray, "N 3"]
    """Centres, world coordinates."""
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

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: Integer[np.ndarray, "M"] | Bool[np.ndarray, "N"] | slice) -> Splats:
        return Splats(*(getattr(self, field.name)[index] for field in fields(self)))

    def visible(self) -> Splats:
        """Those that are finite and opaque enough to be drawn."""
        values = [getattr(self, field.name) for field in fields(self)]
        finite = np.logical_and.reduce([np.isfinite(value).all(axis=tuple(range(1, value.ndim))) for value in values])
        return self[finite & (self.opacities >= LEAST_OPACITY_LOGIT) & (np.linalg.norm(self.quats, axis=1) > 0)]

    def importance(self) -> Float[np.ndarray, "N"]:
        """Opacity times the area of the Gaussian seen broadside: how much of a picture it may cover."""
        widest = np.sort(self.log_scales, axis=1)[:, 1:].sum(axis=1)
        return np.exp(np.minimum(widest, 80)) / (1 + np.exp(-self.opacities))


def splats_of_model(model: SplatfactoModel) -> Splats:
    """The Gaussians of a model of splatfacto's family."""

    def array(tensor) -> Float32[np.ndarray, "..."]:
        return np.ascontiguousarray(tensor.detach().float().cpu().numpy())

    features_dc = array(model.features_dc)
    if model.config.sh_degree == 0:  # then splatfacto's colour is the sigmoid of the feature, no spherical harmonic
        features_dc = (1 / (1 + np.exp(-features_dc)) - 0.5) / SH_C0
    rest = array(model.features_rest) if model.config.sh_degree > 0 else np.zeros((len(features_dc), 0, 3), np.float32)
    return Splats(
        array(model.means),
        array(model.quats),
        array(model.scales),
        array(model.opacities)[:, 0],
        features_dc.astype(np.float32),
        rest,
    )


def read_ply(path: Path) -> tuple[Splats, UpAxis]:
    """A 3DGS PLY, and the axis that points up in it.

    Up is z where a comment says so ("Vertical Axis: z", as Nerfstudio writes), else -y, as 3DGS and COLMAP have it.

    Raises:
        InputError: It is not such a file, or is cut off.
    """
    import plyfile

    try:
        ply = plyfile.PlyData.read(path)
    except (OSError, UnicodeDecodeError, plyfile.PlyParseError) as error:
        raise InputError(f"{path} is not a PLY file that can be read: {error}") from error
    names = {prop.name for prop in ply["vertex"].properties} if "vertex" in ply else set()
    if "packed_position" in names:
        raise InputError(f"{path} is a compressed PLY: give the uncompressed one it was made from.")

    def columns(*wanted: str) -> Float32[np.ndarray, "N C"]:
        missing = [name for name in wanted if name not in names]
        if missing:
            raise InputError(f"{path} holds no Gaussians: its vertices have no property {missing[0]!r}.")
        vertices = ply["vertex"]
        return np.stack([np.asarray(vertices[name], np.float32) for name in wanted], axis=1)

    num_rest = sum(name.startswith("f_rest_") for name in names)
    if num_rest not in (3 * count for count in SH_COEFFICIENTS.values()):
        raise InputError(f"{path} has {num_rest} properties f_rest_…: 0, 9, 24 or 45 make sense (degree 0 to 3).")
    means = columns("x", "y", "z")
    if num_rest:
        rest = columns(*(f"f_rest_{i}" for i in range(num_rest)))
        rest = rest.reshape(len(means), 3, num_rest // 3).transpose(0, 2, 1)  # the file has one channel after another
    else:
        rest = np.zeros((len(means), 0, 3), np.float32)
    splats = Splats(
        means,
        columns("rot_0", "rot_1", "rot_2", "rot_3"),
        columns("scale_0", "scale_1", "scale_2"),
        columns("opacity")[:, 0],
        columns("f_dc_0", "f_dc_1", "f_dc_2"),
        rest,
    )
    return splats, "z" if any("vertical axis: z" in comment.lower() for comment in ply.comments) else "-y"
