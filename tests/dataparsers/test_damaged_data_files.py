# SPDX-License-Identifier: Apache-2.0
"""Damaged files cost a line, and neither the memory nor the patience of whoever has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hang_limit import HANG_SECONDS


@pytest.mark.long
def test_damaged_files_within_limits() -> None:
    """In a process of its own: a limit of memory holds for all that pytest runs."""
    here = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "fuzz_data_files.py"],
        check=False,
        cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
