# SPDX-License-Identifier: Apache-2.0
"""What a reconstruction rests on: counted rightly, compared by it, refused for want of it."""

from __future__ import annotations

import numpy as np
import pytest

from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.sfm.mapping import leave_out_unsupported
from img3d_dataparsers.sfm.support import MIN_POINTS, NO_SUPPORT, Support, support_of, why_refused


def row_of_cameras(count: int, step: float, points: int, unseen: int = 0) -> pycolmap.Reconstruction:
    """Cameras along x that look at points around (0, 0, 10); the last `unseen` of them see one point only."""
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", 500, 640, 480)
    model.add_camera_with_trivial_rig(camera)
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-1, 1, (points, 3)) + [0, 0, 10]
    seen = [points if i < count - unseen else 1 for i in range(count)]
    for i in range(count):
        centre = np.array([step * (i - (count - 1) / 2), 0, 0])
        image = pycolmap.Image(name=f"{i}.jpg", camera_id=1, image_id=i + 1)
        image.points2D = [pycolmap.Point2D(xy) for xy in (xyz - centre)[: seen[i], :2] * 50 + [320, 240]]
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(), -centre))
    for j, point in enumerate(xyz):
        track = pycolmap.Track()
        for i in range(count):
            if j < seen[i]:
                track.add_element(i + 1, j)
        model.add_point3D(point, track)
    return model


def test_points_and_parallax_are_counted() -> None:
    support = support_of(row_of_cameras(5, step=0.5, points=60))
    assert support.points_per_photo == dict.fromkeys(range(1, 6), 60)
    assert (support.points, support.supported) == (60, 5)
    # Of the point in the middle; the others' distances differ from its by up to a tenth.
    assert support.parallax == pytest.approx(np.degrees(2 * np.arctan(1 / 10)), rel=0.1)
    assert support.has_parallax


def test_points_at_infinity_are_no_support() -> None:
    distant, near = support_of(row_of_cameras(5, step=0.05, points=60)), support_of(row_of_cameras(3, 1.0, 30))
    assert distant.supported == 5 and not distant.has_parallax
    assert near.strength > distant.strength


def test_more_points_win_among_as_many_photos() -> None:
    many, few = Support({1: 50, 2: 50, 3: 50}, 10.0, 70), Support({1: 30, 2: 30, 3: 30, 4: 1, 5: 0}, 10.0, 40)
    assert many.strength > few.strength > NO_SUPPORT.strength


def test_photos_without_points_lose_their_pose() -> None:
    model = row_of_cameras(6, step=0.5, points=60, unseen=2)
    leave_out_unsupported(model)
    assert sorted(model.reg_image_ids()) == [1, 2, 3, 4]
    assert support_of(model).points == 60


GOOD = Support(dict.fromkeys(range(10), 100), 12.0, 300)


def test_what_is_refused() -> None:
    assert why_refused(GOOD, 10, related=40, homographies=5) is None
    assert why_refused(GOOD, 10, related=40, homographies=40) is None, "a wall, from several places"
    assert why_refused(GOOD, 40, related=40, homographies=5) is None, "a quarter"
    turning = why_refused(NO_SUPPORT, 16, related=120, homographies=118)
    assert turning is not None and "one place" in turning
    distant = why_refused(Support(GOOD.points_per_photo, 1.7, 300), 10, related=40, homographies=10)
    assert distant is not None and "one place" in distant
    apart = why_refused(Support({1: MIN_POINTS, 2: MIN_POINTS, 3: 1}, 9.0, 21), 8, related=5, homographies=2)
    assert apart is not None and "only 2 of the 8 photos could be placed" in apart
    few = why_refused(GOOD, 41, related=40, homographies=5)
    assert few is not None and "only 10 of the 41" in few
    lonely = why_refused(NO_SUPPORT, 8, related=0, homographies=0)
    assert lonely is not None and "none of the 8" in lonely
