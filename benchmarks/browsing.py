# SPDX-License-Identifier: Apache-2.0
"""How smoothly pages draw splats while one drags, how long `ns-viewer` takes to show something, and what it sends.

Gaussians as in kernels.py, drawn by Chromium in software (SwiftShader): a graphics card is many times as fast, so what
counts is how one page compares with the other, and how both grow with the number of Gaussians.

    python benchmarks/browsing.py --gaussians 50000 200000
    python benchmarks/browsing.py --load-config outputs/still_life/img3d-splat/demo/config.yml
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import viser
from headless_chromium import NoChromiumError, headless_chromium
from kernels import DEFAULT_DATA, POINTS, describe_machine, load_scene

from img3d_assets.gaussians import Gaussians
from img3d_dataparsers.upstream_warnings import silence_upstream_warnings
from img3d_exporters.page.viewer_page import PageScene, view_of_everything, write_page
from img3d_methods.viewing.splat_packets import SplatNode, browser_splats

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTH, HEIGHT = 960, 540
DRAG_SECONDS = 10.0
PATIENCE = 600.0
"""Seconds to wait for a page to show all of its splats."""
COUNT_FRAMES = """() => {
    window.times = [];
    const count = (now) => { window.times.push(now); requestAnimationFrame(count); };
    requestAnimationFrame(count);
}"""


def gaussians(path: Path, n: int) -> Gaussians:
    """`n` Gaussians of the garden, as a file holds them."""
    scene = load_scene(path, n, HEIGHT, WIDTH)
    return Gaussians(
        means=scene.means.numpy(),
        quats=scene.quats.numpy(),
        log_scales=scene.scales.log().numpy(),
        opacities=torch.logit(scene.opacities, eps=1e-4).numpy(),
        sh_dc=np.ascontiguousarray(scene.colors[:, 0].numpy()),
        sh_rest=np.ascontiguousarray(scene.colors[:, 1:].numpy()),
    )


@contextmanager
def static_page(splats: Gaussians, browser: Browser) -> Generator[Page, None, None]:
    """The page of `img3d-export viewer`, with all its splats."""
    with tempfile.TemporaryDirectory() as folder:
        scene = PageScene("benchmark", splats, "-y", view_of_everything(splats, "-y"), background=(0.0, 0.0, 0.0))
        write_page(scene, Path(folder) / "page", single_file=False)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto((Path(folder) / "page" / "index.html").as_uri())
        wait_until(page, "window.img3d && img3d.complete")
        yield page
        page.close()


@contextmanager
def live_page(splats: Gaussians, browser: Browser) -> Generator[Page, None, None]:
    """Viser's page with the splats that the live view sends; it lowers its resolution where drawing is slow."""
    server = viser.ViserServer(host="127.0.0.1", verbose=False)
    params = {
        "means": splats.means,
        "scales": splats.log_scales,
        "quats": splats.quats,
        "opacities": splats.opacities[:, None],
        "features_dc": splats.sh_dc,
    }
    node = SplatNode(server)
    node.visible = True
    node.replace(browser_splats({name: torch.from_numpy(value) for name, value in params.items()}, 3, units=10.0))
    try:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"http://127.0.0.1:{server.get_port()}")
        wait_until(page, "document.querySelector('canvas[data-engine]')")
        page.wait_for_timeout(10_000)  # splats grow for a while
        yield page
        page.close()
    finally:
        server.stop()


def wait_until(page: Page, expression: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(f"Boolean({expression})"):
        if time.monotonic() > deadline:
            sys.exit(f"The page does not get ready: never {expression}.")
        page.wait_for_timeout(100)


def milliseconds_per_frame(page: Page) -> tuple[float, float]:
    """Median and 95th percentile while the left button drags the view around."""
    page.evaluate(COUNT_FRAMES)
    x, y = WIDTH // 3, HEIGHT // 2
    page.mouse.move(x, y)
    page.mouse.down()
    deadline = time.monotonic() + DRAG_SECONDS
    step = 0
    while time.monotonic() < deadline:
        step += 1
        page.mouse.move(x + 120 * np.sin(step / 15), y + 20 * np.sin(step / 40))
    page.mouse.up()
    gaps = np.diff(page.evaluate("window.times"))
    return float(np.median(gaps)), float(np.quantile(gaps, 0.95))


def seconds_to_first_picture(config: Path, browser: Browser) -> tuple[float, float]:
    """From starting `ns-viewer` until its page answers, and until the page shows something."""
    port = 7100
    command = [str(Path(sys.executable).parent / "ns-viewer"), "--load-config", str(config)]
    start = time.monotonic()
    process = subprocess.Popen(
        [*command, "--viewer.websocket-port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        while process.poll() is None and time.monotonic() < start + PATIENCE:
            try:
                page.goto(f"http://127.0.0.1:{port}")
                break
            except Exception:  # Playwright's, for a refused connection
                time.sleep(0.2)
        else:
            sys.exit(f"ns-viewer does not start with {config}.")
        answered = time.monotonic() - start
        page.get_by_text("in the browser (").wait_for(timeout=1000 * PATIENCE)
        shown = time.monotonic() - start
        page.close()
        return answered, shown
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("IMG3D_DATA", DEFAULT_DATA), help="data directory")
    parser.add_argument("--gaussians", type=int, nargs="+", default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--load-config", type=Path, help="a run's config.yml: time ns-viewer instead")
    parser.add_argument("--repeats", type=int, default=3, help="starts of ns-viewer to take the median of")
    args = parser.parse_args()
    silence_upstream_warnings()
    try:
        with headless_chromium() as browser:
            measure(args, browser)
    except NoChromiumError as missing:
        sys.exit(str(missing))


def measure(args: argparse.Namespace, browser: Browser) -> None:
    print(f"{describe_machine()}. WebGL in software, {WIDTH}×{HEIGHT}.\n")
    if args.load_config is not None:
        times = [seconds_to_first_picture(args.load_config, browser) for _ in range(args.repeats)]
        answered, shown = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"`ns-viewer`: its page opens after {answered:.1f} s and shows the scene after {shown:.1f} s.")
        return
    path = args.data / POINTS
    if not path.exists():
        sys.exit(f"{path} is missing: give the data directory by --data or the environment variable IMG3D_DATA.")
    print("| Gaussians | page | ms per frame | 95 % under | frames/s | ratio | rows drawn | sent |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for n in args.gaussians:
        splats = gaussians(path, n)
        base = None
        for name, opened in (("live", live_page), ("static", static_page)):
            with opened(splats, browser) as page:
                median, slow = milliseconds_per_frame(page)
                rows = max(page.evaluate("[...document.querySelectorAll('canvas')].map(canvas => canvas.height)"))
                if name == "live":
                    rows = page.evaluate("document.querySelector('canvas[data-engine]').height")
            base = base or median
            sent = f"{32 * n / 1e6:.1f} MB" if name == "live" else "file"
            speed = f"{median:.0f} | {slow:.0f} | {1000 / median:.1f} | {median / base:.2f}×"
            print(f"| {n:,} | {name} | {speed} | {rows} | {sent} |", flush=True)


if __name__ == "__main__":
    main()
