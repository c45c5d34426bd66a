# SPDX-License-Identifier: Apache-2.0
"""Depth maps in OpenEXR, as Blender, Unreal and Houdini write them, through FFmpeg's decoder.

OpenCV's is switched off for the holes in its OpenEXR of 2017, and imageio's keeps three channels of 8 bits. FFmpeg
knows channels by the names of colours only: the channel that holds the depth is called Y before it sees the file.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from img3d_base.errors import InputError
from img3d_base.foreign_files import check_expansion, read_bytes
from img3d_dataparsers.posed_photos import FloatArray

MAGIC = b"v/1\x01"
SEVERAL_PARTS_OR_DEEP = 0x1800
"""Bits of the version field; FFmpeg reads neither kind."""
DWA = (8, 9)
"""Compressions (of colours, with loss) that FFmpeg takes, but gives zeros for."""
MAX_BYTES, MAX_PIXELS = 1 << 28, 1 << 25
DEPTH_NAME = re.compile(r"(.*\.)?(z|depth|distance)(\.[b-z])?", re.IGNORECASE)
"""As in `Z`, `ViewLayer.Depth.Z`, `Depth.V`."""


def read_exr(path: Path) -> FloatArray:
    """The depth `[H, W]` in a file: its channel of that name, else its only one, else the first of its colours.

    Raises:
        InputError: it is no such file, has nothing like a depth, or is of a kind that FFmpeg cannot read.
    """
    import av  # late: some machines lack a library that it needs

    contents = bytearray(read_bytes(path, MAX_BYTES))
    try:
        layer = _call_depth_y(contents)
        with av.open(io.BytesIO(contents), format="exr_pipe") as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"layer": layer}
            frame = next(container.decode(stream))
        kind = {"grayf32le": "<f4", "grayf16le": "<f2"}.get(frame.format.name)
        if kind is None:
            raise ValueError(f"its pixels are {frame.format.name}")
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height]
        width = frame.width * np.dtype(kind).itemsize
        return np.ascontiguousarray(rows[:, :width]).view(kind).astype(np.float64)
    except (av.FFmpegError, IndexError, StopIteration, UnicodeDecodeError, ValueError, struct.error) as error:
        raise InputError(f"{path} cannot be read as OpenEXR: {error or 'it is cut off'}") from error


def _call_depth_y(contents: bytearray) -> str:
    """Renames the channels in a file's header, keeping their lengths: the depth to Y, the others to unknown names.

    Returns:
        The layer that Y is then in; empty for none.

    Raises:
        ValueError: the header is damaged, or the file is of a kind that cannot be read.
    """
    if contents[:4] != MAGIC:
        raise ValueError("it does not begin as one")
    if struct.unpack_from("<I", contents, 4)[0] & SEVERAL_PARTS_OR_DEEP:
        raise ValueError("it has several parts, or several depths for a pixel; save it as a plain one")
    channels: list[tuple[int, str]] = []
    for name, at, size in _attributes(contents):
        if name == "channels":
            channels = list(_channels(contents, at, at + size))
        elif name == "compression" and contents[at] in DWA:
            raise ValueError("it is compressed with DWA, which loses precision; save it with ZIP")
        elif name == "dataWindow" or name == "displayWindow":
            left, top, right, bottom = struct.unpack_from("<4i", contents, at)
            pixels = (right - left + 1) * (bottom - top + 1)
            if not 0 < pixels <= MAX_PIXELS or right < left:
                raise ValueError(f"its {name} is {left}, {top} to {right}, {bottom}")
            check_expansion(4 * pixels, len(contents), f"an OpenEXR file's {pixels:,} pixels")
    at, depth = _depth_channel(channels)
    for position, name in channels:
        contents[position : position + 1] = b"_"
        if len(name) > 1:
            contents[position + 1 : position + 2] = b"_"
    if len(depth) == 1:
        contents[at : at + 1] = b"Y"
        return ""
    layer = "L" * (len(depth) - 2)
    contents[at : at + len(depth)] = f"{layer}.Y".encode()
    return layer


def _depth_channel(channels: list[tuple[int, str]]) -> tuple[int, str]:
    """Where the name of the channel that holds the depth is, and the name."""
    for wanted in (DEPTH_NAME, re.compile("[YRV]")):
        found = [(at, name) for at, name in channels if wanted.fullmatch(name) and len(name) != 2]
        if found:
            return found[0]
    if len(channels) == 1 and len(channels[0][1]) not in (0, 2):
        return channels[0]
    raise ValueError(f"none of its channels is a depth: {', '.join(name for _, name in channels)[:100]}")


def _attributes(contents: bytearray) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each value in the header."""
    at = 8
    while contents[at]:
        end = contents.index(0, at)
        name = contents[at:end].decode("latin-1")
        start = contents.index(0, end + 1) + 1  # behind the name of its type
        (size,) = struct.unpack_from("<I", contents, start)
        yield name, start + 4, size
        at = start + 4 + size


def _channels(contents: bytearray, at: int, end: int) -> Iterator[tuple[int, str]]:
    """Place and name of each channel; 16 bytes follow a name."""
    while at < end and contents[at]:
        stop = contents.index(0, at)
        yield at, contents[at:stop].decode("latin-1")
        at = stop + 1 + 16
