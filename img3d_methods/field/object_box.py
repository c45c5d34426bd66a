# SPDX-License-Identifier: Apache-2.0
"""Finds the box around an object from photos with transparent backgrounds."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
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
PASSES = 3
"""The lattice is laid anew in what was found, to find it more exactly."""
REACH = 1.5
"""Distance from a lattice point within which an object is looked for, in spacings, at the distance of the cameras'
point of attention. The half diagonal of a cell is 0.87 spacings; what is nearer to a camera looks larger."""


@torch.no_grad()
def object_box(cameras: Cameras, photos: list[dict[str, Any]]) -> Float[Tensor, "2 3"]:
    """The lower and upper corner, in world coordinates, of a box around the object's visual hull (Laurentini 1994).

    A point of a lattice belongs to the hull if at least half of the photos have it in view, and something opaque is
    near it in all of these, so that parts thinner than the lattice count. Photos without alpha are opaque everywhere.
    If there is no such point, the box is the cube around the cameras' point of attention that reaches to the farthest
    camera.

    Args:
        cameras: C cameras.
        photos: For each camera, `image` `[H, W, 3 or 4]`.
    """
    origins, forward = cameras.camera_to_worlds[:, :, 3], -cameras.camera_to_worlds[:, :, 2]
    center = point_of_attention(origins, forward).cpu()
    distances = (origins.cpu() - center).norm(dim=1)
    box = torch.stack([center - distances.max(), center + distances.max()])
    chosen = torch.linspace(0, len(photos) - 1, min(len(photos), MAX_PHOTOS)).round().long().tolist()
    Ks, views = cameras.get_intrinsics_matrices().cpu(), viewmats(cameras.camera_to_worlds.cpu())
    for _ in range(PASSES):
        spacing = (box[1] - box[0]) / (LATTICE - 1)
        axes = [torch.linspace(float(low), float(high), LATTICE) for low, high in box.T]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 3)
        seen, inside = torch.zeros(len(points)), torch.ones(len(points), dtype=torch.bool)
        for index in chosen:
            image = photos[index]["image"]
            in_view, pixels, _ = in_picture(points, Ks[index], views[index], image.shape[1], image.shape[0])
            seen += in_view
            if image.shape[2] == 4:
                reach = REACH * float(spacing.max() * Ks[index, 0, 0] / distances[index].clamp_min(1e-6))
                size = min(max(1, math.ceil(reach)), max(image.shape[:2]))
                column, row = (pixels[in_view].long() // size).T
                inside[in_view] &= _opaque_nearby(image[..., 3], size)[row, column]
        hull = points[inside & (seen >= MIN_SEEN * len(chosen))]
        if len(hull) == 0:
            break
        box = torch.stack([hull.amin(dim=0) - spacing / 2, hull.amax(dim=0) + spacing / 2])
    return box


def _opaque_nearby(alpha: Tensor, size: int) -> Bool[Tensor, "rows columns"]:
    """For each square of `size` pixels, whether anything is opaque in it or in its neighbours."""
    opaque = (alpha > 0).cpu().float()[None]
    return F.max_pool2d(F.max_pool2d(opaque, size, ceil_mode=True), 3, stride=1, padding=1)[0] > 0
