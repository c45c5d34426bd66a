# SPDX-License-Identifier: Apache-2.0
"""Every splat format by the ending of its files: what reads them and what writes them.

A run's Gaussians have z up. A PLY can say so and keeps its numbers; programs that open the other formats expect 3DGS's
axes (x right, y down, z forward), or those that the format prescribes, and get them.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import plyfile
import zstandard
from PIL import Image

from img3d_assets.axes import TO_Y_UP, UpAxis
from img3d_base.errors import InputError
from img3d_base.output_files import check_free, written_whole
from img3d_exporters.formats import antimatter_splat, compressed_ply, gltf, ksplat, ply, sog, spz
from img3d_exporters.frames import rotated
from img3d_methods.splats import Splats

DAMAGED = (
    *(OSError, EOFError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, MemoryError),
    *(struct.error, zlib.error, zipfile.BadZipFile, NotImplementedError),
    *(zstandard.ZstdError, plyfile.PlyParseError, Image.DecompressionBombError),
)
"""What readers raise on files that are not what their names say."""


@dataclass
class Format:
    """A kind of file."""

    read: Callable[[Path], Splats]
    """In the axes of 3DGS."""
    write: Callable[[Splats, BinaryIO], None] | None
    """Takes at least one Gaussian, all finite, in the axes of 3DGS; None if we do not write it."""


FORMATS: dict[str, Format] = {
    ".compressed.ply": Format(compressed_ply.read, compressed_ply.write),
    ".splat": Format(antimatter_splat.read, antimatter_splat.write),
    ".spz": Format(spz.read, spz.write),
    ".sog": Format(sog.read, sog.write),
    "meta.json": Format(sog.read, None),
    ".glb": Format(gltf.read, gltf.write_glb),
    ".gltf": Format(gltf.read, gltf.write_gltf),
    ".ksplat": Format(ksplat.read, None),
}
"""All but the PLY, which alone says which axis is up."""
PLY = ".ply"


def read_splats(path: Path) -> tuple[Splats, UpAxis]:
    """The Gaussians of a splat file of any format, and the axis that points up in it.

    Raises:
        InputError: It is not what its name says, cut off or damaged.
    """
    name = path.name.lower()
    format_ = _format(name)
    if format_ is None and not name.endswith(PLY):
        raise InputError(f"{path} has an unknown ending: splat files end in {_endings(FORMATS)}.")
    try:
        if format_ is None:
            return ply.read(path)
        return format_.read(path), "-y"
    except DAMAGED as error:
        kind = "a damaged file" if isinstance(error, LookupError) else str(error).partition("\n")[0]
        raise InputError(f"{path} cannot be read: {kind or type(error).__name__}.") from error


def check_output(path: Path, force: bool) -> None:
    """Raises InputError where the file may not be written, before anything that takes long."""
    name = path.name.lower()
    format_ = _format(name)
    if not name.endswith(PLY) and (format_ is None or format_.write is None):
        written = _endings({ending: each for ending, each in FORMATS.items() if each.write})
        raise InputError(f"{path} has an ending that img3d-export splat does not write: it writes {written}.")
    check_free(path, force)


def in_3dgs_axes(splats: Splats, up: UpAxis | None) -> Splats:
    """Turned so that -y is up; as they are if nobody knows what is."""
    return splats if up in (None, "-y") else rotated(splats, TO_Y_UP["-y"].T @ TO_Y_UP[up])


def write_splats(splats: Splats, path: Path, up: UpAxis | None) -> None:
    """Writes the file whole, or not at all, in the format of its ending.

    Args:
        splats: N Gaussians, all finite.
        path: Its folder is made.
        up: The axis that points up; None if that is not known: then they are taken to be in the axes of 3DGS.

    Raises:
        InputError: It cannot be written, or there is nothing to write.
    """
    if len(splats) == 0:
        raise InputError(f"There are no Gaussians to write to {path}.")
    format_ = _format(path.name.lower())
    if format_ is not None:
        splats = in_3dgs_axes(splats, up)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        if format_ is None:
            ply.write(splats, file, up)
        else:
            assert format_.write is not None  # check_output says so
            format_.write(splats, file)


def _format(name: str) -> Format | None:
    return next((format_ for ending, format_ in FORMATS.items() if name.endswith(ending)), None)


def _endings(formats: dict[str, Format]) -> str:
    return ", ".join([PLY, *formats])
