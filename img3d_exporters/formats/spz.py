# SPDX-License-Identifier: Apache-2.0
"""Niantic's SPZ: about a tenth of a 3DGS PLY, a few bits for each number. Version 4 is written, 2 to 4 are read.

Layout and constants: https://github.com/nianticlabs/spz. Its Python bindings are not on PyPI, the package spz there
(0.0.1) has wheels for Python 3.13 only, and gsply does not let harmonics be finer than Niantic's program has them (see
SH_STEP): so ours, with zstandard for the compression.

Its axes are x right, y up, z back (RUB); those of 3DGS are x right, y down, z forward.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import zstandard
from jaxtyping import Float, Float32, UInt8

from img3d_assets.quantised import bytes_of, from_smallest_three, logits, smallest_three
from img3d_exporters.frames import rotated
from img3d_exporters.morton import morton_order
from img3d_methods.splats import SH_COEFFICIENTS, Splats

MAGIC, GZIP = b"NGSP", b"\x1f\x8b"
HEADER = struct.Struct("<4sIIBBBB")
"""Magic, version, number of Gaussians, degree of harmonics, fractional bits of positions, flags, number of streams."""
TABLE_ENTRY = struct.Struct("<QQ")
"""Of each stream in version 4, the bytes it has and those that it decompresses to."""
ANTIALIASED = 1
"""The flag."""
TABLE_OFFSET = 32
FLIP = np.diag([1.0, -1, -1])
"""Between the axes of 3DGS and of SPZ, either way."""
COLOR_SCALE = 0.15
"""Of the constant coefficient, so that one byte holds colours beyond [0, 1]."""
FEWEST_FRACTIONAL_BITS, LARGEST_POSITION = 12, 2**23 - 1
STEPS_PER_WIDTH = 16
SH_STEP = 4
"""Of 128: what harmonics are rounded to so that they compress. Niantic's program has 8 for degree 1 and 16 beyond:
files are a fifth smaller, and pictures of a trained scene 12 dB worse (31 instead of 43)."""


def write(splats: Splats, file: BinaryIO) -> None:
    """Version 4, neighbours in space one after another."""
    splats = rotated(splats[morton_order(splats.means)], FLIP)
    bits = _fractional_bits(splats)
    positions = np.round(splats.means.astype(np.float64) * 2**bits).clip(-LARGEST_POSITION, LARGEST_POSITION)
    rest = np.round(splats.sh_rest * (128 / SH_STEP)) * SH_STEP + 128
    streams = [
        positions.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3],
        bytes_of(splats.alphas()),
        bytes_of(splats.sh_dc * COLOR_SCALE + 0.5),
        np.clip(np.round((splats.log_scales + 10) * 16), 0, 255).astype(np.uint8),
        _packed_rotations(splats.quats),
        np.clip(rest, 0, 255).astype(np.uint8),
    ]
    streams = [stream.tobytes() for stream in streams if stream.size]
    packed = [zstandard.ZstdCompressor(level=12).compress(stream) for stream in streams]
    flags = ANTIALIASED if splats.antialiased else 0
    file.write(HEADER.pack(MAGIC, 4, len(splats), splats.sh_degree, bits, flags, len(streams)))
    file.write(struct.pack("<I", TABLE_OFFSET).ljust(TABLE_OFFSET - HEADER.size, b"\0"))
    for few, many in zip(packed, streams, strict=True):
        file.write(TABLE_ENTRY.pack(len(few), len(many)))
    file.write(b"".join(packed))


def read(path: Path) -> Splats:
    """The Gaussians; of harmonics of degree 4, those to degree 3.

    Raises:
        ValueError: It is another kind of file, cut off, or of an unknown version; or what zlib and zstandard raise.
    """
    contents = path.read_bytes()
    if contents[:2] == GZIP:
        header = zlib.decompressobj(wbits=31).decompress(contents, HEADER.size)
        size = HEADER.size + sum(_stream_sizes(_header(header)))
        contents = zlib.decompressobj(wbits=31).decompress(contents, size)
    header = _header(contents)
    num, sizes = header.num, _stream_sizes(header)
    if header.version == 4:
        data = _decompressed(contents, header.num_streams, sizes)
    else:
        data = contents[HEADER.size :]
    if len(data) < sum(sizes):
        raise ValueError(f"it is cut off: {num} Gaussians need {sum(sizes)} bytes, and there are {len(data)}")
    bounds = np.cumsum([0, *sizes])
    positions, alphas, colors, scales, rotations, rest = (
        np.frombuffer(data[start:end], np.uint8).reshape(num, -1)
        for start, end in zip(bounds[:-1], bounds[1:], strict=True)
    )
    rest = rest.reshape(num, -1, 3)[:, : SH_COEFFICIENTS[min(header.degree, 3)]]
    splats = Splats(
        _positions(positions.reshape(num, 3, 3), header.fractional_bits),
        _quats_of_xyz(rotations) if header.version == 2 else _quats_of_words(rotations),
        scales.astype(np.float32) / 16 - 10,
        logits(alphas[:, 0] / 255).astype(np.float32),
        (colors.astype(np.float32) / 255 - 0.5) / COLOR_SCALE,
        (rest.astype(np.float32) - 128) / 128,
        antialiased=bool(header.flags & ANTIALIASED),
    )
    return rotated(splats, FLIP)


def _fractional_bits(splats: Splats) -> int:
    """Steps of positions as fine as the Gaussians need, as far as 24 bits go."""
    width = np.exp(float(np.median(splats.log_scales.max(axis=1))))
    wanted = int(np.ceil(np.log2(STEPS_PER_WIDTH / max(width, 1e-6))))
    possible = int(np.floor(np.log2(LARGEST_POSITION / max(float(np.abs(splats.means).max()), 1e-6))))
    return max(0, min(max(wanted, FEWEST_FRACTIONAL_BITS), possible, 24))


class _Header(NamedTuple):
    version: int
    num: int
    degree: int
    fractional_bits: int
    flags: int
    num_streams: int


def _header(contents: bytes) -> _Header:
    if len(contents) < HEADER.size or contents[:4] != MAGIC:
        raise ValueError("it does not begin as an SPZ file does")
    header = _Header(*HEADER.unpack_from(contents)[1:])
    if header.version not in (2, 3, 4):
        raise ValueError(f"it has version {header.version} of the format: 2, 3 and 4 are known")
    if header.degree > 4 or header.fractional_bits > 24:
        raise ValueError(f"its header is damaged: {header}")
    return header


def _stream_sizes(header: _Header) -> list[int]:
    """Bytes of positions, opacities, colours, scales, rotations and harmonics."""
    coefficients = header.degree * (header.degree + 2)
    return [header.num * each for each in (9, 1, 3, 3, 3 if header.version == 2 else 4, 3 * coefficients)]


def _decompressed(contents: bytes, num_streams: int, sizes: list[int]) -> bytes:
    sizes = [size for size in sizes if size]
    offset = struct.unpack_from("<I", contents, HEADER.size)[0]
    if num_streams < len(sizes) or offset + num_streams * TABLE_ENTRY.size > len(contents):
        raise ValueError(f"its table of {num_streams} streams is damaged")
    start, streams = offset + num_streams * TABLE_ENTRY.size, []
    for i, size in enumerate(sizes):
        few, many = TABLE_ENTRY.unpack_from(contents, offset + i * TABLE_ENTRY.size)
        if many != size or start + few > len(contents):
            raise ValueError(f"it is cut off or damaged: stream {i} should have {size} bytes")
        streams.append(zstandard.ZstdDecompressor().decompress(contents[start : start + few], max_output_size=size))
        if len(streams[-1]) != size:
            raise ValueError(f"it is damaged: stream {i} has {len(streams[-1])} bytes instead of {size}")
        start += few
    return b"".join(streams)


def _positions(packed: UInt8[np.ndarray, "N 3 3"], bits: int) -> Float32[np.ndarray, "N 3"]:
    """Of signed 24-bit integers, the lowest byte first."""
    words = np.zeros((*packed.shape[:2], 4), np.uint8)
    words[..., 1:] = packed  # as the upper bytes, so that the sign is where it belongs
    return (words.view("<i4")[..., 0] / np.float64(2 ** (bits + 8))).astype(np.float32)


def _packed_rotations(quats: Float[np.ndarray, "N 4"]) -> UInt8[np.ndarray, "N 4"]:
    """Which of x, y, z, w is largest (2 bits), then the others: a sign, and 9 bits for up to 1/√2."""
    largest, others = smallest_three(quats[:, [1, 2, 3, 0]])
    words = largest.astype(np.uint32)
    for column in others.T:
        magnitude = np.floor(511 * np.abs(column) * np.sqrt(2) + 0.5).clip(0, 511).astype(np.uint32)
        words = (words << np.uint32(10)) | ((column < 0).astype(np.uint32) << np.uint32(9)) | magnitude
    return words.astype("<u4").view(np.uint8).reshape(-1, 4)


def _quats_of_words(packed: UInt8[np.ndarray, "N 4"]) -> Float32[np.ndarray, "N 4"]:
    words = np.ascontiguousarray(packed).view("<u4")[:, 0]
    fields = np.stack([(words >> np.uint32(shift)) & np.uint32(1023) for shift in (20, 10, 0)], axis=1)
    magnitudes = (fields & np.uint32(511)) / 511 / np.sqrt(2)
    xyzw = from_smallest_three(words >> np.uint32(30), np.where(fields > 511, -magnitudes, magnitudes))
    return xyzw[:, [3, 0, 1, 2]].astype(np.float32)


def _quats_of_xyz(packed: UInt8[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N 4"]:
    """Version 2: x, y, z as bytes for [-1, 1]; w is what is left, and not negative."""
    xyz = packed / 127.5 - 1
    return from_smallest_three(np.zeros(len(xyz), np.int64), xyz).astype(np.float32)
