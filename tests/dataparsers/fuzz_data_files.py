# SPDX-License-Identifier: Apache-2.0
"""Damaged files of every kind that a data set has: read, or refused in one line, within a limit of memory and time.

Run by test_damaged_data_files.py in a process of its own, which the limits hold for.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from exr_files import exr_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept_poses import FILES, write_kept
from known_scene import cameras_of
from PIL import Image
from test_arkit_frames import write_scan
from test_colmap import to_binary, write_data_set
from test_llff import write_llff
from test_polycam import write_mesh, write_polycam
from test_recognise import write_transforms
from test_record3d import write_record3d
from test_strecha import write_strecha

from img3d_base.errors import InputError
from img3d_dataparsers.depth.maps import read_depth
from img3d_dataparsers.formats.recognise import posed_photos_in
from img3d_dataparsers.sfm.advice import registration
from img3d_dataparsers.sfm.photo_set import find_photos
from img3d_dataparsers.sfm.solve import kept_solution, posed_photos
from img3d_dataparsers.usable_photos import usable_photos
from img3d_pictures.reading import read_mask

SPARE_BYTES = 1 << 30
"""What a reader may take on top of what the process has when a test begins."""
MAX_SECONDS = 120
"""For one file; a hang detector: they take milliseconds."""
CAMERAS = cameras_of(np.random.default_rng(1), 4)
UNCHECKED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
LIES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**63 - 1, 2**63, 2**64 - 1)
JUNK = (b"", b"\0", b"\xff\xfe", b"nan", b"-1", b"1e999", b"9" * 400, b'"', b"[" * 100_000, b"{", b"\n", b" ", b"\\")


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """Memory and time within which every example has to end."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("this takes too long"))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + SPARE_BYTES
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with a few bytes flipped, with words or counts put in, or cut off."""
    contents = bytearray(whole)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(contents) - 1)))
        match draw(st.sampled_from(["flip", "lie", "lie in 4 bytes", "junk", "cut"])):
            case "flip" if contents:
                contents[at] ^= 1 << draw(st.integers(0, 7))
            case "lie":
                contents[at : at + 8] = struct.pack("<Q", draw(st.sampled_from(LIES)))
            case "lie in 4 bytes":
                contents[at : at + 4] = struct.pack("<I", draw(st.sampled_from(LIES)) & 0xFFFFFFFF)
            case "junk":
                contents[at : at + draw(st.integers(0, 20))] = draw(st.sampled_from(JUNK))
            case "cut":
                del contents[at:]
    return bytes(contents)


def fine(folder: Path) -> None:
    """The data set is read, or refused in one line."""
    signal.alarm(MAX_SECONDS)
    try:
        posed = posed_photos_in(folder, "train")
        if posed is not None:
            photos = usable_photos(posed, 3)
            assert all(np.isfinite(photo.camera_to_world).all() for photo in photos)
            points = posed.read_seed_points()
            assert points is None or (points[0].shape == points[1].shape and points[0].shape[1] == 3)
    except InputError as error:
        assert str(error).isprintable(), error
    finally:
        signal.alarm(0)


def binary_model(folder: Path) -> None:
    write_data_set(folder, CAMERAS, "sparse/0", "images")
    to_binary(folder / "sparse/0")


def with_points(folder: Path, text: bool) -> None:
    write_transforms(folder, CAMERAS)
    path = folder / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "ply_file_path": "points.ply"}))
    header = f"ply\nformat {'ascii' if text else 'binary_little_endian'} 1.0\ncomment a\nelement vertex 9\n"
    names = [
        *(f"property float {axis}\n" for axis in "xyz"),
        *(f"property uchar {c}\n" for c in ("red", "green", "blue")),
    ]
    rows = "1 2 3 4 5 6\n" * 9 if text else ""
    contents = (header + "".join(names) + "end_header\n" + rows).encode()
    (folder / "points.ply").write_bytes(contents + (b"" if text else bytes(9 * 15)))


def with_mesh(folder: Path) -> None:
    write_polycam(folder, CAMERAS)
    write_mesh(folder)


FORMATS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "transforms.json": (lambda folder: write_transforms(folder, CAMERAS), ["transforms.json"]),
    "NeRF-synthetic": (
        lambda folder: write_transforms(folder, CAMERAS, "transforms_train.json"),
        ["transforms_train.json"],
    ),
    "COLMAP, binary": (binary_model, [f"sparse/0/{name}.bin" for name in ("cameras", "images", "points3D")]),
    "COLMAP, text": (
        lambda folder: write_data_set(folder, CAMERAS, "sparse/0", "images"),
        [f"sparse/0/{name}.txt" for name in ("cameras", "images", "points3D")],
    ),
    "LLFF": (lambda folder: write_llff(folder, CAMERAS), ["poses_bounds.npy"]),
    "points, text": (lambda folder: with_points(folder, True), ["points.ply"]),
    "points, binary": (lambda folder: with_points(folder, False), ["points.ply"]),
    "Polycam": (lambda folder: write_polycam(folder, CAMERAS), ["keyframes/corrected_cameras/163000000.json"]),
    "Polycam's mesh": (with_mesh, ["raw.glb", "mesh_info.json"]),
    "Record3D": (lambda folder: write_record3d(folder, CAMERAS), ["metadata.json"]),
    "3D Scanner App": (lambda folder: write_scan(folder, CAMERAS), ["frame_00000.json"]),
    "Strecha": (lambda folder: write_strecha(folder, CAMERAS), ["gt_dense_cameras/0000.jpg.camera"]),
}
"""What writes a data set, and which of its files are damaged."""


@pytest.mark.parametrize("name", FORMATS)
def test_files_of(tmp_path: Path, name: str) -> None:
    write, files = FORMATS[name]
    write(tmp_path)
    wholes = {file: (tmp_path / file).read_bytes() for file in files}

    @settings(max_examples=30 * len(files), deadline=None, database=None, suppress_health_check=UNCHECKED)
    @given(data=st.data())
    def try_out(data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(files))
        (tmp_path / file).write_bytes(data.draw(damaged(wholes[file])))
        fine(tmp_path)
        (tmp_path / file).write_bytes(wholes[file])

    try_out()


DEPTHS = np.arange(1, 12 * 16 + 1).reshape(12, 16)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


DEPTH_MAPS = {
    ".npy": saved(lambda file: np.save(file, DEPTHS.astype(np.float32))),
    ".png": saved(lambda file: Image.fromarray(DEPTHS.astype(np.uint16)).save(file, "PNG")),
    ".tif": saved(lambda file: Image.fromarray(DEPTHS.astype(np.float32)).save(file, "TIFF")),
    ".exr": exr_bytes({"Z": DEPTHS.astype(np.float32)}),
}


def depth_is_fine(path: Path) -> None:
    """The depth map is read, or refused in one line."""
    signal.alarm(MAX_SECONDS)
    try:
        depth = read_depth(path).values
        assert np.isfinite(depth).all() and (depth >= 0).all()
    except InputError as error:
        assert str(error).isprintable(), error
    finally:
        signal.alarm(0)


@pytest.mark.parametrize("suffix", DEPTH_MAPS)
def test_depth_maps(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"depth{suffix}"

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=UNCHECKED)
    @given(contents=damaged(DEPTH_MAPS[suffix]))
    def try_out(contents: bytes) -> None:
        path.write_bytes(contents)
        depth_is_fine(path)

    try_out()


MASKS = {
    suffix: saved(lambda file, kind=kind: Image.fromarray(255 * (DEPTHS % 2).astype(np.uint8)).save(file, kind))
    for suffix, kind in {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}.items()
}


def mask_is_fine(folder: Path) -> None:
    """The photos and the mask of the first one are read, or the mask is left out, or refused in one line."""
    signal.alarm(MAX_SECONDS)
    try:
        posed = posed_photos_in(folder, "train")
        assert posed is not None
        photos = usable_photos(posed, 3)
        assert len(photos) == len(CAMERAS) and all(photo.mask_path is None for photo in photos[1:])
        if photos[0].mask_path is not None:
            assert read_mask(photos[0].mask_path, 64, 48).shape == (48, 64)
        assert find_photos(folder).photos == []  # too small for that, but its masks are looked at
    except InputError as error:
        assert str(error).isprintable(), error
    finally:
        signal.alarm(0)


@pytest.mark.parametrize("suffix", MASKS)
def test_masks(tmp_path: Path, suffix: str) -> None:
    write_transforms(tmp_path, CAMERAS)
    path = tmp_path / "masks" / f"0{suffix}"
    path.parent.mkdir()

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=UNCHECKED)
    @given(contents=damaged(MASKS[suffix]))
    def try_out(contents: bytes) -> None:
        path.write_bytes(contents)
        mask_is_fine(tmp_path)

    try_out()


def test_kept_poses(tmp_path: Path) -> None:
    kept = write_kept(tmp_path)
    photo_set = find_photos(tmp_path)
    wholes = {file: (kept / file).read_bytes() for file in FILES}

    @settings(max_examples=160, deadline=None, database=None, suppress_health_check=UNCHECKED)
    @given(data=st.data())
    def try_out(data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(FILES))
        (kept / file).write_bytes(data.draw(damaged(wholes[file])))
        signal.alarm(MAX_SECONDS)
        solution = kept_solution(photo_set, kept)
        if solution is not None:
            assert registration(solution.report).value
            posed = posed_photos(solution)
            poses = np.stack([frame.camera_to_world for frame in posed.frames])
            assert np.isfinite(poses).all() and len(usable_photos(posed, 3)) == len(poses)
        signal.alarm(0)
        (kept / file).write_bytes(wholes[file])

    try_out()


@pytest.mark.parametrize("side", [5760, 8192, 100_000])
def test_large_depth_maps_in_small_files(tmp_path: Path, side: int) -> None:
    def chunk(name: bytes, contents: bytes) -> bytes:
        return struct.pack(">I", len(contents)) + name + contents + struct.pack(">I", zlib.crc32(name + contents))

    header = chunk(b"IHDR", struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(min((side + 1) * side, 1 << 26)), 1))
    path = tmp_path / "depth.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))
    depth_is_fine(path)


@pytest.mark.parametrize("suffix", DEPTH_MAPS)
def test_depth_maps_that_are_pipes(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"depth{suffix}")
    depth_is_fine(tmp_path / f"depth{suffix}")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to nowhere"])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        *((name, file) for name, (_, files) in FORMATS.items() for file in files),
        ("transforms.json", "images/0.png"),
        ("transforms.json", "masks/0.png"),
    ],
)
def test_what_is_no_file(tmp_path: Path, name: str, file: str, kind: str) -> None:
    FORMATS[name][0](tmp_path)
    path = tmp_path / file
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "link to nowhere":
            path.symlink_to(path)
    fine(tmp_path)
    shutil.rmtree(tmp_path)
