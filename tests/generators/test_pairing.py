# SPDX-License-Identifier: Apache-2.0
"""View generators and networks that do not belong together are refused, in the library call too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from object_image import write_object_image

from img3d_assets.gaussians import Gaussians
from img3d_base.errors import InputError
from img3d_generators import generate
from img3d_generators.pairing import check_pair, network_for, view_generators


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "no weights"))


@pytest.mark.parametrize(
    ("view_generator", "network", "fitting"),
    [
        ("img3d-small", "lgm-big", "img3d-small"),
        ("zero123plus-v1.2", "img3d-small", "lgm-big or .* or instantmesh-nerf-base"),
        ("instantmesh-zero123plus-white", "img3d-small", "lgm-big or lgm-big-fp32 or instantmesh-mesh-large or .*"),
        ("zero123plus-v1.1", "instantmesh-mesh-large", "lgm-big or lgm-big-fp32"),
    ],
)
def test_pairs_that_do_not_fit_are_refused_with_those_that_do(view_generator: str, network: str, fitting: str) -> None:
    with pytest.raises(InputError, match=f"{network} does not take the views of {view_generator}: .* {fitting}, or"):
        check_pair(view_generator, network)


def test_every_view_generator_has_a_network() -> None:
    assert len(view_generators()) >= 4
    for name in view_generators():
        check_pair(name, network_for(name))


def test_the_library_call_gives_gaussians_of_an_image_file(tmp_path: Path) -> None:
    path = write_object_image(tmp_path / "object.png")
    gaussians = generate("auto", path)
    assert isinstance(gaussians, Gaussians)
    assert len(gaussians) > 100 and gaussians.up == "y"
    for values in (gaussians.means, gaussians.log_scales, gaussians.sh_dc, gaussians.opacities):
        assert np.isfinite(values).all()
    assert np.abs(gaussians.means).max() < 1
    again = generate("object", str(path), seed=0)
    assert isinstance(again, Gaussians)
    np.testing.assert_array_equal(again.means, gaussians.means)


def test_the_library_call_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lgm-big does not take the views of img3d-small"):
        generate("auto", tmp_path / "unread.png", view_generator="img3d-small", network="lgm-big")
