# SPDX-License-Identifier: Apache-2.0
"""Reading Polycam's raw export ("developer mode").

Published at https://github.com/PolyCam/polyform: `keyframes/corrected_images` with `corrected_cameras` where Polycam
has optimised the poses, else `keyframes/images` with `cameras`; `raw.glb` is the mesh.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from img3d_assets.quantised import bytes_of
from img3d_base.errors import InputError, warn
from img3d_dataparsers.formats.capture_files import (
    ARKIT_SCALE,
    ARKIT_TO_Z_UP,
    CAMERA_FILES,
    DEPTH_MAPS,
    finite_numbers,
    load_json,
    photos_in,
    require_cameras,
    thinned,
)
from img3d_dataparsers.posed_photos import Frame, PosedPhotos, SeedPoints
from img3d_pictures.file_resolver import FileResolver, is_file
from img3d_pictures.photo_folders import PHOTOS

PLACES = (("corrected_images", "corrected_cameras"), ("images", "cameras"))
"""Folders of photos and of their cameras, in order of preference."""
KEYS = ("fx", "fy", "cx", "cy", "width", "height", *(f"t_{row}{column}" for row in range(3) for column in range(4)))


def is_polycam(folder: Path) -> bool:
    """Whether a folder has keyframes with cameras."""
    files = FileResolver(folder)
    return any(files.named(f"keyframes/{cameras}").is_dir() for _, cameras in PLACES)


def read_polycam(folder: Path) -> PosedPhotos:
    """Reads the cameras. Polycam's world is ARKit's, which is gravity-aligned, so its orientation is kept.

    Raises:
        InputError: There are no photos, one has no camera, or a camera file is damaged.
    """
    files = FileResolver(folder)
    keyframes = FileResolver(files.named("keyframes"))
    for images_name, cameras_name in PLACES:
        cameras = keyframes.named(cameras_name)
        photo_folder = keyframes.folder(images_name, PHOTOS)
        if photo_folder is not None and cameras.is_dir():
            photos = photos_in(photo_folder)
            break
    else:
        raise InputError(f"{files.named('keyframes')} has cameras but no photos; export the raw data again")
    of_photos = FileResolver(cameras)
    camera_paths = of_photos.find([f"{photo.stem}.json" for photo in photos], CAMERA_FILES)
    require_cameras(photos, camera_paths)
    # Only phones with LiDAR have depth maps.
    depths = FileResolver(keyframes.named("depth")).find([f"{photo.stem}.png" for photo in photos], DEPTH_MAPS)
    return PosedPhotos(
        source=cameras,
        folder=folder,
        frames=[
            _frame(folder, photo, path, depth) for photo, path, depth in zip(photos, camera_paths, depths, strict=True)
        ],
        assumptions=[*files.assumptions, *keyframes.assumptions, *of_photos.assumptions],
        applied_transform=ARKIT_TO_Z_UP,
        orientation_method="none",
        scale_source=ARKIT_SCALE,
        read_seed_points=lambda: _mesh_points(folder),
    )


def _vertices(path: Path) -> SeedPoints:
    """The vertices of a mesh's triangles, each position once, with the colours of its texture.

    Raises:
        InputError: The mesh cannot be read or has no triangles.
    """
    from img3d_assets.mesh_files import read_mesh  # imports several readers

    mesh, _ = read_mesh(path)
    used = np.unique(mesh.faces)
    xyz, first = np.unique(mesh.vertices[used], axis=0, return_index=True)
    return thinned((xyz, bytes_of(mesh.colors[used[first]])))


def _frame(folder: Path, photo: Path, path: Path, depth: Path) -> Frame:
    camera = load_json(path)
    numbers = finite_numbers([camera.get(key) for key in KEYS], len(KEYS), f"{KEYS[0]} … {KEYS[-1]}", path)
    return Frame(
        name=photo.relative_to(folder).as_posix(),
        image_path=photo,
        camera_to_world=ARKIT_TO_Z_UP[:, :3] @ numbers[6:].reshape(3, 4),
        intrinsics=dict(zip(("fl_x", "fl_y", "cx", "cy", "w", "h"), numbers[:6].tolist(), strict=True)),
        depth_path=depth if is_file(depth) else None,
    )


def _mesh_points(folder: Path) -> SeedPoints | None:
    """The mesh's vertices with its texture's colours; None without a mesh or, with a warning, with a damaged one."""
    files = FileResolver(folder)
    mesh, info = files.named("raw.glb"), files.named("mesh_info.json")
    if not (mesh.is_file() and info.is_file()):
        return None
    try:
        column_major = finite_numbers(load_json(info).get("alignmentTransform"), 16, "alignmentTransform", info)
        to_arkit = np.linalg.inv(column_major.reshape(4, 4).T)  # Polycam applies this to the mesh
        xyz, rgb = _vertices(mesh)
    except (InputError, np.linalg.LinAlgError) as error:
        reason = error if isinstance(error, InputError) else f"{info} has an alignment that cannot be inverted"
        warn(f"seed points: {reason}; the mesh is not used")
        return None
    return (xyz @ to_arkit[:3, :3].T + to_arkit[:3, 3]) @ ARKIT_TO_Z_UP[:, :3].T, rgb
