# SPDX-License-Identifier: Apache-2.0
"""The static page in a real browser, without a network: it shows what we render, and can be moved about in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import trimesh
from browser_pages import OpenedPage, served
from hang_limit import HANG_SECONDS
from splat_scenes import colorful_splats, psnr, render

from img3d_assets.axes import UpAxis
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import write_mesh
from img3d_exporters.page import viewer_page
from img3d_exporters.page.viewer_page import PageScene, read_glb, write_page
from img3d_methods.viewing.initial_view import InitialView

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 400, 300
BACKGROUND = (0.2, 0.4, 0.6)
ABOVE = np.array([0.0, 0, 1])
VIEW = InitialView(np.array([2.0, -3.0, 1.5]), np.array([0.1, 0.2, -0.1]), 50.0)
SAMPLE = Path(__file__).resolve().parents[2] / "sample" / "still_life"


@pytest.fixture(autouse=True)
def built_renderer() -> None:
    """Skips where it has not been built."""
    try:
        viewer_page.check_assets()
    except viewer_page.InputError as error:
        pytest.skip(str(error))


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of small scenes get three parts, as those of large ones do."""
    monkeypatch.setattr(viewer_page, "FIRST_PART", 500)
    monkeypatch.setattr(viewer_page, "PART", 500)


def scene(up: UpAxis = "z", view: InitialView = VIEW, antialiased: bool = False) -> PageScene:
    return PageScene("Ball", colorful_splats(), up, view, BACKGROUND, antialiased)


@pytest.mark.parametrize("single_file", [False, True], ids=["folder", "single_file"])
@pytest.mark.parametrize("http", [False, True], ids=["from_disk", "from_server"])
def test_it_shows_what_we_render_and_asks_nobody(
    chromium: Browser, in_parts: None, tmp_path: Path, http: bool, single_file: bool
) -> None:
    write_page(scene(), tmp_path / "page", single_file)
    expected, alpha = render(colorful_splats(), VIEW, ABOVE, WIDTH, HEIGHT, BACKGROUND)
    flat, _ = render(colorful_splats(), VIEW, ABOVE, WIDTH, HEIGHT, BACKGROUND, sh_degree=0)

    def look(url: str, origin: str) -> np.ndarray:
        with OpenedPage(chromium, url, WIDTH, HEIGHT) as opened:
            picture = opened.complete().settled()
            opened.check_it_kept_to_itself(origin)
            return picture

    if http:
        with served(tmp_path / "page") as (address, _):
            picture = look(address, address)
    else:
        folder = (tmp_path / "page").as_uri()
        picture = look(f"{folder}/index.html", folder)

    on_object = alpha > 0.5
    assert on_object.mean() > 0.1
    assert psnr(picture, expected, on_object) > 25  # it cuts Gaussians off earlier than we do
    assert psnr(picture, expected, on_object) > psnr(picture, flat, on_object) + 6  # its colours depend on the view
    assert psnr(picture, expected, alpha < 0.01) > 40  # the background's colour


def test_a_button_shows_the_mesh_instead(chromium: Browser, tmp_path: Path) -> None:
    box = trimesh.creation.box((1.0, 1.0, 0.5))
    mesh = Mesh(box.vertices, box.faces, np.zeros((8, 3), np.float32), np.full((8, 2), 0.5, np.float32))
    mesh.texture = np.full((4, 4, 3), (200, 40, 90), np.uint8)  # inside the file: the page may fetch nothing
    write_mesh(mesh, tmp_path / "box.glb")
    with_mesh = scene()
    with_mesh.mesh = read_glb(tmp_path / "box.glb")
    write_page(with_mesh, tmp_path / "page", single_file=True)
    folder = (tmp_path / "page").as_uri()
    with OpenedPage(chromium, f"{folder}/index.html", WIDTH, HEIGHT) as opened:
        splats = opened.complete().settled()
        button = opened.page.get_by_role("button", name="Show mesh")
        button.click()
        picture = opened.settled()
        opened.page.get_by_role("button", name="Show splats").click()
        again = opened.settled()
        opened.check_it_kept_to_itself(folder)
    is_box = np.abs(picture - np.array([200, 40, 90]) / 255).max(axis=2) < 0.02
    is_background = np.abs(picture - BACKGROUND).max(axis=2) < 0.02
    assert 0.03 < is_box.mean() < 0.4
    assert (is_box | is_background).mean() > 0.97  # a line between them apart
    center = np.argwhere(is_box).mean(axis=0)
    assert center == pytest.approx([HEIGHT / 2, WIDTH / 2], abs=30)  # of the box, which the camera nearly looks at
    assert psnr(again, splats, np.ones_like(is_box)) > 40


