# SPDX-License-Identifier: Apache-2.0
"""The studio's page in Chromium: from dropped photos to a downloaded file, by mouse, touch and keyboard."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser_pages import OpenedPage
from fake_studio import FAKE, picture
from hang_limit import HANG_SECONDS
from test_runs import some_splats

from img3d_assets.splat_files import read_splats, write_splats
from img3d_studio.app import create_app
from img3d_studio.job_queue import JobQueue
from img3d_studio.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FileChooser, Page

DROP = """([names, content]) => {
    const data = new DataTransfer();
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    for (const name of names) data.items.add(new File([bytes], name, { type: "image/jpeg" }));
    document.querySelector(".zone").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""


@contextmanager
def serving(folder: Path, *program: object) -> Iterator[tuple[str, Store]]:
    """The address of a studio, and its store."""
    import uvicorn

    store = Store(folder)
    queue = JobQueue(store, lambda name: [*map(str, program), name]) if program else JobQueue(store)
    server = uvicorn.Server(uvicorn.Config(create_app(store, queue), port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + HANG_SECONDS
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", store
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a studio whose programs are short stand-ins."""
    monkeypatch.setattr("img3d_studio.job_queue.POLL_SECONDS", 0.02)
    monkeypatch.setattr("img3d_studio.app._learn_generators", lambda: None)
    with serving(tmp_path / "studio", sys.executable, FAKE) as (address, _):
        yield address


def drop_photos(page: Page, count: int = 3) -> None:
    """Drops photos on the page."""
    import base64

    page.evaluate(DROP, [[f"photo {index}.jpg" for index in range(count)], base64.b64encode(picture()).decode()])


def is_wider_than_the_window(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def unnamed_controls(page: Page) -> Any:
    """Controls that a screen reader has no name for."""
    return page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, iframe, progress, img")]
            .filter((control) => control.checkVisibility() && !(control.getAttribute("aria-label") || control.title
                || control.hasAttribute("alt") || control.labels?.length || control.textContent.trim()))
            .map((control) => control.outerHTML)"""
    )


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1200, 900), (360, 640)])
def test_dropped_photos_become_a_scene_and_a_file(
    chromium: Browser, address: str, width: int, height: int, tmp_path: Path
) -> None:
    with OpenedPage(chromium, address, width, height, touch=width < 600) as opened:
        page = opened.page
        page.get_by_text("Drop photos here").wait_for()
        assert not unnamed_controls(page)
        drop_photos(page)
        card = page.get_by_role("button", name="A quick look")
        card.wait_for()
        assert not is_wider_than_the_window(page)
        assert not unnamed_controls(page)
        run = page.evaluate("fetch('/api/runs').then((answer) => answer.json())")["runs"]
        assert run == []  # not begun
        hold = next((tmp_path / "studio" / "runs").iterdir()) / "hold"
        hold.touch()
        # The stand-in serves no viewer, of which viser's page complains.
        page.route("**/live/", lambda route: route.fulfill(body="the scene so far", content_type="text/html"))
        card.click()
        page.get_by_role("progressbar", name="Training").wait_for()
        assert page.get_by_text("12 of 12 photos placed").is_visible()
        assert not is_wider_than_the_window(page)
        hold.unlink()
        page.get_by_text("Clean and cut").click()
        for side in ("Left", "Right", "Bottom", "Top", "Back", "Front"):
            page.get_by_role("slider", name=f"{side} %").fill("5")
        assert page.locator("fieldset output").all_inner_texts() == ["5"] * 6
        assert not is_wider_than_the_window(page)
        page.get_by_role("button", name="Make Mesh, GLB").click()
        link = page.get_by_role("link", name="Download Mesh, GLB")
        link.wait_for()
        assert not unnamed_controls(page)
        assert page.frame_locator("iframe").locator("title").text_content() == "the scene"
        with page.expect_download() as download:
            link.click()
        assert Path(download.value.path()).read_bytes() == b"exported"
        assert download.value.suggested_filename == "Photos.glb"
        page.get_by_role("link", name="Earlier runs").click()
        page.get_by_role("link", name="Photos").wait_for()
        assert not is_wider_than_the_window(page)
        assert opened.problems == []


