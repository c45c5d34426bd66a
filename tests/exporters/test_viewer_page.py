# SPDX-License-Identifier: Apache-2.0
"""What `img3d-export viewer` writes: a page of its own files only, whole or not at all, and one line on bad input.

How the page looks and behaves in a browser is in test_viewer_page_in_browser.py.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from export_commands import failing_export, run_export
from splat_scenes import colorful_splats

from img3d_assets.gaussians import Gaussians, gaussians_of_parameters
from img3d_assets.splat_files import read_splats
from img3d_exporters.page import viewer_page
from img3d_exporters.page.viewer_page import (
    PageScene,
    split_by_importance,
    view_of_everything,
    write_page,
)
from img3d_methods.viewing.initial_view import InitialView


@pytest.fixture(autouse=True)
def assets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the built renderer, which these tests do not run."""
    folder = tmp_path_factory.mktemp("assets")
    (folder / "viewer.js").write_text("/* the renderer */")
    (folder / "viewer.css").write_text(".sse-viewer{}")
    (folder / "LICENSES.txt").write_text("playcanvas 0\n\n--- MIT License ---\n")
    monkeypatch.setattr(viewer_page, "ASSETS", folder)
    return folder


def scene_of(splats: Gaussians, title: str = "Chair") -> PageScene:
    view = InitialView(np.array([0.0, -4, 1]), np.zeros(3), 50.0)
    return PageScene(title, splats, "z", view, (0.25, 0.5, 1.0))


def write_3dgs_ply(path: Path, splats: Gaussians, comments: list[str] | None = None) -> Path:
    """The layout of the 3DGS authors' files."""
    rest = splats.sh_rest.transpose(0, 2, 1).reshape(len(splats), 3 * splats.sh_rest.shape[1])
    columns = {
        **{name: splats.means[:, i] for i, name in enumerate("xyz")},
        **{f"f_dc_{i}": splats.sh_dc[:, i] for i in range(3)},
        **{f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])},
        "opacity": splats.opacities,
        **{f"scale_{i}": splats.log_scales[:, i] for i in range(3)},
        **{f"rot_{i}": splats.quats[:, i] for i in range(4)},
    }
    vertices = np.empty(len(splats), [(name, "f4") for name in columns])
    for name, values in columns.items():
        vertices[name] = values
    plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")], comments=comments or []).write(path)
    return path


def embedded_counts(contents: str) -> list[int]:
    """Gaussians in each part of a page, from its scripts."""
    parts = re.findall(r'img3d\.part\((\d+), "([A-Za-z0-9+/=]*)"\);', contents)
    assert [int(i) for i, _ in parts] == list(range(len(parts)))
    plys = [plyfile.PlyData.read(io.BytesIO(gzip.decompress(base64.b64decode(data)))) for _, data in parts]
    return [ply["vertex"].count for ply in plys]


# ------------------------------------------------------------------------------------------------------ what is written


def test_a_folder_has_a_page_and_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    files = write_page(scene_of(colorful_splats(100)), tmp_path / "page", single_file=False)
    names = {path.name for path in (tmp_path / "page").iterdir()}
    assert names == {"index.html", "scene.js", "viewer.js", "viewer.css", "LICENSES.txt", "splats-0.js"}
    assert {path.name for path in files} == names
    assert os.listdir(tmp_path) == ["page"]
    page = (tmp_path / "page" / "index.html").read_text()
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == [
        *("data:,", "viewer.css", "scene.js", "viewer.js", "splats-0.js")
    ]
    assert sum(embedded_counts(path.read_text()) == [100] for path in files if path.name.startswith("splats-")) == 1


def test_a_single_file_holds_everything_its_licences_too(tmp_path: Path) -> None:
    write_page(scene_of(colorful_splats(100)), tmp_path / "page", single_file=True)
    assert os.listdir(tmp_path / "page") == ["index.html"]
    page = (tmp_path / "page" / "index.html").read_text()
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]
    assert "/* the renderer */" in page
    assert "MIT License" in page
    assert embedded_counts(page) == [100]


@pytest.mark.parametrize("single_file", [False, True])
def test_titles_cannot_break_the_page(tmp_path: Path, single_file: bool) -> None:
    title = "</title><script>alert('&')</script>"
    write_page(scene_of(colorful_splats(5), title), tmp_path / "page", single_file)
    page = (tmp_path / "page" / "index.html").read_text()
    assert "alert('" not in page
    assert "<title>&lt;/title&gt;" in page


