# SPDX-License-Identifier: Apache-2.0
"""`img3d-export lod`: levels that look alike from afar, in pieces that a web viewer streams, the coarsest first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser_pages import OpenedPage, served
from export_commands import failing_export, run_export
from full_disk import files_limited_to
from hypothesis import given, settings
from hypothesis import strategies as st
from splat_scenes import colorful_splats, from_all_sides, psnr, render, trained_splats

from img3d_assets.gaussians import ARRAYS
from img3d_assets.splat_editing.merging import covariances, merged
from img3d_assets.splat_editing.selection import select
from img3d_assets.splat_files import in_3dgs_axes, write_splats
from img3d_assets.splat_formats.sog import META, read
from img3d_base.errors import InputError
from img3d_exporters.page.viewer_page import view_settings
from img3d_exporters.splats import streamed_sog
from img3d_exporters.splats.streamed_sog import INDEX, write_streamed_sog
from img3d_methods.viewing.initial_view import InitialView

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WEB = Path(streamed_sog.__file__).parents[1] / "web"
VIEWER = WEB / "node_modules" / "@playcanvas" / "supersplat-viewer" / "public"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small scenes get several levels, leaves and files, as large ones do."""
    for name, value in {"COARSEST": 300, "LEAF": 400, "CHUNK": 1000}.items():
        monkeypatch.setattr(streamed_sog, name, value)


# ---------------------------------------------------------------------------------------------------------- merging


def test_a_pair_becomes_one_with_the_same_moments() -> None:
    pair = colorful_splats(2, 1)
    one = merged(pair, 1)
    mass = pair.importance()
    center = (mass[:, None] * pair.means).sum(axis=0) / mass.sum()
    offsets = pair.means - center
    spread = (mass[:, None, None] * (covariances(pair) + offsets[:, :, None] * offsets[:, None])).sum(
        axis=0
    ) / mass.sum()
    np.testing.assert_allclose(one.means[0], center, rtol=1e-5)
    np.testing.assert_allclose(covariances(one)[0], spread, rtol=1e-4, atol=1e-7)
    assert one.importance()[0] == pytest.approx(mass.sum(), rel=1e-4)
    np.testing.assert_allclose(one.sh_rest[0], (mass[:, None, None] * pair.sh_rest).sum(axis=0) / mass.sum(), rtol=1e-4)


def test_those_that_differ_least_are_merged_first() -> None:
    splats = colorful_splats(4, 0)
    splats.means = np.array([[0, 0, 0], [0.01, 0, 0], [1, 0, 0], [1.01, 0, 0]], np.float32)
    splats.log_scales[:], splats.opacities[:], splats.sh_dc[:] = -3, 0, 0
    splats.sh_dc[3] = 1.5  # the second pair differs in colour
    centers = np.sort(merged(splats, 3).means[:, 0])
    np.testing.assert_allclose(centers, [0.005, 1, 1.01], atol=1e-5)


def test_fewer_look_alike_from_afar() -> None:
    splats = trained_splats(4000)
    splats.log_scales[:], splats.opacities[:] = (-5, -3, -3), 2  # all alike: none can be spared
    fewer, important = merged(splats, 1000), select(splats, max_splats=1000)
    assert len(fewer) == 1000
    expected, of_fewer, of_important = (from_all_sides(each, 32) for each in (splats, fewer, important))
    assert psnr(of_fewer, expected) > 27
    assert psnr(of_fewer, expected) > psnr(of_important, expected) + 3


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1e-6, 1.0, 5.0])] * 3), min_size=1, max_size=30), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_any_number_becomes_any_smaller_one(points: list[tuple[float, float, float]], target: int) -> None:
    splats = colorful_splats(len(points), 1)
    splats.means = np.array(points, np.float32)
    fewer = merged(splats, target)
    assert len(fewer) == min(target, len(points))
    assert all(np.isfinite(getattr(fewer, name)).all() for name in ARRAYS)


# -------------------------------------------------------------------------------------------------------- the folder


def leaves(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node] if "lods" in node else [leaf for child in node["children"] for leaf in leaves(child)]


def check_tree(folder: Path) -> dict[str, Any]:
    """That every file is the runs of the tree's leaves one after another, each within its leaf's bound."""
    index = json.loads((folder / INDEX).read_text())
    files = [read(folder / name) for name in index["filenames"]]
    runs: dict[int, list[tuple[int, int]]] = {}
    for leaf in leaves(index["tree"]):
        low, high = (np.array(leaf["bound"][end]) for end in ("min", "max"))
        for run in leaf["lods"].values():
            runs.setdefault(run["file"], []).append((run["offset"], run["count"]))
            means = files[run["file"]].means[run["offset"] : run["offset"] + run["count"]]
            assert ((means > low - 1e-3) & (means < high + 1e-3)).all()
    assert sorted(runs) == list(range(len(files)))
    for file, of_file in runs.items():
        ends = np.cumsum([0, *(count for _, count in sorted(of_file))])
        assert [offset for offset, _ in sorted(of_file)] == ends[:-1].tolist()
        assert ends[-1] == len(files[file])
    assert index["count"] == sum(index["counts"]) == sum(map(len, files))
    return index


