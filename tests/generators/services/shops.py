# SPDX-License-Identifier: Apache-2.0
"""A fake service, and what a user does with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fake_service import FakeService
from fakes import FakeCsm, FakeFal, FakeMeshy, FakeRodin, FakeStability, FakeTripo
from PIL import Image

from img3d_assets.mesh_files import read_mesh
from img3d_generators.services.client import Pace
from img3d_generators.services.orders import RemoteFile, Request, asset_file

FAKES: dict[str, type[FakeService]] = {
    "meshy": FakeMeshy,
    "csm": FakeCsm,
    "tripo": FakeTripo,
    "stability": FakeStability,
    "fal": FakeFal,
    "rodin": FakeRodin,
}
IN_QUEUES = [name for name in FAKES if name != "stability"]
"""Services that make jobs; the other one answers at once."""
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


def is_box(made: Any) -> bool:
    """Whether a file holds the fake's box."""
    extent = np.ptp(read_mesh(made.path)[0].vertices, axis=0)
    return bool(np.allclose(extent, [1, 1, 2]))
