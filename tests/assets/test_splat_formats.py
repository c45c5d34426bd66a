# SPDX-License-Identifier: Apache-2.0
"""A splat that went through a file looks as before, its numbers within the format's steps; other programs agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import plyfile
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from node_tools import NoNodeToolError, gltf_validation, splat_transform
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from splat_scenes import colorful_splats, from_all_sides, psnr, trained_splats

from img3d_assets.axes import TO_Y_UP, UpAxis
from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import ARRAYS, Gaussians
from img3d_assets.splat_files import FORMATS, read_splats, write_splats
from img3d_assets.splat_formats import spz
from img3d_assets.splat_formats.gltf import EXTENSION
from img3d_base.errors import InputError
from img3d_kernels.spherical_harmonics import SH_C0

EXACT = [".ply", ".glb", ".gltf"]
LOSSY = [".compressed.ply", ".spz", ".sog", ".splat"]
ALL = EXACT + LOSSY


def through_file(splats: Gaussians, path: Path, up: UpAxis | None = None) -> Gaussians:
    """Written and read back, in the axes it had."""
    write_splats(splats, path, up)
    back, axis = read_splats(path)
    return back if up in (None, axis) else rotated(back, TO_Y_UP[up].T @ TO_Y_UP[axis])


def by_position(splats: Gaussians, like: Gaussians) -> Gaussians:
    """In the order of those at the same places."""
    distances, order = KDTree(splats.means).query(like.means)
    assert len(np.unique(order)) == len(like) == len(splats)
    assert np.max(distances) < 0.01
    return splats[order]


def covariances(splats: Gaussians) -> np.ndarray:
    """`[N, 3, 3]`: what quaternions and scales say, which have many ways to say it."""
    factors = Rotation.from_quat(splats.quats, scalar_first=True).as_matrix() * np.exp(splats.log_scales)[:, None, :]
    return factors @ factors.transpose(0, 2, 1)


# ------------------------------------------------------------------------------------------------------- as before


@pytest.mark.parametrize("ending", ALL)
@pytest.mark.parametrize("up", ["z", "-y"])
def test_looks_as_before(tmp_path: Path, ending: str, up: UpAxis) -> None:
    splats = trained_splats()
    back = through_file(splats, tmp_path / f"scene{ending}", up)
    assert len(back) == len(splats)
    if ending == ".splat":  # has no harmonics, and quaternions of 8 bits
        splats.sh_rest = splats.sh_rest[:, :0]
    least = 45 if ending in EXACT else 34 if ending == ".splat" else 38
    assert psnr(from_all_sides(back), from_all_sides(splats)) > least


@pytest.mark.parametrize("ending", EXACT)
@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("num", [1, 257])
def test_exact_formats_keep_every_number(tmp_path: Path, ending: str, sh_degree: int, num: int) -> None:
    splats = colorful_splats(num, sh_degree)
    back = through_file(splats, tmp_path / f"scene{ending}")
    np.testing.assert_allclose(back.means, splats.means, atol=1e-6)
    np.testing.assert_allclose(covariances(back), covariances(splats), rtol=1e-3, atol=1e-7)
    for name in ("opacities", "sh_dc", "sh_rest"):
        np.testing.assert_allclose(getattr(back, name), getattr(splats, name), atol=2e-5)


@pytest.mark.parametrize("ending", LOSSY)
@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("num", [1, 2, 700])
def test_lossy_formats_keep_numbers_within_their_steps(tmp_path: Path, ending: str, sh_degree: int, num: int) -> None:
    splats = colorful_splats(num, sh_degree)
    back = by_position(through_file(splats, tmp_path / f"scene{ending}"), splats)
    half_a_byte = 0.5 / 255 + 1e-6
    assert np.abs(back.alphas() - splats.alphas()).max() <= half_a_byte
    color_step = {".spz": SH_C0 / 0.15, ".splat": 1, ".sog": 3, ".compressed.ply": 1}[ending]
    assert np.abs(back.colors() - splats.colors().clip(*((0, 1) if ending == ".splat" else (-9, 9)))).max() <= (
        color_step * half_a_byte
    )
    log_scale_step = {".spz": 1 / 32, ".splat": 1e-6, ".sog": 0.05, ".compressed.ply": 0.01}[ending]
    spread = np.linalg.eigvalsh(covariances(back)) / np.linalg.eigvalsh(covariances(splats))
    assert np.abs(np.log(spread)).max() / 2 <= log_scale_step + 1e-3
    alike = np.abs((back.quats * splats.quats).sum(axis=1)) / np.linalg.norm(splats.quats, axis=1)
    if ending in (".sog", ".compressed.ply"):  # the others turn by half a circle, which has more than one quaternion
        assert alike.min() > 1 - {".sog": 1e-4, ".compressed.ply": 1e-5}[ending]
    assert back.sh_degree == (0 if ending == ".splat" else sh_degree)
    if ending in (".spz", ".compressed.ply"):
        step, largest = (spz.SH_STEP / 2 / 128, 1) if ending == ".spz" else (4 / 256, 4)
        assert np.abs(back.sh_rest - splats.sh_rest.clip(-largest, largest)).max(initial=0) <= step + 1e-6


@given(
    values=st.lists(st.tuples(*[st.floats(-1000, 1000, width=32)] * 3), min_size=1, max_size=40),
    log_scale=st.floats(-9, 3),
    logit=st.floats(-5, 9),
    ending=st.sampled_from(ALL),
)
@settings(max_examples=60, deadline=None)
def test_any_place_and_size_comes_back(
    values: list[tuple[float, float, float]], log_scale: float, logit: float, ending: str, tmp_path_factory
) -> None:
    means = np.array(values, np.float32)
    splats = colorful_splats(len(means), 1)
    splats.means, splats.log_scales[:], splats.opacities[:] = means, log_scale, logit
    back = through_file(splats, tmp_path_factory.mktemp("any") / f"scene{ending}")
    for name in ARRAYS:
        assert np.isfinite(getattr(back, name)).all()
    # A step that is small beside the scene, or beside the Gaussian itself, is not seen.
    extent = max(np.ptp(means, axis=0).max(), np.exp(log_scale)) + 1e-3 * np.abs(means).max() + 1e-3
    distances, _ = KDTree(back.means + back.origin).query(means)
    assert distances.max() <= extent / 500
    assert np.abs(back.log_scales - log_scale).max() <= 1 / 16
    assert np.abs(back.alphas() - splats.alphas()[0]).max() <= 1 / 255


@pytest.mark.parametrize("ending", ALL)
def test_extreme_numbers_stay_finite(tmp_path: Path, ending: str) -> None:
    splats = colorful_splats(300)
    splats.log_scales[0], splats.log_scales[1] = 60, -60
    splats.opacities[:2] = 500, -5
    splats.means[2] = 500
    splats.sh_rest[3], splats.sh_dc[4] = 100, -100
    back = through_file(splats, tmp_path / f"scene{ending}").visible()
    assert len(back) == 300


@pytest.mark.parametrize("ending", [".spz", ".sog"])
@pytest.mark.parametrize("antialiased", [False, True])
def test_how_they_are_to_be_drawn_is_kept_where_there_is_a_word_for_it(
    tmp_path: Path, ending: str, antialiased: bool
) -> None:
    splats = colorful_splats(5)
    splats.antialiased = antialiased
    assert through_file(splats, tmp_path / f"a{ending}", "z").antialiased == antialiased


# ------------------------------------------------------------------------------------------------------------ axes


def test_each_format_has_its_own_axes(tmp_path: Path) -> None:
    """A Gaussian above the origin of a run (z up), as programs find it that take the file's numbers as they are."""
    above = colorful_splats(1, 0)
    above.means[:] = 0, 0, 2
    write_splats(above, tmp_path / "a.ply", "z")
    ply = plyfile.PlyData.read(tmp_path / "a.ply")
    assert ply["vertex"]["z"][0] == 2 and ply.comments == ["Vertical Axis: z"]
    write_splats(above, tmp_path / "a.splat", "z")
    assert np.frombuffer((tmp_path / "a.splat").read_bytes(), "<f4", 3).tolist() == [0, -2, 0]  # 3DGS: y down
    write_splats(above, tmp_path / "a.glb", "z")
    points = trimesh.load_scene(tmp_path / "a.glb").dump()[0]
    np.testing.assert_allclose(points.vertices, [[0, 2, 0]], atol=1e-6)  # glTF: y up
    write_splats(above, tmp_path / "a.spz", "z")
    np.testing.assert_allclose(rotated(read_splats(tmp_path / "a.spz")[0], spz.FLIP).means, [[0, 2, 0]], atol=1e-3)


