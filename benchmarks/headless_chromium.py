# SPDX-License-Identifier: Apache-2.0
"""The system's Chromium, drawing without a GPU and without a network: for benchmarks and tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = [
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


class NoChromiumError(Exception):
    """What is missing, and how to get it."""


@contextmanager
def headless_chromium() -> Generator[Browser, None, None]:
    """A running browser. Playwright allows one at a time in a process.

    Raises:
        NoChromiumError: there is none on this machine, or no Playwright.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NoChromiumError("no Playwright: pip install playwright") from None
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        raise NoChromiumError("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=FLAGS)
        yield browser
        browser.close()
