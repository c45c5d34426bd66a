# SPDX-License-Identifier: Apache-2.0
"""Uploaded files: limited in size and number, checked by their content, and stored completely or not at all."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from img3d_base.atomic_files import write_atomically
from img3d_base.errors import InputError, counted
from img3d_base.foreign_files import open_regular, shown
from img3d_pictures.opening import IMAGE_SUFFIXES, open_picture

FileKind = Literal["picture", "video", "splats", "mesh", "part"]
"""What a file is; a part belongs to a mesh (materials of an OBJ, buffers of a glTF)."""
InputKind = Literal["photos", "video", "image", "splats", "mesh", "text"]
"""What a run is made from."""

MAX_FILES = 2_000
MAX_FILE_BYTES: dict[FileKind, int] = {
    "picture": 200 << 20,
    "video": 4 << 30,
    "splats": 2 << 30,
    "mesh": 1 << 30,
    "part": 1 << 30,
}
MAX_RUN_BYTES = 8 << 30
MIN_FREE_BYTES = 1 << 30
"""Space on the disk that uploads leave free."""
MAX_NAME_LENGTH = 150
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
SPLAT_SUFFIXES = (".ply", ".splat", ".ksplat", ".spz", ".sog")
MESH_SUFFIXES = (".obj", ".glb", ".gltf", ".ply", ".stl", ".usdz", ".fbx")
PART_SUFFIXES = (".mtl", ".bin")
SUFFIXES = tuple(dict.fromkeys((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *SPLAT_SUFFIXES, *MESH_SUFFIXES, *PART_SUFFIXES)))
"""Endings of all files that can be uploaded."""


def checked_name(name: str) -> str:
    """Returns the name of an upload if it is a plain file name with a supported ending.

    Raises:
        InputError: It is not.
    """
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable() or name.startswith("."):
        raise InputError(f"{shown(name)} cannot be the name of an upload: rename the file")
    if "/" in name or "\\" in name or Path(name).name != name:
        raise InputError(f"{shown(name)} is not a plain file name")
    if not name.lower().endswith(SUFFIXES):
        raise InputError(f"{name}: files of this kind cannot be used; these can: {', '.join(SUFFIXES)}")
    return name


async def receive(stream: AsyncIterator[bytes], folder: Path, name: str) -> FileKind:
    """Stores an upload, after its content has been checked.

    Args:
        stream: The content.
        folder: The folder to store it in.
        name: Its file name.

    Returns:
        The kind of file.

    Raises:
        InputError: The name is unsuitable, the run has too many files, the file is too large or not what its name says,
            or the disk is full.
    """
    path = folder / checked_name(name)
    files = stored_files(folder)
    if path not in files and len(files) >= MAX_FILES:
        raise InputError(f"{MAX_FILES:,} files are the most that a run can have")
    limit = min(_largest(name), MAX_RUN_BYTES - sum(file.stat().st_size for file in files))
    space = shutil.disk_usage(folder).free - MIN_FREE_BYTES
    try:
        with write_atomically(path) as temporary:
            size = 0
            with temporary.open("wb") as file:
                async for chunk in stream:
                    size += len(chunk)
                    if size > limit:
                        raise InputError(f"{name} is too large: at most {limit >> 20:,} MiB of it can be stored")
                    if size > space:
                        raise InputError(f"{name} does not fit on the disk: {max(space, 0) >> 20:,} MiB are free")
                    file.write(chunk)
            # Readers depend on the ending, and messages should name the file as the user does.
            checked = temporary.with_name(f".checking-{name}")
            temporary.rename(checked)
            try:
                kind = kind_of_file(checked)
            except InputError as error:
                raise InputError(str(error).replace(str(checked), name)) from error
            finally:
                checked.rename(temporary)
            return kind
    except OSError as error:
        raise InputError(f"{name} cannot be stored: {error.strerror or error}") from error


def _largest(name: str) -> int:
    """Maximum size of a file of this name, in bytes."""
    suffix = Path(name).suffix.lower()
    kinds: list[tuple[FileKind, Sequence[str]]] = [
        ("picture", IMAGE_SUFFIXES),
        ("video", VIDEO_SUFFIXES),
        ("splats", SPLAT_SUFFIXES),
        ("mesh", MESH_SUFFIXES),
        ("part", PART_SUFFIXES),
    ]
    return max(MAX_FILE_BYTES[kind] for kind, suffixes in kinds if suffix in suffixes)


def stored_files(folder: Path) -> list[Path]:
    """The uploads in a folder."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.endswith(".tmp"))


def kind_of_file(path: Path) -> FileKind:
    """The kind of a file, by its ending and the beginning of its content.

    Raises:
        InputError: It is damaged, or not what its ending says.
    """
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        with open_picture(path):
            return "picture"
    if suffix in VIDEO_SUFFIXES:
        if not _is_video(path):
            raise InputError(f"{path} is not a video")
        return "video"
    if suffix in PART_SUFFIXES:
        return "part"
    from img3d_assets.mesh_files import is_mesh  # late: it takes seconds to import

    if is_mesh(path):
        return "mesh"
    from img3d_assets.splat_formats.recognise import kind_of

    kind_of(path)
    return "splats"


def _is_video(path: Path) -> bool:
    with open_regular(path) as file:
        start = file.read(12)
    mp4 = start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    avi = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    return mp4 or avi or start[:4] == b"\x1a\x45\xdf\xa3"  # Matroska, WebM


def input_of(files: Sequence[Path], text: str = "") -> tuple[InputKind, Path | None]:
    """The kind of input that files, or else a text, make together, and the file of it (None for photos and a text).

    Raises:
        InputError: There are neither files nor a text, or the files do not belong together.
    """
    if not files:
        if text.strip():
            return "text", None
        raise InputError("Add photos, a video, an image, or a file of splats or a mesh first")
    kinds: dict[Path, FileKind] = {path: kind_of_file(path) for path in files}
    counts = Counter(kinds.values())
    for kind in ("mesh", "splats", "video"):
        if counts[kind]:
            companions = counts["picture"] + counts["part"] if kind == "mesh" else 0
            if counts[kind] > 1 or len(files) > 1 + companions:
                raise InputError(f"{_listed(counts)} do not make one scene: remove all but one kind")
            return kind, next(path for path in files if kinds[path] == kind)
    if counts["part"]:
        raise InputError("The mesh itself is missing: add the .obj or .gltf file")
    if counts["picture"] == 1:
        return "image", files[0]
    return "photos", None


def _listed(counts: Mapping[FileKind, int]) -> str:
    nouns: dict[FileKind, tuple[str, str]] = {
        "picture": ("picture", "pictures"),
        "video": ("video", "videos"),
        "splats": ("splat file", "splat files"),
        "mesh": ("mesh", "meshes"),
        "part": ("part of a mesh", "parts of a mesh"),
    }
    return " and ".join(counted(counts[kind], *nouns[kind]) for kind in nouns if counts[kind])
