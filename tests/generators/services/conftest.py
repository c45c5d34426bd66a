# SPDX-License-Identifier: Apache-2.0
"""A service on this machine with a key for it, and orders that wait for nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_service import KEY, SIGNATURE, FakeService
from fakes import FakeCsm, FakeFal, FakeMeshy, FakeRodin, FakeStability, FakeTripo
from PIL import Image

from img3d_generators.services.client import Pace
from img3d_generators.services.orders import RemoteFile, Request, asset_file
from img3d_generators.services.registry import services

FAKES: dict[str, type[FakeService]] = {
    "meshy": FakeMeshy,
    "csm": FakeCsm,
    "tripo": FakeTripo,
    "stability": FakeStability,
    "fal": FakeFal,
    "rodin": FakeRodin,
}
PATHS = {"tripo": "/v3"}
"""What the base address of a service has after the host."""


class Shop:
    """A fake service, and what a user does with it."""

    def __init__(self, name: str, fake: Any, folder: Path) -> None:
        self.name, self.fake, self.folder = name, fake, folder
        self.waits: list[float] = []
        self.interrupt_after: int | None = None
        self.attempts = 4
        self.longest_job = 3600.0

    def pictures(self, count: int = 1, names: Sequence[str] = ()) -> list[Path]:
        """Photos of different colours, with a place in their EXIF data."""
        paths = [self.folder / f"{name}.jpg" for name in names or [f"photo{i}" for i in range(count)]]
        for i, path in enumerate(paths):
            exif = Image.Exif()
            exif[0x010E] = "private description"
            Image.fromarray(np.full((70, 90, 3), 40 * i + 20, np.uint8)).save(path, exif=exif)
        return paths

    def order(self, pictures: Sequence[Path] = (), yes: bool = True, **what: Any) -> RemoteFile:
        """Orders something, with waiting times noted instead of waited for."""
        return asset_file(Request(self.name, pictures, **what), self.cache, yes, self.pace)

    @property
    def pace(self) -> Pace:
        """Waits for nothing; Ctrl-C comes after `interrupt_after` pauses."""
        return Pace(sleep=self._sleep, attempts=self.attempts, longest_job=self.longest_job)

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self.interrupt_after is not None and len(self.waits) >= self.interrupt_after:
            raise KeyboardInterrupt

    @property
    def cache(self) -> Path:
        """Where jobs are."""
        return self.folder / "cache"

    @property
    def job(self) -> Path:
        """The file of the only job."""
        (path,) = self.cache.glob("*.json")
        return path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Shop]]:
    """Opens a service's shop; afterwards nothing that was written holds a secret."""
    for row in services().values():
        for variable in row.keys:
            monkeypatch.delenv(variable, raising=False)
    (tmp_path / "cache").mkdir()
    with contextlib.ExitStack() as open_shops:

        def open_shop(name: str, **how: Any) -> Shop:
            fake = open_shops.enter_context(FAKES[name](**how).serving())
            monkeypatch.setenv(services()[name].keys[0], KEY)
            monkeypatch.setenv(f"IMG3D_{name.upper()}_URL", fake.url + PATHS.get(name, ""))
            return Shop(name, fake, tmp_path)

        yield open_shop
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert KEY.encode() not in content and SIGNATURE.encode() not in content, path


@pytest.fixture(autouse=True)
def nothing_secret_is_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was printed, as one line; no secrets are in it."""
    printed: list[str] = []

    def said() -> str:
        printed.extend(capfd.readouterr())
        return " ".join(" ".join(printed).split())

    yield said
    assert KEY not in said() and SIGNATURE not in said()
