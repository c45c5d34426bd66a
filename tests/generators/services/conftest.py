# SPDX-License-Identifier: Apache-2.0
"""A service on this machine with a key for it, and orders that wait for nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_service import KEY, SIGNATURE
from shops import FAKES, PATHS, Shop

from img3d_generators.services.registry import services


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
