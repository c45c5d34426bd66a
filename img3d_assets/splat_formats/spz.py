# SPDX-License-Identifier: Apache-2.0
"""Niantic's SPZ: about a tenth of the size of a 3DGS PLY. Version 4 is written, versions 2 to 4 are read.

Layout and constants: https://github.com/nianticlabs/spz. Our own code, with zstandard for the compression: Niantic's
Python bindings are not on PyPI, the package spz there (0.0.1) has wheels for Python 3.13 only, and gsply cannot write
harmonics more precisely than Niantic's program does (see SH_STEP).

Its axes are x right, y up, z back (RUB); those of 3DGS are x right, y down, z forward.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import zstandard
from jaxtyping import Float, Float32, UInt8

from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import SH_COEFFICIENTS, Gaussians
from img3d_assets.quantised import LOGITS_OF_BYTES, bytes_of, from_smallest_three, smallest_three
from img3d_assets.splat_formats.counts import check_packed
from img3d_assets.splat_formats.morton import morton_order
from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import begin_gunzip, check_claim, read_bytes, unzstd

Bytes = bytes | memoryview
MAGIC, GZIP = b"NGSP", b"\x1f\x8b"
HEADER = struct.Struct("<4sIIBBBB")
"""Magic, version, number of Gaussians, degree of harmonics, fractional bits of positions, flags, number of streams."""
TABLE_ENTRY = struct.Struct("<QQ")
"""For each stream of version 4, its compressed and decompressed size in bytes."""
ANTIALIASED, HAS_EXTENSIONS = 1, 2
"""Flags."""
TABLE_OFFSET = 32
EXTENSION, COORDINATE_SYSTEM, MAX_EXTENSIONS = struct.Struct("<II"), 0xADBE0003, 1 << 16
"""Header of an extension (kind, length of the data that follows); the kind of Adobe's extension that declares the axes
(SPZ's program either converts to its own axes or declares the others); most bytes of extensions that are searched."""
FLIP = np.diag([1.0, -1, -1])
"""Converts between the axes of 3DGS and of SPZ, in both directions."""
AXES = ("LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF", "LBD", "RBD", "LBU", "RBU", "LFD", "RFD", "LFU", "RFU")
"""The axes x, y, z that a file declares by number, from 1 on: left or right, up or down, back or front."""
DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "D": (0, 1, 0), "U": (0, -1, 0), "F": (0, 0, 1), "B": (0, 0, -1)}
"""Unit vectors in the axes of 3DGS."""
TO_3DGS_AXES = {0: FLIP} | {
    i: np.array([DIRECTIONS[letter] for letter in axes], np.float64).T for i, axes in enumerate(AXES, 1)
}
"""Rotations or reflections to the axes of 3DGS, by declared number; 0 if none is declared."""
COLOR_SCALE = 0.15
"""Scale of the degree-0 coefficients, so that a byte covers colours outside [0, 1]."""
MIN_FRACTIONAL_BITS, MAX_POSITION = 12, 2**23 - 1
STEPS_PER_WIDTH = 16
SH_STEP = 4
"""Step, in 1/128, to which harmonics are rounded so that they compress. Niantic's program uses 8 for degree 1 and 16
for higher degrees: files are a fifth smaller, but renderings of a trained scene 12 dB worse (31 instead of 43)."""


def write(splats: Gaussians, file: BinaryIO) -> None:
    """Writes version 4, with the Gaussians in Morton order."""
    splats = rotated(splats[morton_order(splats.means)], FLIP)
    bits = _fractional_bits(splats)
    positions = np.round(splats.means.astype(np.float64) * 2**bits).clip(-MAX_POSITION, MAX_POSITION)
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


def read(path: Path) -> Gaussians:
    """Reads the Gaussians; harmonics of degree 4 are dropped.

    Raises:
        InputError: It is another kind of file, cut off or damaged, or of an unknown version.
    """
    splats, axes = splats_as_stored(read_bytes(path), path)
    return rotated(splats, TO_3DGS_AXES[axes])


