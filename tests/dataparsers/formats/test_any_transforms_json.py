# SPDX-License-Identifier: Apache-2.0
"""Whatever a transforms.json holds, it is read or it is refused in one line; nothing else escapes."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from img3d_base.errors import InputError
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig

KEYS = (
    *("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "p1", "k4", "distortion_params", "camera_model", "is_fisheye"),
    *("camera_angle_x", "applied_transform", "applied_scale", "orientation_override", "ply_file_path"),
    *("train_filenames", "val_filenames", "test_filenames", "frames"),
)
FRAME_KEYS = ("file_path", "mask_path", "transform_matrix", "fl_x", "w", "h", "k1", "camera_model")
numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 1e-300, 1e300, 10**400, math.nan, math.inf, -math.inf])
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), st.sampled_from(["\0", "a" * 300, ".", "/", ""])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=8,
)
ABSENT = object()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.one_of(values, st.just(ABSENT))), max_size=3),
    st.lists(
        st.tuples(st.integers(0, 15), st.sampled_from(FRAME_KEYS), st.one_of(values, st.just(ABSENT))), max_size=4
    ),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3), st.integers(0, 3), values), max_size=3),
)
def test_read_or_refused(
    tiny_scene: Path,
    tmp_path: Path,
    changes: list[tuple[str, Any]],
    frame_changes: list[tuple[int, str, Any]],
    matrix_changes: list[tuple[int, int, int, Any]],
) -> None:
    meta = copy.deepcopy(json.loads((tiny_scene / "transforms.json").read_text()))
    for frame in meta["frames"]:
        frame["file_path"] = str(tiny_scene / frame["file_path"])
    for i, row, column, value in matrix_changes:
        meta["frames"][i]["transform_matrix"][row][column] = value
    for i, key, value in frame_changes:
        meta["frames"][i][key] = value
    for frame in meta["frames"]:
        for key in [key for key, value in frame.items() if value is ABSENT]:
            del frame[key]
    meta.update(changes)
    meta = {key: value for key, value in meta.items() if value is not ABSENT}
    (tmp_path / "transforms.json").write_text(json.dumps(meta))

    parser = Img3dPhotosDataParserConfig(data=tmp_path).setup()
    try:
        train = parser.get_dataparser_outputs("train")
        parser.get_dataparser_outputs("val")
        dataset = Img3dImageDataset(train)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert len(train.image_filenames) >= 1
    assert train.cameras.camera_to_worlds.isfinite().all()
    assert dataset.get_data(0)["image"].shape[:2] == (dataset.cameras.height[0].item(), dataset.cameras.width[0].item())


@pytest.mark.parametrize("content", ["", "null", "{", '"frames"', '{"frames": [{}, {}, {}]}', "[[[[", "\ufeff{}"])
def test_other_contents_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "transforms.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError):
        Img3dPhotosDataParserConfig(data=tmp_path).setup().get_dataparser_outputs("train")