def test_placeholders_in_what_is_inserted_are_left_alone(tmp_path: Path, assets: Path) -> None:
    (assets / "viewer.css").write_text("/* <!--scripts--> */")
    (assets / "viewer.js").write_text("/* <!--style--> <!--scripts--> */")
    write_page(scene_of(colorful_splats(5)), tmp_path / "page", single_file=True)
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("window.img3dScene") == 1
    assert "/* <!--style--> <!--scripts--> */" in page


def test_the_page_starts_level_in_its_own_axes(tmp_path: Path) -> None:
    write_page(scene_of(colorful_splats(5)), tmp_path / "page", single_file=False)
    script = (tmp_path / "page" / "scene.js").read_text()
    scene = json.loads(script.removeprefix("window.img3dScene = ").removesuffix(";"))
    camera = scene["settings"]["cameras"][0]["initial"]
    assert camera["position"] == [0, 1, 4]  # z up became y up
    assert scene["settings"]["background"]["color"] == [0.25, 0.5, 1.0]


def test_a_second_page_replaces_the_first_whole(tmp_path: Path) -> None:
    write_page(scene_of(colorful_splats(100)), tmp_path / "page", single_file=False)
    write_page(scene_of(colorful_splats(50)), tmp_path / "page", single_file=True)
    assert os.listdir(tmp_path / "page") == ["index.html"]
    assert os.listdir(tmp_path) == ["page"]


# ------------------------------------------------------------------------------------------------- in which order


def test_parts_have_every_gaussian_once_the_most_visible_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_page, "FIRST_PART", 200)
    monkeypatch.setattr(viewer_page, "PART", 300)
    splats = colorful_splats(1000)
    parts = split_by_importance(splats)
    assert [len(part) for part in parts] == [200, 300, 300, 200]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1000))
    importance = splats.importance()
    assert importance[parts[1]].min() >= importance[parts[2]].max()
    assert np.median(importance[parts[0]]) > importance[parts[1]].max()


def test_the_first_part_reaches_as_far_as_the_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_page, "FIRST_PART", 100)
    splats = colorful_splats(1000)
    splats.means[7] = 0, 50, 0
    splats.opacities[7] = -5
    assert 7 in split_by_importance(splats)[0]


# ------------------------------------------------------------------------------------------------- where it starts


@pytest.mark.parametrize("up", ["z", "y", "-y"])
def test_a_bare_file_starts_with_most_of_it_in_view(up: viewer_page.UpAxis) -> None:
    splats = colorful_splats(500)
    splats.means[0] = 1000  # one floater does not push the camera away
    view = view_of_everything(splats, up)
    distance = np.linalg.norm(view.position - np.median(splats.means, axis=0))
    assert 1.5 < distance < 5
    vertical = {"z": [0, 0, 1], "y": [0, 1, 0], "-y": [0, -1, 0]}[up]
    assert (view.position - view.target) @ np.array(vertical) > 0


# ---------------------------------------------------------------------------------------------------- splat files


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_a_3dgs_ply_is_read_as_it_was_written(tmp_path: Path, sh_degree: int) -> None:
    splats = colorful_splats(50, sh_degree)
    back, up = read_splats(write_3dgs_ply(tmp_path / "scene.ply", splats))
    for name in ("means", "quats", "log_scales", "opacities", "sh_dc", "sh_rest"):
        assert np.array_equal(getattr(back, name), getattr(splats, name)), name
    assert up == "-y"


def test_nerfstudios_ply_says_that_z_is_up(tmp_path: Path) -> None:
    path = write_3dgs_ply(tmp_path / "scene.ply", colorful_splats(5), ["Generated by Nerstudio", "Vertical Axis: z"])
    assert read_splats(path)[1] == "z"


def test_what_cannot_be_seen_is_left_out() -> None:
    splats = colorful_splats(10)
    splats.means[0, 1] = np.nan
    splats.sh_rest[1, 2, 0] = np.inf
    splats.opacities[2] = -6
    splats.quats[3] = 0
    assert len(splats.visible()) == 6


def test_a_model_without_spherical_harmonics_keeps_its_colours() -> None:
    parameters = {
        "means": torch.zeros(2, 3),
        "quats": torch.ones(2, 4),
        "scales": torch.zeros(2, 3),
        "opacities": torch.zeros(2, 1),
        "features_dc": torch.tensor([[-1.0, 0, 2], [0, 0, 0]]),
        "features_rest": torch.zeros(2, 0, 3),
    }
    splats = gaussians_of_parameters(parameters, sh_degree=0)
    assert splats.colors() == pytest.approx(torch.sigmoid(parameters["features_dc"]).numpy())


