# SPDX-License-Identifier: Apache-2.0
"""Exact depth: of a triangle mesh from cameras all around it, and of a wall as a radiance field would render it."""

from __future__ import annotations

from typing import Any

import numpy as np
import open3d as o3d
import torch
import trimesh
from nerfstudio.cameras.cameras import Cameras

from img3d_assets.meshing.surface_view import SurfaceView


def viewmat_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """World to camera `[4, 4]`, OpenCV axes, of a camera that looks at a point."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.3, 0.9, 0.1])
    right /= np.linalg.norm(right)
    viewmat = np.eye(4)
    viewmat[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    viewmat[:3, 3] = -viewmat[:3, :3] @ position
    return viewmat


def scene_of(mesh: trimesh.Trimesh) -> o3d.t.geometry.RaycastingScene:
    """For rays and distances."""
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.uint32))
    return scene


def pictures_around(mesh: trimesh.Trimesh, count: int = 24, size: int = 96, distance: float = 3.0) -> list[SurfaceView]:
    """Grey pictures of what is around the origin, from `distance` times its radius, evenly from all sides."""
    scene = scene_of(mesh)
    radius = float(np.linalg.norm(mesh.vertices, axis=1).max())
    K = np.array([[size * 1.3, 0, size / 2], [0, size * 1.3, size / 2], [0, 0, 1]])
    heights = 1 - (2 * np.arange(count) + 1) / count
    angles = np.arange(count) * np.pi * (3 - np.sqrt(5))
    around = np.sqrt(1 - heights**2)
    pictures = []
    for direction in np.stack([around * np.cos(angles), around * np.sin(angles), heights], axis=1):
        viewmat = viewmat_at(distance * radius * direction, np.zeros(3))
        rays = scene.create_rays_pinhole(o3d.core.Tensor(K), o3d.core.Tensor(viewmat), size, size)
        depth = scene.cast_rays(rays)["t_hit"].numpy()  # directions have length 1 along the axis
        pictures.append(SurfaceView(np.full((size, size, 3), 0.5, np.float32), depth, viewmat, K))
    return pictures


class WallModel:
    """Renders a wall at y = 2, whose lower half is missing; depth along the rays, as NeRFs have it."""

    device = torch.device("cpu")

    def get_outputs_for_camera(self, camera: Cameras) -> dict[str, torch.Tensor]:
        rays = camera.generate_rays(camera_indices=0, keep_shape=True)
        distance = (2 - rays.origins[..., 1:2]) / rays.directions[..., 1:2]
        there = rays.origins[..., 2:] + distance * rays.directions[..., 2:] > 0
        return {"depth": distance, "accumulation": there.float(), "rgb": torch.full((*there.shape[:2], 3), 0.25)}


def cameras_that_look_along_y(num: int) -> Cameras:
    poses = torch.zeros(num, 3, 4)
    poses[:, :, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    poses[:, 0, 3] = torch.linspace(-1, 1, num)
    return Cameras(poses, fx=40.0, fy=40.0, cx=32.0, cy=24.0, width=64, height=48)


class Elsewhere(torch.Tensor):
    """A tensor on another device: it mixes with nothing until it is brought to the CPU."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cpu or func is torch.Tensor.detach:
            return args[0].as_subclass(torch.Tensor)
        others = [value for value in (*args, *(kwargs or {}).values()) if type(value) is torch.Tensor and value.ndim]
        if others or func is torch.Tensor.numpy:
            raise RuntimeError("Expected all tensors to be on the same device")
        return super().__torch_function__(func, types, args, kwargs or {})


class WallModelElsewhere(WallModel):
    """The same on another device, as fields are on CUDA."""

    def get_outputs_for_camera(self, camera: Cameras) -> dict[str, torch.Tensor]:
        return {name: value.as_subclass(Elsewhere) for name, value in super().get_outputs_for_camera(camera).items()}
