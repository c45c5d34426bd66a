# SPDX-License-Identifier: Apache-2.0
"""mkkellogg's .ksplat, read only: its author now recommends other formats, but such files still exist.

The layout is that of GaussianSplats3D's `SplatBuffer.js`, version 0.1: a header, section headers, then for each section
buckets of Gaussians, whose positions are relative to the bucket's centre. There is no Python library for it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from img3d_assets.gaussians import SH_COEFFICIENTS, Gaussians
from img3d_assets.quantised import LOGITS_OF_BYTES
from img3d_assets.splat_formats.counts import check_count
from img3d_base.errors import InputError
from img3d_base.foreign_files import check_claim, read_bytes
from img3d_kernels.spherical_harmonics import rgb_to_sh

HEADER, SECTION_HEADER = 4096, 1024
FLOATS = {0: "<f4", 1: "<f2", 2: "<f2"}
"""Types of scales and rotations by compression level."""
HARMONICS = {0: "<f4", 1: "<f2", 2: "u1"}
DEFAULT_BUCKET_RANGE = 32767
"""Quantisation steps on each side of a bucket's centre, if the header has 0."""
BUCKET_CENTER = np.dtype([("center", "<f4", 3)])


@dataclass
class Section:
    """A section header."""

    count: int
    capacity: int
    """Number of Gaussians that the section has space for."""
    bucket_size: int
    num_buckets: int
    block_size: float
    bucket_bytes: int
    bucket_range: int
    num_full: int
    num_partial: int
    sh_degree: int


def read(path: Path) -> Gaussians:
    """Reads the Gaussians.

    Raises:
        InputError: It is another kind of file, cut off or damaged.
    """
    contents = read_bytes(path)
    if not looks_like(contents[:HEADER], len(contents)):
        raise InputError(f"{path} does not have the header of a .ksplat file of version 0.1")
    num_sections, _, _, num = struct.unpack_from("<4I", contents, 4)
    level = struct.unpack_from("<H", contents, 20)[0]
    lowest, highest = struct.unpack_from("<2f", contents, 36)
    check_count(num, path)
    sh_range = (lowest or -1.5, highest or 1.5)

    parts, start = [], HEADER + num_sections * SECTION_HEADER
    for i in range(num_sections):
        section = _section(path, contents, HEADER + i * SECTION_HEADER)
        part, start = _splats(path, contents, start, section, level, sh_range)
        parts.append(part)
    found = sum(map(len, parts))
    if found != num:
        raise InputError(f"{path} is damaged: it has {found:,} Gaussians instead of {num:,}")
    splats = _joined([part for part in parts if len(part)])
    return splats.at(splats.means)


def looks_like(header: bytes, size: int) -> bool:
    """Whether a header and a file's size are plausible for a .ksplat, which has no magic number."""
    if len(header) < HEADER or header[0] != 0 or header[1] < 1:
        return False
    num_sections, _, _, _, level = struct.unpack_from("<4IH", header, 4)
    return level in FLOATS and num_sections > 0 and HEADER + num_sections * SECTION_HEADER <= size


def _section(path: Path, contents: bytes, offset: int) -> Section:
    count, capacity, bucket_size, num_buckets = struct.unpack_from("<4I", contents, offset)
    block_size, bucket_bytes, bucket_range = struct.unpack_from("<fH2xI", contents, offset + 16)
    num_full, num_partial, sh_degree = struct.unpack_from("<2IH", contents, offset + 32)
    if sh_degree not in SH_COEFFICIENTS or count > capacity:
        raise InputError(
            f"{path} has a section whose header is damaged: {count:,} of {capacity:,} Gaussians, degree {sh_degree}"
        )
    return Section(
        *(count, capacity, bucket_size, num_buckets, block_size, bucket_bytes),
        *(bucket_range or DEFAULT_BUCKET_RANGE, num_full, num_partial, sh_degree),
    )


