# SPDX-License-Identifier: Apache-2.0
"""Poses and cameras in transforms.json as other programs write them: read for what they mean, with a line about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_scene import cameras_of, write_photo

from img3d_base.errors import InputError
from img3d_dataparsers.formats.recognise import posed_photos_in
from img3d_dataparsers.usable_photos import UsablePhoto, usable_photos

POSES = [camera.opengl_to_world for camera in cameras_of(np.random.default_rng(1), 3)]
WIDTH, HEIGHT = 160, 120


def read(folder: Path, poses: list[Any], **values: Any) -> list[UsablePhoto]:
    """The photos of a data set with these poses and intrinsics."""
    frames = [{"file_path": f"{i}.png", "transform_matrix": pose} for i, pose in enumerate(poses)]
    for frame in frames:
        write_photo(folder / frame["file_path"], WIDTH, HEIGHT)
    (folder / "transforms.json").write_text(json.dumps({"fl_x": 140.0, **values, "frames": frames}))
    posed = posed_photos_in(folder, "train")
    assert posed is not None
    return usable_photos(posed, 3)


class TestPoses:
    @pytest.mark.parametrize("rows", [3, 4])
    def test_in_one_list(self, tmp_path: Path, rows: int) -> None:
        photos = read(tmp_path, [pose[:rows].flatten().tolist() for pose in POSES])
        np.testing.assert_allclose([photo.camera_to_world for photo in photos], POSES)

    @pytest.mark.parametrize("flat", [False, True])
    def test_stored_by_columns(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], flat: bool) -> None:
        columns = [pose.T.flatten() if flat else pose.T for pose in POSES]
        photos = read(tmp_path, [matrix.tolist() for matrix in columns])
        np.testing.assert_allclose([photo.camera_to_world for photo in photos], POSES)
        line = "Warning: 3 of 3 photos have a transform_matrix whose last row is the position (0.png, 1.png, 2.png)"
        assert line in capsys.readouterr().out.replace("\n", " ")


class TestCameras:
    @pytest.mark.parametrize("model", ["pinhole", "Opencv", "perspective", "PERSPECTIVE"])
    def test_spellings_of_models(self, tmp_path: Path, model: str) -> None:
        photos = read(tmp_path, [pose.tolist() for pose in POSES], camera_model=model, k1=0.01)
        assert photos[0].intrinsics.distortion == (0.01, 0.0, 0.0, 0.0, 0.0, 0.0)

    def test_unknown_models_are_named_as_written(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="has camera_model 'Fisheye624'"):
            read(tmp_path, [pose.tolist() for pose in POSES], camera_model="Fisheye624")

    @pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 2.5, 4.0])
    def test_of_the_photos_before_they_were_resized(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: float
    ) -> None:
        """cx and cy, which are near the centre, tell the size that the camera was calibrated for."""
        values = {"fl_x": 140.0 * factor, "cx": 81.0 * factor, "cy": 59.0 * factor}
        [photo, *_] = read(tmp_path, [pose.tolist() for pose in POSES], **values)
        intrinsics = photo.intrinsics
        np.testing.assert_allclose(
            [intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy], [140, 140, 81, 59], rtol=5e-3
        )
        assert "3 of 3 photos have another size than their camera, which lacks w and h" in capsys.readouterr().out

    @pytest.mark.parametrize(("cx", "cy"), [(80.0, 60.0), (88.0, 55.0), (120.0, 60.0), (160.0, 60.0)])
    def test_principal_points_off_the_centre_are_kept(self, tmp_path: Path, cx: float, cy: float) -> None:
        [photo, *_] = read(tmp_path, [pose.tolist() for pose in POSES], cx=cx, cy=cy)
        assert (photo.intrinsics.fx, photo.intrinsics.cx, photo.intrinsics.cy) == (140.0, cx, cy)
