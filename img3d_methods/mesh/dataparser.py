# SPDX-License-Identifier: Apache-2.0
"""`img3d-mesh`: loads a mesh file as a data set: the mesh itself and rendered views from all sides, on which any
method can train."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from PIL import Image

from img3d_assets.axes import TO_Y_UP, UpAxis
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_sampling import points_on_mesh
from img3d_base.atomic_files import writable_cache, write_atomically
from img3d_base.errors import InputError
from img3d_base.progress import with_progress
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_kernels.mesh_rendering import MeshScene
from img3d_kernels.poses import focal_length
from img3d_methods.cached_views import check_views, directions_around, object_outputs, square_cameras, writing_views

FOV = 40.0
"""Field of view of the rendered views, in degrees."""
RADIUS = 0.32
"""Radius of the mesh's bounding sphere in the world, in which cameras have distance 1: the object nearly fills each
view."""
SAMPLES_PER_SIDE = 2
"""Antialiasing: the value of a pixel is the mean of this number squared of rays."""
NUM_SEED_POINTS = 20_000
RECIPE = 1
"""Part of the cache key. Increment it with every change that alters the views, so that cached views are made again."""


@dataclass
class Img3dMeshDataParserConfig(DataParserConfig):
    """A mesh, and how to look at it."""

    _target: type = field(default_factory=lambda: Img3dMeshDataParser)
    data: Path = Path()
    """The mesh file: .obj, .glb, .gltf, .ply, .stl, .usdz or .fbx (.fbx needs the extra "fbx")."""
    up_axis: Literal["auto", "z", "y", "-y"] = "auto"
    """Which axis of the file points up. "auto": as the format specifies; z for .ply and .stl, which do not."""
    num_views: int = 16
    """Number of rendered views, from all around the object."""
    view_size: int = 400
    """Width and height of a view, in pixels."""
    cache_dir: Path | None = None
    """Where to keep the views, which are made only once. Default: .img3d beside the mesh, or ~/.cache/img3d if that
    is read-only."""


@dataclass
class Img3dMeshDataParser(DataParser):
    """Reads the mesh, and renders its views or finds them in the cache. All views are used both for training and for
    evaluation.

    Raises InputError if the mesh cannot be used.
    """

    config: Img3dMeshDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dMeshDataParserConfig) -> None:
        super().__init__(config=config)
        self._read: tuple[Mesh, np.ndarray, float] | None = None

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        config = self.config
        check_views(config.num_views, config.view_size, min_views=1)
        if self._read is None:
            self._read = in_world(*self._source_mesh(), config.up_axis)
        mesh, transform, scale = self._read
        cameras = cameras_around_origin(config.num_views, config.view_size)
        folder = self._views_folder(mesh, cameras)
        metadata: dict[str, Any] = {"mesh": mesh}
        if split == "train":
            cloud = points_on_mesh(mesh, NUM_SEED_POINTS)
            metadata["points3D_xyz"] = torch.from_numpy(cloud.points).float()
            metadata["points3D_rgb"] = torch.from_numpy(np.round(cloud.colors * 255)).byte()
        files = [folder / _name(i) for i in range(config.num_views)]
        return object_outputs(files, cameras, metadata, torch.from_numpy(transform).float(), scale)

    def _source_mesh(self) -> tuple[Mesh, UpAxis | None]:
        """The mesh in its own world, and the axis that points up there, if it is known."""
        from img3d_assets.mesh_files import read_mesh  # late: entry points import this module

        return read_mesh(self.config.data)

    def _views_folder(self, mesh: Mesh, cameras: Cameras) -> Path:
        """The folder of the views as PNGs, which are made unless they are cached."""
        config = self.config
        digest = hashlib.sha256(repr((RECIPE, config.num_views, config.view_size)).encode())
        for array in (mesh.vertices, mesh.faces, mesh.colors, mesh.uvs, mesh.texture):
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        folder = self._cache() / f"mesh-views-{digest.hexdigest()[:16]}"
        if all((folder / _name(i)).is_file() for i in range(config.num_views)):
            return folder
        with writing_views(folder), write_atomically(folder) as temporary:
            temporary.mkdir(parents=True)
            _render_views(mesh, cameras, temporary)
        return folder

    def _cache(self) -> Path:
        """The folder of what is made of the mesh."""
        return writable_cache(self.config.data.parent, self.config.cache_dir)


def _name(index: int) -> str:
    return f"view_{index:04d}.png"


def in_world(
    mesh: Mesh, known_up: UpAxis | None, up_axis: Literal["auto", "z", "y", "-y"]
) -> tuple[Mesh, np.ndarray, float]:
    """Moves and scales a mesh to the origin, with z up, so that cameras at distance 1 see all of it.

    Args:
        mesh: The mesh as read from the file.
        known_up: The up axis that the file specifies, if it does.
        up_axis: The option that the user chose.

    Returns:
        The mesh, and the transform `[3, 4]` from the file's world to this one, with the scale that is applied after
        it.

    Raises:
        InputError: The mesh has no extent.
    """
    up: UpAxis = (known_up or "z") if up_axis == "auto" else up_axis
    rotation = TO_Y_UP["z"].T @ TO_Y_UP[up]
    turned = mesh.vertices[np.unique(mesh.faces)].astype(np.float64) @ rotation.T
    center, radius = middle_and_radius(turned)
    scale = RADIUS / radius
    transform = np.column_stack([rotation, -center])
    vertices = scale * (mesh.vertices.astype(np.float64) @ rotation.T - center)
    return replace(mesh, vertices=vertices.astype(np.float32), up="z"), transform, scale


def middle_and_radius(points: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, "3"], float]:
    """The middle of an object's bounding box, and the radius of the sphere around it that holds all points.

    Raises:
        InputError: The object has no extent.
    """
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = float(np.linalg.norm(points - center, axis=1).max())
    if not 0 < radius < np.inf:
        raise InputError("The object has no extent: all its points are in one place")
    return center, radius


def cameras_around_origin(count: int, size: int) -> Cameras:
    """Pinhole cameras, shape [C], on a sphere of radius 1, z up. The first one looks along +y, at the front."""
    poses = torch.from_numpy(TO_Y_UP["z"].T).float() @ orbit_camera_to_worlds(*directions_around(count), 1.0)
    return square_cameras(poses, focal_length(FOV, size), size)


@torch.no_grad()
def _render_views(mesh: Mesh, cameras: Cameras, folder: Path) -> None:
    """Renders PNGs whose alpha is the fraction of each pixel that the mesh covers."""
    scene = MeshScene(
        torch.from_numpy(mesh.vertices),
        torch.from_numpy(mesh.faces),
        torch.from_numpy(mesh.colors),
        None if mesh.uvs is None else torch.from_numpy(mesh.uvs),
        None if mesh.texture is None else torch.from_numpy(mesh.texture).float() / 255,
    )
    Ks = cameras.get_intrinsics_matrices()
    for i in with_progress(range(len(cameras)), "Rendering views of the mesh", len(cameras)):
        size = int(cameras.width[i])
        rgb, _, alpha, _ = scene.render(cameras.camera_to_worlds[i], Ks[i], size, size, SAMPLES_PER_SIDE)
        rgba = torch.cat([(rgb / alpha.clamp_min(1e-6)).clamp(0, 1), alpha], dim=-1)
        Image.fromarray((rgba * 255).round().byte().numpy()).save(folder / _name(i))
