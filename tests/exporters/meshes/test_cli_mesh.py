# SPDX-License-Identifier: Apache-2.0
"""`img3d-export mesh`: one command from splats to a mesh that other programs open; one line on bad input.

A run that ns-train made is in tests/methods/test_cli_mesh.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
import trimesh
from export_commands import failing_export, run_export
from full_disk import files_limited_to
from splat_scenes import sphere_of_gaussians

from img3d_assets.splat_files import write_splats
from img3d_exporters.meshes import surface_views

QUICK = ("--resolution", "48", "--faces", "2000", "--texture-size", "128")


@pytest.fixture(autouse=True)
def few_small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface_views, "NUM_AROUND", 24)
    monkeypatch.setattr(surface_views, "DEPTH_SIZE", 128)
    monkeypatch.setattr(surface_views, "PAINT_SIZE", 128)


@pytest.fixture
def splat_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A ball, red above and blue below, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_splats(sphere_of_gaussians(), Path("ball.ply"), "z")
    return "ball.ply"


def loaded(path: str) -> trimesh.Trimesh:
    mesh = trimesh.load(path, force="mesh")
    assert isinstance(mesh, trimesh.Trimesh)
    return mesh


@pytest.mark.parametrize("ending", [".glb", ".obj", ".ply", ".stl"])
def test_a_splat_file_becomes_a_mesh(
    splat_file: str, ending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("mesh", "--input", splat_file, "--output", f"a{ending}", *QUICK)
    said = run_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    mesh = loaded(f"a{ending}")
    assert f"{len(mesh.faces):,} triangles" in said and len(mesh.faces) <= 2000
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).max() < 0.1
    assert mesh.volume == pytest.approx(4 / 3 * np.pi, rel=0.06)
    assert len(o3d.io.read_triangle_mesh(f"a{ending}").triangles) == len(mesh.faces)


def test_levels_of_detail_are_files_beside_it(
    splat_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("mesh", "--input", splat_file, "--output", "a.glb", "--lods", "3", *QUICK, "--watertight")
    run_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    names = ["a.glb", "a_lod1.glb", "a_lod2.glb"]
    assert sorted(os.listdir()) == [*names, splat_file]
    for name, faces, width in zip(names, (2000, 500, 125), (128, 64, 64), strict=True):
        mesh = loaded(name)
        assert 0.9 * faces <= len(mesh.faces) <= faces
        assert mesh.visual.material.baseColorTexture.size == (width, width)
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        assert mesh.is_watertight


def test_a_crop_leaves_a_part(
    splat_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("mesh", "--input", splat_file, "--output", "a.ply", *QUICK, "--crop-min", "-2", "-2", "0")
    run_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert loaded("a.ply").vertices[:, 2].min() == pytest.approx(0, abs=0.06)


def test_a_full_disk_leaves_the_old_file(
    splat_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.glb").write_bytes(b"old")
    arguments = ("mesh", "--input", splat_file, "--output", "a.glb", "--force", *QUICK)
    with files_limited_to(5000):
        assert "File too large" in failing_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert Path("a.glb").read_bytes() == b"old" and len(os.listdir()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--output", "b.docx"), "Cannot write a mesh to"),
        (("--output", "ball.ply"), "already exists"),
        (("--output", "b.glb", "--lods", "2"), "b_lod1.glb already exists"),
        (("--output", "c.glb", "--lods", "0"), "--lods is 0"),
        (("--output", "c.glb", "--faces", "3"), "--faces is 3"),
        (("--output", "c.glb", "--resolution", "1"), "--resolution is 1"),
        (("--output", "c.glb", "--texture-size", "1"), "A texture of 1 pixels"),
        (("--output", "c.glb", "--texture", "photos"), "--texture photos needs --load-config"),
        (("--output", "c.glb", "--original-frame"), "--original-frame needs --load-config"),
        (("--output", "c.glb", "--crop-min", "5", "5", "5"), "None of the 2,000 Gaussians is left"),
        (("--output", "c.glb", "--load-config", "config.yml"), "Give either --load-config"),
    ],
)
def test_bad_input_costs_one_line(
    splat_file: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    Path("b_lod1.glb").write_bytes(b"")
    arguments = ("mesh", "--input", splat_file, *options)
    assert message in failing_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert sorted(os.listdir()) == ["b_lod1.glb", splat_file]


@pytest.mark.parametrize(("name", "value"), [("means", np.nan), ("opacities", -9)])
def test_splats_that_cannot_be_seen_cost_one_line(
    splat_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: float
) -> None:
    splats = sphere_of_gaussians(5)
    getattr(splats, name)[:] = value
    write_splats(splats, Path("broken.ply"), "z")
    arguments = ("mesh", "--input", "broken.ply", "--output", "a.glb")
    assert "no visible Gaussian" in failing_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
