# SPDX-License-Identifier: Apache-2.0
"""`ns-viewer` and `ns-train` in a real browser: the bundled sample is to be seen, moved and saved."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import trimesh
from command_lines import CommandLine, Running, free_port
from hang_limit import HANG_SECONDS
from PIL import Image
from plyfile import PlyData

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).resolve().parents[3] / "sample" / "still_life"

SETTLING_SECONDS = 60
"""For a page at rest to show the last picture of its camera: the trainer sends one in seconds."""

Picture = npt.NDArray[np.float64]


def psnr(a: Picture, b: Picture) -> float:
    """In dB, of pictures in [0, 255]."""
    return float(10 * np.log10(255**2 / ((a - b) ** 2).mean()))


def middle(picture: Image.Image) -> Picture:
    """The part of a view that holds the object, without the controls: `[H, W, 3]`."""
    values = np.asarray(picture, dtype=np.float64)
    height, width = values.shape[:2]
    return values[round(height / 4) : round(height * 7 / 8), round(width / 8) : round(width * 7 / 8)]


class ViewerPage:
    """Nerfstudio's viewer as a person sees it.

    Args:
        browser: Playwright's.
        port: Of the viewer's server.
        opened: What the page says when it shows the model.
    """

    def __init__(self, browser: Browser, port: int, opened: str = r"in the browser \(") -> None:
        self.page = browser.new_page(viewport={"width": 820, "height": 480})
        self.page.set_default_timeout(1000 * HANG_SECONDS)
        self.page.route("**/assets/index-*.js", self._at_full_resolution)
        self.canvas = self.page.locator("canvas[data-engine]")
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"http://127.0.0.1:{port}")
        self.wait_for_text(opened)
        self.page.get_by_role("button", name="Hide Train Cams").click()
        self.wait_for_text("Show Train Cams")
        self.page.wait_for_timeout(4000)

    def text(self) -> str:
        return self.page.locator("body").inner_text()

    def wait_for_text(self, pattern: str) -> re.Match[str]:
        """Until the page says this."""
        deadline = time.monotonic() + HANG_SECONDS
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
        self.hold_and_turn()
        self.page.mouse.up()
        self.page.wait_for_timeout(3000)

    def hold_and_turn(self) -> None:
        mouse = self.page.mouse
        mouse.move(200, 300)
        mouse.down()
        mouse.move(290, 330, steps=4)

    @staticmethod
    def _at_full_resolution(route: Route) -> None:
        """Serves viser's page as it is on a graphics card.

        Where drawing is slow it takes fewer pixels, down to a fifth, and leaves out the Gaussians that are then small.
        """
        response = route.fetch()
        script, count = re.subn(r"(devicePixelRatio)\*\(\.2\+\.8\*\w+\)", r"\1", response.text())
        assert count == 1, "another version of viser's page"
        route.fulfill(response=response, body=script)

    def rendered(self, height: int) -> Image.Image:
        """The trainer's picture of what the page looks at."""
        self.tab("Export")
        self.page.get_by_label("Picture height").fill(str(height))
        self.page.keyboard.press("Enter")
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Picture of this view").click()
        picture = Image.open(download.value.path()).convert("RGB")
        assert picture.height == height
        return picture

    def seen(self) -> Image.Image:
        """What the page shows."""
        area = self.canvas.bounding_box()
        return Image.open(io.BytesIO(self.page.screenshot(clip=area))).convert("RGB")

    def comes_to_agree(self, least: float) -> bool:
        """Whether the page, in the time that a slow machine needs, shows what the trainer renders for its camera.

        Args:
            least: PSNR of one against the other, in dB.
        """
        deadline = time.monotonic() + SETTLING_SECONDS
        rendered = self.rendered(self.seen().height)
        assert middle(rendered).std(axis=(0, 1)).mean() > 10, "a blank picture"
        while (agreement := psnr(middle(seen := self.seen()), middle(rendered.resize(seen.size)))) < least:
            if time.monotonic() > deadline:
                corners = [tuple(middle(picture)[0, 0]) for picture in (seen, rendered)]
                print(f"{agreement:.1f} dB after {SETTLING_SECONDS} s, corners {corners}, errors {self.errors}")
                return False
            self.page.wait_for_timeout(1000)
        return True


def wait_until_ready(command: Running) -> None:
    """Until the viewer has its cameras: it serves pages long before, and fails if a button is pressed too early."""
    command.wait_for(r"disabled local writer|^Step \(% Done\)")
    time.sleep(5)


@pytest.fixture(scope="module")
def trained_sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandLine, Path]:
    """The sample, trained for 300 steps."""
    cli = CommandLine(tmp_path_factory.mktemp("in a browser"))
    data = Path(shutil.copytree(SAMPLE, cli.folder / "still_life", ignore=shutil.ignore_patterns(".img3d")))
    cli.succeed(*sample_training(cli, data, "short", 300, "tensorboard"))
    return cli, data


