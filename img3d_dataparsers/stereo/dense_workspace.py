# SPDX-License-Identifier: Apache-2.0
"""Writes COLMAP's dense workspace, with which COLMAP's own tools can continue: undistorted photos, cameras, depth and
normal maps.

    images/NAME                                the photos
    sparse/                                    cameras, poses, and points that say which photos overlap
    stereo/depth_maps/NAME.geometric.bin       along the camera's axis, 0 where unknown
    stereo/normal_maps/NAME.geometric.bin      in camera axes (x right, y down, z forward), towards the camera
    stereo/fusion.cfg, stereo/patch-match.cfg  which photos to fuse, and the sources of each

https://colmap.github.io/format.html#dense-reconstruction
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from img3d_assets.point_cloud import PointCloud
from img3d_base.errors import InputError
from img3d_base.foreign_files import read_bytes
from img3d_base.ply_tables import read_ply
from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_kernels.projection import project
from img3d_kernels.stereo.source_views import points_in_view
from img3d_kernels.stereo.views import DepthMap, StereoView, rays

TIE_POINTS = 300
"""Number of points of each photo's depth map in the sparse model, from which COLMAP learns which photos overlap."""
MAX_MAP_BYTES = 1 << 30
MIN_PHOTOS = 2
"""Minimum number of photos that see a point of the fused cloud; each of its depths was confirmed before."""
MIN_PHOTOS_OF_OBJECT, MANY_PHOTOS = 3, 8
"""The same for so many photos of an object that is cut out of them: depths from its silhouettes err in few photos at a
time (bob's mesh has an F-score of 0.984 instead of 0.966 at 1 % of the diagonal)."""


@dataclass(frozen=True)
class DensePhoto:
    """An undistorted photo and its depth map."""

    name: str
    """File name, with folders if any; unique among the photos."""
    rgb: UInt8[np.ndarray, "H W 3"]
    """sRGB."""
    view: StereoView
    """Camera and mask."""
    found: DepthMap
    """Depth map of the size of `rgb`."""


def write_workspace(folder: Path, photos: Sequence[DensePhoto], sources: Sequence[Sequence[int]]) -> None:
    """Writes all files of a workspace, and replaces existing ones.

    Args:
        folder: The workspace; made if it does not exist.
        photos: The photos; at least one has a known depth.
        sources: For each photo, the indices of its sources.

    Raises:
        InputError: No depth is known in any photo.
    """
    if not any((photo.found.depth > 0).any() for photo in photos):
        raise InputError("The photos have no depth in common: nothing to make a surface of.")
    maps = folder / "stereo"
    for photo in photos:
        for path in (folder / "images", maps / "depth_maps", maps / "normal_maps"):
            (path / photo.name).parent.mkdir(parents=True, exist_ok=True)
        # A PNG's usual compression would take longer than all other files together.
        Image.fromarray(photo.rgb).save(folder / "images" / photo.name, compress_level=1)
        write_map(maps / "depth_maps" / f"{photo.name}.geometric.bin", photo.found.depth.numpy()[..., None])
        write_map(maps / "normal_maps" / f"{photo.name}.geometric.bin", photo.found.normals.numpy())
    (maps / "fusion.cfg").write_text("".join(f"{photo.name}\n" for photo in photos))
    compared = (", ".join(photos[j].name for j in row) for row in sources)
    (maps / "patch-match.cfg").write_text(
        "".join(f"{photo.name}\n{others}\n" for photo, others in zip(photos, compared, strict=True))
    )
    (folder / "sparse").mkdir(exist_ok=True)
    _sparse_model(photos, sources).write(folder / "sparse")


def write_map(path: Path, values: Float32[np.ndarray, "H W C"]) -> None:
    """Writes a depth map (C = 1) or a normal map (C = 3) in COLMAP's format: the size as text, then channel by channel.

    pycolmap 4.2 is not used, because its NormalMap.from_array expects interleaved channels in the wrong order.
    """
    height, width, channels = values.shape
    data = np.ascontiguousarray(np.moveaxis(values, -1, 0), dtype="<f4")
    path.write_bytes(f"{width}&{height}&{channels}&".encode() + data.tobytes())


