# SPDX-License-Identifier: Apache-2.0
"""`img3d-remote` with `--pipeline.gives Gaussians`: the Gaussians that a service on the network made, as a data set.
Talks to no service."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from img3d_assets.axes import TO_Y_UP, UpAxis
from img3d_assets.color_values import without_white
from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import Gaussians
from img3d_base.errors import InputError
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.posed_views import PosedViews
from img3d_generators.registry import InputView
from img3d_methods.cached_views import check_views, directions_around, writing_views
from img3d_methods.generated.gaussians_dataparser import rendered
from img3d_methods.generated.generated_views import are_kept, write_views
from img3d_methods.generated.remote_dataparser import Img3dRemoteDataParserConfig, needed_file
from img3d_methods.generated.single_image import Img3dSingleImage
from img3d_methods.mesh.dataparser import FOV, RADIUS, middle_and_radius

RECIPE = 1
"""Part of the views' name. Increment it with every change that alters them, so that they are made again."""


class Img3dRemoteGaussians(Img3dSingleImage):
    """Reads the Gaussians that a service made, and renders their views or finds them in the cache.

    Raises InputError if they are not there, or cannot be used.
    """

    config: Img3dRemoteDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dRemoteDataParserConfig) -> None:
        super().__init__(config)  # pyright: ignore[reportArgumentType]
        check_views(config.num_views, config.view_size, min_views=1)
        file = needed_file(config, "Gaussians")
        self._gaussians, self._transform, self._distance = in_y_up(*_read(file), config.up_axis)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        outputs = super()._generate_dataparser_outputs(split, **kwargs)
        outputs.metadata["gaussians"] = self._gaussians
        to_z_up = Y_UP_TO_Z_UP[:, :3] @ self._transform
        outputs.dataparser_transform = torch.from_numpy(to_z_up).float()
        return outputs

    def _views_folder(self) -> Path:
        config = self.config
        looked_at = (RECIPE, config.num_views, config.view_size, config.up_axis)
        digest = hashlib.sha256(repr(looked_at).encode() + config.file.read_bytes())
        folder = config.file.parent / f"gaussians-views-{digest.hexdigest()[:16]}"
        if are_kept(folder):
            return folder
        poses = orbit_camera_to_worlds(*directions_around(config.num_views), self._distance)
        camera = InputView(border_ratio=0, fov=FOV, radius=self._distance)
        rgb, alpha = rendered(self._gaussians, poses, camera, config.view_size)
        first = torch.cat([without_white(rgb[:1], alpha[:1]), alpha[:1]], dim=1)[0]
        with writing_views(folder):
            write_views(PosedViews(rgb, poses, FOV, alpha), first, "", folder)
        return folder


def _read(file: Path) -> tuple[Gaussians, UpAxis]:
    from img3d_assets.splat_files import read_splats  # late: entry points import this module

    return read_splats(file)


def in_y_up(gaussians: Gaussians, known_up: UpAxis, up_axis: str = "auto") -> tuple[Gaussians, np.ndarray, float]:
    """Moves Gaussians to the origin, with y up.

    Args:
        gaussians: As read from a file.
        known_up: The up axis that the format specifies.
        up_axis: The option that the user chose.

    Returns:
        The Gaussians; the transform `[3, 4]` from the file's world; and the distance from which cameras with the field
        of view `FOV` see all of them, as they see a mesh.

    Raises:
        InputError: They have no extent.
    """
    up: UpAxis = known_up if up_axis == "auto" else up_axis  # pyright: ignore[reportAssignmentType]
    rotation = TO_Y_UP[up]
    seen = gaussians.visible()
    if len(seen) == 0:
        raise InputError("none of the Gaussians can be seen")
    center, radius = middle_and_radius((seen.means + np.asarray(seen.origin)) @ rotation.T)
    turned = rotated(seen, rotation)
    moved = turned.at(turned.means + np.asarray(turned.origin) - center)
    moved.up = "y"
    return moved, np.column_stack([rotation, -center]), radius / RADIUS
