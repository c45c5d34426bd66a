# SPDX-License-Identifier: Apache-2.0
"""Generated views on disk: a data set like any other, and nothing lost on the way back to a generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_dataparsers.formats.transforms_json import read_transforms
from img3d_generators.cameras import ZERO123PLUS_RIGS
from img3d_generators.posed_views import PosedViews
from img3d_generators.procedural_objects import procedural_object
from img3d_methods.generated.generated_views import read_views, write_views
from img3d_methods.generated.visual_hull import points_in_hull
from img3d_pictures.reading import read_photo

SIZE = 64
IMAGE = torch.rand(4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def views_of(gaussians: ActivatedGaussians, with_alpha: bool) -> PosedViews:
    rig = ZERO123PLUS_RIGS["v1.2"]
    poses = rig.camera_to_worlds()
    render, alpha = (pictures.permute(0, 3, 1, 2) for pictures in gaussians.render(poses, rig.fov, SIZE))
    return PosedViews(render.clamp(0, 1), poses, rig.fov, alpha if with_alpha else None)


@pytest.fixture(scope="module")
def thing() -> ActivatedGaussians:
    return procedural_object(3)


@pytest.fixture(params=[True, False], ids=["with alpha", "on white"])
def views(thing: ActivatedGaussians, request: pytest.FixtureRequest) -> PosedViews:
    return views_of(thing, request.param)


def assert_close(a: Tensor | None, b: Tensor | None, atol: float) -> None:
    assert (a is None) == (b is None)
    if a is not None:
        torch.testing.assert_close(a, b, atol=atol, rtol=0)


def test_they_come_back_as_they_were(views: PosedViews, tmp_path: Path) -> None:
    write_views(views, IMAGE, "some network", tmp_path / "views")
    again, image, generator = read_views(tmp_path / "views")
    assert generator == "some network"
    assert again.fov == pytest.approx(views.fov, abs=1e-9)
    assert_close(again.camera_to_worlds, views.camera_to_worlds, 1e-6)
    assert_close(again.images, views.images, 1.01 / 255)
    assert_close(again.alphas, views.alphas, 0.51 / 255)
    assert_close(image, IMAGE, 0.51 / 255)


def test_the_folder_is_a_data_set_with_z_up_that_faces_plus_x(views: PosedViews, tmp_path: Path) -> None:
    write_views(views, IMAGE, "some network", tmp_path / "views")
    posed = read_transforms(tmp_path / "views" / "transforms.json")
    assert posed.orientation_method == "none"
    for frame, pose in zip(posed.frames, views.camera_to_worlds, strict=True):
        x, y, z = pose[:, 3].tolist()
        assert [row[3] for row in frame.camera_to_world[:3]] == pytest.approx([z, x, y], abs=1e-6)
    # Photographed on white, as every reader of photos composites it.
    picture = torch.from_numpy(read_photo(posed.frames[2].image_path, SIZE, SIZE, (1.0, 1.0, 1.0)))
    assert_close(picture.permute(2, 0, 1) / 255, views.images[2], 1.51 / 255)


def test_nothing_half_written_stays(views: PosedViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError):
        write_views(views, IMAGE, "some network", tmp_path / "views")
    assert list(tmp_path.iterdir()) == []


class TestVisualHull:
    def test_it_holds_the_object_and_little_else(self, views: PosedViews, thing: ActivatedGaussians) -> None:
        points = points_in_hull(views, 5_000)
        assert len(points) > 1_000
        distances = torch.cdist(points, thing.means).min(dim=1).values
        assert distances.max() < 0.35  # six silhouettes leave some room
        low, high = thing.means.min(dim=0).values, thing.means.max(dim=0).values
        assert (points > low - 0.15).all() and (points < high + 0.15).all()
        # All of the object's own points are in it, but for what rounds to a pixel outside.
        of_object = points_in_hull(views, 400_000)
        nearest = torch.cdist(thing.means[::50], of_object).min(dim=1).values
        assert nearest.max() < 0.06

    def test_pictures_of_nothing_give_no_points(self, views: PosedViews) -> None:
        blank = PosedViews(torch.ones_like(views.images), views.camera_to_worlds, views.fov)
        assert len(points_in_hull(blank, 100)) == 0

    def test_it_is_the_same_every_time(self, views: PosedViews) -> None:
        assert torch.equal(points_in_hull(views, 100), points_in_hull(views, 100))
