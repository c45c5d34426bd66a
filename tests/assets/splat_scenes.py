# SPDX-License-Identifier: Apache-2.0
"""Small sets of Gaussians that tests write, and what our own rasteriser makes of them."""

from __future__ import annotations

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras

from img3d_assets.gaussians import Gaussians
from img3d_kernels import rasterization
from img3d_methods.viewing.initial_view import InitialView


def colorful_splats(num: int = 1500, sh_degree: int = 3, seed: int = 0) -> Gaussians:
    """A thick shell of opaque Gaussians of many shapes and colours, each of another colour from another side."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(num, 3))
    means = directions / np.linalg.norm(directions, axis=1, keepdims=True) * rng.uniform(0.5, 1, (num, 1))
    return Gaussians(
        means=means.astype(np.float32),
        quats=rng.normal(size=(num, 4)).astype(np.float32),
        log_scales=rng.uniform(-3.5, -2, (num, 3)).astype(np.float32),
        opacities=rng.uniform(-1, 5, num).astype(np.float32),
        sh_dc=rng.uniform(-1.2, 1.2, (num, 3)).astype(np.float32),
        sh_rest=rng.normal(0, 0.35, (num, (sh_degree + 1) ** 2 - 1, 3)).astype(np.float32),
    )


def trained_splats(num: int = 3000, sh_degree: int = 3) -> Gaussians:
    """A closed surface as training leaves one: flat Gaussians whose colours differ little from their neighbours'."""
    splats = colorful_splats(num, sh_degree)
    directions = splats.means / np.linalg.norm(splats.means, axis=1, keepdims=True)
    splats.means = (directions * (1 + 0.1 * np.sin(5 * directions[:, :1]))).astype(np.float32)
    splats.log_scales[:, 0] -= 1.5
    splats.opacities += 2
    splats.sh_dc = np.sin(3 * splats.means @ np.random.default_rng(1).normal(size=(3, 3))).astype(np.float32)
    splats.sh_rest = (0.3 * splats.sh_rest * np.abs(splats.means[:, None])).astype(np.float32)
    return splats


def sphere_of_gaussians(num: int = 2000) -> Gaussians:
    """A unit sphere of discs, red above and blue below."""
    directions = np.random.default_rng(0).normal(size=(num, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    splats = trained_splats(num, 0)
    half = directions + [1, 0, 0]  # turns x, the thin axis, to the direction: half way between the two, by half a turn
    splats.quats = np.concatenate([np.zeros((num, 1)), half], axis=1).astype(np.float32)
    splats.means = directions.astype(np.float32)
    splats.log_scales = np.tile(np.log([0.001, 0.04, 0.04]), (num, 1)).astype(np.float32)
    splats.sh_dc = np.where(directions[:, 2:] > 0, [[1.7, -1.7, -1.7]], [[-1.7, -1.7, 1.7]]).astype(np.float32)
    return splats


def cameras_at(*positions: tuple[float, float, float]) -> Cameras:
    """Cameras that look at the origin."""
    poses = []
    for position in np.array(positions):
        back = position / np.linalg.norm(position)
        right = np.cross([0.3, 0.9, 0.1], back)
        right /= np.linalg.norm(right)
        poses.append(np.stack([right, np.cross(back, right), back, position], axis=1))  # OpenGL axes
    return Cameras(torch.tensor(np.array(poses)).float(), fx=60.0, fy=60.0, cx=32.0, cy=32.0, width=64, height=64)


ALL_SIDES = cameras_at((4, 0, 0), (-4, 0, 0), (0, 4, 0), (0, -4, 0), (0, 0, 4), (0, 0, -4))


def from_all_sides(splats: Gaussians, size: int = 96) -> np.ndarray:
    """Pictures of it side by side, from four cameras around the origin; z is up."""
    positions = [(2.5, 0.3, 1.0), (-0.5, 2.6, 0.4), (-2.4, -0.8, -1.2), (0.7, -2.3, 1.5)]
    views = [InitialView(np.array(position), np.zeros(3), 60.0) for position in positions]
    up = np.array([0.0, 0, 1])
    return np.concatenate([render(splats, v, up, size, size, (0.2, 0.3, 0.4), splats.sh_degree)[0] for v in views], 1)


def render(
    splats: Gaussians,
    view: InitialView,
    up: np.ndarray,
    width: int,
    height: int,
    background: tuple[float, float, float],
    sh_degree: int = 3,
    antialiased: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Our picture `[H, W, 3]` in [0, 1] of a level camera at `view`, and its opacity `[H, W]`."""
    forward = view.target - view.position
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])  # x right, y down, z forward
    viewmat = np.eye(4)
    viewmat[:3, :3], viewmat[:3, 3] = rotation, -rotation @ view.position
    focal = max(width, height) / 2 / np.tan(np.radians(view.fov) / 2)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    colors = np.concatenate([splats.sh_dc[:, None], splats.sh_rest], axis=1)[:, : (sh_degree + 1) ** 2]
    image, alpha, _ = rasterization(
        means=torch.from_numpy(splats.means),
        quats=torch.from_numpy(splats.quats),
        scales=torch.from_numpy(splats.log_scales).exp(),
        opacities=torch.from_numpy(splats.opacities).sigmoid(),
        colors=torch.from_numpy(np.ascontiguousarray(colors)),
        viewmats=torch.from_numpy(viewmat).float()[None],
        Ks=torch.from_numpy(K).float()[None],
        width=width,
        height=height,
        backgrounds=torch.tensor([background], dtype=torch.float32),
        sh_degree=sh_degree,
        rasterize_mode="antialiased" if antialiased else "classic",
    )
    return image[0].clamp(0, 1).numpy(), alpha[0, ..., 0].numpy()


def psnr(image: np.ndarray, reference: np.ndarray, where: np.ndarray | None = None) -> float:
    """In decibels, over the pixels that `where` selects (all, if None); values in [0, 1]."""
    where = np.ones(image.shape[:2], bool) if where is None else where
    return float(-10 * np.log10(max(np.mean((image[where] - reference[where]) ** 2), 1e-20)))