def sample_training(
    cli: CommandLine, data: Path, timestamp: str, steps: int, *vis: object, method: str = "img3d-splat"
) -> tuple[object, ...]:
    return (
        *("ns-train", method, "--data", data, "--experiment-name", "scene", "--timestamp", timestamp),
        *("--output-dir", cli.folder / "outputs", "--max-num-iterations", steps, "--vis", *vis),
    )


@pytest.fixture(scope="module")
def ns_viewer(chromium: Browser, trained_sample: tuple[CommandLine, Path]) -> Iterator[ViewerPage]:
    cli, _ = trained_sample
    port = free_port()
    config = cli.run_folder("short") / "config.yml"
    command = cli.start("ns-viewer", "--load-config", config, "--viewer.websocket-port", port)
    try:
        wait_until_ready(command)
        yield ViewerPage(chromium, port)
    finally:
        command.stop()


class TestNsViewer:
    def test_it_opens_at_a_photo(self, ns_viewer: ViewerPage) -> None:
        side = 400
        opened = ns_viewer.rendered(side)
        left = (opened.width - side) // 2
        agreement = []
        for path in sorted((SAMPLE / "images").iterdir()):
            photo = Image.open(path).convert("RGB")
            assert photo.width == side and opened.width >= side  # its angle is that of the view's height
            top = (side - photo.height) // 2
            same = opened.crop((left, top, left + side, top + photo.height))
            agreement.append(psnr(np.asarray(same, dtype=np.float64), np.asarray(photo, dtype=np.float64)))
        *_, second, best = sorted(agreement)
        assert best > 14 and best - second > 1  # from a little nearer, after 300 steps

    def test_the_page_shows_what_a_render_shows(self, ns_viewer: ViewerPage) -> None:
        assert ns_viewer.comes_to_agree(25)

    def test_dragging_changes_what_the_browser_draws(self, ns_viewer: ViewerPage) -> None:
        before = middle(ns_viewer.seen())
        ns_viewer.drag()
        assert "Resolution: the browser's" in ns_viewer.text(), "the trainer rendered a frame"
        assert psnr(middle(ns_viewer.seen()), before) < 18
        assert ns_viewer.comes_to_agree(25)

    def test_the_box_switches_to_rendered_frames_and_back(self, ns_viewer: ViewerPage) -> None:
        ns_viewer.draw_in_browser(False)
        ns_viewer.wait_for_text(r"Resolution: (512x\d+|\d+x512)px")
        ns_viewer.page.wait_for_timeout(2000)
        assert ns_viewer.comes_to_agree(25)
        ns_viewer.drag()
        ns_viewer.wait_for_text(r"Resolution: (512x\d+|\d+x512)px")
        ns_viewer.draw_in_browser(True)
        ns_viewer.wait_for_text("Resolution: the browser's")
        ns_viewer.page.wait_for_timeout(2000)
        assert ns_viewer.comes_to_agree(25)

    def test_the_export_button_downloads_the_splats(self, ns_viewer: ViewerPage) -> None:
        ns_viewer.tab("Export")
        with ns_viewer.page.expect_download() as download:
            ns_viewer.page.get_by_role("button", name="Download splats").click()
        count = int(ns_viewer.wait_for_text(r"([\d,]+) Gaussians, [\d.]+ MB, were sent")[1].replace(",", ""))
        assert download.value.suggested_filename == "splat_step_000299.ply"
        assert PlyData.read(download.value.path())["vertex"].count == count > 1000

    def test_the_command_for_a_camera_path_can_be_pasted_into_a_shell(
        self, ns_viewer: ViewerPage, trained_sample: tuple[CommandLine, Path]
    ) -> None:
        ns_viewer.tab("Render")
        add = ns_viewer.page.get_by_role("button", name="Add Keyframe")
        add.click()
        ns_viewer.drag()
        add.click()
        ns_viewer.page.get_by_role("button", name="Generate Command").click()
        command = shlex.split(ns_viewer.wait_for_text(r"(?m)^ns-render camera-path .*")[0])
        run = trained_sample[0].run_folder("short")
        assert command[command.index("--load-config") + 1] == str(run / "config.yml")
        path = Path(command[command.index("--camera-path-filename") + 1])
        assert path.is_file() and path.parent == run / "camera_paths"
        ns_viewer.page.get_by_role("button", name="Close").click()
        ns_viewer.page.get_by_role("tab", name="Render").wait_for()  # hidden until the dialog is gone

    def test_a_finished_run_says_nothing_of_training(self, ns_viewer: ViewerPage) -> None:
        said = ns_viewer.text()
        assert "Step: 300" in said
        for untrue in ("Pause Training", "Train Speed", "Train Util", "not currently supported"):
            assert untrue not in said
        assert ns_viewer.page.get_by_role("tab").all_inner_texts() == ["Splats", "Export", "Control", "Render"]

    def test_the_page_reports_no_error(self, ns_viewer: ViewerPage) -> None:
        assert not ns_viewer.errors


