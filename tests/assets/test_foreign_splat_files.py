# SPDX-License-Identifier: Apache-2.0
"""Splat files as other programs write them: read for what they mean, with a line where something is left out."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pytest
import zstandard
from export_commands import run_export
from splat_scenes import colorful_splats

from img3d_assets.axes import TO_Y_UP
from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import ARRAYS, Gaussians
from img3d_assets.splat_editing.selection import select, without_outliers
from img3d_assets.splat_files import read_splats, write_splats
from img3d_assets.splat_formats import spz
from img3d_assets.splat_formats.gltf import EXTENSION, SPZ_EXTENSIONS
from img3d_assets.splat_formats.sog import sog_files
from img3d_base.errors import InputError
from img3d_kernels.spherical_harmonics import SH_C0

INF = np.float32(np.inf)


def columns_of(splats: Gaussians) -> dict[str, np.ndarray]:
    """Those of a 3DGS PLY."""
    rest = splats.sh_rest.transpose(0, 2, 1).reshape(len(splats), -1)
    return {
        **{axis: splats.means[:, i] for i, axis in enumerate("xyz")},
        **{f"f_dc_{i}": splats.sh_dc[:, i] for i in range(3)},
        **{f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])},
        "opacity": splats.opacities,
        **{f"scale_{i}": splats.log_scales[:, i] for i in range(3)},
        **{f"rot_{i}": splats.quats[:, i] for i in range(4)},
    }


def write_ply(path: Path, columns: dict[str, np.ndarray], comments: Sequence[str] = (), text: bool = False) -> Path:
    """By plyfile, but for the comments, of which it takes ASCII only."""
    table = np.empty(len(columns["x"]), [(name, values.dtype.str) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")], text=text).write(path)
    lines = "".join(f"comment {comment}\n" for comment in comments)
    path.write_bytes(path.read_bytes().replace(b"element", lines.encode() + b"element", 1))
    return path


def assert_same(splats: Gaussians, expected: Gaussians) -> None:
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(splats, name), getattr(expected, name), atol=1e-6)


class TestPly:
    @pytest.mark.parametrize("text", [False, True])
    def test_comments_in_any_language(self, tmp_path: Path, text: bool) -> None:
        splats = colorful_splats(10)
        path = write_ply(tmp_path / "a.ply", columns_of(splats), ["Größe über Grund", "点云"], text)
        assert_same(read_splats(path)[0], splats)

    def test_two_scales_are_discs(self, tmp_path: Path) -> None:
        splats = colorful_splats(10)
        columns = columns_of(splats)
        del columns["scale_2"]
        back = read_splats(write_ply(tmp_path / "a.ply", columns))[0].visible()
        np.testing.assert_array_equal(back.log_scales[:, :2], splats.log_scales[:, :2])
        np.testing.assert_allclose(back.log_scales[:, 2], np.log(1e-6))

    def test_mip_splattings_filter_is_applied(self, tmp_path: Path) -> None:
        """A Gaussian convolved with one of another width: variances add up, the amplitude falls with the volume."""
        splats = colorful_splats(10)
        widths = np.linspace(0, 0.3, 10).astype(np.float32)
        back = read_splats(write_ply(tmp_path / "a.ply", {**columns_of(splats), "filter_3D": widths}))[0]
        scales = np.exp(splats.log_scales.astype(np.float64))
        filtered = np.sqrt(scales**2 + widths[:, None] ** 2)
        np.testing.assert_allclose(np.exp(back.log_scales), filtered, rtol=1e-5)
        np.testing.assert_allclose(back.alphas(), splats.alphas() * (scales / filtered).prod(axis=1), rtol=1e-4)

    @pytest.mark.parametrize(("newline", "rest"), [("\n", "\r\n"), ("\r\n", "\n"), ("\r", "\r"), ("\r\n", "\r\n")])
    def test_headers_with_any_newlines(self, tmp_path: Path, newline: str, rest: str) -> None:
        splats = colorful_splats(10)
        splats.means[0, 0] = np.frombuffer(b"\n\r\n?", "<f4")[0]  # data that begins like a newline
        path = write_ply(tmp_path / "a.ply", columns_of(splats))
        header, end, data = path.read_bytes().partition(b"end_header\n")
        lines = (header + end).decode().replace("\n", rest).replace(rest, newline, 1)
        path.write_bytes(lines.encode() + data)
        assert_same(read_splats(path)[0], splats)

    def test_one_scale_is_a_ball(self, tmp_path: Path) -> None:
        columns = columns_of(colorful_splats(10))
        del columns["scale_1"], columns["scale_2"]
        back = read_splats(write_ply(tmp_path / "a.ply", columns))[0]
        np.testing.assert_array_equal(back.log_scales, np.repeat(columns["scale_0"][:, None], 3, axis=1))

    @pytest.mark.parametrize(("dtype", "largest"), [("u1", 255), ("u2", 65535), ("f4", 1), ("f4", 255)])
    def test_red_green_and_blue_are_colours(self, tmp_path: Path, dtype: str, largest: int) -> None:
        splats = colorful_splats(50, 0)
        columns = columns_of(splats)
        for i, name in enumerate(("red", "green", "blue")):
            del columns[f"f_dc_{i}"]
            values = splats.colors()[:, i] * largest
            columns[name] = (np.round(values) if dtype != "f4" else values).astype(dtype)
        back, _ = read_splats(write_ply(tmp_path / "a.ply", columns))
        assert np.abs(back.colors() - splats.colors()).max() < 0.51 / 255

    def test_degree_4_is_cut_to_3_with_a_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        splats = colorful_splats(10)
        columns = columns_of(splats) | {f"f_rest_{i}": np.full(10, np.float32(9)) for i in range(72)}
        for channel in range(3):
            for i in range(15):
                columns[f"f_rest_{24 * channel + i}"] = splats.sh_rest[:, i, channel]
        assert_same(read_splats(write_ply(tmp_path / "a.ply", columns))[0], splats)
        assert "degree 4: those of degree 1 to 3 are kept" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("comments", "antialiased"),
        [
            (["Exported from Brush", "SplatRenderMode: mip"], True),
            (["splatrendermode: MIP"], True),
            (["SplatRenderMode: default"], False),
            (["antialiased 1"], True),
            (["antialiased 0"], False),
            (["SplatRenderMode: mip", "antialiased 0"], False),
            (["it is not antialiased 1 bit"], False),
            ([], False),
        ],
    )
    def test_comments_say_how_it_is_to_be_drawn(self, tmp_path: Path, comments: list[str], antialiased: bool) -> None:
        path = write_ply(tmp_path / "a.ply", columns_of(colorful_splats(5)), comments)
        splats, _ = read_splats(path)
        assert splats.antialiased == antialiased
        for ending in (".ply", ".compressed.ply", ".spz", ".sog"):
            write_splats(splats, tmp_path / f"b{ending}", "z")
            assert read_splats(tmp_path / f"b{ending}")[0].antialiased == antialiased

    @pytest.mark.parametrize(
        ("comment", "up"),
        [
            ("Vertical Axis: z", "z"),
            ("vertical axis: Z", "z"),
            ("Vertical axis: y", "-y"),
            ("Vertical axis: 0 0 1", "z"),
            ("Vertical axis: 0.01 -0.99 0.02", "-y"),
            ("Vertical axis: 0 1 0", "y"),
            ("Vertical axis: - . 1", "-y"),
        ],
    )
    def test_comments_say_which_axis_is_up(self, tmp_path: Path, comment: str, up: str) -> None:
        assert read_splats(write_ply(tmp_path / "a.ply", columns_of(colorful_splats(5)), [comment]))[1] == up

    def test_georeferenced_coordinates_keep_their_shape(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        splats = colorful_splats(200, 0)
        place = np.array([432_100.5, 5_412_345.25, 312.0])
        columns = columns_of(splats) | {
            axis: splats.means[:, i].astype("f8") + place[i] for i, axis in enumerate("xyz")
        }
        path = write_ply(tmp_path / "a.ply", columns)
        back, _ = read_splats(path)
        np.testing.assert_allclose(back.means + np.array(back.origin), splats.means + place, rtol=0, atol=1e-6)
        np.testing.assert_allclose(np.mod(back.origin, 1), 0)
        high = select(back, crop_min=(0, 0, 312))
        assert len(high) == (splats.means[:, 2] >= 0).sum()
        turned = rotated(back, TO_Y_UP["z"])
        np.testing.assert_allclose(
            turned.means + np.array(turned.origin), (splats.means + place) @ TO_Y_UP["z"].T, rtol=0, atol=1e-6
        )
        for ending in (".ply", ".spz", ".glb"):
            said = run_export(
                *("splat", "--input", path, "--output", tmp_path / f"b{ending}"), monkeypatch=monkeypatch, capsys=capsys
            )
            x, y, z = (f"{value:.0f}" for value in back.origin)
            assert f"relative to ({x}, {y}, {z})" in said
            written = read_splats(tmp_path / f"b{ending}")[0].means
            half_step = 2**-13 if ending == ".spz" else 0
            assert np.abs(np.sort(written, axis=0) - np.sort(back.means, axis=0)).max() <= half_step

    def test_coordinates_that_single_precision_holds_stay(self, tmp_path: Path) -> None:
        splats = colorful_splats(20, 0)
        columns = columns_of(splats) | {axis: splats.means[:, i].astype("f8") + 100 for i, axis in enumerate("xyz")}
        back, _ = read_splats(write_ply(tmp_path / "a.ply", columns))
        assert back.origin == (0, 0, 0) and back.means.min() > 98

    def test_what_comes_in_single_precision_stays_where_it_is(self, tmp_path: Path) -> None:
        columns = columns_of(colorful_splats(20, 0))
        columns["x"] = columns["x"] + np.float32(2500)
        back, _ = read_splats(write_ply(tmp_path / "a.ply", columns))
        assert back.origin == (0, 0, 0) and np.array_equal(back.means[:, 0], columns["x"])


class TestInfinities:
    @pytest.mark.parametrize("ending", [".ply", ".compressed.ply", ".spz", ".sog", ".splat", ".glb"])
    def test_opaque_and_flat_ones_stay_and_rubbish_goes(
        self, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        splats = colorful_splats(40, 0)
        splats.opacities[:] = 1
        splats.opacities[10:20] = INF
        splats.log_scales[20:30, 2] = -INF
        splats.log_scales[30], splats.means[31, 0], splats.sh_dc[32, 1], splats.quats[33] = INF, INF, np.nan, 0
        splats.opacities[34] = -INF  # nothing to be seen
        path = write_ply(tmp_path / "a.ply", columns_of(splats))
        output = tmp_path / f"b{ending}"
        said = run_export("splat", "--input", path, "--output", output, monkeypatch=monkeypatch, capsys=capsys)
        assert "4 of 40 Gaussians in" in said and "35 Gaussians," in said
        back = read_splats(output)[0].visible()
        assert len(back) == 35 and all(np.isfinite(getattr(back, name)).all() for name in ARRAYS)
        assert (back.alphas() > 0.99).sum() == 10
        assert (back.log_scales.min(axis=1) < np.log(1e-4)).sum() == 10

    def test_scales_of_zero_in_a_splat_table_are_flat(self, tmp_path: Path) -> None:
        write_splats(colorful_splats(10, 0), tmp_path / "a.splat", "-y")
        rows = np.fromfile(tmp_path / "a.splat", [("numbers", "<f4", 6), ("bytes", "u1", 8)])
        rows["numbers"][:5, 4] = 0
        rows.tofile(tmp_path / "b.splat")
        back = read_splats(tmp_path / "b.splat")[0].visible()
        assert len(back) == 10 and (back.log_scales[:5, 1] <= np.log(1e-6)).all()

    def test_rows_of_zeros_are_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        columns = {name: np.r_[values, np.zeros(500, "f4")] for name, values in columns_of(colorful_splats(3)).items()}
        path = write_ply(tmp_path / "a.ply", columns)
        said = run_export(
            "splat", "--input", path, "--output", tmp_path / "b.ply", monkeypatch=monkeypatch, capsys=capsys
        )
        assert "500 of 503 Gaussians in" in said and "3 Gaussians," in said

    def test_what_means_nothing_else_is_left_alone(self) -> None:
        splats = colorful_splats(10)
        assert splats.finite() is splats and splats.visible() is splats


class TestOutliers:
    @pytest.mark.parametrize("ending", [".spz", ".compressed.ply", ".sog"])
    def test_a_few_far_ones_do_not_cost_the_others_their_places(
        self, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        splats = colorful_splats(1000, 0)
        splats.means[:2] = [3e8, 0, 0], [0, -5e8, 1]
        assert write_splats(splats, tmp_path / f"a{ending}", "-y") == 998
        assert "2 of 1,000 Gaussians are left out" in capsys.readouterr().out
        back, others = read_splats(tmp_path / f"a{ending}")[0].means, splats.means[2:]
        largest = float(np.abs(others).max())
        half_step = {
            ".spz": 2**-13,
            ".compressed.ply": np.ptp(others, axis=0).max() / 1023 / 2,  # or less: of the chunk's extent
            ".sog": 2 * np.log1p(largest) / 65535 / 2 * (1 + largest),  # steps of the logarithm
        }
        # Beside it, float32 rounds: here by less than a tenth of a step.
        assert np.abs(np.sort(back, axis=0) - np.sort(others, axis=0)).max() < 1.1 * half_step[ending]

    def test_exact_formats_keep_them(self, tmp_path: Path) -> None:
        splats = colorful_splats(1000, 0)
        splats.means[0] = 3e8, 0, 0
        assert write_splats(splats, tmp_path / "a.ply", "-y") == 1000

    def test_a_sky_is_none(self) -> None:
        splats = colorful_splats(1000)
        splats.means[:50] *= 5000
        assert without_outliers(splats) is splats
        splats = colorful_splats(1000)
        splats.means[:5] *= 500
        assert without_outliers(splats) is splats


class TestContentsDecide:
    @pytest.mark.parametrize("ending", [".ply", ".compressed.ply", ".spz", ".sog", ".splat", ".glb", ".gltf"])
    @pytest.mark.parametrize("name", ["a.ply", "a.spz", "a.splat", "a.ksplat", "a.bin", "a"])
    def test_any_name_will_do(self, tmp_path: Path, ending: str, name: str) -> None:
        splats = colorful_splats(20, 0)
        write_splats(splats, tmp_path / f"right{ending}", "-y")
        expected, _ = read_splats(tmp_path / f"right{ending}")
        (tmp_path / name).write_bytes((tmp_path / f"right{ending}").read_bytes())
        assert_same(read_splats(tmp_path / name)[0], expected)

    @pytest.mark.parametrize(
        "contents", [b"\x89PNG\r\n\x1a\n" + bytes(55), bytes(4096), b"x" * 64, b"\x1f\x8b\x08junk"]
    )
    @pytest.mark.parametrize("name", ["a.bin", "a.ply", "a.ksplat"])
    def test_something_else_is_named_as_such(self, tmp_path: Path, contents: bytes, name: str) -> None:
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(InputError, match=name):
            read_splats(tmp_path / name)

    def test_what_is_compressed_otherwise_is_named_as_such(self, tmp_path: Path) -> None:
        (tmp_path / "a.ply.gz").write_bytes(gzip.compress(b"ply\n"))
        with pytest.raises(InputError, match="compressed with gzip, but is not an SPZ: unpack it"):
            read_splats(tmp_path / "a.ply.gz")


class TestSpz:
    @pytest.mark.parametrize("version", [3, 4])
    @pytest.mark.parametrize(("number", "axes"), enumerate(spz.AXES, 1))
    def test_declared_axes_count(self, tmp_path: Path, version: int, number: int, axes: str) -> None:
        splats = colorful_splats(30, 1)
        splats.means[0] = 0.5, 0.6, 0.7  # right, below, in front
        write_splats(splats, tmp_path / "plain.spz", "-y")
        plain, _ = read_splats(tmp_path / "plain.spz")
        stored = np.stack([_along(plain.means, letter) for letter in axes], axis=1)
        record = struct.pack("<II", 0x12345678, 5) + b"other" + struct.pack("<III", 0xADBE0003, 4, number)
        path = tmp_path / "declared.spz"
        path.write_bytes(_with_positions((tmp_path / "plain.spz").read_bytes(), stored, record, version))
        np.testing.assert_allclose(read_splats(path)[0].means, plain.means, atol=1e-6)

    def test_unknown_axes_are_refused(self, tmp_path: Path) -> None:
        write_splats(colorful_splats(3, 0), tmp_path / "a.spz", "-y")
        contents = (tmp_path / "a.spz").read_bytes()
        (tmp_path / "a.spz").write_bytes(
            _with_positions(contents, np.zeros((3, 3)), struct.pack("<III", 0xADBE0003, 4, 99), 4)
        )
        with pytest.raises(InputError, match="an unknown coordinate system, 99"):
            read_splats(tmp_path / "a.spz")


def _along(means: np.ndarray, letter: str) -> np.ndarray:
    """Coordinates of points in 3DGS's axes (right, down, front) in this direction."""
    return {"R": 1, "L": -1, "D": 1, "U": -1, "F": 1, "B": -1}[letter] * means[:, "RDF".index(_axis(letter))]


