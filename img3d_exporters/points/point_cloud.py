# SPDX-License-Identifier: Apache-2.0
"""Samples points with colours and normals from Gaussians, or from the depth that training cameras see."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.base_model import Model
from scipy.spatial import KDTree
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.gaussians import Gaussians
from img3d_assets.point_cloud import PointCloud
from img3d_base.errors import InputError
from img3d_base.progress import with_progress
from img3d_kernels.poses import viewmats
from img3d_kernels.quaternions import rotation_matrices
from img3d_kernels.spherical_harmonics import sh_basis
from img3d_methods.representation import representation_of
from img3d_methods.splat.sky import in_sky

MIN_ALPHA = 0.2
"""Minimum opacity of sampled Gaussians; fainter ones are haze rather than surface."""
REACH = 1.5
"""Maximum distance of a point from its Gaussian's centre, in standard deviations."""
SEEN_FROM, SEEN_SIZE = 32, 400
"""Number of pictures for visibility, and their larger side in pixels."""
MIN_ACCUMULATION = 0.8
"""Minimum accumulation of pixels that become points."""
MAX_STEP = 0.05
"""Maximum relative difference of depth between neighbouring pixels on one surface."""


def points_on_gaussians(
    splats: Gaussians, num_points: int, cameras: Cameras | None = None, seed: int = 0
) -> PointCloud:
    """Samples points from Gaussians, in proportion to how much of each is visible.

    Args:
        splats: At least one, all finite.
        num_points: Number of points.
        cameras: The training cameras, shape [C]. They determine visibility, colours (as from the nearest camera),
            the side of the normals (towards it), and what is sky, which gets no points. None: visibility as from
            outside, colours without view dependence, normals away from the centre.
        seed: Random seed.

    Raises:
        InputError: All Gaussians are too faint, or none is visible.
    """
    outward = splats.means - np.median(splats.means, axis=0)
    distances = np.linalg.norm(outward, axis=1)
    seen = splats.importance() / np.maximum(distances + np.median(distances), 1e-12) ** 2
    if cameras is not None:
        seen = _seen(splats, cameras)
        seen[in_sky(torch.from_numpy(splats.means), cameras).numpy()] = 0
    seen[splats.alphas() < MIN_ALPHA] = 0
    if not seen.any():
        raise InputError(f"No visible Gaussian is more opaque than {MIN_ALPHA}: there is no surface.")
    axes = rotation_matrices(torch.from_numpy(splats.quats)).numpy()
    normals = np.take_along_axis(axes, splats.log_scales.argmin(axis=1)[:, None, None], axis=2)[..., 0]
    colors = splats.colors()
    if cameras is not None:
        viewpoints = cameras.camera_to_worlds[:, :3, 3].cpu().numpy()
        distances, nearest = KDTree(viewpoints).query(splats.means)
        outward = viewpoints[nearest] - splats.means
        directions = -outward / np.maximum(distances, 1e-12)[:, None]
        basis = sh_basis(splats.sh_degree, torch.from_numpy(directions)).numpy()[:, 1:]
        colors = colors + (basis[:, :, None] * splats.sh_rest).sum(axis=1)
    normals = np.where((normals * outward).sum(axis=1, keepdims=True) < 0, -normals, normals)

    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(len(splats), num_points, p=seen / seen.sum()))
    offsets = _within_reach(rng, num_points) * np.exp(splats.log_scales[drawn])
    points = splats.means[drawn] + (axes[drawn] @ offsets[..., None])[..., 0]
    return PointCloud(
        splats.origin + points.astype(np.float64),
        colors.clip(0, 1).astype(np.float32)[drawn],
        normals.astype(np.float32)[drawn],
    )


