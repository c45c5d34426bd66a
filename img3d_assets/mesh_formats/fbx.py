# SPDX-License-Identifier: Apache-2.0
"""FBX, the exchange format of Unity, Unreal, Maya and 3ds Max, written and read by Blender.

Blender takes over the process that imports it, so it runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from img3d_assets.axes import TO_Y_UP
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats import gltf_reading
from img3d_assets.mesh_geometry import welded
from img3d_base.errors import InputError

ARRAYS, TEXTURE, OUTPUT, CONVERTED = "mesh.npz", "texture.png", "mesh.fbx", "mesh.glb"
"""Names of the files exchanged with Blender."""


def check_installed() -> None:
    """Raises InputError if Blender's Python module is not installed."""
    if importlib.util.find_spec("bpy") is None:
        raise InputError(
            "FBX files are read and written by Blender, which is not installed: pip install 'img3d[fbx]' (Python 3.11 "
            "only)."
        )


def write(mesh: Mesh, path: Path) -> None:
    """Writes the file with the texture embedded.

    Args:
        mesh: The mesh, y up, in metres.
        path: The file.

    Raises:
        OSError: It cannot be written.
    """
    kept, of_vertex = welded(mesh)
    arrays = {
        "vertices": mesh.vertices[kept] @ TO_Y_UP["z"],  # Blender has z up, and rotates what it writes
        "faces": of_vertex[mesh.faces],
        "colors": mesh.colors[kept],
    }
    if mesh.uvs is not None:
        arrays["corner_uvs"] = mesh.uvs[mesh.faces.reshape(-1)]
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as name:
        folder = Path(name)
        with (folder / ARRAYS).open("wb") as file:
            np.savez(file, **arrays)
        if mesh.texture is not None:
            Image.fromarray(mesh.texture).save(folder / TEXTURE)
        _run_blender(folder, "write")
        if not (folder / OUTPUT).exists():
            raise OSError("Blender wrote nothing")
        (folder / OUTPUT).replace(path)


def read(path: Path) -> Mesh:
    """Reads all triangles of a file in its rest pose, y up, through Blender's export to glTF.

    Raises:
        InputError: Blender is not installed, or does not read the file.
        OSError: Blender fails.
    """
    check_installed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(path, folder / OUTPUT)
        _run_blender(folder, "read")
        if not (folder / CONVERTED).exists():
            raise InputError(f"{path} is damaged, or not a binary FBX file, the only kind that Blender reads")
        return gltf_reading.read(folder / CONVERTED)


def _run_blender(folder: Path, what: str) -> None:
    """Runs `fbx_in_blender`; raises OSError with Blender's last line of output if it fails."""
    command = [sys.executable, "-m", "img3d_assets.mesh_formats.fbx_in_blender", what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        said = lines[-1].strip().replace(f"{folder}/", "") if lines else done.returncode
        raise OSError(f"Blender says: {said}")
