# SPDX-License-Identifier: Apache-2.0
"""A studio whose programs are short stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette")
from fake_studio import FakeStudio


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStudio]:
    """A running studio."""
    monkeypatch.setattr("img3d_studio.job_queue.POLL_SECONDS", 0.02)
    monkeypatch.setattr("img3d_studio.app._learn_generators", lambda: None)
    fake = FakeStudio(tmp_path / "studio")
    with fake.client:
        yield fake
