# SPDX-License-Identifier: Apache-2.0
"""`img3d-generated-mesh`: the mesh that a generator makes of an image, views or a text, as the data set of a mesh."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from img3d_assets.axes import UpAxis
from img3d_assets.mesh import Mesh
from img3d_base.atomic_files import writable_cache, write_atomically
from img3d_base.console import print_line
from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import load_npz
from img3d_generators import generate
from img3d_methods.cached_views import writing_views
from img3d_methods.generated.sources import key_of, source_of
from img3d_methods.mesh.dataparser import Img3dMeshDataParser, Img3dMeshDataParserConfig

RECIPE = 1
"""Part of the cache key. Increment it with every change that alters the meshes, so that cached ones are made again."""
MAX_BYTES = 1 << 32
"""Largest array of a cached mesh."""
UP_AXES: tuple[UpAxis, ...] = get_args(UpAxis)
ARRAYS = ("vertices", "faces", "colors", "uvs", "texture")
"""The fields of `Mesh` that are kept; the last two are empty without a texture."""


@dataclass
class Img3dGeneratedMeshDataParserConfig(Img3dMeshDataParserConfig):
    """What a mesh is generated from, and how to look at it. `ns-train` sets the generator and its stages."""

    _target: type = field(default_factory=lambda: Img3dGeneratedMesh)
    data: Path = Path()
    """An image of one object, a folder of images, or a folder of posed views; not needed for a text."""
    index: int = 0
    """Which image of a folder, in the order of their names."""
    seed: int = 0
    """Random seed of the generator."""
    generator: str = ""
    """The generator of the mesh."""
    view_generator: str = "auto"
    """For a generator with two stages, the one that makes the views."""
    network: str = "auto"
    """For a generator with two stages, the one that makes the mesh of views."""
    prompt: str = ""
    """The text, for a generator that takes a text instead of an image."""


class Img3dGeneratedMesh(Img3dMeshDataParser):
    """Generates the mesh, or finds it in the cache, and renders its views.

    Raises InputError if the input cannot be used or weights are missing.
    """

    config: Img3dGeneratedMeshDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def _source_mesh(self) -> tuple[Mesh, UpAxis | None]:
        config = self.config
        name, source, identity, beside = source_of(config)
        stages = [stage for stage in dict.fromkeys((name, config.view_generator, config.network)) if stage != "auto"]
        key = key_of(identity, stages, (RECIPE, stages, config.seed))
        file = writable_cache(beside, config.cache_dir) / f"mesh-{name}-{key}.npz"
        if file.is_file():
            try:
                mesh = read_arrays(file)
            except (InputError, ValueError, IndexError) as error:
                warn(f"{file} is damaged ({error}); the mesh is made anew")
            else:
                print_line(f"Mesh from the cache {file}")
                return mesh, mesh.up
        mesh = generate(name, source, config.view_generator, config.network, config.seed)
        if not isinstance(mesh, Mesh):
            raise InputError(f"the generator {name} made {type(mesh).__name__} instead of a mesh")
        with writing_views(file):
            write_arrays(mesh, file)
        print_line(f"{len(mesh.faces):,} triangles generated, kept in {file}")
        return mesh, mesh.up


def write_arrays(mesh: Mesh, file: Path) -> None:
    """Keeps a mesh exactly as it is, which no mesh format does."""
    arrays = {name: np.empty(0) if (value := getattr(mesh, name)) is None else value for name in ARRAYS}
    up = np.array(-1 if mesh.up is None else UP_AXES.index(mesh.up))
    with write_atomically(file) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, up=up, **arrays)


def read_arrays(file: Path) -> Mesh:
    """Reads what `write_arrays` wrote.

    Raises:
        InputError, ValueError, IndexError: The file is damaged.
    """
    kept = load_npz(file, (*ARRAYS, "up"), MAX_BYTES)
    arrays = [kept[name] for name in ARRAYS]
    textured, up = arrays[-1].size > 0, int(kept["up"])
    return Mesh(*arrays[:3], *(arrays[3:] if textured else (None, None)), up=None if up < 0 else UP_AXES[up])