@pytest.mark.parametrize("up", ["y", "-y"])
def test_other_axes_may_point_up(chromium: Browser, tmp_path: Path, up: UpAxis) -> None:
    view = InitialView(np.array([2.0, 1.0, -3.0]), np.array([0.1, 0.2, -0.1]), 50.0)
    write_page(scene(up, view), tmp_path / "page", single_file=True)
    above = np.array([0.0, 1 if up == "y" else -1, 0])
    expected, alpha = render(colorful_splats(), view, above, WIDTH, HEIGHT, BACKGROUND)
    with OpenedPage(chromium, (tmp_path / "page" / "index.html").as_uri(), WIDTH, HEIGHT) as opened:
        assert psnr(opened.complete().settled(), expected, alpha > 0.5) > 24


def test_a_model_trained_with_antialiasing_is_drawn_with_it(chromium: Browser, tmp_path: Path) -> None:
    view = InitialView(10 * VIEW.position, VIEW.target, 10.0)  # Gaussians of about a pixel
    view.fov = 50.0
    write_page(scene(view=view, antialiased=True), tmp_path / "page", single_file=True)
    expected, alpha = render(colorful_splats(), view, ABOVE, WIDTH, HEIGHT, BACKGROUND, antialiased=True)
    classic, _ = render(colorful_splats(), view, ABOVE, WIDTH, HEIGHT, BACKGROUND)
    with OpenedPage(chromium, (tmp_path / "page" / "index.html").as_uri(), WIDTH, HEIGHT) as opened:
        picture = opened.complete().settled()
    assert psnr(picture, expected, alpha > 0.1) > psnr(picture, classic, alpha > 0.1) + 2


def test_the_first_part_is_shown_while_the_others_are_on_their_way(
    chromium: Browser, in_parts: None, tmp_path: Path
) -> None:
    write_page(scene(), tmp_path / "page", single_file=False)
    bar = "document.getElementById('img3d-progress')"
    with (
        served(tmp_path / "page", held=frozenset({"splats-2.js"})) as (address, release),
        OpenedPage(chromium, address, WIDTH, HEIGHT) as opened,
    ):
        opened.wait_until("window.img3d && img3d.viewer && img3d.viewer.state.loaded")
        early = opened.picture()
        assert np.abs(early - BACKGROUND).max(axis=2).mean() > 0.02
        assert not opened.page.evaluate("img3d.complete")
        opened.wait_until(f"!{bar}.hidden && Number({bar}.style.getPropertyValue('--done')) > 0.6")
        release.set()
        assert np.abs(opened.complete().settled() - early).max() > 0.1
        assert opened.page.evaluate(f"{bar}.hidden")
        assert opened.problems == []


def test_dragging_circles_around_the_target(chromium: Browser, tmp_path: Path) -> None:
    write_page(scene(), tmp_path / "page", single_file=True)
    target = viewer_page.TO_Y_UP["z"] @ VIEW.target
    with OpenedPage(chromium, (tmp_path / "page" / "index.html").as_uri(), WIDTH, HEIGHT) as opened:
        before, start = opened.complete().settled(), opened.camera()
        assert start == pytest.approx(viewer_page.TO_Y_UP["z"] @ VIEW.position, abs=1e-3)
        opened.drag(120, 20)
        after, end = opened.settled(), opened.camera()
        assert np.abs(after - before).mean() > 0.02
        assert np.linalg.norm(end - start) > 0.5
        assert np.linalg.norm(end - target) == pytest.approx(np.linalg.norm(start - target), rel=0.02)
        opened.page.mouse.wheel(0, -300)
        opened.settled()
        assert np.linalg.norm(opened.camera() - target) < 0.95 * np.linalg.norm(end - target)
        assert opened.problems == []


def test_one_can_fly_with_the_keyboard(chromium: Browser, tmp_path: Path) -> None:
    write_page(scene(), tmp_path / "page", single_file=True)
    forward = viewer_page.TO_Y_UP["z"] @ (VIEW.target - VIEW.position)
    with OpenedPage(chromium, (tmp_path / "page" / "index.html").as_uri(), WIDTH, HEIGHT) as opened:
        opened.complete().settled()
        start = opened.camera()
        opened.page.locator(".sse-flyCamera").click()
        opened.page.keyboard.down("w")
        opened.page.wait_for_timeout(800)
        opened.page.keyboard.up("w")
        opened.settled()
        assert (opened.camera() - start) @ forward / np.linalg.norm(forward) > 0.1
        assert opened.problems == []


def test_a_finger_turns_it(chromium: Browser, tmp_path: Path) -> None:
    write_page(scene(), tmp_path / "page", single_file=True)
    with OpenedPage(chromium, (tmp_path / "page" / "index.html").as_uri(), WIDTH, HEIGHT, touch=True) as opened:
        before, start = opened.complete().settled(), opened.camera()
        opened.swipe(120, 0)
        assert np.abs(opened.settled() - before).mean() > 0.02
        assert np.linalg.norm(opened.camera() - start) > 0.3
        assert opened.problems == []