def _splats(
    path: Path, contents: bytes, start: int, section: Section, level: int, sh_range: tuple[float, float]
) -> tuple[Gaussians, int]:
    """Decodes a section's Gaussians; returns them and the offset of the next section."""
    num_coefficients = SH_COEFFICIENTS[section.sh_degree]
    row = np.dtype(
        [
            ("mean", "<f4" if level == 0 else "<u2", 3),
            ("scale", FLOATS[level], 3),
            ("quat", FLOATS[level], 4),
            ("color", "u1", 4),
            ("sh", HARMONICS[level], 3 * num_coefficients),
        ]
    )
    centers = start + 4 * section.num_partial
    table = centers + section.bucket_bytes * section.num_buckets
    end = table + row.itemsize * section.count
    check_claim(end - start, len(contents) - start, f"{path}: a section of {section.count:,} Gaussians")
    rows = np.frombuffer(contents, row, section.count, table)
    means = rows["mean"].astype(np.float64)
    if level > 0:
        if section.bucket_bytes < BUCKET_CENTER.itemsize:
            raise InputError(f"{path} is damaged: its buckets have {section.bucket_bytes} bytes")
        sizes = np.frombuffer(contents, "<u4", section.num_partial, start)
        buckets = np.ndarray(section.num_buckets, BUCKET_CENTER, contents, centers, (section.bucket_bytes,))
        step = section.block_size / 2 / section.bucket_range
        means = (means - section.bucket_range) * step + buckets["center"][_buckets(path, section, sizes)]
    sh = rows["sh"].astype(np.float32)
    if level == 2:
        sh = sh_range[0] + sh / 255 * (sh_range[1] - sh_range[0])
    with np.errstate(divide="ignore", invalid="ignore"):  # log of 0: flat; of negative numbers: dropped later
        log_scales = np.log(rows["scale"].astype(np.float32))
    splats = Gaussians(
        means,  # in double precision until all sections are joined
        rows["quat"].astype(np.float32),
        log_scales,
        LOGITS_OF_BYTES[rows["color"][:, 3]],
        rgb_to_sh(rows["color"][:, :3] / np.float32(255)),
        _by_degree(sh, section.sh_degree),
    )
    return splats, table + row.itemsize * section.capacity


def _buckets(path: Path, section: Section, partial_sizes: Integer[np.ndarray, "P"]) -> Integer[np.ndarray, "N"]:
    """The bucket of each Gaussian; full buckets come first."""
    if section.num_full + section.num_partial > section.num_buckets:
        raise InputError(
            f"{path} is damaged: it claims {section.num_full:,} full and {section.num_partial:,} partial buckets of "
            f"{section.num_buckets:,}"
        )
    sizes = np.concatenate([np.full(section.num_full, section.bucket_size), partial_sizes]).astype(np.int64)
    ends = np.cumsum(sizes)
    if section.count > (ends[-1] if len(ends) else 0):
        raise InputError(f"{path} is damaged: its {len(sizes):,} buckets do not hold {section.count:,} Gaussians")
    return np.searchsorted(ends, np.arange(section.count), side="right")


def _by_degree(sh: Float[np.ndarray, "N C"], sh_degree: int) -> Float[np.ndarray, "N K 3"]:
    """Reorders coefficients, which the file stores channel by channel within each degree."""
    parts, start = [np.zeros((len(sh), 0, 3), np.float32)], 0
    for degree in range(1, sh_degree + 1):
        count = 2 * degree + 1
        parts.append(sh[:, start : start + 3 * count].reshape(-1, 3, count).transpose(0, 2, 1))
        start += 3 * count
    return np.concatenate(parts, axis=1)


def _joined(parts: list[Gaussians]) -> Gaussians:
    """Joins sections; missing coefficients are 0."""
    most = max(part.sh_rest.shape[1] for part in parts)
    for part in parts:
        part.sh_rest = np.pad(part.sh_rest, ((0, 0), (0, most - part.sh_rest.shape[1]), (0, 0)))
    return Gaussians.joined(parts)