def read_map(path: Path, channels: int) -> Float32[np.ndarray, "H W C"]:
    """Reads a depth map (1 channel) or a normal map (3 channels) of COLMAP.

    Raises:
        InputError: The file is damaged, or of another kind.
    """
    contents = read_bytes(path, MAX_MAP_BYTES)
    header = re.match(rb"(\d{1,6})&(\d{1,6})&(\d)&", contents)
    if header is None:
        raise InputError(f"{path} is not a depth or normal map of COLMAP")
    width, height, found = map(int, header.groups())
    size = len(contents) - header.end()
    if found != channels or size == 0 or size != 4 * width * height * channels:
        raise InputError(f"{path} is damaged: {size} bytes for {width} x {height} pixels of {found} channels")
    values = np.frombuffer(contents, "<f4", offset=header.end()).reshape(channels, height, width)
    return np.moveaxis(values, 0, -1)


def photos_needed(views: Sequence[StereoView]) -> int:
    """The number of photos that have to see a point of the fused cloud of these views."""
    are_cut_out = all(view.outline is not None for view in views)
    return MIN_PHOTOS_OF_OBJECT if are_cut_out and len(views) >= MANY_PHOTOS else MIN_PHOTOS


def fused_cloud(folder: Path, min_photos: int = MIN_PHOTOS) -> PointCloud:
    """Fuses the depth maps of a workspace with COLMAP: a point where several photos agree on position and normal.

    Args:
        folder: A workspace that `write_workspace` or COLMAP wrote; `fused.ply` is written there.
        min_photos: Least number of photos that see a point.

    Raises:
        InputError: No point is seen by that many photos.
    """
    options = pycolmap.StereoFusionOptions(min_num_pixels=min_photos)
    path = folder / "fused.ply"
    with _quiet():
        pycolmap.stereo_fusion(path, folder, input_type="geometric", options=options, output_type="PLY")
    table = read_ply(path, ["vertex"]).tables.get("vertex")
    if table is None or len(table) == 0:
        raise InputError(f"No point is seen by {min_photos} photos: they have too little in common.")
    points, normals, colors = (
        np.stack([table[name] for name in names], axis=-1)
        for names in (("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue"))
    )
    return PointCloud(points.astype(np.float64), colors.astype(np.float32) / 255, normals.astype(np.float32))


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Limits COLMAP's log to warnings and errors."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.Level.WARNING.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def _sparse_model(photos: Sequence[DensePhoto], sources: Sequence[Sequence[int]]) -> pycolmap.Reconstruction:
    """Cameras, poses, and points of the depth maps with tracks through their photo and its sources."""
    generator = torch.Generator().manual_seed(0)
    pixels: list[list[list[float]]] = [[] for _ in photos]
    points: list[tuple[list[float], list[tuple[int, int]]]] = []
    for i, photo in enumerate(photos):
        known = (photo.found.depth > 0).nonzero()
        rows, columns = known[torch.randperm(len(known), generator=generator)[:TIE_POINTS]].unbind(dim=1)
        in_camera = rays(photo.view.K, *photo.view.size)[rows, columns] * photo.found.depth[rows, columns, None]
        pose = torch.linalg.inv(photo.view.viewmat.double())
        world = in_camera.double() @ pose[:3, :3].T + pose[:3, 3]
        seen = {
            j: (points_in_view(photos[j].view, world)[0].tolist(), _pixels(photos[j].view, world))
            for j in (i, *sources[i])
        }
        for k, xyz in enumerate(world.tolist()):
            track = []
            for j, (inside, places) in seen.items():
                if inside[k]:
                    track.append((j + 1, len(pixels[j])))
                    pixels[j].append(places[k])
            if len(track) > 1:
                points.append((xyz, track))
    model = pycolmap.Reconstruction()
    for i, photo in enumerate(photos):
        height, width = photo.view.size
        K = photo.view.K.double()
        camera = pycolmap.Camera(
            camera_id=i + 1,
            model="PINHOLE",
            width=width,
            height=height,
            params=[float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])],
        )
        model.add_camera_with_trivial_rig(camera)
        keypoints = np.array(pixels[i], dtype=np.float64).reshape(-1, 2)
        image = pycolmap.Image(name=photo.name, keypoints=keypoints, camera_id=i + 1, image_id=i + 1)
        viewmat = photo.view.viewmat.double().numpy()
        model.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(pycolmap.Rotation3d(viewmat[:3, :3]), viewmat[:3, 3])
        )
    for xyz, track in points:
        elements = [pycolmap.TrackElement(image, index) for image, index in track]
        model.add_point3D(np.array(xyz), pycolmap.Track(elements=elements))
    return model


def _pixels(view: StereoView, points: Float[torch.Tensor, "P 3"]) -> list[list[float]]:
    return project(points, view.K, view.viewmat)[0].tolist()