def test_the_tree_leads_to_every_gaussian(small_pieces: None, tmp_path: Path) -> None:
    levels = write_streamed_sog(trained_splats(4000), tmp_path / "lod")
    index = check_tree(tmp_path / "lod")
    assert index["version"] == 1 and index["lodLevels"] == 3
    assert index["counts"] == [4000, 1000, 300] == [len(level) for level in levels]
    assert len(leaves(index["tree"])) >= 10
    assert len(index["filenames"]) >= 6
    assert sum(name.startswith("2_") for name in index["filenames"]) == 1
    written = {str(path.relative_to(tmp_path / "lod")) for path in (tmp_path / "lod").rglob(META)}
    assert written == set(index["filenames"])


@pytest.mark.parametrize("num", [1, 50])
def test_few_gaussians_are_one_level(tmp_path: Path, num: int) -> None:
    write_streamed_sog(colorful_splats(num), tmp_path / "lod")
    assert check_tree(tmp_path / "lod")["counts"] == [num]


def test_gaussians_in_one_place_are_one_leaf(small_pieces: None, tmp_path: Path) -> None:
    splats = colorful_splats(900, 0)
    splats.means[:] = 1
    write_streamed_sog(splats, tmp_path / "lod")
    assert check_tree(tmp_path / "lod")["counts"] == [900, 300]


def test_the_coarsest_level_has_half_a_megabyte_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what must come before it; however many Gaussians the scene has, as the number in that level is limited."""
    rng = np.random.default_rng(0)
    splats = colorful_splats(streamed_sog.COARSEST)  # as hard to compress as can be
    splats.means = rng.uniform(-1, 1, splats.means.shape).astype(np.float32)
    monkeypatch.setattr(streamed_sog, "levels_of", lambda splats: [splats[:1000], splats])
    write_streamed_sog(splats, tmp_path / "lod")
    coarsest = sum(path.stat().st_size for path in (tmp_path / "lod" / "1_0").iterdir())
    assert 200_000 < coarsest + (tmp_path / "lod" / INDEX).stat().st_size < 500_000


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with files_limited_to(3000), pytest.raises(InputError, match="cannot be written: File too large"):
        write_streamed_sog(colorful_splats(2000), tmp_path / "lod")
    assert os.listdir(tmp_path) == []


def test_a_splat_file_may_be_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_splats(trained_splats(200), tmp_path / "a.ply", "z")
    arguments = ("lod", "--input", tmp_path / "a.ply", "--output-dir", tmp_path / "lod", "--sh-degree", 0)
    assert "Levels of 200 Gaussians" in run_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    back = read(tmp_path / "lod" / "0_0" / "meta.json")
    assert back.sh_degree == 0
    expected = in_3dgs_axes(trained_splats(200), "z").means
    np.testing.assert_allclose(np.sort(back.means, axis=0), np.sort(expected, axis=0), atol=1e-3)
    assert "already exists" in failing_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)


@pytest.mark.slow
def test_playcanvas_viewer_streams_it(chromium: Browser, small_pieces: None, tmp_path: Path) -> None:
    """Its own page loads the coarsest level first, and ends with the picture that we render."""
    if not VIEWER.is_dir():
        pytest.skip("make viewer-page fetches PlayCanvas's viewer, and has not")
    splats = trained_splats(4000)
    write_streamed_sog(in_3dgs_axes(splats, "z"), tmp_path / "lod")
    view = InitialView(np.array([2.0, -3.0, 1.5]), np.array([0.1, 0.2, -0.1]), 50.0)
    background = (0.2, 0.4, 0.6)
    for name in ("index.html", "index.js", "index.css"):
        (tmp_path / name).symlink_to(VIEWER / name)
    (tmp_path / "settings.json").write_text(json.dumps(view_settings(view, "z", background)))
    with (
        served(tmp_path) as (address, _),
        OpenedPage(chromium, f"{address}?content=lod/{INDEX}&noanim", 400, 300) as page,
    ):
        page.wait_for_request("0_0/sh0.webp")
        page.page.wait_for_timeout(3000)
        picture = page.settled()
    pieces = [url.split("/lod/")[1].split("/")[0] for url in page.requests if "/lod/" in url]
    assert pieces[0] == INDEX and pieces[1] == "2_0"
    expected, alpha = render(splats, view, np.array([0.0, 0, 1]), 400, 300, background)
    assert psnr(picture, expected, alpha > 0.5) > 22