@pytest.mark.slow
def test_everything_can_be_reached_by_keyboard(chromium: Browser, address: str, tmp_path: Path) -> None:
    photo = tmp_path / "one.jpg"
    photo.write_bytes(picture())
    other = tmp_path / "two.jpg"
    other.write_bytes(picture("blue"))
    with OpenedPage(chromium, address, 1200, 900) as opened:
        page = opened.page
        page.get_by_text("Drop photos here").wait_for()
        choosers: list[FileChooser] = []

        def opens(chooser: FileChooser) -> None:  # Playwright takes no bound method of a list
            choosers.append(chooser)

        page.on("filechooser", opens)
        page.get_by_label("Choose photos").focus()
        deadline = time.monotonic() + HANG_SECONDS
        while not choosers:  # Chromium may take a key before it takes Playwright's wish to be told of choosers
            assert time.monotonic() < deadline
            page.keyboard.press("Enter")
            page.wait_for_timeout(500)
        choosers[0].set_files([photo, other])
        page.get_by_role("button", name="Remove one.jpg").wait_for()
        page.get_by_role("button", name="A quick look").wait_for()
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").startswith("A quick look"):
                break
        else:
            pytest.fail("ten steps do not lead to the first choice")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Download").wait_for()


@pytest.mark.slow
def test_the_tools_stay_as_they_are_set(chromium: Browser, address: str, tmp_path: Path) -> None:
    file = tmp_path / "cloud.ply"
    write_splats(some_splats(), file, "y")
    with OpenedPage(chromium, address, 800, 700) as opened:
        page = opened.page
        page.get_by_text("Drop photos here").wait_for()
        page.set_input_files("#files", file)
        page.get_by_role("button", name="Look at it").click()
        page.get_by_text("Clean and cut").click()
        clean = page.get_by_label("Remove floaters, fog and needles")
        clean.check()
        page.get_by_role("slider", name="Left %").fill("5")
        page.get_by_role("button", name="Apply").click()
        undo = page.get_by_role("button", name="Undo all")
        undo.wait_for()
        assert page.locator("fieldset output").all_inner_texts() == ["5", "0", "0", "0", "0", "0"]
        assert page.get_by_role("slider", name="Left %").input_value() == "5" and clean.is_checked()
        undo.click()
        undo.wait_for(state="detached")
        assert page.locator("fieldset output").all_inner_texts() == ["0"] * 6
        assert not clean.is_checked()
        assert opened.problems == []


@pytest.mark.slow
def test_real_commands_make_a_page_and_another_file_of_splats(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "ball.ply"
    splats = some_splats(4_000)
    splats.means[:] /= np.linalg.norm(splats.means, axis=1, keepdims=True)
    write_splats(splats, file, "y")
    with serving(tmp_path / "studio") as (address, _), OpenedPage(chromium, address, 800, 700) as opened:
        page = opened.page
        page.get_by_text("Drop photos here").wait_for()
        page.set_input_files("#files", file)
        page.get_by_role("button", name="Look at it").click()
        frame = page.frame_locator("iframe")
        frame.locator("canvas").first.wait_for()
        page.evaluate("document.querySelector('iframe').remove()")  # drawn in software, it takes the commands' time
        page.get_by_role("button", name="Make Splats, SPZ").click()
        link = page.get_by_role("link", name="Download Splats, SPZ")
        link.wait_for()
        with page.expect_download() as download:
            link.click()
        got, _ = read_splats(Path(download.value.path()))
        assert len(got) == 4_000
        assert np.allclose(np.linalg.norm(got.means, axis=1), 1, atol=0.01)
