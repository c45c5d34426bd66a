# SPDX-License-Identifier: Apache-2.0
"""Reading splat files of every format, recognised by contents, and writing them, by ending.

A run's Gaussians have z up. PLY can declare that and keeps coordinates; for the other formats they are rotated to the
axes that programs expect: those of 3DGS (x right, y down, z forward), or those that the format prescribes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from img3d_assets.axes import TO_Y_UP, UpAxis
from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_editing.selection import without_outliers
from img3d_assets.splat_formats import antimatter_splat, compressed_ply, gltf, ksplat, ply, sog, spz
from img3d_assets.splat_formats.recognise import Kind, kind_of, splat_file
from img3d_base import output_files
from img3d_base.errors import InputError
from img3d_base.foreign_files import MALFORMED, reason
from img3d_base.output_files import written_whole
from img3d_base.ply_tables import read_ply

PLY_ELEMENTS = ("vertex", "chunk", "sh")


@dataclass
class Format:
    """How files of one ending are written."""

    write: Callable[[Gaussians, BinaryIO], None]
    """Writes at least one Gaussian, all finite, in the axes of 3DGS."""
    bounded: bool = False
    """Whether positions are quantised over their bounding box."""


FORMATS: dict[str, Format] = {
    ".compressed.ply": Format(compressed_ply.write, bounded=True),
    ".splat": Format(antimatter_splat.write),
    ".spz": Format(spz.write, bounded=True),
    ".sog": Format(sog.write, bounded=True),
    ".glb": Format(gltf.write_glb),
    ".gltf": Format(gltf.write_gltf),
}
"""All formats except PLY, the only one that declares its up axis."""
READERS: dict[Kind, Callable[[Path], Gaussians]] = {
    "splat": antimatter_splat.read,
    "ksplat": ksplat.read,
    "spz": spz.read,
    "sog": sog.read,
    "gltf": gltf.read,
}
"""All formats that are read, except PLY. They return Gaussians in the axes of 3DGS."""
PLY = ".ply"


def read_splats(path: Path) -> tuple[Gaussians, UpAxis]:
    """Reads a splat file of any format, whatever its name.

    Returns:
        The Gaussians, and the axis that points up.

    Raises:
        InputError: Its format is unknown, or it is cut off or damaged.
    """
    path = splat_file(path)
    try:
        with np.errstate(all="ignore"):  # `Gaussians.visible` handles non-finite values
            kind = kind_of(path)
            if kind != "ply":
                return READERS[kind](path), "-y"
            tables = read_ply(path, PLY_ELEMENTS)
            if compressed_ply.is_compressed(tables):
                return compressed_ply.splats_of(tables, path), "-y"
            return ply.splats_of(tables, path)
    except MemoryError as error:
        raise InputError(f"{path} is too large for this computer's memory") from error
    except MALFORMED as error:
        raise InputError(f"{path} cannot be read: it is damaged ({reason(error)})") from error


def check_output(path: Path, force: bool) -> None:
    """Raises InputError if the file may not be written; to be called before any long work."""
    output_files.check_output(path, (PLY, *FORMATS), "splats", force)


def in_3dgs_axes(splats: Gaussians, up: UpAxis | None) -> Gaussians:
    """Rotates Gaussians so that -y is up; leaves them as they are if `up` is unknown."""
    return splats if up in (None, "-y") else rotated(splats, TO_Y_UP["-y"].T @ TO_Y_UP[up])


def write_splats(splats: Gaussians, path: Path, up: UpAxis | None) -> int:
    """Writes a splat file atomically in the format of its ending.

    Args:
        splats: N Gaussians, all finite.
        path: The file. Missing folders are created.
        up: The axis that points up; None if unknown: then they are assumed to be in the axes of 3DGS.

    Returns:
        The number of Gaussians written; outliers are left out of formats whose precision would suffer.

    Raises:
        InputError: The file cannot be written, or there are no Gaussians.
    """
    if len(splats) == 0:
        raise InputError(f"There are no Gaussians to write to {path}.")
    format_ = _format(path.name.lower())
    if format_ is not None:
        splats = in_3dgs_axes(without_outliers(splats) if format_.bounded else splats, up)
    elif up == "y":
        splats, up = in_3dgs_axes(splats, up), "-y"  # PLY cannot declare that y is up
    with written_whole(path) as temporary, temporary.open("wb") as file:
        if format_ is None:
            ply.write(splats, file, up)
        else:
            format_.write(splats, file)
    return len(splats)


def _format(name: str) -> Format | None:
    return next((format_ for ending, format_ in FORMATS.items() if name.endswith(ending)), None)