def _axis(letter: str) -> str:
    return {"L": "R", "U": "D", "B": "F"}.get(letter, letter)


def _with_positions(contents: bytes, positions: np.ndarray, extensions: bytes, version: int) -> bytes:
    """An SPZ of version 4 with other positions, and with extensions; as version 3 or 4."""
    num, degree, bits = *struct.unpack_from("<IB", contents, 8), contents[13]
    streams, start = [], 32 + 16 * contents[15]
    for i in range(contents[15]):
        few, _ = struct.unpack_from("<QQ", contents, 32 + 16 * i)
        streams.append(zstandard.decompress(contents[start : start + few]))
        start += few
    streams[0] = np.round(positions * 2**bits).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    header = struct.pack("<4sIIBBBB", b"NGSP", version, num, degree, bits, 2, len(streams) if version == 4 else 0)
    if version == 3:
        return gzip.compress(header + b"".join(streams) + extensions)
    packed = [zstandard.compress(stream) for stream in streams]
    table = b"".join(struct.pack("<QQ", len(few), len(many)) for few, many in zip(packed, streams, strict=True))
    return header + struct.pack("<I12x", 32 + len(extensions)) + extensions + table + b"".join(packed)


class TestSog:
    @pytest.mark.parametrize("name", ["a.sog", "a.zip"])
    @pytest.mark.parametrize("folder", ["", "scene/", "in/many folders/"])
    def test_the_folder_may_be_zipped_with_its_files(self, tmp_path: Path, name: str, folder: str) -> None:
        splats = colorful_splats(50, 1)
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__MACOSX/meta.json", b"junk")
            for file, contents in sog_files(splats).items():
                archive.writestr(folder + file, contents)
        back, _ = read_splats(tmp_path / name)
        assert np.abs(back.means - splats.means).max() < 1e-4 and back.sh_degree == 1

    def test_a_folder_will_do(self, tmp_path: Path) -> None:
        splats = colorful_splats(50, 0)
        (tmp_path / "scene" / "sub").mkdir(parents=True)
        for file, contents in sog_files(splats).items():
            (tmp_path / "scene" / "sub" / file).write_bytes(contents)
        for path in ("scene/sub/meta.json", "scene/sub", "scene"):
            assert np.abs(read_splats(tmp_path / path)[0].means - splats.means).max() < 1e-4

    def test_the_model_that_other_programs_name_counts(self, tmp_path: Path) -> None:
        files = sog_files(colorful_splats(5, 0))
        meta = json.loads(files["meta.json"])
        del meta["antialias"]
        for file, contents in files.items():
            (tmp_path / file).write_bytes(contents)
        for model, antialiased in (("antialiased", True), ("2dgs", False)):
            (tmp_path / "meta.json").write_text(json.dumps(meta | {"model": model}))
            assert read_splats(tmp_path)[0].antialiased == antialiased

    def test_other_archives_and_folders_are_named_as_such(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("scene.ply", b"ply")
        with pytest.raises(InputError, match=r"hence not a SOG: unpack it, and give the file in it \('scene.ply'\)"):
            read_splats(tmp_path / "a.zip")
        with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
            archive.writestr("a/meta.json", b"{}")
            archive.writestr("b/meta.json", b"{}")
        with pytest.raises(InputError, match="several SOGs"):
            read_splats(tmp_path / "two.zip")
        (tmp_path / "lod-meta.json").write_text('{"lodLevels": 3, "tree": {}}')
        with pytest.raises(InputError, match="index of a streamed SOG"):
            read_splats(tmp_path / "lod-meta.json")
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="hence not a SOG"):
            read_splats(tmp_path / "empty")