@pytest.mark.parametrize("ending", [".splat", ".compressed.ply", ".sog", ".spz", ".glb"])
def test_unknown_axes_are_left_alone(tmp_path: Path, ending: str) -> None:
    """As in the frame of the photos' own poses: what a reader makes of a file are the numbers that went in."""
    splats = colorful_splats(50)
    back = by_position(through_file(splats, tmp_path / f"a{ending}", None), splats)
    assert np.abs(back.means - splats.means).max() < 0.002


# -------------------------------------------------------------------------------------------------- other programs


@contextmanager
def if_installed() -> Iterator[None]:
    """Skips what needs programs from npm where they are not."""
    try:
        yield
    except NoNodeToolError as missing:
        pytest.skip(str(missing))


def converted(source: Path, output: Path) -> Path:
    """By splat-transform."""
    with if_installed():
        splat_transform(source, output)
    return output


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".ply", ".compressed.ply", ".spz", ".sog", ".splat"])
def test_splat_transform_reads_the_same(tmp_path: Path, ending: str) -> None:
    splats = trained_splats()
    ours = through_file(splats, tmp_path / f"ours{ending}", "-y")
    theirs = read_splats(converted(tmp_path / f"ours{ending}", tmp_path / "theirs.ply"))[0]
    np.testing.assert_allclose(theirs.means, ours.means, atol=1e-5)
    np.testing.assert_allclose(theirs.alphas(), ours.alphas(), atol=1e-4)
    np.testing.assert_allclose(theirs.sh_dc, ours.sh_dc, atol=1e-4)
    np.testing.assert_allclose(theirs.sh_rest, ours.sh_rest, atol=1e-4)
    assert psnr(from_all_sides(theirs), from_all_sides(ours)) > (38 if ending == ".splat" else 60)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".ply", ".compressed.ply", ".spz", ".sog"])
