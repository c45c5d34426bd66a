# SPDX-License-Identifier: Apache-2.0
"""Every splat format: what reads it, by the contents of a file, and what writes it, by the ending of its name.

A run's Gaussians have z up. A PLY can say so and keeps its numbers; programs that open the other formats expect 3DGS's
axes (x right, y down, z forward), or those that the format prescribes, and get them.
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
from img3d_assets.selection import without_outliers
from img3d_assets.splat_formats import antimatter_splat, compressed_ply, gltf, ksplat, ply, sog, spz
from img3d_assets.splat_formats.recognise import Kind, kind_of, splat_file
from img3d_base import output_files
from img3d_base.errors import InputError
from img3d_base.foreign_files import reason
from img3d_base.output_files import written_whole
from img3d_base.ply_tables import read_ply

DAMAGED = (OSError, EOFError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError)
"""What readers raise on JSON that holds something else than they look for."""
PLY_ELEMENTS = ("vertex", "chunk", "sh")


@dataclass
class Format:
    """What is written to files of one ending."""

    write: Callable[[Gaussians, BinaryIO], None]
    """Takes at least one Gaussian, all finite, in the axes of 3DGS."""
    bounded: bool = False
    """Whether positions get steps between the outermost ones."""


FORMATS: dict[str, Format] = {
    ".compressed.ply": Format(compressed_ply.write, bounded=True),
    ".splat": Format(antimatter_splat.write),
    ".spz": Format(spz.write, bounded=True),
    ".sog": Format(sog.write, bounded=True),
    ".glb": Format(gltf.write_glb),
    ".gltf": Format(gltf.write_gltf),
}
"""All that are written but the PLY, which alone says which axis is up."""
READERS: dict[Kind, Callable[[Path], Gaussians]] = {
    "splat": antimatter_splat.read,
    "ksplat": ksplat.read,
    "spz": spz.read,
    "sog": sog.read,
    "gltf": gltf.read,
}
"""As above, of what is read: in the axes of 3DGS."""
PLY = ".ply"


def read_splats(path: Path) -> tuple[Gaussians, UpAxis]:
    """The Gaussians of a splat file of any format, whatever its name, and the axis that points up in it.

    Raises:
        InputError: It has no known format, is cut off or damaged.
    """
    path = splat_file(path)
    try:
        with np.errstate(all="ignore"):  # numbers that are not finite are left out by `Gaussians.visible`
            kind = kind_of(path)
            if kind != "ply":
                return READERS[kind](path), "-y"
            tables = read_ply(path, PLY_ELEMENTS)
            if compressed_ply.is_compressed(tables):
                return compressed_ply.splats_of(tables, path), "-y"
            return ply.splats_of(tables, path)
    except MemoryError as error:
        raise InputError(f"{path} is too large for this computer's memory") from error
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read: it is damaged ({reason(error)})") from error


def check_output(path: Path, force: bool) -> None:
    """Raises InputError where the file may not be written, before anything that takes long."""
    output_files.check_output(path, (PLY, *FORMATS), "splats", force)


def in_3dgs_axes(splats: Gaussians, up: UpAxis | None) -> Gaussians:
    """Turned so that -y is up; as they are if nobody knows what is."""
    return splats if up in (None, "-y") else rotated(splats, TO_Y_UP["-y"].T @ TO_Y_UP[up])


def write_splats(splats: Gaussians, path: Path, up: UpAxis | None) -> int:
    """Writes the file whole, or not at all, in the format of its ending.

    Args:
        splats: N Gaussians, all finite.
        path: Its folder is made.
        up: The axis that points up; None if that is not known: then they are taken to be in the axes of 3DGS.

    Returns:
        How many were written: without outliers where the format would suffer from them.

    Raises:
        InputError: It cannot be written, or there is nothing to write.
    """
    if len(splats) == 0:
        raise InputError(f"There are no Gaussians to write to {path}.")
    format_ = _format(path.name.lower())
    if format_ is not None:
        splats = in_3dgs_axes(without_outliers(splats) if format_.bounded else splats, up)
    elif up == "y":
        splats, up = in_3dgs_axes(splats, up), "-y"  # no PLY can say that y is up
    with written_whole(path) as temporary, temporary.open("wb") as file:
        if format_ is None:
            ply.write(splats, file, up)
        else:
            format_.write(splats, file)
    return len(splats)


def _format(name: str) -> Format | None:
    return next((format_ for ending, format_ in FORMATS.items() if name.endswith(ending)), None)
