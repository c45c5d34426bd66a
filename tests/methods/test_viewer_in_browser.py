# SPDX-License-Identifier: Apache-2.0
"""`ns-viewer` and `ns-train` in a real browser: the bundled sample is to be seen, moved and saved."""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from command_lines import CommandLine, Running, free_port
from PIL import Image
from plyfile import PlyData

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).resolve().parents[2] / "sample" / "still_life"
SOFTWARE_GL = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
SECONDS = 120_000
"""Patience in milliseconds: WebGL in software, on a machine that trains besides."""

Picture = npt.NDArray[np.float64]


def psnr(a: Picture, b: Picture) -> float:
    """In dB, of pictures in [0, 255]."""
    return float(10 * np.log10(255**2 / ((a - b) ** 2).mean()))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: `apt-get install chromium`")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=list(SOFTWARE_GL))
        yield browser
        browser.close()


class ViewerPage:
    """Nerfstudio's viewer as a person sees it.

    Args:
        browser: Playwright's.
        port: Of the viewer's server.
    """

    def __init__(self, browser: Any, port: int) -> None:
        self.page = browser.new_page(viewport={"width": 820, "height": 480})
        self.page.set_default_timeout(SECONDS)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"http://127.0.0.1:{port}")
        self.wait_for_text(r"in the browser \(")
        self.page.get_by_role("button", name="Hide Train Cams").click()
        self.wait_for_text("Show Train Cams")
        self.page.wait_for_timeout(4000)

    def text(self) -> str:
        return self.page.locator("body").inner_text()

    def wait_for_text(self, pattern: str) -> re.Match[str]:
        """Until the page says this."""
        deadline = time.monotonic() + SECONDS / 1000
        while not (match := re.search(pattern, self.text())):
            assert time.monotonic() < deadline, f"no {pattern!r} in\n{self.text()}"
            self.page.wait_for_timeout(500)
        return match

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def draw_in_browser(self, yes: bool) -> None:
        self.tab("Splats")
        self.page.get_by_label("Draw splats in the browser").set_checked(yes)

    def drag(self) -> None:
        """Turn the view, left button held."""
        mouse = self.page.mouse
        mouse.move(200, 300)
        mouse.down()
        mouse.move(290, 330, steps=4)
        mouse.up()
        self.page.wait_for_timeout(3000)

    def rendered(self) -> Image.Image:
        """The trainer's picture of what the page looks at."""
        self.tab("Save")
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Picture of this view").click()
        return Image.open(download.value.path()).convert("RGB")

    def seen(self, aspect: float) -> Picture:
        """The middle of the page's own picture, which holds the object: `[H, W, 3]`."""
        bar = 51
        height = self.page.viewport_size["height"] - bar
        area = {"x": 0, "y": bar, "width": round(height * aspect), "height": height}
        return self._middle(Image.open(io.BytesIO(self.page.screenshot(clip=area))).convert("RGB"))

    def agreement(self) -> float:
        """PSNR of what the page shows against what the trainer renders for its camera, in dB; it must not be blank.

        At a quarter of the size, because viser's page lowers its resolution (down to a fifth) where drawing is slow.
        """
        rendered = self.rendered()
        seen = self.seen(rendered.width / rendered.height)
        assert seen.std(axis=(0, 1)).mean() > 10, "a blank page"
        full = (round(seen.shape[1] * 4 / 3), round(seen.shape[0] * 8 / 5))
        expected = self._middle(rendered.resize(full, Image.Resampling.BOX))
        quarter = (expected.shape[1] // 4, expected.shape[0] // 4)
        return psnr(*(self._resized(picture, quarter) for picture in (seen, expected)))

    @staticmethod
    def _resized(picture: Picture, size: tuple[int, int]) -> Picture:
        resized = Image.fromarray(picture.astype(np.uint8)).resize(size, Image.Resampling.BOX)
        return np.asarray(resized, dtype=np.float64)

    @staticmethod
    def _middle(picture: Image.Image) -> Picture:
        values = np.asarray(picture, dtype=np.float64)
        height, width = values.shape[:2]
        return values[round(height / 4) : round(height * 7 / 8), round(width / 8) : round(width * 7 / 8)]


def wait_until_ready(command: Running) -> None:
    """Until the viewer has its cameras: it serves pages long before, and fails if a button is pressed too early."""
    command.wait_for(r"disabled local writer|^Step \(% Done\)")
    time.sleep(5)


@pytest.fixture(scope="module")
def trained_sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandLine, Path]:
    """The sample, trained for 300 steps."""
    cli = CommandLine(tmp_path_factory.mktemp("browser"))
    data = Path(shutil.copytree(SAMPLE, cli.folder / "still_life", ignore=shutil.ignore_patterns(".img3d")))
    cli.succeed(*sample_training(cli, data, "short", 300, "tensorboard"))
    return cli, data


