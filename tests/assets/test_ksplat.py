# SPDX-License-Identifier: Apache-2.0
"""A .ksplat of each compression level is read; the writer here follows GaussianSplats3D's description of the layout."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from splat_scenes import colorful_splats

from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_files import read_splats

BUCKET, BLOCK, RANGE = 256, 5.0, 32767


def section(splats: Gaussians, level: int) -> tuple[bytes, bytes]:
    """Header and data of the Gaussians in their order: full buckets of 256, and what is left over."""
    num, degree = len(splats), splats.sh_degree
    starts = range(0, num, BUCKET)
    centers = np.array([splats.means[start : start + BUCKET].mean(axis=0) for start in starts], "<f4")
    left_over = num % BUCKET
    colors = np.concatenate([splats.colors(), splats.alphas()[:, None]], axis=1)
    by_degree = [splats.sh_rest[:, d * d - 1 : (d + 1) ** 2 - 1].transpose(0, 2, 1) for d in range(1, degree + 1)]
    sh = np.concatenate([each.reshape(num, -1) for each in by_degree], axis=1) if degree else np.zeros((num, 0))
    offsets = (splats.means - np.repeat(centers, BUCKET, axis=0)[:num]) / (BLOCK / 2 / RANGE) + RANGE
    floats = "<f4" if level == 0 else "<f2"
    columns = [
        splats.means.astype("<f4") if level == 0 else np.round(offsets).astype("<u2"),
        np.exp(splats.log_scales).astype(floats),
        splats.quats.astype(floats),
        np.round(colors.clip(0, 1) * 255).astype("u1"),
        np.round((sh.clip(-1.5, 1.5) + 1.5) / 3 * 255).astype("u1") if level == 2 else sh.astype(floats),
    ]
    table = np.concatenate([np.ascontiguousarray(column).view("u1").reshape(num, -1) for column in columns], axis=1)
    counts = (num, num, BUCKET, len(centers))
    partial = int(left_over > 0)
    header = struct.pack("<4IfHHIIIIH", *counts, BLOCK, 12, 0, RANGE, 0, num // BUCKET, partial, degree).ljust(
        1024, b"\0"
    )
    sizes = struct.pack("<I", left_over) if partial else b""
    return header, sizes + centers.tobytes() + table.tobytes()


def ksplat(splats: Gaussians, level: int) -> bytes:
    """A file of two sections."""
    half = len(splats) // 2
    parts = [section(splats[:half], level), section(splats[half:], level)]
    counts = (2, 2, len(splats), len(splats))
    header = struct.pack("<BBHIIIIHHffffff", 0, 1, 0, *counts, level, 0, 0, 0, 0, -1.5, 1.5, 0).ljust(4096, b"\0")
    headers, data = zip(*parts, strict=True)
    return header + b"".join(headers) + b"".join(data)


HALF_FLOAT = 2.0**-11
"""Relative rounding error of a number of 16 bits."""


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("sh_degree", [0, 1, 2])
def test_numbers_come_back(tmp_path: Path, level: int, sh_degree: int) -> None:
    splats = colorful_splats(600, sh_degree)
    (tmp_path / "a.ksplat").write_bytes(ksplat(splats, level))
    back, _ = read_splats(tmp_path / "a.ksplat")
    # Half a step of what is stored: half floats (a scale's relative error is its logarithm's), 16 bits over a block, 8
    # bits of [0, 1] and of [-1.5, 1.5]. Beside that, a few roundings of single precision of numbers below 8.
    number, single = 0 if level == 0 else HALF_FLOAT, 8 * np.finfo(np.float32).eps
    place = 0 if level == 0 else BLOCK / 2 / RANGE / 2
    np.testing.assert_allclose(back.means, splats.means, rtol=0, atol=place + single)
    np.testing.assert_allclose(back.log_scales, splats.log_scales, rtol=0, atol=number + single)
    np.testing.assert_allclose(back.quats, splats.quats, rtol=number, atol=single)
    np.testing.assert_allclose(back.colors(), splats.colors().clip(0, 1), rtol=0, atol=0.5 / 255 + single)
    expected = splats.sh_rest.clip(-1.5, 1.5) if level == 2 else splats.sh_rest
    step = 1.5 / 255 if level == 2 else 0
    np.testing.assert_allclose(back.sh_rest, expected, rtol=number if level == 1 else 0, atol=step + single)
