# SPDX-License-Identifier: Apache-2.0
"""The data structures that readers of all pose formats return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

OrientationMethod = Literal["pca", "up", "vertical", "none"]
"""Nerfstudio's methods of orienting a scene."""
FloatArray = npt.NDArray[np.float64]
SeedPoints = tuple[FloatArray, npt.NDArray[np.uint8]]
"""Positions `[P, 3]` in the frames' own coordinates, and sRGB colours `[P, 3]`."""


@dataclass(frozen=True)
class Frame:
    """One photo as the data set describes it, unchecked."""

    name: str
    """The photo's name in the data set, for messages."""
    image_path: Path
    """The photo; it need not exist."""
    camera_to_world: Any
    """The untrusted 4x4 (or 3x4) matrix, OpenGL camera axes (x right, y up, z backward); None if absent."""
    intrinsics: dict[str, Any]
    """Keys as in Nerfstudio's transforms.json: fl_x, fl_y, cx, cy, w, h, camera_angle_x, k1 …, camera_model."""
    mask_path: Path | None = None
    """The mask that the data set names for this photo; it need not exist."""
    depth_path: Path | None = None
    """The depth map (z-depth) that the data set names for this photo; it need not exist."""
    upright: bool = False
    """Whether the camera refers to the photo with its EXIF orientation applied; else to the stored pixels, unless the
    camera's width and height show a quarter turn."""


@dataclass(frozen=True)
class PosedPhotos:
    """A data set with poses, unchecked."""

    source: Path
    """The file or folder that the poses come from, for messages."""
    folder: Path
    """The data set's folder, which contains `images/` and `masks/`."""
    frames: list[Frame]
    """In the order in which every nth photo is held out."""
    assumptions: list[str] = field(default_factory=list)
    """The assumptions made to find its files, one line for each kind."""
    splits: dict[str, set[Path]] = field(default_factory=dict)
    """Photos that the data set itself assigns to "train", "val" or "test"; empty if it does not."""
    applied_transform: FloatArray = field(default_factory=lambda: np.eye(4)[:3])
    """`[3, 4]`, from the coordinates of the original capture to those of the frames."""
    applied_scale: float = 1.0
    """Scale from the original capture to the frames, applied after `applied_transform`."""
    orientation_method: OrientationMethod | None = None
    """Overrides the user's orientation_method, as Nerfstudio's orientation_override does."""
    up: FloatArray | None = None
    """`[3]`, up in the frames' world for the orientation "up"; None: the mean of the cameras' up vectors."""
    up_source: str | None = None
    """How `up` was found, for the user."""
    scale_source: str | None = None
    """Why a unit of the original capture is a metre, for the user; None if it is not known to be."""
    is_normalised: bool = False
    """Whether the world is already centred, upright and of unit size, and must not be changed."""
    alpha_color: tuple[float, float, float] | None = None
    """The colour behind transparent pixels, if the format defines one; RGB in [0, 1]."""
    read_seed_points: Callable[[], SeedPoints | None] = lambda: None
    """Reads the sparse points of the reconstruction; returns None if there are none."""
    depth_units: Mapping[bool, float] = field(default_factory=dict)
    """The declared unit of depth maps with integers (True) and floats (False), in units of the original capture (mostly
    metres); empty if the data set declares none."""
    adds_triangulated_points: bool = False
    """Whether triangulated points are added to its own, which were found for solving poses and are few."""
