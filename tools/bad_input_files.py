# SPDX-License-Identifier: Apache-2.0
"""Files that are missing, broken, hostile or of another kind, for bad_inputs.py."""

from __future__ import annotations

import gzip
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NESTED = "[" * 100_000
MANY = 2**31 - 1
"""More of anything than the small file that claims it has."""


def splat_columns() -> list[str]:
    """Those of a 3DGS PLY without view-dependent colour."""
    return [*"xyz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", *(f"scale_{i}" for i in range(3))] + [
        f"rot_{i}" for i in range(4)
    ]


def splat_ply(count: int = 100, claimed: int | None = None) -> bytes:
    """A 3DGS PLY of equal Gaussians in a row.

    Args:
        count: How many it has.
        claimed: How many its header says.
    """
    columns = splat_columns()
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count if claimed is None else claimed}\n"
    header += "".join(f"property float {name}\n" for name in columns) + "end_header\n"
    rows = np.zeros((count, len(columns)), "<f4")
    rows[:, 0] = np.arange(count)
    rows[:, columns.index("opacity")] = 2
    rows[:, columns.index("scale_0") : columns.index("scale_0") + 3] = -1
    rows[:, columns.index("rot_0")] = 1
    return header.encode() + rows.tobytes()


def point_ply() -> bytes:
    """A PLY of points, without anything of Gaussians."""
    header = (
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    return header.encode() + b"0 0 0\n"


def ksplat_with_lying_buckets() -> bytes:
    """A .ksplat of 5 kB whose section claims 2^31 full buckets."""
    header = bytearray(4096)
    header[:2] = 0, 1
    struct.pack_into("<4I", header, 4, 1, 1, 1000, 1000)
    struct.pack_into("<H", header, 20, 1)
    section = bytearray(1024)
    struct.pack_into("<4I", section, 0, 1000, 1000, 256, MANY)
    struct.pack_into("<fH2xI", section, 16, 5.0, 12, 32767)
    struct.pack_into("<2IH", section, 32, MANY, 0, 0)
    return bytes(header + section)


def spz(claimed: int, body: bytes) -> bytes:
    """An .spz of version 2, packed.

    Args:
        claimed: Gaussians, by its header.
        body: What follows the header.
    """
    return gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 2, claimed, 0, 12, 0, 0) + body, compresslevel=1)


def splats(folder: Path, ending: str, count: int = 100) -> Path:
    """A sound file of splats, `scene` with this ending, as img3d-export writes it."""
    from img3d_assets.splat_files import read_splats, write_splats

    ply, path = folder / "sound.ply", folder / f"scene{ending}"
    ply.write_bytes(splat_ply(count))
    write_splats(read_splats(ply)[0], path, "z")
    ply.unlink()
    return path


def cut_off(path: Path) -> None:
    """Leave its first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def encrypt(path: Path) -> None:
    """Mark all members of a zip archive as encrypted."""
    contents = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = contents.find(signature)
        while at >= 0:
            contents[at + flags] |= 1
            at = contents.find(signature, at + 4)
    path.write_bytes(contents)


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change what a JSON file holds."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def sog_folder(folder: Path, change: Callable[[Any], object]) -> None:
    """A SOG as a folder, whose meta.json is changed."""
    path = splats(folder, ".sog")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "sog")
    path.unlink()
    edit_json(folder / "sog" / "meta.json", change)


def write_photos(folder: Path, count: int, keep_bytes: int | None = None) -> None:
    """Photos of noise.

    Args:
        folder: Where to write 000.png and so on.
        count: How many.
        keep_bytes: Cut each off after so many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i:03d}.png"
        Image.fromarray(random.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:keep_bytes])


def transforms(count: int = 6, **changes: Any) -> dict[str, Any]:
    """Of photos that look at the origin from a circle; a change to None leaves a key out."""
    frames = []
    for i in range(count):
        angle = 2 * np.pi * i / count
        back = np.array([np.cos(angle), np.sin(angle), 0.0])
        right = np.array([-np.sin(angle), np.cos(angle), 0.0])
        pose = np.eye(4)
        pose[:3] = np.stack([right, [0.0, 0.0, 1.0], back, 3 * back], axis=1)
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": pose.tolist()})
    meta = {"fl_x": 120.0, "fl_y": 120.0, "cx": 64, "cy": 48, "w": 128, "h": 96, "frames": frames, **changes}
    return {key: value for key, value in meta.items() if value is not None}


def write_posed(folder: Path, **changes: Any) -> None:
    """Photos with a transforms.json."""
    write_photos(folder / "images", 6)
    (folder / "transforms.json").write_text(json.dumps(transforms(**changes)))


def write_lying_colmap(folder: Path) -> None:
    """A COLMAP model whose cameras.bin claims 2^63 cameras."""
    write_photos(folder / "images", 6)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    for name in ("cameras", "images", "points3D"):
        (model / f"{name}.bin").write_bytes(struct.pack("<Q", 2**63))


def write_lying_llff(folder: Path) -> None:
    """LLFF photos whose poses_bounds.npy claims a trillion rows."""
    write_photos(folder / "images", 6)
    header = repr({"descr": "<f8", "fortran_order": False, "shape": (10**12, 17)}).encode()
    header += b" " * (117 - len(header)) + b"\n"
    (folder / "poses_bounds.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def fifo(path: Path) -> None:
    """A pipe that nobody writes to: who opens it waits for ever."""
    os.mkfifo(path)
