# SPDX-License-Identifier: Apache-2.0
"""The pipeline of generated objects refuses networks that do not fit before it makes anything."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from img3d_methods.generated.single_image import Img3dSingleImageDataParserConfig
from img3d_methods.specs import img3d_lgm, img3d_object, img3d_object_views, img3d_small


def test_a_network_that_is_not_for_these_views_is_refused_before_they_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copy.deepcopy(img3d_object.config.pipeline)
    config.network = "lgm-big"  # pyright: ignore[reportAttributeAccessIssue]
    config.datamanager.dataparser = Img3dSingleImageDataParserConfig(
        data=tmp_path / "an image that nobody reads.png", generator="img3d-small"
    )
    with pytest.raises(SystemExit) as ended:
        config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    assert ended.value.code == 1
    assert "lgm-big does not take the views of img3d-small" in " ".join(capsys.readouterr().out.split())


def test_views_of_an_object_have_neither_sky_nor_surroundings() -> None:
    """Their plain background would be taken for them."""
    for method in (img3d_object, img3d_small, img3d_lgm, img3d_object_views):
        model: Any = method.config.pipeline.model
        assert not model.sky and not model.guess_depths
