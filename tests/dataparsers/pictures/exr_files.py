# SPDX-License-Identifier: Apache-2.0
"""OpenEXR files for tests, uncompressed."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt


def exr_file(values: npt.NDArray[np.floating], compression: int = 0) -> bytes:
    """The bytes of a scan-line OpenEXR file.

    Args:
        values: `[H, W, 1]` (depth), `[H, W, 3]` or `[H, W, 4]`, premultiplied; float32 or float16.
        compression: the number that the header claims.
    """
    height, width, count = values.shape
    names = {1: "Y", 3: "RGB", 4: "RGBA"}[count]
    kind = 1 if values.dtype == np.float16 else 2

    def attribute(name: str, of_type: str, value: bytes) -> bytes:
        return name.encode() + b"\0" + of_type.encode() + b"\0" + struct.pack("<i", len(value)) + value

    channels = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", kind, 0, 1, 1) for name in sorted(names))
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = b"\x76\x2f\x31\x01" + struct.pack("<i", 2)
    header += attribute("channels", "chlist", channels + b"\0")
    header += attribute("compression", "compression", bytes([compression]))
    header += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window)
    header += attribute("lineOrder", "lineOrder", b"\0") + attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    header += attribute("screenWindowCenter", "v2f", bytes(8))
    header += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    order = [names.index(name) for name in sorted(names)]
    rows = [values[row][:, order].T.tobytes() for row in range(height)]
    start = len(header) + 8 * height
    offsets = [start + row * (8 + len(rows[0])) for row in range(height)]
    lines = [struct.pack("<ii", row, len(line)) + line for row, line in enumerate(rows)]
    return header + struct.pack(f"<{height}Q", *offsets) + b"".join(lines)
