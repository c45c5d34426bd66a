# SPDX-License-Identifier: Apache-2.0
"""Views of an object as a data set: cameras, what a data parser returns, and errors of writing to the cache."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from img3d_base.errors import InputError

ELEVATIONS = (0.0, 30.0, 60.0, -30.0)
"""Elevations of rendered views in degrees, cycled through from view to view."""
BOX_MARGIN = 1.05
"""Side of an object's box, as a multiple of what is in view at the distance of the origin."""
MAX_VIEWS = 1000
MIN_VIEW_SIZE, MAX_VIEW_SIZE = 16, 2048


def check_views(num_views: int, view_size: int, min_views: int) -> None:
    """Checks the options --num-views and --view-size.

    Raises:
        InputError: One of them is out of range.
    """
    if not min_views <= num_views <= MAX_VIEWS:
        raise InputError(f"--num-views is {num_views}: it has to be {min_views} to {MAX_VIEWS}")
    if not MIN_VIEW_SIZE <= view_size <= MAX_VIEW_SIZE:
        raise InputError(f"--view-size is {view_size}: it has to be {MIN_VIEW_SIZE} to {MAX_VIEW_SIZE}")


def directions_around(count: int) -> tuple[list[float], list[float]]:
    """Azimuths and elevations, in degrees, of views from all around an object."""
    azimuths = [360 * i / count for i in range(count)]
    return azimuths, [ELEVATIONS[i % len(ELEVATIONS)] for i in range(count)]


def square_cameras(camera_to_worlds: Float[Tensor, "C 3 4"], focal: float, size: int) -> Cameras:
    """Pinhole cameras, shape [C], of square pictures, with the principal point in the middle.

    Args:
        camera_to_worlds: Poses with OpenGL axes.
        focal: Focal length in pixels.
        size: Width and height in pixels.
    """
    return Cameras(
        camera_to_worlds=camera_to_worlds,
        fx=focal,
        fy=focal,
        cx=size / 2,
        cy=size / 2,
        width=size,
        height=size,
        camera_type=CameraType.PERSPECTIVE,
        metadata={},  # not None: `ns-export cameras` writes into it
    )


def box_in_view(cameras: Cameras) -> SceneBox:
    """A cube around the origin that holds every object which all cameras see wholly, and little else.

    Args:
        cameras: Cameras around the origin, looking at it.
    """
    half_views = torch.maximum(cameras.cx / cameras.fx, cameras.cy / cameras.fy)[:, 0]
    half = BOX_MARGIN * float((half_views * cameras.camera_to_worlds[:, :, 3].norm(dim=1)).max())
    return SceneBox(aabb=torch.tensor([[-half] * 3, [half] * 3]))


def object_outputs(
    files: list[Path], cameras: Cameras, metadata: dict[str, Any], transform: Float[Tensor, "3 4"], scale: float
) -> DataparserOutputs:
    """What a data parser returns for an object at the origin on white, in a box that the cameras look at.

    Args:
        files: The pictures; transparent pixels show the white background.
        cameras: Their cameras.
        metadata: Of the data set.
        transform: From the world of the input to that of the cameras, without the scale.
        scale: Applied after the transform.
    """
    return DataparserOutputs(
        image_filenames=files,
        cameras=cameras,
        alpha_color=torch.ones(3),
        scene_box=box_in_view(cameras),
        metadata={"alpha_color": torch.ones(3), **metadata},
        dataparser_transform=transform,
        dataparser_scale=scale,
    )


@contextmanager
def writing_views(folder: Path) -> Generator[None]:
    """Context around writing `folder`, whose data parser has the option --cache-dir.

    Raises:
        InputError: Instead of an OSError: the views cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the views cannot be kept in {folder.parent}: {error.strerror or error}; free some space there, or "
            "give another folder with --cache-dir"
        ) from error