def test_what_splat_transform_writes_is_read(tmp_path: Path, ending: str) -> None:
    splats = trained_splats(2500)
    write_splats(splats, tmp_path / "scene.ply", "-y")
    back = read_splats(converted(tmp_path / "scene.ply", tmp_path / f"theirs{ending}"))[0]
    assert len(back) == len(splats)
    assert psnr(from_all_sides(back), from_all_sides(splats)) > 32


@pytest.mark.slow
def test_splat_transforms_glb_is_read(tmp_path: Path) -> None:
    splats = trained_splats(500)
    write_splats(splats, tmp_path / "scene.ply", "-y")
    path = converted(tmp_path / "scene.ply", tmp_path / "theirs.glb")
    back, _ = read_splats(path)
    np.testing.assert_allclose(back.means, splats.means, atol=1e-6)
    np.testing.assert_allclose(back.sh_rest, splats.sh_rest, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".glb", ".gltf"])
def test_khronos_validator_finds_no_error(tmp_path: Path, ending: str) -> None:
    write_splats(trained_splats(100), tmp_path / f"scene{ending}", "z")
    with if_installed():
        report = gltf_validation(tmp_path / f"scene{ending}")
    # It does not know the extension yet, nor therefore the names of its attributes.
    errors = [message for message in report["issues"]["messages"] if message["severity"] == 0]
    assert [error for error in errors if f"attributes/{EXTENSION}:" not in error.get("pointer", "")] == []
    assert {error["code"] for error in errors} <= {"MESH_PRIMITIVE_INVALID_ATTRIBUTE"}
    assert report["info"]["totalVertexCount"] == 100


def test_programs_that_do_not_know_gaussians_show_coloured_points(tmp_path: Path) -> None:
    splats = colorful_splats(50)
    write_splats(splats, tmp_path / "scene.glb", "-y")
    (points,) = trimesh.load_scene(tmp_path / "scene.glb").dump()
    np.testing.assert_allclose(points.vertices, rotated(splats, TO_Y_UP["-y"]).means, atol=1e-6)
    assert points.colors[:, 3] == pytest.approx(splats.alphas() * 255, abs=1)


# ------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("ending", [*ALL, ".ksplat"])
@pytest.mark.parametrize(
    "contents", [b"", b"NGSP", b"ply\n", b"{}", b"[1]", b"glTF" + bytes(3), b"\x1f\x8b" + bytes(40)]
)
def test_other_files_cost_one_line(tmp_path: Path, ending: str, contents: bytes) -> None:
    path = tmp_path / f"bad{ending}"
    path.write_bytes(contents)
    with pytest.raises(InputError, match=f"bad{ending}") as error:
        read_splats(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", [".spz", ".glb", ".sog", ".compressed.ply", ".splat"])
def test_a_file_cut_off_in_the_middle_is_refused(tmp_path: Path, ending: str) -> None:
    write_splats(colorful_splats(300), tmp_path / f"scene{ending}", "-y")
    contents = (tmp_path / f"scene{ending}").read_bytes()
    (tmp_path / f"half{ending}").write_bytes(contents[: len(contents) // 2 + 1])
    with pytest.raises(InputError, match=f"half{ending}"):
        read_splats(tmp_path / f"half{ending}")


def test_every_ending_is_known_in_capitals_too(tmp_path: Path) -> None:
    for ending in FORMATS:
        write_splats(colorful_splats(5), tmp_path / f"A{ending.upper()}", "-y")
        assert len(read_splats(tmp_path / f"A{ending.upper()}")[0]) == 5