def _seen(splats: Gaussians, cameras: Cameras) -> Float[np.ndarray, "N"]:
    """The number of pixels that each Gaussian contributes to small pictures of some cameras.

    A picture is linear in the colours, so this is the derivative of the sum of its pixels by a Gaussian's colour.
    """
    views = np.unique(np.linspace(0, len(cameras) - 1, SEEN_FROM).astype(int))
    chosen = cameras[torch.from_numpy(views)]
    scale = SEEN_SIZE / float(torch.maximum(chosen.width, chosen.height).max())
    Ks = chosen.get_intrinsics_matrices().cpu()
    Ks[:, :2] *= scale
    colors = torch.zeros(len(splats), 3, requires_grad=True)
    activated = replace(ActivatedGaussians.of(splats), colors=colors, sh_degree=None)
    for i in with_progress(range(len(views)), "Finding visible Gaussians", len(views)):
        picture, _, _ = activated.rasterized(
            viewmats(chosen.camera_to_worlds[i : i + 1].cpu()),
            Ks[i : i + 1],
            round(int(chosen.width[i]) * scale),
            round(int(chosen.height[i]) * scale),
        )
        picture[..., 0].sum().backward()
    assert colors.grad is not None
    return colors.grad[:, 0].clamp_min(0).double().numpy()


def _within_reach(rng: np.random.Generator, count: int) -> Float[np.ndarray, "N 3"]:
    """Normally distributed offsets, truncated at `REACH` by rejection."""
    offsets = rng.standard_normal((count, 3))
    while (far := np.linalg.norm(offsets, axis=1) > REACH).any():
        offsets[far] = rng.standard_normal((int(far.sum()), 3))
    return offsets


@torch.no_grad()
def points_of_depth(model: Model, cameras: Cameras, num_points: int, seed: int = 0) -> PointCloud:
    """Samples points at the depth that a model renders for the cameras' pixels.

    Args:
        model: A model that renders "rgb", "depth" and "accumulation".
        cameras: Shape [C].
        num_points: Number of points; fewer if the pictures have fewer usable pixels.
        seed: Random seed.

    Raises:
        InputError: The pictures show nothing.
    """
    rng = np.random.default_rng(seed)
    share = -(-num_points // len(cameras))
    clouds = [
        _points_of_picture(model, cameras[i : i + 1], 2 * share, rng)
        for i in with_progress(range(len(cameras)), "Depth of each photo", len(cameras))
    ]
    cloud = PointCloud(
        *(np.concatenate([getattr(each, field.name) for each in clouds]) for field in fields(PointCloud))
    )
    if len(cloud) == 0:
        raise InputError("The model renders no surface for the training cameras.")
    return thinned(cloud, num_points, rng)


def thinned(cloud: PointCloud, num_points: int, rng: np.random.Generator | None = None) -> PointCloud:
    """A random choice of at most so many points, in their order."""
    rng = rng or np.random.default_rng(0)
    return cloud[np.sort(rng.permutation(len(cloud))[:num_points])]


def _points_of_picture(model: Model, camera: Cameras, at_most: int, rng: np.random.Generator) -> PointCloud:
    outputs = model.get_outputs_for_camera(camera.to(model.device))
    rays = camera.to("cpu").generate_rays(camera_indices=0, keep_shape=True)
    distance = outputs["depth"].cpu()
    if representation_of(model).depth_along == "axis":
        distance = distance * rays.metadata["directions_norm"]
    points = rays.origins + rays.directions * distance
    right, down = _step(points, 1), _step(points, 0)
    normals = torch.nn.functional.normalize(torch.linalg.cross(right, down), dim=-1)
    towards = (normals * rays.directions).sum(dim=-1, keepdim=True)
    normals = torch.where(towards > 0, -normals, normals)
    usable = (outputs["accumulation"].cpu() >= MIN_ACCUMULATION)[..., 0] & (towards[..., 0] != 0)
    for axis in (0, 1):
        usable &= (_step(distance, axis).abs() <= MAX_STEP * distance)[..., 0]
    chosen = usable.flatten().nonzero()[:, 0].numpy()
    chosen = rng.permutation(chosen)[:at_most]
    values = (points.double(), outputs["rgb"].cpu().clamp(0, 1), normals)
    return PointCloud(*(value.reshape(-1, 3).numpy()[chosen] for value in values))


def _step(values: Tensor, axis: int) -> Tensor:
    """The difference from each pixel to the next; at the end, from the previous one."""
    step = torch.diff(values, dim=axis)
    return torch.cat([step, step.narrow(axis, step.shape[axis] - 1, 1)], dim=axis)