def gltf_of_spz(contents: bytes, name: str, num: int, node: dict[str, Any]) -> dict[str, Any]:
    """A scene whose Gaussians are an SPZ, in one of the drafts of the extension."""
    extensions = {name: {"bufferView": 0}}
    if "gaussian_splatting_compression" in name:
        extensions = {EXTENSION: {"extensions": extensions}}
    return {
        "asset": {"version": "2.0"},
        "extensionsUsed": [EXTENSION, name],
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, **node}],
        "meshes": [{"primitives": [{"mode": 0, "attributes": {"POSITION": 0}, "extensions": extensions}]}],
        "accessors": [{"componentType": 5126, "count": num, "type": "VEC3"}],
        "buffers": [{"uri": "scene%20data.bin", "byteLength": len(contents)}],
        "bufferViews": [{"buffer": 0, "byteLength": len(contents)}],
    }


class TestGltf:
    @pytest.mark.parametrize("name", SPZ_EXTENSIONS)
    def test_an_spz_within_is_read(self, tmp_path: Path, name: str) -> None:
        splats = colorful_splats(30, 2)
        splats.antialiased = True
        write_splats(splats, tmp_path / "scene data.bin.spz", "-y")
        expected, _ = read_splats(tmp_path / "scene data.bin.spz")
        (tmp_path / "scene data.bin.spz").rename(tmp_path / "scene data.bin")
        scene = gltf_of_spz((tmp_path / "scene data.bin").read_bytes(), name, 30, {"translation": [0, 3, 0]})
        (tmp_path / "a.gltf").write_text(json.dumps(scene))
        back, _ = read_splats(tmp_path / "a.gltf")
        up = rotated(expected, TO_Y_UP["-y"].T @ spz.FLIP)  # its numbers as those of glTF
        np.testing.assert_allclose(back.means, up.means - [0, 3, 0], atol=1e-5)
        np.testing.assert_allclose(back.sh_rest, up.sh_rest, atol=1e-5)
        assert back.antialiased

    def test_unknown_compression_is_named(self, tmp_path: Path) -> None:
        write_splats(colorful_splats(3, 0), tmp_path / "a.gltf", "-y")
        scene = json.loads((tmp_path / "a.gltf").read_text())
        scene["meshes"][0]["primitives"][0]["extensions"][EXTENSION]["extensions"] = {"EXT_other_compression": {}}
        (tmp_path / "a.gltf").write_text(json.dumps(scene))
        with pytest.raises(
            InputError, match=r"'EXT_other_compression', which is not supported: export it without .* \.spz"
        ):
            read_splats(tmp_path / "a.gltf")
        del scene["meshes"][0]["primitives"][0]["extensions"][EXTENSION]["extensions"]
        scene["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
        (tmp_path / "a.gltf").write_text(json.dumps(scene))
        with pytest.raises(InputError, match="EXT_meshopt_compression"):
            read_splats(tmp_path / "a.gltf")

    def test_linear_colours_become_those_of_3dgs(self, tmp_path: Path) -> None:
        splats = colorful_splats(30, 0)
        write_splats(splats, tmp_path / "a.gltf", "-y")
        scene = json.loads((tmp_path / "a.gltf").read_text())
        scene["meshes"][0]["primitives"][0]["extensions"][EXTENSION]["colorSpace"] = "lin_rec709_display"
        (tmp_path / "a.gltf").write_text(json.dumps(scene))
        back, _ = read_splats(tmp_path / "a.gltf")
        linear = splats.colors().clip(0, 1)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        np.testing.assert_allclose(0.5 + SH_C0 * back.sh_dc, encoded, atol=1e-5)

    def test_a_place_far_away_keeps_its_shape(self, tmp_path: Path) -> None:
        splats = colorful_splats(50, 0)
        write_splats(splats, tmp_path / "a.gltf", "-y")
        scene = json.loads((tmp_path / "a.gltf").read_text())
        scene["nodes"][0]["translation"] = [432_100, 312, -5_412_345]
        (tmp_path / "a.gltf").write_text(json.dumps(scene))
        back, _ = read_splats(tmp_path / "a.gltf")
        place = TO_Y_UP["-y"].T @ [432_100, 312, -5_412_345]
        np.testing.assert_allclose(back.means + np.array(back.origin), splats.means + place, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["a.ply", "a.spz", "a.splat", "a"])
def test_files_that_git_lfs_has_not_fetched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n")
    with pytest.raises(InputError, match=r"a[.a-z]* is in Git LFS and not fetched \(run `git lfs pull`\)$"):
        read_splats(tmp_path / name)


def test_gzip_under_the_name_of_what_is_in_it(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "a.ply", columns_of(colorful_splats(10)))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="is compressed with gzip, but is not an SPZ: unpack it"):
        read_splats(path)


