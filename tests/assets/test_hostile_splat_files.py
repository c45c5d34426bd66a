# SPDX-License-Identifier: Apache-2.0
"""Splat files that lie cost one line: no memory to speak of, no time, and nothing from outside their folders.

They are read in a process of its own that may take one GiB more than it has when it begins (`limited_reading`).
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from limited_reading import read_limited
from splat_scenes import colorful_splats
from test_foreign_splat_files import columns_of, write_ply
from test_ksplat import ksplat

from img3d_assets.splat_files import write_splats
from img3d_assets.splat_formats.sog import sog_files

GOOD = [".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".glb", ".gltf", ".ksplat"]
EXAMPLES = 40
"""Of damaged files of each format."""


def write_good(folder: Path) -> None:
    """One file of each format, of two where there are two."""
    splats = colorful_splats(70, 1)
    for ending in GOOD:
        if ending != ".ksplat":
            write_splats(splats, folder / f"good{ending}", "-y")
    write_ply(folder / "good_text.ply", columns_of(colorful_splats(5, 0)), text=True)
    for level in (0, 1):
        (folder / f"good{level}.ksplat").write_bytes(ksplat(splats, level))
    contents = (folder / "good.spz").read_bytes()
    raw, start = b"", 32 + 16 * contents[15]
    for i in range(contents[15]):
        few, _ = struct.unpack_from("<QQ", contents, 32 + 16 * i)
        raw, start = raw + zstandard.decompress(contents[start : start + few]), start + few
    header = contents[:4] + struct.pack("<I", 3) + contents[8:15] + b"\0"
    (folder / "good3.spz").write_bytes(gzip.compress(header + raw, mtime=0))


# ------------------------------------------------------------------------------------------------- files that lie


def ksplat_that(changes: dict[int, int]) -> Callable[[Path], None]:
    """Of compression level 1, with 4-byte numbers changed at these places."""

    def write(path: Path) -> None:
        contents = bytearray(ksplat(colorful_splats(300, 1), 1))
        for place, value in changes.items():
            contents[place : place + 4] = struct.pack("<I", value)
        path.write_bytes(contents)

    return write


def gltf_that(change: Callable[[dict[str, Any], Path], object]) -> Callable[[Path], None]:
    """A glTF whose JSON is changed."""

    def write(path: Path) -> None:
        write_splats(colorful_splats(100, 0), path, "-y")
        scene = json.loads(path.read_text())
        change(scene, path.parent)
        path.write_text(json.dumps(scene))

    return write


def strided(stride: int, count: int) -> Callable[[Path], None]:
    def change(scene: dict[str, Any], folder: Path) -> None:
        for view, accessor in zip(scene["bufferViews"], scene["accessors"], strict=True):
            view["byteStride"], accessor["count"] = stride, count

    return gltf_that(change)


def counted(count: object) -> Callable[[Path], None]:
    return gltf_that(lambda scene, folder: [accessor.update(count=count) for accessor in scene["accessors"]])


def buffered(uri: str) -> Callable[[Path], None]:
    return gltf_that(lambda scene, folder: scene["buffers"][0].update(uri=uri.format(folder=folder)))


def many_instances(scene: dict[str, Any], folder: Path) -> None:
    scene["nodes"] = [{"mesh": 0}] * 900
    scene["scenes"][0]["nodes"] = list(range(900))
    num = 60_000  # in as many bytes as one attribute has, 900 times over
    scene["buffers"][0]["uri"] = "zeros.bin"
    (folder / "zeros.bin").write_bytes(bytes(16 * num))
    for view, accessor in zip(scene["bufferViews"], scene["accessors"], strict=True):
        view["byteOffset"], view["byteLength"], accessor["count"] = 0, 16 * num, num


def many_children(scene: dict[str, Any], folder: Path) -> None:
    scene["nodes"] = [{"children": [1] * 200_000}] + [{}] * 50_000


def many_primitives(scene: dict[str, Any], folder: Path) -> None:
    scene["meshes"][0]["primitives"] *= 100_000


def sog_of(meta: Callable[[dict[str, Any]], object], **files: bytes) -> Callable[[Path], None]:
    """A bundle whose meta.json and pictures are changed."""

    def write(path: Path) -> None:
        contents = sog_files(colorful_splats(100, 1))
        value = json.loads(contents.pop("meta.json"))
        changed = meta(value)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("meta.json", json.dumps(value if changed is None else changed))
            for name, picture in contents.items():
                archive.writestr(name, files.get(name.partition(".")[0], picture))

    return write


def sog_folder_of(part: str, name: str) -> Callable[[Path], None]:
    """A folder whose meta.json names something else as a picture."""

    def write(path: Path) -> None:
        path.mkdir()
        for file, picture in sog_files(colorful_splats(100, 0)).items():
            for place in (path, path.parent):  # outside as well
                (place / file).write_bytes(picture)
        os.mkfifo(path / "fifo.webp")
        (path / "zero.webp").symlink_to("/dev/zero")
        (path / "linked.webp").symlink_to(path.parent / "means_l.webp")
        meta = json.loads((path / "meta.json").read_text())
        meta[part]["files"][0] = name.format(folder=path.parent)
        (path / "meta.json").write_text(json.dumps(meta))

    return write


def encrypted(path: Path) -> None:
    sog_of(lambda meta: None)(path)
    contents = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = contents.find(header)
        while place >= 0:
            contents[place + flags] |= 1
            place = contents.find(header, place + 4)
    path.write_bytes(contents)


def with_member(name: str, megabytes: int, part: bytes) -> Callable[[Path], None]:
    """A zip archive with a bomb of a member."""

    def write(path: Path) -> None:
        sog_of(lambda meta: None)(path)
        with zipfile.ZipFile(path) as archive:
            files = {each: archive.read(each) for each in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for each, contents in files.items():
                if each != name:
                    archive.writestr(each, contents)
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(b'{"means": [0')
                for _ in range(megabytes):
                    file.write(part * ((1 << 20) // len(part)))

    return write


def wide_picture(width: int, height: int) -> bytes:
    """The beginning of a lossless WebP."""
    bits = struct.pack("<BI", 0x2F, (width - 1) | (height - 1) << 14)
    chunk = b"VP8L" + struct.pack("<I", 100) + bits + bytes(95)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def spz_that_claims(num: int, version: int, megabytes: int = 0) -> Callable[[Path], None]:
    """With so many megabytes of zeros, which take a thousandth of that or less."""

    def write(path: Path) -> None:
        zeros = bytes(1 << 20)
        header = struct.pack("<4sIIBBBB", b"NGSP", version, num, 0, 12, 0, 5 if version == 4 else 0)
        if version < 4:
            packer = zlib.compressobj(1, wbits=31)
            parts = [packer.compress(header), *(packer.compress(zeros) for _ in range(megabytes)), packer.flush()]
            path.write_bytes(b"".join(parts))
            return
        sizes = [num * each for each in (9, 1, 3, 3, 4)]
        frame = zstandard.ZstdCompressor().compressobj()
        packed = b"".join([*(frame.compress(zeros) for _ in range(megabytes)), frame.flush()])
        table = b"".join(struct.pack("<QQ", len(packed), size) for size in sizes)
        path.write_bytes(header + struct.pack("<I12x", 32) + table + packed * 5)

    return write


def ply_of(form: str, count: object, element: str = "vertex") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        header = f"ply\nformat {form} 1.0\n"
        if element == "chunk":
            header += f"element chunk {count}\nproperty float min_x\nelement vertex 10\nproperty uint packed_position\n"
        else:
            header += f"element vertex {count}\n" + "".join(f"property float {name}\n" for name in columns_of(SPLATS))
        path.write_bytes(f"{header}end_header\n".encode() + b"0 " * 100)

    return write


def sparse(header: bytes, gigabytes: int) -> Callable[[Path], None]:
    """A file that takes no room on the disk."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(header)
            file.truncate(gigabytes << 30)

    return write


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def of_bytes(contents: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(contents) and None


SPLATS = colorful_splats(1, 0)
BRACKETS = b"[" * 100_000
GLB_OF_BRACKETS = struct.pack("<5I", 0x46546C67, 2, 20 + len(BRACKETS), len(BRACKETS), 0x4E4F534A) + BRACKETS
SECTION = 4096
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    # name: what writes it, and a part of the line that it costs
    "splats.ksplat": (ksplat_that({16: 1 << 31}), "claims to have 2,147,483,648"),
    "section.ksplat": (ksplat_that({16: 300, SECTION: 1 << 31, SECTION + 4: 1 << 31}), "cut off or damaged"),
    "capacity.ksplat": (ksplat_that({SECTION: 400}), "400 of 150"),
    "sections.ksplat": (ksplat_that({4: 1 << 31}), "does not have the header of a .ksplat"),
    "no_section.ksplat": (ksplat_that({4: 0}), "does not have the header of a .ksplat"),
    "full_28.ksplat": (ksplat_that({SECTION + 32: 1 << 28}), "268,435,456 full"),
    "full_31.ksplat": (ksplat_that({SECTION + 32: 1 << 31}), "2,147,483,648 full"),
    "partial.ksplat": (ksplat_that({SECTION + 36: 1 << 31}), "cut off or damaged"),
    "buckets.ksplat": (ksplat_that({SECTION + 12: 1 << 31, SECTION + 32: 1 << 31}), "cut off or damaged"),
    "no_bucket.ksplat": (ksplat_that({SECTION + 12: 0}), "1 partial buckets of 0"),
    "bucket_bytes.ksplat": (ksplat_that({SECTION + 20: 0, SECTION + 12: 1 << 31}), "buckets have 0 bytes"),
    "stride_0.gltf": (strided(0, 1_000_000), "and stride 0"),
    "stride_0_many.gltf": (strided(0, 50_000_000), "made to fill the memory"),
    "stride_0_more.gltf": (strided(0, 10**12), "claims to have 1,000,000,000,000"),
    "stride_1.gltf": (strided(1, 3000), "and stride 1"),
    "stride_negative.gltf": (strided(-16, 100), "and stride -16"),
    "count.gltf": (counted(10**9), "claims to have 1,000,000,000"),
    "count_less.gltf": (counted(90_000_000), "made to fill the memory"),
    "count_nan.gltf": (counted(float("nan")), "does not say how many"),
    "offset.gltf": (gltf_that(lambda scene, folder: scene["bufferViews"][0].update(byteOffset=-8)), "has offset -8"),
    "circle.gltf": (gltf_that(lambda scene, folder: scene["nodes"][0].update(children=[0])), "has two parents"),
    "children.gltf": (gltf_that(many_children), "has two parents"),
    "instances.gltf": (gltf_that(many_instances), "made to fill the memory"),
    "primitives.gltf": (gltf_that(many_primitives), "more than 1,000 parts"),
    "parent.gltf": (buffered("../secret.bin"), "may not lead out"),
    "encoded.gltf": (buffered("%2e%2e/secret.bin"), "may not lead out"),
    "absolute.gltf": (buffered("{folder}/secret.bin"), "may not lead out"),
    "linked.gltf": (buffered("linked.bin"), "links to a file outside"),
    "fifo_within.gltf": (buffered("fifo.bin"), "is a pipe"),
    "device_within.gltf": (buffered("zero.bin"), "is a pipe, socket or device"),
    "file_address.gltf": (buffered("file:///etc/hostname"), "cannot be read"),
    "web_address.gltf": (buffered("https://example.com/x.bin"), "cannot be read"),
    "brackets.gltf": (of_bytes(b'{"a":' + BRACKETS), "nested more than|not valid JSON"),
    "brackets.glb": (of_bytes(GLB_OF_BRACKETS), "nested more than|not valid JSON"),
    "length.glb": (of_bytes(struct.pack("<5I", 0x46546C67, 2, 100, 1 << 31, 0x4E4F534A)), "cut off or damaged"),
    "values.gltf": (of_bytes(b'{"a":[' + b"{}," * 9_000_000), "values in its JSON"),
    "bomb.sog": (with_member("meta.json", 60, bytes(1 << 20)), "unpacks to more than"),
    "numbers.sog": (with_member("meta.json", 60, b",0.5"), "unpacks to more than"),
    "picture_bomb.sog": (with_member("means_l.webp", 60, bytes(1 << 20)), "unpacks to more than"),
    "wide.sog": (sog_of(lambda meta: None, means_l=wide_picture(13000, 13000)), "13000 x 13000 pixels"),
    "wide_palette.sog": (sog_of(lambda meta: None, shN_centroids=wide_picture(16000, 16000)), "16000 x 16000 pixels"),
    "no_picture.sog": (sog_of(lambda meta: None, quats=b"RIFF" + bytes(40)), "not a valid WebP"),
    "count.sog": (sog_of(lambda meta: meta.update(count=10**12)), "claims to have 1,000,000,000,000"),
    "count_less.sog": (sog_of(lambda meta: meta.update(count=90_000_000)), "made to fill the memory"),
    "negative.sog": (sog_of(lambda meta: meta.update(count=-5)), "does not say how many"),
    "nan.sog": (sog_of(lambda meta: meta.update(count=float("nan"))), "does not say how many"),
    "infinite.sog": (sog_of(lambda meta: meta.update(count=float("inf"))), "does not say how many"),
    "list.sog": (sog_of(lambda meta: [1]), "has no means"),
    "string.sog": (sog_of(lambda meta: "means"), "has no means"),
    "codebook.sog": (sog_of(lambda meta: meta["sh0"].update(codebook=[[0] * 1000] * 256)), "not a list of at most 256"),
    "names.sog": (sog_of(lambda meta: meta["means"].update(files=["../../a\n.webp", "/b.webp"])), "has no '../../a"),
    "number_name.sog": (sog_of(lambda meta: meta["means"].update(files=[1, 2])), "where the name of a picture"),
    "encrypted.sog": (encrypted, "encrypted"),
    "brackets.sog": (sog_of(lambda meta: json.loads("[" * 900 + "]" * 900)), "nested more than"),
    "brackets.json": (of_bytes(b'{"means":' + BRACKETS), "nested more than|not valid JSON"),
    "parent_folder": (sog_folder_of("means", "../means_l.webp"), "may not lead out"),
    "absolute_folder": (sog_folder_of("means", "{folder}/means_l.webp"), "may not lead out"),
    "linked_folder": (sog_folder_of("means", "linked.webp"), "links to a file outside"),
    "fifo_within_folder": (sog_folder_of("means", "fifo.webp"), "is a pipe"),
    "device_within_folder": (sog_folder_of("quats", "zero.webp"), "is a pipe, socket or device"),
    "claims.spz": (spz_that_claims(10**9, 3), "claims to have 1,000,000,000"),
    "claims_most.spz": (spz_that_claims(4 * 10**9, 3), "claims to have 4,000,000,000"),
    "bomb.spz": (spz_that_claims(90_000_000, 3, 60), "made to fill the memory"),
    "claims_4.spz": (spz_that_claims(10**9, 4), "claims to have 1,000,000,000"),
    "bomb_4.spz": (spz_that_claims(90_000_000, 4, 60), "made to fill the memory"),
    "frame_4.spz": (spz_that_claims(1000, 4, 60), "unpacks to more than 9,000 bytes"),
    "little.ply": (ply_of("binary_little_endian", 10**12), "cut off or damaged"),
    "big.ply": (ply_of("binary_big_endian", 10**12), "cut off or damaged"),
    "huge.ply": (ply_of("binary_little_endian", 10**30), "cut off or damaged"),
    "negative.ply": (ply_of("binary_little_endian", -5), "cut off or damaged"),
    "text.ply": (ply_of("ascii", 10**12), "cut off or damaged"),
    "chunks.compressed.ply": (ply_of("binary_little_endian", 10**12, "chunk"), "cut off or damaged"),
    "sparse.splat": (sparse(b"", 20), "at most 100,000,000 are read"),
    "sparse.ply": (
        sparse(b"ply\nformat binary_little_endian 1.0\nelement vertex 1600000000\nproperty float x\nend_header\n", 20),
        "are too many: at most 100,000,000 are read",
    ),
    **{f"fifo{ending}": (fifo, "is a pipe") for ending in (*GOOD, ".json")},
    **{f"device{ending}": (device, "is a pipe, socket or device") for ending in (*GOOD, ".json")},
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of all hostile files, which lie in a folder beside what they may not read, and of damaged ones."""
    folder = tmp_path_factory.mktemp("outside") / "files"
    folder.mkdir()
    write_good(folder)
    numbers = np.zeros(100_000, np.uint8).tobytes()
    (folder.parent / "secret.bin").write_bytes(numbers)
    (folder / "secret.bin").write_bytes(numbers)
    (folder / "linked.bin").symlink_to(folder.parent / "secret.bin")
    os.mkfifo(folder / "fifo.bin")
    (folder / "zero.bin").symlink_to("/dev/zero")
    for name, (write, _) in HOSTILE.items():
        write(folder / name)
    return read_limited(folder, EXAMPLES, HOSTILE)


@pytest.mark.parametrize("name", HOSTILE)
def test_costs_one_line(reports: dict[str, dict[str, Any]], name: str) -> None:
    report = reports[name]
    assert report["outcome"] == "refused", report["line"]
    assert any(part in report["line"] for part in HOSTILE[name][1].split("|")), report["line"]


def test_damaged_files_cost_one_line_or_some_gaussians(reports: dict[str, dict[str, Any]]) -> None:
    good = {name: report for name, report in reports.items() if name.startswith("good")}
    assert len(good) == len(GOOD) + 3
    for name, report in good.items():
        assert report["outcome"] == "right", f"{name}: {report['line']}"