@pytest.mark.long
def test_training_is_watched_as_it_goes(chromium: Browser, trained_sample: tuple[CommandLine, Path]) -> None:
    cli, data = trained_sample
    port = free_port()
    command = cli.start(*sample_training(cli, data, "watched", 400, "viewer", "--viewer.websocket-port", port))
    try:
        wait_until_ready(command)
        page = ViewerPage(chromium, port)
        page.wait_for_text(r"Training PSNR [\d.]+ dB")
        page.wait_for_text(r"Time .* used, .* left")
        page.drag()
        command.wait_for("Training Finished")
        page.page.wait_for_timeout(8000)
        assert page.comes_to_agree(25)
    finally:
        command.stop()


@pytest.mark.long
class TestNerf:
    """The trainer's pictures; points while the camera moves, if asked for."""

    STILL = r"Resolution: (512x\d+|\d+x512)px"

    @pytest.fixture(scope="class")
    def nerf_viewer(self, chromium: Browser, trained_sample: tuple[CommandLine, Path]) -> Iterator[ViewerPage]:
        cli, data = trained_sample
        small = ("--pipeline.datamanager.train-num-rays-per-batch", 512, "img3d-photos", "--downscale-factor", 4)
        cli.succeed(*sample_training(cli, data, "nerf", 250, "tensorboard", *small, method="img3d-nerf"))
        port, config = free_port(), cli.folder / "outputs" / "scene" / "img3d-nerf" / "nerf" / "config.yml"
        command = cli.start("ns-viewer", "--load-config", config, "--viewer.websocket-port", port)
        try:
            wait_until_ready(command)
            yield ViewerPage(chromium, port, self.STILL)
        finally:
            command.stop()

    def test_at_rest_the_page_shows_the_trainers_picture(self, nerf_viewer: ViewerPage) -> None:
        assert nerf_viewer.comes_to_agree(20)

    def test_while_it_is_dragged_the_trainer_renders(self, nerf_viewer: ViewerPage) -> None:
        nerf_viewer.hold_and_turn()
        # A machine that renders 512 pixels ten times a second has the picture of a camera at rest at once.
        nerf_viewer.wait_for_text(r"Resolution: \d+x\d+px")
        assert "in the browser" not in nerf_viewer.text()
        nerf_viewer.page.mouse.up()
        nerf_viewer.wait_for_text(self.STILL)
        assert nerf_viewer.comes_to_agree(20)

    def test_while_it_is_dragged_the_page_draws_points_if_asked(self, nerf_viewer: ViewerPage) -> None:
        nerf_viewer.tab("Points")
        nerf_viewer.page.get_by_label("Points while the camera moves").check()
        nerf_viewer.hold_and_turn()
        nerf_viewer.wait_for_text(r"Points [\d,]+ in the browser")
        nerf_viewer.page.mouse.move(310, 340, steps=4)
        nerf_viewer.wait_for_text("Resolution: the browser's")
        points = nerf_viewer.seen()
        nerf_viewer.page.mouse.up()
        nerf_viewer.wait_for_text(self.STILL)
        nerf_viewer.page.wait_for_timeout(2000)
        assert nerf_viewer.comes_to_agree(20)
        assert middle(points).std(axis=(0, 1)).mean() > 10, "no points"
        assert psnr(middle(points), middle(nerf_viewer.seen())) > 10, "points of something else"
        assert not nerf_viewer.errors


@pytest.mark.long
def test_a_mesh_is_drawn_by_the_page(chromium: Browser, tmp_path: Path) -> None:
    cli, port = CommandLine(tmp_path), free_port()
    box = trimesh.creation.box((1, 2, 3))
    for _ in range(4):
        box = box.subdivide()
    tones = (128 + 90 * np.sin(4 * np.asarray(box.vertices))).astype(np.uint8)
    box.visual.vertex_colors = tones  # pyright: ignore
    box.export(tmp_path / "box.glb")
    command = cli.start(
        *("ns-train", "img3d-mesh", "--vis", "viewer", "--viewer.websocket-port", port),
        *("img3d-mesh", "--data", "box.glb", "--num-views", 4, "--view-size", 64),
    )
    try:
        wait_until_ready(command)
        command.wait_for("Run Saved")
        assert "not trained" in command.output and "Training" not in command.output
        page = ViewerPage(chromium, port, r"drawn by the browser \(")
        assert "Triangles 3,072" in page.text()
        assert page.comes_to_agree(25)
        before = middle(page.seen())
        page.drag()
        assert "Resolution: the browser's" in page.text(), "the model rendered a frame"
        assert psnr(middle(page.seen()), before) < 25
        assert not page.errors
    finally:
        command.stop()
