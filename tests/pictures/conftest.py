# SPDX-License-Identifier: Apache-2.0
"""HEIF photos are written with pillow-heif, and read as users' are."""

from __future__ import annotations

import pillow_heif
import pytest

from img3d_pictures.opening import register_formats

pillow_heif.register_heif_opener()  # to write them


@pytest.fixture(autouse=True)
def our_readers() -> None:
    """Replaces those that pillow-heif (above) and imageio, which other tests of this process may use, register."""
    register_formats.cache_clear()
    register_formats()
