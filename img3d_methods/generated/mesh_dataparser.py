# SPDX-License-Identifier: Apache-2.0
"""`img3d-generated-mesh`: the mesh that a generator makes from an image, views or a text, as the data set of a mesh."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from img3d_assets.axes import UpAxis
from img3d_assets.mesh import Mesh
from img3d_base.atomic_files import write_atomically
from img3d_base.errors import InputError
from img3d_base.foreign_files import MALFORMED, load_npz, reason
from img3d_methods.generated.generated_asset import AssetFiles, GeneratedAssetOptions, found_or_made, origin_of
from img3d_methods.mesh.dataparser import Img3dMeshDataParser, Img3dMeshDataParserConfig

MAX_BYTES = 1 << 32
"""Largest array of a cached mesh."""
UP_AXES: tuple[UpAxis, ...] = get_args(UpAxis)
ARRAYS = ("vertices", "faces", "colors", "uvs", "texture")
"""The fields of `Mesh` that are kept; the last two are empty without a texture."""


@dataclass
class Img3dGeneratedMeshDataParserConfig(GeneratedAssetOptions, Img3dMeshDataParserConfig):
    """The input of a generator, and the views of the mesh that it makes."""

    _target: type = field(default_factory=lambda: Img3dGeneratedMesh)


class Img3dGeneratedMesh(Img3dMeshDataParser):
    """Generates the mesh, or finds it in the cache, and renders its views.

    Raises InputError if the input cannot be used or weights are missing.
    """

    config: Img3dGeneratedMeshDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def _source_mesh(self) -> tuple[Mesh, UpAxis | None]:
        config = self.config
        origin = origin_of(config, config.cache_dir, MESH_FILES.recipe)
        mesh = found_or_made(config, origin, MESH_FILES)
        return mesh, mesh.up


def write_arrays(mesh: Mesh, file: Path) -> None:
    """Writes a mesh without any loss, which no mesh format does."""
    arrays = {name: np.empty(0) if (value := getattr(mesh, name)) is None else value for name in ARRAYS}
    up = np.array(-1 if mesh.up is None else UP_AXES.index(mesh.up))
    with write_atomically(file) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, up=up, **arrays)


def read_arrays(file: Path) -> Mesh:
    """Reads what `write_arrays` wrote.

    Raises:
        InputError: The file is damaged.
    """
    try:
        kept = load_npz(file, (*ARRAYS, "up"), MAX_BYTES)
        arrays = [kept[name] for name in ARRAYS]
        textured, up = arrays[-1].size > 0, int(kept["up"])
        return Mesh(*arrays[:3], *(arrays[3:] if textured else (None, None)), up=None if up < 0 else UP_AXES[up])
    except (InputError, *MALFORMED) as error:
        raise InputError(f"{file} is damaged ({reason(error)})") from error


def _described(mesh: Mesh) -> str:
    return f"{len(mesh.faces):,} triangles"


MESH_FILES = AssetFiles(Mesh, "mesh", "a mesh", ".npz", read_arrays, write_arrays, _described, recipe=1)
