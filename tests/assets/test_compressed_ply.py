# SPDX-License-Identifier: Apache-2.0
"""What a reader finds in a compressed PLY: the Gaussians that went in, as exactly as the format's bits allow.

The reader here is written from the format's description, and read with plyfile, which knows nothing of ours.
"""

from __future__ import annotations

import io

import numpy as np
import plyfile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splat_scenes import colorful_splats

from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_formats.compressed_ply import CHUNK, compressed_ply
from img3d_assets.splat_formats.morton import morton_order
from img3d_kernels.spherical_harmonics import SH_C0


def unpacked(words: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """The fields of each word, highest bits first, as fractions in [0, 1]."""
    columns, shift = [], 32
    for count in bits:
        shift -= count
        columns.append(((words >> shift) & (2**count - 1)) / (2**count - 1))
    return np.stack(columns, axis=1)


def decoded(contents: bytes) -> Gaussians:
    """Reads a compressed PLY."""
    ply = plyfile.PlyData.read(io.BytesIO(contents))
    vertices, chunk = ply["vertex"], ply["chunk"]
    owner = np.arange(len(vertices.data)) // 256

    def between(fractions: np.ndarray, *names: str) -> np.ndarray:
        low, high = (
            np.stack([np.asarray(chunk[f"{end}_{name}"], np.float64) for name in names], axis=1)[owner]
            for end in ("min", "max")
        )
        return low + fractions * (high - low)

    words = {
        name: np.asarray(vertices[f"packed_{name}"]).astype(np.int64)
        for name in ("position", "rotation", "scale", "color")
    }
    rest = (unpacked(words["rotation"], (2, 10, 10, 10))[:, 1:] - 0.5) * np.sqrt(2)
    quats = np.empty((len(owner), 4))
    for i, (largest, others) in enumerate(zip(words["rotation"] >> 30, rest, strict=True)):
        quats[i] = np.insert(others, largest, np.sqrt(max(0, 1 - others @ others)))
    colors = unpacked(words["color"], (8, 8, 8, 8))
    num_rest = len(ply["sh"].properties) if "sh" in ply else 0
    sh = np.stack([np.asarray(ply["sh"][f"f_rest_{i}"]) for i in range(num_rest)], axis=1) if num_rest else None
    sh_rest = np.zeros((len(owner), 0, 3))
    if sh is not None:
        fractions = np.where(sh == 0, 0, np.where(sh == 255, 1, (sh + 0.5) / 256))
        sh_rest = (8 * fractions - 4).reshape(len(owner), 3, num_rest // 3).transpose(0, 2, 1)
    alpha = colors[:, 3].clip(1e-9, 1 - 1e-9)
    return Gaussians(
        means=between(unpacked(words["position"], (11, 10, 11)), "x", "y", "z"),
        quats=quats.astype(np.float32),
        log_scales=between(unpacked(words["scale"], (11, 10, 11)), "scale_x", "scale_y", "scale_z").astype(np.float32),
        opacities=np.log(alpha / (1 - alpha)).astype(np.float32),
        sh_dc=((between(colors[:, :3], "r", "g", "b") - 0.5) / SH_C0).astype(np.float32),
        sh_rest=sh_rest.astype(np.float32),
    )


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("num", [1, CHUNK, CHUNK + 1, 1500])
def test_comes_back_within_the_formats_steps(num: int, sh_degree: int) -> None:
    splats = colorful_splats(num, sh_degree)
    back = decoded(compressed_ply(splats))
    expected = splats[morton_order(splats.means)]

    assert len(back) == num
    assert back.sh_rest.shape == expected.sh_rest.shape
    extent = np.ptp(splats.means, axis=0).max()
    assert np.abs(back.means - expected.means).max() <= extent / 1023
    assert np.abs(back.log_scales - expected.log_scales).max() <= 1.5 / 1023
    assert np.abs(back.sh_dc - expected.sh_dc).max() <= 2.4 / 255
    if sh_degree:
        assert np.abs(back.sh_rest - expected.sh_rest.clip(-4, 4)).max() <= 4 / 256 + 1e-6
    unit = expected.quats / np.linalg.norm(expected.quats, axis=1, keepdims=True)
    same_rotation = np.abs((back.quats * unit).sum(axis=1))
    assert same_rotation.min() > 1 - 1e-5
    alphas = [1 / (1 + np.exp(-each.opacities)) for each in (back, expected)]
    assert np.abs(alphas[0] - alphas[1]).max() <= 0.5 / 255 + 1e-6


def test_extreme_values_stay_finite() -> None:
    splats = colorful_splats(300)
    splats.log_scales[0] = 60
    splats.log_scales[1] = -60
    splats.opacities[:2] = 500, -500
    splats.means[2] = 1e6
    splats.sh_rest[3] = 100
    back = decoded(compressed_ply(splats))
    for values in (back.means, back.quats, back.log_scales, back.sh_dc, back.sh_rest):
        assert np.isfinite(values).all()
    assert back.log_scales.max() == pytest.approx(20)
    assert back.sh_rest.max() == 4


def test_a_far_outlier_costs_only_its_own_chunk_precision() -> None:
    splats = colorful_splats(4000)
    splats.means[17] = 1000
    back, expected = decoded(compressed_ply(splats)), splats[morton_order(splats.means)]
    errors = np.abs(back.means - expected.means).max(axis=1)
    assert (errors > 0.01).sum() < CHUNK


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1e3, 1e3, width=32)] * 3), min_size=1, max_size=600))
def test_every_gaussian_is_there_once(points: list[tuple[float, float, float]]) -> None:
    means = np.array(points, np.float32)
    order = morton_order(means)
    assert np.array_equal(np.sort(order), np.arange(len(means)))


def test_neighbours_in_the_file_are_neighbours_in_space() -> None:
    means = np.random.default_rng(0).uniform(-1, 1, (5000, 3)).astype(np.float32)
    steps = np.linalg.norm(np.diff(means[morton_order(means)], axis=0), axis=1)
    assert steps.mean() < 0.2 * np.linalg.norm(np.diff(means, axis=0), axis=1).mean()
