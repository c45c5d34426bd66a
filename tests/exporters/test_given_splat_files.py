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
    assert distances.max() < 5e-4
    assert np.median(np.abs(ply.colors() - spz.colors()[nearest])) < 0.01
    ours, theirs = picture(ply), picture(spz)
    assert psnr(ours[0], theirs[0]) > 38


def test_minimal_files_agree(folder: Path) -> None:
    """Four Gaussians in the corners of a square, in six formats."""
    names = ("minimal.splat", "minimal.ksplat", "minimal-v3.spz", "minimal-v4.spz")
    first, *others = (read_splats(folder / "minimal" / name)[0] for name in names)
    assert first.means.tolist() == [[-1, 0, -1], [0, 0, -1], [-1, 0, 0], [0, 0, 0]]
    for other in others:
        np.testing.assert_allclose(other.means, first.means, atol=1e-6)
        np.testing.assert_allclose(np.exp(other.log_scales), 0.1, atol=2e-3)
        np.testing.assert_allclose(other.alphas(), 0.9, atol=3e-3)
        np.testing.assert_allclose(other.colors(), first.colors(), atol=3e-3)


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