@pytest.mark.parametrize(("width", "height", "touch"), [(360, 640, True), (640, 360, True), (1280, 800, False)])
def test_help_lies_behind_a_button(chromium: Browser, tmp_path: Path, width: int, height: int, touch: bool) -> None:
    write_page(scene(), tmp_path / "page", single_file=True)
    with OpenedPage(chromium, (tmp_path / "page" / "index.html").as_uri(), width, height, touch) as opened:
        opened.complete()
        page, panel = opened.page, opened.page.locator("#img3d-help-panel")
        button = page.get_by_role("button", name="Controls", exact=True)
        assert button.is_visible() and not panel.is_visible()
        box = button.bounding_box()
        assert box is not None and box["width"] >= 24 and box["width"] * box["height"] < 0.01 * width * height
        assert button.get_attribute("aria-expanded") == "false"

        for _ in range(20):  # the page's other buttons come first or after it
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "img3d-help":
                break
        page.keyboard.press("Enter")
        panel.wait_for(state="visible")
        opened.wait_until("document.getElementById('img3d-help').ariaExpanded === 'true'")
        inside = panel.bounding_box()
        assert inside is not None and inside["x"] >= 0 and inside["y"] >= 0
        assert inside["x"] + inside["width"] <= width and inside["y"] + inside["height"] <= height
        assert "Orbit" in panel.inner_text()
        page.keyboard.press("Escape")
        panel.wait_for(state="hidden")
        opened.wait_until("document.activeElement.id === 'img3d-help'")

        (button.tap if touch else button.click)()
        panel.wait_for(state="visible")
        panel.locator(".sse-controlsHintItem").last.scroll_into_view_if_needed()
        close = panel.get_by_role("button", name="Close")
        (close.tap if touch else close.click)()
        panel.wait_for(state="hidden")
        opened.wait_until("document.getElementById('img3d-help').ariaExpanded === 'false'")
        assert opened.problems == []


def test_help_is_scrolled_with_a_finger_where_the_window_is_low(chromium: Browser, tmp_path: Path) -> None:
    write_page(scene(), tmp_path / "page", single_file=True)
    with OpenedPage(chromium, (tmp_path / "page" / "index.html").as_uri(), 640, 300, touch=True) as opened:
        opened.complete().page.get_by_role("button", name="Controls", exact=True).tap()
        panel = opened.page.locator("#img3d-help-panel")
        box = panel.bounding_box()
        assert box is not None
        opened.swipe(0, -60, start=(box["x"] + 60, box["y"] + box["height"] - 20))
        opened.wait_until("document.getElementById('img3d-help-panel').scrollTop > 20")


def test_a_page_whose_splats_do_not_arrive_says_so(chromium: Browser, tmp_path: Path) -> None:
    write_page(scene(), tmp_path / "page", single_file=False)
    (tmp_path / "page" / "splats-0.js").unlink()
    with OpenedPage(chromium, (tmp_path / "page" / "index.html").as_uri(), WIDTH, HEIGHT) as opened:
        opened.wait_until("document.body.innerText.includes('splats-0.js')")


def test_the_bundled_sample_from_training_to_page(chromium: Browser, tmp_path: Path) -> None:
    commands = Path(sys.executable).parent

    def run(name: str, *arguments: object) -> None:
        subprocess.run([commands / name, *map(str, arguments)], check=True, cwd=tmp_path, timeout=HANG_SECONDS)

    run(
        *("ns-train", "img3d-splat", "--data", SAMPLE, "--output-dir", tmp_path, "--experiment-name", "sample"),
        *("--timestamp", "run", "--vis", "tensorboard", "--max-num-iterations", 300),
    )
    config = tmp_path / "sample" / "img3d-splat" / "run" / "config.yml"
    run("img3d-export", "viewer", "--load-config", config, "--output-dir", tmp_path / "page", "--single-file")

    from img3d_assets.gaussians import gaussians_of_parameters
    from img3d_exporters.load_run import load_run

    loaded = load_run(config)
    page = (tmp_path / "page" / "index.html").read_text()
    described, _ = json.JSONDecoder().raw_decode(page.split("window.img3dScene = ")[1])
    page_view = described["settings"]["cameras"][0]
    to_world = viewer_page.TO_Y_UP["z"].T
    view = InitialView(
        *(to_world @ page_view["initial"][name] for name in ("position", "target")), fov=page_view["initial"]["fov"]
    )
    assert view.position == pytest.approx(loaded.cameras.camera_to_worlds[0, :, 3].numpy(), abs=1e-5)
    background = tuple(loaded.model.background_color.tolist())  # pyright: ignore
    splats = gaussians_of_parameters(dict(loaded.model.gauss_params.items()), loaded.model.config.sh_degree)  # pyright: ignore
    expected, alpha = render(splats, view, ABOVE, WIDTH, HEIGHT, background)
    url = (tmp_path / "page" / "index.html").as_uri()
    with OpenedPage(chromium, url, WIDTH, HEIGHT) as opened:
        picture = opened.complete().settled()
        opened.check_it_kept_to_itself(url)
    assert psnr(picture, expected, alpha > 0.5) > 25