def splats_as_stored(contents: Bytes, path: Path) -> tuple[Gaussians, int]:
    """Decodes SPZ data, a file's or embedded in one, without changing its axes.

    Args:
        contents: The SPZ data.
        path: The file, for messages.

    Returns:
        The Gaussians, and the key of `TO_3DGS_AXES` that the data declares.
    """
    header, streams, extensions = _unpacked(contents, path)
    positions, alphas, colors, scales, rotations, rest = (
        np.frombuffer(stream, np.uint8).reshape(header.num, -1) for stream in streams
    )
    splats = Gaussians(
        _positions(positions.reshape(-1, 3, 3), header.fractional_bits),
        _quats_of_xyz(rotations) if header.version == 2 else _quats_of_words(rotations),
        scales.astype(np.float32) / 16 - 10,
        LOGITS_OF_BYTES[alphas[:, 0]],
        (colors / np.float32(255) - np.float32(0.5)) / np.float32(COLOR_SCALE),
        _harmonics(rest.reshape(header.num, -1, 3), path),
        antialiased=bool(header.flags & ANTIALIASED),
    )
    return splats, _axes(extensions, path)


def _fractional_bits(splats: Gaussians) -> int:
    """Number of fractional bits for positions that the Gaussians' widths need, as far as 24 bits allow."""
    width = np.exp(float(np.median(splats.log_scales.max(axis=1))))
    wanted = int(np.ceil(np.log2(STEPS_PER_WIDTH / max(width, 1e-6))))
    possible = int(np.floor(np.log2(MAX_POSITION / max(float(np.abs(splats.means).max()), 1e-6))))
    return max(0, min(max(wanted, MIN_FRACTIONAL_BITS), possible, 24))


class _Header(NamedTuple):
    version: int
    num: int
    degree: int
    fractional_bits: int
    flags: int
    num_streams: int


def _header(contents: Bytes, path: Path) -> _Header:
    if len(contents) < HEADER.size or contents[:4] != MAGIC:
        raise InputError(f"{path} does not have the header of an SPZ file")
    header = _Header(*HEADER.unpack_from(contents)[1:])
    if header.version not in (2, 3, 4):
        raise InputError(f"{path} has version {header.version} of the SPZ format: 2, 3 and 4 are supported")
    if header.degree > 4 or header.fractional_bits > 24:
        raise InputError(
            f"{path} has a damaged header: harmonics of degree {header.degree}, "
            f"positions of {header.fractional_bits} fractional bits"
        )
    return header


def _stream_sizes(header: _Header) -> list[int]:
    """Sizes in bytes of positions, opacities, colours, scales, rotations and harmonics."""
    coefficients = header.degree * (header.degree + 2)
    return [header.num * each for each in (9, 1, 3, 3, 3 if header.version == 2 else 4, 3 * coefficients)]


def count_of(contents: Bytes, path: Path) -> int:
    """The number of Gaussians that SPZ data claims to have.

    Raises:
        InputError: It is not SPZ data, or damaged.
    """
    return _header(begin_gunzip(contents, HEADER.size, str(path)) if contents[:2] == GZIP else contents, path).num