@pytest.mark.parametrize("size", [1e-25, 1e25])
@pytest.mark.parametrize("ending", [".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".glb"])
def test_quaternions_of_any_length(tmp_path: Path, ending: str, size: float) -> None:
    """Their squares are beyond single precision."""
    unit, splats = colorful_splats(10), colorful_splats(10)
    splats.quats = (splats.quats * np.float32(size)).astype(np.float32)
    for name, each in (("unit", unit), ("other", splats)):
        write_splats(each, tmp_path / (name + ending), "-y")
    quats = [read_splats(tmp_path / (name + ending))[0].quats.astype(np.float64) for name in ("unit", "other")]
    quats = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in quats]
    np.testing.assert_allclose(np.abs((quats[0] * quats[1]).sum(axis=1)), 1, atol=1e-4)


def test_zip_with_backslashes(tmp_path: Path) -> None:
    splats = colorful_splats(100)
    with zipfile.ZipFile(tmp_path / "a.sog", "w") as archive:
        for name, contents in sog_files(splats).items():
            archive.writestr(f"scene\\{name}", contents)
    write_splats(splats, tmp_path / "b.sog", None)
    assert len(read_splats(tmp_path / "a.sog")[0]) == len(read_splats(tmp_path / "b.sog")[0]) == 100


def test_compression_of_gsplat_is_no_sog(tmp_path: Path) -> None:
    means = {"shape": [10, 3], "dtype": "float32", "mins": [0, 0, 0], "maxs": [1, 1, 1]}
    (tmp_path / "meta.json").write_text(json.dumps({"means": means, "opacities": means, "quats": means}))
    with pytest.raises(
        InputError, match="names no pictures of its means, as in gsplat's PNG compression; export it as PLY"
    ):
        read_splats(tmp_path / "meta.json")


def test_gltf_without_a_scene(tmp_path: Path) -> None:
    """Its nodes without parents are its contents."""
    splats = colorful_splats(10)
    write_splats(splats, tmp_path / "a.gltf", "-y")
    scene = json.loads((tmp_path / "a.gltf").read_text())
    del scene["scene"], scene["scenes"]
    scene["nodes"] = [{"mesh": 0}, {"children": [0], "translation": [0, 1, 0]}]
    (tmp_path / "b.gltf").write_text(json.dumps(scene))
    moved = read_splats(tmp_path / "b.gltf")[0].means - read_splats(tmp_path / "a.gltf")[0].means
    np.testing.assert_allclose(moved, np.tile([0, -1, 0], (10, 1)), atol=1e-6)
