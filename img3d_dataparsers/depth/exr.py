# SPDX-License-Identifier: Apache-2.0
"""Depth maps in OpenEXR, as Blender, Unreal and Houdini write them, decoded by FFmpeg.

OpenCV's decoder is disabled because of vulnerabilities in its OpenEXR of 2017, and imageio's returns three channels of
8 bits. FFmpeg only knows channels with names of colours, so the depth channel is renamed to Y before decoding.
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
from img3d_pictures.exr import DWA, MAGIC, header_attributes

SEVERAL_PARTS_OR_DEEP = 0x1800
"""Bits of the version field; FFmpeg supports neither."""
MAX_BYTES, MAX_PIXELS = 1 << 28, 1 << 25
DEPTH_NAME = re.compile(r"(.*\.)?(z|depth|distance)(\.[b-z])?", re.IGNORECASE)
"""As in `Z`, `ViewLayer.Depth.Z`, `Depth.V`."""


def read_exr(path: Path) -> FloatArray:
    """Reads the depth `[H, W]`: the channel named so, else the first of Y, R and V, else the only channel.

    Raises:
        InputError: It is not an OpenEXR file, has no depth, or is of a kind that FFmpeg cannot decode.
    """
    import av  # imported late: some machines lack a library that it needs

    contents = bytearray(read_bytes(path, MAX_BYTES))
    try:
        layer = _call_depth_y(contents)
        with av.open(io.BytesIO(contents), "r", format="exr_pipe") as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"layer": layer}
            frame = next(container.decode(stream))
        kind = {"grayf32le": "<f4", "grayf16le": "<f2"}.get(frame.format.name)
        if kind is None:
            raise ValueError(f"its pixels are {frame.format.name}")
        plane = frame.planes[0]
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height]
        width = frame.width * np.dtype(kind).itemsize
        return np.ascontiguousarray(rows[:, :width]).view(kind).astype(np.float64)
    except (av.FFmpegError, IndexError, StopIteration, UnicodeDecodeError, ValueError, struct.error) as error:
        raise InputError(f"{path} cannot be read as OpenEXR: {error or 'it is cut off'}") from error


def _call_depth_y(contents: bytearray) -> str:
    """Renames the channels in a file's header, keeping the lengths of the names: the depth to Y, the others
    arbitrarily.

    Returns:
        The layer that contains Y; empty if there is none.

    Raises:
        ValueError: The header is damaged, or the file is of a kind that cannot be read.
    """
    if contents[:4] != MAGIC:
        raise ValueError("it does not begin with OpenEXR's magic number")
    if struct.unpack_from("<I", contents, 4)[0] & SEVERAL_PARTS_OR_DEEP:
        raise ValueError("it has several parts, or deep pixels; save it as a single-part flat image")
    channels: list[tuple[int, str]] = []
    for name, at, size in header_attributes(contents):
        if name == "channels":
            channels = list(_channels(contents, at, at + size))
        elif name == "compression" and size == 1 and contents[at] in DWA:
            raise ValueError("it is compressed with DWA, which is not supported; save it with ZIP compression")
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
    """Offset and name of the depth channel."""
    for wanted in (DEPTH_NAME, re.compile("[YRV]")):
        found = [(at, name) for at, name in channels if wanted.fullmatch(name) and len(name) != 2]
        if found:
            return found[0]
    if len(channels) == 1 and len(channels[0][1]) not in (0, 2):
        return channels[0]
    raise ValueError(f"none of its channels is a depth: {', '.join(name for _, name in channels)[:100]}")


def _channels(contents: bytearray, at: int, end: int) -> Iterator[tuple[int, str]]:
    """Offset and name of each channel; 16 bytes of data follow a name."""
    while at < end and contents[at]:
        stop = contents.index(0, at)
        yield at, contents[at:stop].decode("latin-1")
        at = stop + 1 + 16