def _unpacked(contents: Bytes, path: Path) -> tuple[_Header, list[Bytes], Bytes]:
    """The header, the streams, and the extensions (empty if there are none)."""
    packed, is_gzip = len(contents), contents[:2] == GZIP
    header = _header(begin_gunzip(contents, HEADER.size, str(path)) if is_gzip else contents, path)
    check_packed(header.num, min(header.degree, 3), packed, path)
    sizes = _stream_sizes(header)
    if is_gzip:
        contents = begin_gunzip(contents, HEADER.size + sum(sizes) + MAX_EXTENSIONS, str(path))
    if header.version == 4:
        return header, *_zstd_streams(contents, header, sizes, path)
    what = f"{path}: its {header.num:,} Gaussians"
    end = HEADER.size + check_claim(sum(sizes), len(contents) - HEADER.size, what)
    bounds = HEADER.size + np.cumsum([0, *sizes])
    streams: list[Bytes] = [contents[start:stop] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    return header, streams, contents[end : end + MAX_EXTENSIONS] if header.flags & HAS_EXTENSIONS else b""


def _zstd_streams(contents: Bytes, header: _Header, sizes: list[int], path: Path) -> tuple[list[Bytes], Bytes]:
    """The streams of version 4, and its extensions."""
    if len(contents) < TABLE_OFFSET:
        raise InputError(f"{path} is cut off")
    offset = struct.unpack_from("<I", contents, HEADER.size)[0]
    start = offset + header.num_streams * TABLE_ENTRY.size
    if offset < TABLE_OFFSET or header.num_streams < sum(size > 0 for size in sizes) or start > len(contents):
        raise InputError(f"{path} is damaged: its table of {header.num_streams} streams is invalid")
    streams: list[Bytes] = []
    entry = 0
    for size in sizes:
        if size == 0:  # no harmonics
            streams.append(b"")
            continue
        few, many = TABLE_ENTRY.unpack_from(contents, offset + entry * TABLE_ENTRY.size)
        what = f"{path}: stream {entry}"
        check_claim(few, len(contents) - start, what)
        if many != size:
            raise InputError(f"{what} claims to have {many:,} bytes instead of {size:,}: it is damaged")
        streams.append(unzstd(contents[start : start + few], size, what))
        if len(streams[-1]) != size:
            raise InputError(f"{what} has {len(streams[-1]):,} bytes instead of {size:,}: it is damaged")
        start, entry = start + few, entry + 1
    return streams, contents[TABLE_OFFSET:offset] if header.flags & HAS_EXTENSIONS else b""


def _axes(extensions: Bytes, path: Path) -> int:
    """The key of `TO_3DGS_AXES` that the extensions declare."""
    start = 0
    while len(extensions) >= start + EXTENSION.size:
        kind, length = EXTENSION.unpack_from(extensions, start)
        start += EXTENSION.size
        if kind == COORDINATE_SYSTEM and length == 4 and len(extensions) >= start + 4:
            axes = struct.unpack_from("<I", extensions, start)[0]
            if axes not in TO_3DGS_AXES:
                raise InputError(f"{path} declares an unknown coordinate system, {axes}: 0 to {len(AXES)} are known")
            return axes
        start += length
    return 0


def _harmonics(rest: UInt8[np.ndarray, "N K 3"], path: Path) -> Float32[np.ndarray, "N L 3"]:
    kept = rest[:, : SH_COEFFICIENTS[3]]
    if kept.shape[1] < rest.shape[1]:
        warn(f"{path} has spherical harmonics of degree 4: those of degree 1 to 3 are kept.")
    return (kept.astype(np.float32) - 128) / 128


def _positions(packed: UInt8[np.ndarray, "N 3 3"], bits: int) -> Float32[np.ndarray, "N 3"]:
    """Decodes signed 24-bit little-endian integers with a number of fractional bits."""
    words = np.zeros((*packed.shape[:2], 4), np.uint8)
    words[..., 1:] = packed  # in the upper bytes, so that the sign bit is in its place
    return words.view("<i4")[..., 0].astype(np.float32) * np.float32(2.0 ** -(bits + 8))  # exact: 24 significant bits


def _packed_rotations(quats: Float[np.ndarray, "N 4"]) -> UInt8[np.ndarray, "N 4"]:
    """Packs the index of the largest of x, y, z, w (2 bits), then the others: a sign and 9 bits for [0, 1/√2]."""
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
    """Decodes version 2: x, y, z as bytes for [-1, 1]; w follows from the unit norm and is not negative."""
    xyz = packed / 127.5 - 1
    return from_smallest_three(np.zeros(len(xyz), np.int64), xyz).astype(np.float32)
