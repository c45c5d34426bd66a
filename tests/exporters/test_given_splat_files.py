# SPDX-License-Identifier: Apache-2.0
"""Splat files that other programs made are read, and those of the same scene agree with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree
from splat_scenes import psnr, render

from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_files import read_splats
from img3d_exporters.page.viewer_page import view_of_everything

BELOW = np.array([0.0, -1, 0])
"""Up in 3DGS's axes."""


@pytest.fixture
def folder(data_dir: Path) -> Path:
    folder = data_dir / "splat_files"
    if not folder.is_dir():
        pytest.skip(f"no splat files at {folder}")
    return folder


def picture(splats: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """From the front, and where it is opaque."""
    return render(splats, view_of_everything(splats, "-y"), BELOW, 200, 200, (0, 0, 0), splats.sh_degree)


def test_biker_is_the_same_in_two_formats(folder: Path) -> None:
    (ply, _), (spz, _) = (read_splats(folder / name) for name in ("biker.compressed.ply", "biker.spz"))
    assert len(ply) == len(spz) == 152_746
    distances, nearest = KDTree(spz.means).query(ply.means)
    assert distances.max() < 2.2e-4  # half of .spz's step of 2^-12 along each axis
    assert np.median(np.abs(ply.colors() - spz.colors()[nearest])) < 0.002  # half a byte's step
    ours, theirs = picture(ply), picture(spz)
    assert psnr(ours[0], theirs[0]) > 55


def test_minimal_files_agree(folder: Path) -> None:
    """Four Gaussians in the corners of a square, in six formats."""
    names = ("minimal.splat", "minimal.ksplat", "minimal-v3.spz", "minimal-v4.spz")
    first, *others = (read_splats(folder / "minimal" / name)[0] for name in names)
    assert first.means.tolist() == [[-1, 0, -1], [0, 0, -1], [-1, 0, 0], [0, 0, 0]]
    for other in others:
        np.testing.assert_array_equal(other.means, first.means)
        np.testing.assert_allclose(np.exp(other.log_scales), 0.1, rtol=0, atol=1e-3)  # .spz: exp(-37 / 16) = 0.099
        np.testing.assert_allclose(other.alphas(), 0.9, rtol=0, atol=0.5 / 255 + 1e-6)
        # Bytes in both, half a step off each at most; those of .spz are of 0.0074.
        np.testing.assert_allclose(other.colors(), first.colors(), rtol=0, atol=0.002)


def test_version_2_is_the_same_with_and_without_gzip(folder: Path) -> None:
    raw, packed = (read_splats(folder / "minimal" / f"minimal-{name}.spz")[0] for name in ("raw", "v2"))
    for name in ("means", "quats", "log_scales", "opacities", "sh_dc"):
        np.testing.assert_array_equal(getattr(raw, name), getattr(packed, name))
    np.testing.assert_allclose(np.abs(raw.means).sum(axis=0), [2, 0, 2])


@pytest.mark.parametrize(
    ("name", "count", "reddest"),
    [("guitar.compressed.ply", 90_854, False), ("playcanvas-logo/meta.json", 307_128, True)],
)
def test_others_show_something(folder: Path, name: str, count: int, reddest: bool) -> None:
    splats, up = read_splats(folder / name)
    assert (len(splats), up) == (count, "-y")
    image, alpha = picture(splats.visible())
    assert 0.01 < (alpha > 0.9).mean() < 0.9
    red, _, blue = image[alpha > 0.9].mean(axis=0)
    assert (red > 2 * blue) == reddest
