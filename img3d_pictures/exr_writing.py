# SPDX-License-Identifier: Apache-2.0
"""Writes OpenEXR files: 32-bit floating point, ZIP compression. OpenCV's wheels have the format disabled.

The layout is https://openexr.com/en/latest/OpenEXRFileLayout.html.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from img3d_pictures.exr import MAGIC

VERSION = 2
FLOAT = 2
ZIP, ROWS = 3, 16
"""The code of the compression, and the number of rows that it compresses together."""


def exr_bytes(channels: Mapping[str, npt.NDArray[np.floating]]) -> bytes:
    """A scanline file.

    Args:
        channels: Values `[H, W]` by name, such as Z, or R, G and B; all of one size.
    """
    names = sorted(channels)
    height, width = channels[names[0]].shape
    listed = b"".join(name.encode() + b"\0" + struct.pack("<iiii", FLOAT, 0, 1, 1) for name in names)
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = MAGIC + struct.pack("<I", VERSION)
    for name, kind, value in (
        ("channels", "chlist", listed + b"\0"),
        ("compression", "compression", bytes([ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ):
        header += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value
    header += b"\0"
    rows = np.stack([channels[name].astype("<f4") for name in names], axis=1)  # [H, C, W], as they are stored
    chunks = []
    for y in range(0, height, ROWS):
        data = _compressed(rows[y : y + ROWS].tobytes())
        chunks.append(struct.pack("<ii", y, len(data)) + data)
    start = len(header) + 8 * len(chunks)
    offsets = start + np.cumsum([0, *(len(chunk) for chunk in chunks[:-1])])
    return header + offsets.astype("<u8").tobytes() + b"".join(chunks)


def _compressed(data: bytes) -> bytes:
    """Even bytes before odd ones, each as its difference from the one before, deflated; unless that is longer."""
    values = np.frombuffer(data, np.uint8)
    values = np.concatenate([values[::2], values[1::2]]).astype(np.int16)
    values[1:] = values[1:] - values[:-1] + 128
    packed = zlib.compress((values & 255).astype(np.uint8).tobytes())
    return packed if len(packed) < len(data) else data
