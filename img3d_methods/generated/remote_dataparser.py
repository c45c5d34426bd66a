# SPDX-License-Identifier: Apache-2.0
"""`img3d-remote`: the mesh that a service on the network made, as the data set of a mesh. Talks to no service.
(`remote_gaussians` is for Gaussians.)"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from img3d_assets.axes import UpAxis
from img3d_assets.mesh import Mesh
from img3d_base.errors import InputError
from img3d_methods.mesh.dataparser import Img3dMeshDataParser, Img3dMeshDataParserConfig


@dataclass
class Img3dRemoteDataParserConfig(Img3dMeshDataParserConfig):
    """The pictures that a service takes, and the views of the mesh that it makes."""

    _target: type = field(default_factory=lambda: Img3dRemoteMesh)
    data: Path = Path()
    """A picture of one object, or a folder of pictures of it; not needed for a text."""
    index: int = -1
    """Which picture of a folder, in the order of their names; -1: all of them, for services that take several."""
    file: Path = Path()
    """The file that the service made; `ns-train` sets it."""


class Img3dRemoteMesh(Img3dMeshDataParser):
    """Reads the mesh that a service made, and renders its views or finds them in the cache.

    Raises InputError if the mesh is not there.
    """

    config: Img3dRemoteDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def _source_mesh(self) -> tuple[Mesh, UpAxis | None]:
        from img3d_assets.mesh_files import read_mesh  # late: entry points import this module

        return read_mesh(needed_file(self.config, "mesh"))

    def _cache(self) -> Path:
        return self.config.file.parent


def needed_file(config: Img3dRemoteDataParserConfig, what: str) -> Path:
    """The file that a service made.

    Args:
        config: The options.
        what: What it holds: "mesh" or "Gaussians".

    Raises:
        InputError: It is not there.
    """
    file = config.file
    if not file.is_file():
        raise InputError(
            f"the {what} that the service made is not at {file}: put it back, or train again with the same options"
        )
    return file
