# SPDX-License-Identifier: Apache-2.0
"""A mesh in the viewer: the page draws it, cropped and scaled to the page's units, and it can be downloaded."""

from __future__ import annotations

import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
import viser
from hang_limit import HANG_SECONDS
from nerfstudio.data.scene_box import OrientedBox, SceneBox
from watched_model import WatchedModel

from img3d_assets.mesh import Mesh
from img3d_methods.mesh.model import Img3dMeshModel, Img3dMeshModelConfig
from img3d_methods.viewing import browser_view

BOX = trimesh.creation.box((0.2, 0.3, 0.4)).subdivide()


def box_model() -> Img3dMeshModel:
    """A red box, subdivided so that a crop box can take half of it."""
    model = Img3dMeshModelConfig().setup(scene_box=SceneBox(torch.zeros(2, 3)), num_train_data=1)
    red = np.tile(np.array([1, 0, 0], np.float32), (len(BOX.vertices), 1))
    model.set_mesh(Mesh(np.asarray(BOX.vertices), np.asarray(BOX.faces), red))
    model.eval()
    return model


class WatchedMesh(WatchedModel):
    """A mesh model and what its pages are sent."""

    def __init__(self, server: viser.ViserServer, folder: Path) -> None:
        super().__init__(box_model(), server, folder)

    def _message(self) -> Any:
        buffer = self.viewer.viser_server._websock_server._broadcast_buffer
        deadline = time.perf_counter() + HANG_SECONDS
        while True:  # viser's own thread puts it there
            found = [message for message in list(buffer.message_from_id.values()) if hasattr(message, "glb_data")]
            if found:
                return found[-1]
            assert time.perf_counter() < deadline, "nothing was sent"

    def sent(self) -> trimesh.Trimesh:
        """The mesh in the page's scene."""
        data = io.BytesIO(self._message().glb_data)
        loaded = trimesh.load(data, file_type="glb", force="mesh")
        assert isinstance(loaded, trimesh.Trimesh)
        return loaded


@pytest.fixture
def watched(viser_server: viser.ViserServer, tmp_path: Path) -> WatchedMesh:
    return WatchedMesh(viser_server, tmp_path)


def crop(watched: WatchedMesh, center: tuple[float, float, float]) -> None:
    """Set the viewer's crop box, a unit cube."""
    control = watched.viewer.control_panel
    control.crop_viewport, control.crop_obb = True, OrientedBox(torch.eye(3), torch.tensor(center), torch.ones(3))


def test_the_first_picture_is_rendered_then_the_page_draws_the_mesh(watched: WatchedMesh) -> None:
    page = watched.open_page()
    assert "rgb" in watched.frame(page, first=True)
    assert watched.frame(page, moving=True) == watched.frame(page) == "drawn by the page"
    assert page.has_plain_background
    sent = watched.sent()
    np.testing.assert_allclose(np.ptp(sent.vertices, axis=0), [2, 3, 4], rtol=1e-5)
    assert len(sent.faces) == len(BOX.faces)
    assert f"{len(BOX.faces)}, drawn by the browser" in watched.panel._numbers.content


def test_a_page_that_shows_an_older_picture_too_late_gets_its_background_again(
    watched: WatchedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_view, "BACKDROP_AGAIN_SECONDS", (0.2,))
    page = watched.open_page()
    watched.frame(page, first=True)
    watched.frame(page)
    page.set_background_image(np.random.default_rng(0).integers(0, 255, (8, 8, 3)))
    assert not page.has_plain_background
    deadline = time.perf_counter() + HANG_SECONDS
    while not page.has_plain_background:
        assert time.perf_counter() < deadline
        time.sleep(0.05)


def test_the_background_is_not_sent_again_over_a_picture_of_the_model(
    watched: WatchedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_view, "BACKDROP_AGAIN_SECONDS", (0.5,))
    page = watched.open_page()
    watched.frame(page)
    sent = len(page.backgrounds)
    watched.panel._in_browser.value = False
    watched.frame(page)
    time.sleep(1.0)
    assert len(page.backgrounds) == sent


def test_the_model_renders_if_asked_and_the_page_hides_the_mesh(watched: WatchedMesh) -> None:
    page = watched.open_page()
    watched.frame(page)
    assert watched.view._node.visible
    watched.panel._in_browser.value = False
    assert "depth" in watched.frame(page)
    assert not watched.view._node.visible
    watched.panel._in_browser.value = True
    assert watched.frame(page) == "drawn by the page"
    assert watched.view._node.visible


def test_the_crop_box_crops_the_mesh(watched: WatchedMesh) -> None:
    page = watched.open_page()
    crop(watched, (0.49, 0.0, 0.0))
    watched.frame(page)
    sent = watched.sent()
    assert 0 < len(sent.faces) < len(BOX.faces)
    assert sent.vertices[:, 0].min() == pytest.approx(0, abs=1e-6) and sent.vertices[:, 0].max() == pytest.approx(1)
    crop(watched, (5.0, 0.0, 0.0))
    watched.frame(page)
    assert watched.view._node is None, "nothing is inside the box"


@pytest.mark.parametrize("ending", ["glb", "ply"])
def test_a_download_is_what_the_page_draws(watched: WatchedMesh, ending: str) -> None:
    page = watched.open_page()
    crop(watched, (0.49, 0.0, 0.0))
    watched.panel._format.value = ending
    said = watched.panel._mesh(SimpleNamespace(client=page))
    loaded = trimesh.load(io.BytesIO(page.downloads[f"mesh.{ending}"]), file_type=ending, force="mesh")
    assert isinstance(loaded, trimesh.Trimesh)
    assert 0 < len(loaded.faces) < len(BOX.faces) and f"{len(loaded.faces)} triangles" in said
