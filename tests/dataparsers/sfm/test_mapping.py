# SPDX-License-Identifier: Apache-2.0
"""What bundle adjustment may change of the cameras, lens by lens."""

from __future__ import annotations

import pycolmap
import pytest

from img3d_dataparsers.sfm.mapping import _free_distortion, _longest
from img3d_dataparsers.sfm.photo_cameras import INITIAL, SOLVED
from img3d_dataparsers.sfm.photo_lens import PhotoLens


@pytest.mark.parametrize("lens", ["perspective", "fisheye", "equirectangular"])
def test_a_second_coefficient_is_freed_where_there_is_one(lens: PhotoLens) -> None:
    camera = pycolmap.Camera.create_from_model_name(1, INITIAL[lens], 600, 1000, 500)
    before = list(camera.params)
    _free_distortion(camera)
    assert camera.model_name == SOLVED[lens]
    assert list(camera.params) == (before if lens == "equirectangular" else [*before, 0.0])


@pytest.mark.parametrize(("lens", "expected"), [("perspective", 1000), ("equirectangular", 250)])
def test_pixels_of_panoramas_are_large(lens: PhotoLens, expected: int) -> None:
    """Errors in pixels are judged by the angle that a pixel covers."""
    model = pycolmap.Reconstruction()
    model.add_camera(pycolmap.Camera.create_from_model_name(1, INITIAL[lens], 600, 1000, 500))
    assert _longest(model) == expected
