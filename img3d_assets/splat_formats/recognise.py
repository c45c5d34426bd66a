# SPDX-License-Identifier: Apache-2.0
"""Recognising splat formats by contents; by the file's ending only if the format has no magic number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from img3d_assets import gltf_arrays
from img3d_assets.splat_formats import antimatter_splat, ksplat, sog, spz
from img3d_base.errors import InputError
from img3d_base.foreign_files import LFS_POINTER, NOT_FETCHED, begin_gunzip, open_regular, parse_json, read_bytes

Kind = Literal["ply", "splat", "ksplat", "spz", "sog", "gltf"]
ZIP = b"PK\x03\x04", b"PK\x05\x06"
BY_ENDING: dict[str, Kind] = {
    **{".ply": "ply", ".splat": "splat", ".ksplat": "ksplat", ".spz": "spz", ".sog": "sog", ".zip": "sog"},
    **{".glb": "gltf", ".gltf": "gltf", ".json": "sog"},
}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def splat_file(path: Path) -> Path:
    """The file to read: the path itself, or the meta.json of a SOG that is a folder.

    Raises:
        InputError: A folder has no SOG in it, or several.
    """
    if not path.is_dir():
        return path
    found = [each for each in (path / sog.META, *sorted(path.glob(f"*/{sog.META}"))) if each.is_file()]
    if not found:
        raise InputError(f"{path} is a folder without a {sog.META} in it, hence not a SOG: give a splat file")
    if found[0].parent != path and len(found) > 1:
        raise InputError(f"{path} has several SOGs in it: give one of them, such as {found[0]}")
    return found[0]


def kind_of(path: Path) -> Kind:
    """The format of a file.

    Raises:
        InputError: It cannot be read, or its format is unknown.
    """
    with open_regular(path) as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(ksplat.HEADER)
    if size == 0:
        raise InputError(f"{path} is empty")
    if start.startswith(LFS_POINTER):
        raise InputError(f"{path} is {NOT_FETCHED}")
    ending = path.suffix.lower()
    if start[:3] == b"ply" and start[3:4] in (b"\n", b"\r", b" "):
        return "ply"
    if start.startswith(gltf_arrays.MAGIC):
        return "gltf"
    if start.startswith(ZIP):
        return "sog"
    if start.startswith(spz.MAGIC) or _holds_spz(start):
        return "spz"
    if _is_json(start):
        return "sog" if size <= sog.MAX_META_BYTES and _describes_sog(path) else "gltf"
    is_splat = antimatter_splat.looks_like(path)
    if ksplat.looks_like(start, size) and not (is_splat and ending == ".splat"):
        return "ksplat"
    if start.startswith(spz.GZIP) and not is_splat and ending != ".spz":
        raise InputError(f"{path} is compressed with gzip, but is not an SPZ: unpack it, and give the splat file in it")
    if is_splat or ending in BY_ENDING:  # its reader reports what is wrong
        return "splat" if is_splat else BY_ENDING[ending]
    raise InputError(f"{path} is damaged, or not a splat file of a known format: PLY, SPZ, SOG, glTF, .splat, .ksplat")


def _holds_spz(start: bytes) -> bool:
    try:
        return start.startswith(spz.GZIP) and begin_gunzip(start, len(spz.MAGIC), "") == spz.MAGIC
    except InputError:
        return False


def _is_json(start: bytes) -> bool:
    text = start.removeprefix(BYTE_ORDER_MARK).lstrip()
    return text[:1] == b"{" and not any(byte < 32 and byte not in b"\t\n\r" for byte in text)


def _describes_sog(path: Path) -> bool:
    meta = parse_json(read_bytes(path, sog.MAX_META_BYTES), str(path))
    return "means" in meta or "lodLevels" in meta or ("asset" not in meta and path.suffix.lower() == ".json")
