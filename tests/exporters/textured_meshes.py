# SPDX-License-Identifier: Apache-2.0
"""Pictures of painted surfaces, and what is painted on a mesh with a texture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import trimesh
from scipy.ndimage import map_coordinates

from img3d_assets.mesh import Mesh
from img3d_assets.meshing.surface_view import SurfaceView

Paint = Callable[[np.ndarray], np.ndarray]
"""Colours `[..., 3]` in [0, 1] of points `[..., 3]`."""


def waves(points: np.ndarray) -> np.ndarray:
    """Smooth, and nowhere alike."""
    phases = points @ np.array([[5.0, -3, 2], [2, 4, -4], [-3, 3, 4.5]])
    return 0.5 + 0.35 * np.sin(phases) + 0.1 * np.sin(2.3 * phases[..., ::-1])


def grey_mesh(shape: trimesh.Trimesh) -> Mesh:
    """Without a texture, every vertex grey."""
    return Mesh(np.asarray(shape.vertices), np.asarray(shape.faces), np.full((len(shape.vertices), 3), 0.5, np.float32))


def painted(view: SurfaceView, paint: Paint) -> SurfaceView:
    """The picture in the colours that `paint` gives the surface; black beside it."""
    height, width = view.depth.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    there = np.isfinite(view.depth)
    depth = np.where(there, view.depth, 1).astype(np.float64)
    in_camera = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(view.K).T * depth[..., None]
    points = (in_camera - view.viewmat[:3, 3]) @ view.viewmat[:3, :3]
    return replace(view, rgb=np.where(there[..., None], paint(points), 0).astype(np.float32))


def texture_at(texture: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Colours `[M, 3]` in [0, 1] at `uvs [M, 2]`, whose origin is at the lower left, between texels in proportion."""
    height, width = texture.shape[:2]
    places = np.stack([(1 - uvs[:, 1]) * height - 0.5, uvs[:, 0] * width - 0.5])
    channels = [map_coordinates(texture[..., i] / 255, places, order=1, mode="nearest") for i in range(3)]
    return np.stack(channels, axis=1)


def points_with_colors(mesh: Mesh, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Random points of the surface, and what the texture has there."""
    assert mesh.uvs is not None and mesh.texture is not None
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, faces = trimesh.sample.sample_surface(shape, count, seed=0)
    weights = trimesh.triangles.points_to_barycentric(shape.triangles[faces], points)
    uvs = (weights[:, :, None] * mesh.uvs[mesh.faces[faces]]).sum(axis=1)
    return points, texture_at(mesh.texture, uvs)
