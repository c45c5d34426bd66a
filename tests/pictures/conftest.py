# SPDX-License-Identifier: Apache-2.0
"""HEIF photos are written with pillow-heif, and read as users' are."""

from __future__ import annotations

import pillow_heif

from img3d_pictures.opening import register_formats

pillow_heif.register_heif_opener()  # to write them
register_formats.cache_clear()  # the line above has replaced our reader, in every test of this process
register_formats()
