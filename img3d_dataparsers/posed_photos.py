# SPDX-License-Identifier: Apache-2.0
"""What every reader of posed photos returns, whatever the format on disk: frames, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

OrientationMethod = Literal["pca", "up", "vertical", "none"]
"""Nerfstudio's ways to find out which way is up."""
FloatArray = npt.NDArray[np.float64]
SeedPoints = tuple[FloatArray, npt.NDArray[np.uint8]]
"""Positions `[P, 3]` in the frames' own coordinates, and sRGB colours `[P, 3]`."""


@dataclass(frozen=True)
class Frame:
    """One photo as the data set describes it; nothing has been checked yet."""

    name: str
    """The photo's name as the data set gives it, for messages."""
    image_path: Path
    """The photo; need not exist."""
    camera_to_world: Any
    """Whatever stands for the 4x4 (or 3x4) matrix, OpenGL camera axes (x right, y up, z back); None if absent."""
    intrinsics: dict[str, Any]
    """Keys as in Nerfstudio's transforms.json: fl_x, fl_y, cx, cy, w, h, camera_angle_x, k1 …, camera_model."""
    mask_path: Path | None = None
    """A mask that the data set names for this photo; need not exist."""
    depth_path: Path | None = None
    """A depth map (along the camera's axis) that the data set names for this photo; need not exist."""
    upright: bool = False
    """Whether the camera saw the photo upright, its EXIF orientation applied; else as it is stored, unless the
    camera's width and height show a quarter turn."""


@dataclass(frozen=True)
class PosedPhotos:
    """A data set with poses, as read."""

    source: Path
    """The file or folder that the poses come from, for messages."""
    folder: Path
    """The data set's folder; `images/` and `masks/` lie in it."""
    frames: list[Frame]
    """In the order of the held-out interval."""
    assumptions: list[str] = field(default_factory=list)
    """What had to be assumed to find its files, a line for each kind of assumption."""
    splits: dict[str, set[Path]] = field(default_factory=dict)
    """Photos that the data set itself assigns to "train", "val" or "test"; empty if it leaves that to us."""
    applied_transform: FloatArray = field(default_factory=lambda: np.eye(4)[:3])
    """`[3, 4]`: from the coordinates of the original capture to those of the frames."""
    applied_scale: float = 1.0
    """Scale from the original capture to the frames, applied after `applied_transform`."""
    orientation_method: OrientationMethod | None = None
    """Overrides the user's orientation_method, as Nerfstudio's orientation_override does."""
    up: FloatArray | None = None
    """`[3]`: up in the frames' world, where something better than the photos' mean tells; for the orientation "up"."""
    up_source: str | None = None
    """What tells it, for the user."""
    scale_source: str | None = None
    """What makes a unit of the original capture a metre, for the user; None where nothing does."""
    is_normalised: bool = False
    """True if the world already is centred, upright and of unit size, and must stay as it is."""
    alpha_color: tuple[float, float, float] | None = None
    """The colour behind transparent pixels, if the format defines one."""
    read_seed_points: Callable[[], SeedPoints | None] = lambda: None
    """Reads the sparse points of the reconstruction, if there are any."""
    depth_units: Mapping[bool, float] = field(default_factory=dict)
    """What a depth of 1 is, in units of the original capture (metres, for most), of depth maps with whole numbers
    (True) and with floats (False); empty if nothing says it."""
    adds_triangulated_points: bool = False
    """Whether its points are for solving poses rather than for seeding: triangulated ones are then seeds, too."""
