# SPDX-License-Identifier: Apache-2.0
"""`img3d-generated-gaussians`: the Gaussians that a generator makes from one image or several, with renders of them
from all sides, on which any method can train."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.gaussians import ARRAYS, Gaussians
from img3d_base.atomic_files import write_atomically
from img3d_base.errors import InputError
from img3d_base.foreign_files import MALFORMED, load_npz, reason
from img3d_base.progress import with_progress
from img3d_generators.registry import InputView
from img3d_methods.generated.asset_views import AssetViews, AssetViewsConfig
from img3d_methods.generated.generated_asset import AssetFiles

MAX_BYTES = 1 << 32
"""Largest array of cached Gaussians."""


def write_gaussians(gaussians: Gaussians, file: Path) -> None:
    """Writes y-up Gaussians without any loss, which no splat format does."""
    arrays = {name: getattr(gaussians, name) for name in ARRAYS}
    with write_atomically(file) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, antialiased=np.array(gaussians.antialiased), **arrays)


def read_gaussians(file: Path) -> Gaussians:
    """Reads what `write_gaussians` wrote.

    Raises:
        InputError: The file is damaged.
    """
    try:
        kept = load_npz(file, (*ARRAYS, "antialiased"), MAX_BYTES)
        return Gaussians(*(kept[name] for name in ARRAYS), antialiased=bool(kept["antialiased"]), up="y")
    except (InputError, *MALFORMED) as error:
        raise InputError(f"{file} is damaged ({reason(error)})") from error


def _described(gaussians: Gaussians) -> str:
    return f"{len(gaussians):,} Gaussians"


GAUSSIANS_FILES = AssetFiles(
    Gaussians, "gaussians", "Gaussians", ".npz", read_gaussians, write_gaussians, _described, recipe=1
)


@torch.no_grad()
def rendered(
    made: Gaussians, poses: Float[Tensor, "V 3 4"], camera: InputView, size: int
) -> tuple[Float[Tensor, "V 3 S S"], Float[Tensor, "V 1 S S"]]:
    """A `Renderer` of Gaussians."""
    gaussians = ActivatedGaussians.of(made)
    pictures = [
        gaussians.render(pose[None], camera.fov, size, antialiased=made.antialiased)
        for pose in with_progress(poses, "Rendering views of the Gaussians", len(poses))
    ]
    rgb, alpha = (torch.cat(parts).permute(0, 3, 1, 2).clamp(0, 1) for parts in zip(*pictures, strict=True))
    return rgb, alpha


@dataclass
class Img3dGeneratedGaussiansDataParserConfig(AssetViewsConfig):
    """The input of a generator, and the views of the Gaussians that it makes."""

    _target: type = field(default_factory=lambda: Img3dGeneratedGaussians)


class Img3dGeneratedGaussians(AssetViews[Gaussians]):
    """Generates the Gaussians and renders their views, or finds them in the cache."""

    files = GAUSSIANS_FILES
    render = staticmethod(rendered)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        outputs = super()._generate_dataparser_outputs(split, **kwargs)
        outputs.metadata["gaussians"] = self.made()
        return outputs