def sample_training(cli: CommandLine, data: Path, timestamp: str, steps: int, *vis: object) -> tuple[object, ...]:
    return (
        *("ns-train", "img3d-splat", "--data", data, "--experiment-name", "scene", "--timestamp", timestamp),
        *("--output-dir", cli.folder / "outputs", "--max-num-iterations", steps, "--vis", *vis),
    )


@pytest.fixture(scope="module")
def ns_viewer(browser: Any, trained_sample: tuple[CommandLine, Path]) -> Iterator[ViewerPage]:
    cli, _ = trained_sample
    port = free_port()
    config = cli.run_folder("short") / "config.yml"
    command = cli.start("ns-viewer", "--load-config", config, "--viewer.websocket-port", port)
    try:
        wait_until_ready(command)
        yield ViewerPage(browser, port)
    finally:
        command.stop()


class TestNsViewer:
    def test_the_page_shows_what_a_render_shows(self, ns_viewer: ViewerPage) -> None:
        assert ns_viewer.agreement() >= 20

    def test_dragging_changes_what_the_browser_draws(self, ns_viewer: ViewerPage) -> None:
        rendered = ns_viewer.rendered()
        aspect = rendered.width / rendered.height
        before = ns_viewer.seen(aspect)
        ns_viewer.drag()
        assert "Resolution: the browser's" in ns_viewer.text(), "the trainer rendered a frame"
        assert psnr(ns_viewer.seen(aspect), before) < 18
        assert ns_viewer.agreement() >= 20

    def test_the_box_switches_to_rendered_frames_and_back(self, ns_viewer: ViewerPage) -> None:
        ns_viewer.draw_in_browser(False)
        ns_viewer.wait_for_text(r"Resolution: (512x\d+|\d+x512)px")
        ns_viewer.page.wait_for_timeout(2000)
        assert ns_viewer.agreement() >= 20
        ns_viewer.drag()
        ns_viewer.wait_for_text(r"Resolution: (512x\d+|\d+x512)px")
        ns_viewer.draw_in_browser(True)
        ns_viewer.wait_for_text("Resolution: the browser's")
        ns_viewer.page.wait_for_timeout(2000)
        # Less than elsewhere: after two drags the view is one that no photo was taken from.
        assert ns_viewer.agreement() >= 18

    def test_the_export_button_writes_the_splats(
        self, ns_viewer: ViewerPage, trained_sample: tuple[CommandLine, Path]
    ) -> None:
        ns_viewer.tab("Save")
        ns_viewer.page.get_by_role("button", name="Export splats (PLY)").click()
        count = int(ns_viewer.wait_for_text(r"([\d,]+) Gaussians written to")[1].replace(",", ""))
        (file,) = (trained_sample[0].run_folder("short") / "exports").glob("*.ply")
        assert PlyData.read(file)["vertex"].count == count > 1000

    def test_the_page_reports_no_error(self, ns_viewer: ViewerPage) -> None:
        assert not ns_viewer.errors


def test_training_is_watched_as_it_goes(browser: Any, trained_sample: tuple[CommandLine, Path]) -> None:
    cli, data = trained_sample
    port = free_port()
    command = cli.start(*sample_training(cli, data, "watched", 400, "viewer", "--viewer.websocket-port", port))
    try:
        wait_until_ready(command)
        page = ViewerPage(browser, port)
        page.wait_for_text(r"Training PSNR [\d.]+ dB")
        page.wait_for_text(r"Time .* used, .* left")
        page.drag()
        command.wait_for("Training Finished")
        page.page.wait_for_timeout(8000)
        assert page.agreement() >= 20
    finally:
        command.stop()