# ------------------------------------------------------------------------------------------------------ the command


def test_a_splat_file_becomes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_3dgs_ply(tmp_path / "[my] chair.ply", colorful_splats(80))
    arguments = ("viewer", "--input", path, "--output-dir", tmp_path / "page")
    assert "80 Gaussians" in run_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert "<title>[my] chair</title>" in (tmp_path / "page" / "index.html").read_text()


def bad_inputs(folder: Path) -> dict[str, tuple[tuple[object, ...], str]]:
    """Arguments by what is wrong with them, and what the line must name."""
    good = write_3dgs_ply(folder / "good.ply", colorful_splats(20))
    (folder / "noise.ply").write_bytes(bytes(range(256)) * 4)
    (folder / "cut.ply").write_bytes(good.read_bytes()[:-100])
    points = np.zeros(3, [("x", "f4"), ("y", "f4"), ("z", "f4")])
    plyfile.PlyData([plyfile.PlyElement.describe(points, "vertex")]).write(folder / "points.ply")
    write_3dgs_ply(folder / "empty.ply", colorful_splats(20)[:0])
    unseen = colorful_splats(20)
    unseen.opacities[:] = -20
    write_3dgs_ply(folder / "unseen.ply", unseen)
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("keep me")
    (folder / "file").write_text("keep me")
    (folder / "cut.glb").write_bytes(b"glTF" + bytes(8))
    out = ("--output-dir", folder / "page")
    return {
        "neither": (out, "--load-config"),
        "both": ((*out, "--input", good, "--load-config", folder / "config.yml"), "either"),
        "no run": ((*out, "--load-config", folder / "nowhere" / "config.yml"), "nowhere"),
        "no file": ((*out, "--input", folder / "nowhere.ply"), "nowhere.ply"),
        "a folder": ((*out, "--input", folder / "mine"), "mine"),
        "not a PLY": ((*out, "--input", folder / "noise.ply"), "noise.ply"),
        "cut off": ((*out, "--input", folder / "cut.ply"), "cut.ply"),
        "points": ((*out, "--input", folder / "points.ply"), "no Gaussians"),
        "none": ((*out, "--input", folder / "empty.ply"), "empty.ply"),
        "unseen": ((*out, "--input", folder / "unseen.ply"), "unseen.ply"),
        "no mesh": ((*out, "--input", good, "--mesh", folder / "nowhere.glb"), "nowhere.glb"),
        "half a mesh": ((*out, "--input", good, "--mesh", folder / "cut.glb"), "cut.glb"),
        "somebody's folder": (("--input", good, "--output-dir", folder / "mine"), "notes.txt"),
        "a file in the way": (("--input", good, "--output-dir", folder / "file"), "file"),
        "under a file": (("--input", good, "--output-dir", folder / "file" / "page"), "file"),
    }


CASES = ("neither", "both", "no run", "no file", "a folder", "not a PLY", "cut off", "points", "none", "unseen",
         "no mesh", "half a mesh", "somebody's folder", "a file in the way", "under a file")  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_one_line_and_leaves_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, named = bad_inputs(tmp_path)[case]
    before = sorted(tmp_path.rglob("*"))
    line = failing_export("viewer", *arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert named in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_with_something_added_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_3dgs_ply(tmp_path / "chair.ply", colorful_splats(20))
    write_page(scene_of(colorful_splats(20)), tmp_path / "page", single_file=False)
    (tmp_path / "page" / "portrait.png").write_bytes(b"")
    line = failing_export(
        "viewer", "--input", path, "--output-dir", tmp_path / "page", monkeypatch=monkeypatch, capsys=capsys
    )
    assert "portrait.png" in line
    assert (tmp_path / "page" / "portrait.png").exists()


def test_without_the_renderer_it_says_how_to_build_it(
    tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (assets / "viewer.js").unlink()
    path = write_3dgs_ply(tmp_path / "chair.ply", colorful_splats(20))
    line = failing_export(
        "viewer", "--input", path, "--output-dir", tmp_path / "page", monkeypatch=monkeypatch, capsys=capsys
    )
    assert "make viewer-page" in line


def test_a_full_disk_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_page(scene_of(colorful_splats(20)), tmp_path / "page", single_file=True)
    before = (tmp_path / "page" / "index.html").read_bytes()

    def no_space(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(viewer_page.InputError, match="No space left"):
        write_page(scene_of(colorful_splats(30)), tmp_path / "page", single_file=True)
    assert (tmp_path / "page" / "index.html").read_bytes() == before
    assert os.listdir(tmp_path) == ["page"]
