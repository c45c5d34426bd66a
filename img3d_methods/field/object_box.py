# SPDX-License-Identifier: Apache-2.0
"""Finds the box around an object from photos with transparent backgrounds."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_kernels.poses import point_of_attention, viewmats
from img3d_kernels.projection import in_picture

LATTICE = 48
"""Points that are tested along each axis."""
MAX_PHOTOS = 60
"""Maximum number of photos to test them with, evenly chosen."""
MIN_SEEN = 0.5
"""Share of these photos in whose view a point of the object has to be."""


@torch.no_grad()
def object_box(cameras: Cameras, photos: list[dict[str, Any]]) -> Float[Tensor, "2 3"]:
    """The lower and upper corner, in world coordinates, of the box around the object's visual hull (Laurentini 1994).

    A point belongs to the hull if at least half of the photos have it in view, and it is not transparent in any of
    these. Photos without alpha are transparent nowhere. If there is no such point, the box is the cube around the
    cameras' point of attention that reaches to the farthest camera.

    Args:
        cameras: C cameras.
        photos: For each camera, `image` `[H, W, 3 or 4]`.
    """
    origins, forward = cameras.camera_to_worlds[:, :, 3], -cameras.camera_to_worlds[:, :, 2]
    center = point_of_attention(origins, forward).cpu()
    radius = float((origins.cpu() - center).norm(dim=1).max())
    axis = torch.linspace(-radius, radius, LATTICE)
    points = center + torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(-1, 3)
    chosen = torch.linspace(0, len(photos) - 1, min(len(photos), MAX_PHOTOS)).round().long().tolist()
    seen, inside = torch.zeros(len(points)), torch.ones(len(points), dtype=torch.bool)
    Ks, views = cameras.get_intrinsics_matrices().cpu(), viewmats(cameras.camera_to_worlds.cpu())
    for index in chosen:
        image = photos[index]["image"]
        in_view, pixels, _ = in_picture(points, Ks[index], views[index], image.shape[1], image.shape[0])
        seen += in_view
        if image.shape[2] == 4:
            column, row = pixels[in_view].long().T
            inside[in_view] &= (image[row, column, 3] > 0).cpu()
    hull = points[inside & (seen >= MIN_SEEN * len(chosen))]
    spacing = 2 * radius / (LATTICE - 1)
    if len(hull) == 0:
        return torch.stack([center - radius, center + radius])
    return torch.stack([hull.amin(dim=0) - spacing, hull.amax(dim=0) + spacing])
