# SPDX-License-Identifier: Apache-2.0
"""Writes OpenEXR files as FFmpeg does not: with channels of any name, half precision, or wrong headers.

The layout is https://openexr.com/en/latest/OpenEXRFileLayout.html.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt


def exr_bytes(channels: Mapping[str, npt.NDArray[np.floating]], version: int = 2, compression: int = 0) -> bytes:
    """A scanline file of channels `[H, W]`, float16 or float32."""
    height, width = next(iter(channels.values())).shape
    names = sorted(channels)
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iiii", 1 if channels[name].dtype == np.float16 else 2, 0, 1, 1)
        for name in names
    )
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = [
        ("channels", "chlist", listed + b"\0"),
        ("compression", "compression", bytes([compression])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ]
    header = struct.pack("<II", 20000630, version)
    for name, kind, value in attributes:
        header += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value
    header += b"\0"
    rows = [b"".join(channels[name][y].tobytes() for name in names) for y in range(height)]
    start = len(header) + 8 * height
    offsets = [start + y * (8 + len(rows[0])) for y in range(height)]
    chunks = [struct.pack("<ii", y, len(row)) + row for y, row in enumerate(rows)]
    return header + struct.pack(f"<{height}Q", *offsets) + b"".join(chunks)


def exr_file(values: npt.NDArray[np.floating], compression: int = 0) -> bytes:
    """The file of a picture.

    Args:
        values: `[H, W, 1]` (depth), `[H, W, 3]` or `[H, W, 4]`, premultiplied; float32 or float16.
        compression: the number that the header claims.
    """
    names = {1: "Y", 3: "RGB", 4: "RGBA"}[values.shape[2]]
    return exr_bytes({name: values[..., i] for i, name in enumerate(names)}, compression=compression)
