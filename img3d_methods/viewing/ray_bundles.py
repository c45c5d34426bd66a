# SPDX-License-Identifier: Apache-2.0
"""Finds the pinhole camera of a bundle of rays, and computes surface normals from depth.

`ns-export` asks models for rays. If these are the pixels of one camera, a splat model can rasterise them, which is
exact and many times faster than following each ray.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

FAR = 1e10
"""Depth of rays that hit nothing: everything up to there is free space, which `ns-export tsdf` carves."""
TOLERANCE = 1e-3
"""Maximum error of a fitted ray, as a fraction of the focal length. Lens distortion and fisheyes are far above it."""


def pinhole_of_bundle(bundle: RayBundle) -> tuple[Float[Tensor, "3 4"], Float[Tensor, "3 3"], int, int] | None:
    """The camera whose pixel centres the rays `[H, W]` go through.

    Directions with the lengths that `Cameras.generate_rays` stores are linear in the pixel: `R K^-1 (u, v, 1)`, up
    to the signs of OpenGL's axes. The 3 x 3 matrix is found by least squares and decomposed.

    Returns:
        Camera-to-world (OpenGL axes), intrinsics in pixels, width and height; None if the rays are not such an
        image.
    """
    if len(bundle.shape) != 2 or min(bundle.shape) < 2 or "directions_norm" not in (bundle.metadata or {}):
        return None
    height, width = bundle.shape
    origins = bundle.origins.reshape(-1, 3).double()
    origin = origins[0]
    spread = (origins - origin).abs().max()
    if spread > 1e-6 * max(1.0, float(origin.abs().max())):
        return None

    directions = (bundle.directions * bundle.metadata["directions_norm"]).reshape(-1, 3).double()
    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float64, device=directions.device) + 0.5,
        torch.arange(width, dtype=torch.float64, device=directions.device) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).reshape(-1, 3)
    # Normal equations, with pixels relative to the image centre and scaled to [-1, 1], are well conditioned and avoid
    # factorising an N x 3 matrix.
    half = pixels.new_tensor([width / 2, height / 2, 1.0])
    centered = (pixels - pixels.new_tensor([width / 2, height / 2, 0.0])) / half
    fitted = torch.linalg.solve(centered.T @ centered, centered.T @ directions)  # [3, 3]: direction = centered @ fitted
    if (centered @ fitted - directions).abs().max() > TOLERANCE:
        return None

    right, down, ahead = fitted[0] / half[0], fitted[1] / half[1], fitted[2]  # d(direction)/du, d/dv, at the centre
    fx, fy = 1 / right.norm(), 1 / down.norm()
    x_axis, y_axis = right * fx, -down * fy
    z_axis = torch.linalg.cross(x_axis, y_axis)
    if (x_axis @ y_axis).abs() > TOLERANCE or (ahead @ z_axis + 1).abs() > TOLERANCE:
        return None
    cx = width / 2 - (ahead @ x_axis) * fx
    cy = height / 2 + (ahead @ y_axis) * fy
    y_axis = torch.linalg.cross(z_axis, x_axis)
    K = torch.eye(3, device=directions.device, dtype=torch.float64)
    K[0, 0], K[1, 1], K[0, 2], K[1, 2] = fx, fy, cx, cy
    camera_to_world = torch.stack([x_axis, y_axis, z_axis, origin], dim=-1)
    return camera_to_world.float(), K.float(), width, height


def normals_from_distances(
    origins: Float[Tensor, "H W 3"], directions: Float[Tensor, "H W 3"], distances: Float[Tensor, "H W 1"]
) -> Float[Tensor, "H W 3"]:
    """Unit normals, towards the camera, of the surface at `distances` along the rays of an image.

    They are cross products of differences between neighbouring points, and wrong along silhouettes, where neighbours
    lie on different surfaces.
    """
    points = origins + directions * distances
    along_u, along_v = torch.gradient(points, dim=(1, 0))
    normals = torch.nn.functional.normalize(torch.linalg.cross(along_v, along_u), dim=-1)
    facing_away = (normals * directions).sum(dim=-1, keepdim=True) > 0
    return torch.where(facing_away, -normals, normals)
