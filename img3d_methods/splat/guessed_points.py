# SPDX-License-Identifier: Apache-2.0
"""Seed points where no depth is known: what a single photo shows, at a depth that is guessed.

Where few photos have no seed points, such as on walls that only one of them shows, fog near its camera explains it as
well as anything, and hides the scene from everywhere else. A surface at a depth that does not contradict other photos
is nearer to the truth: each cell of a photo without a depth is given one by semi-global matching, by what is known
around it, by whether other photos see the place empty or in another colour, and, where nothing tells, rather far away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_kernels.depth_cells import CELLS, in_cells, nearest_depths
from img3d_kernels.poses import viewmats
from img3d_kernels.stereo.semi_global import semi_global
from img3d_methods.splat.sky import SkyPoints
from img3d_methods.training.few_photos import ENOUGH_PHOTOS

NUM_DEPTHS = 32
"""Depths among which is chosen, evenly spaced in their logarithm."""
NEAREST = 0.7
"""The least of them, relative to the nearest known depths of the photo."""
FARTHEST = 1.5
"""The largest of them, relative to the farthest known depths of all photos: what has no points is mostly background."""
OUTLIERS = 0.02
"""Share of the known depths that is nearer than the nearest, or farther than the farthest."""
TOLERANCE = 0.93
"""A place is before a photo's surface if it is nearer than this part of its depth, and behind it by the inverse."""
SEEN_THROUGH, MAX_SEEN_THROUGH = 1.0, 2.0
"""Cost of a place that is before another photo's surface; and the most that several such photos cost."""
COLOR_COST, MAX_COLOR_COST = 3.0, 1.0
"""Cost of another colour in another photo, for a difference of 1; and the largest."""
HIDDEN = 0.25
"""Cost of a place that another photo can't show, as it is behind its surface or outside of it."""
NEARER = 0.15
"""Cost of being nearer than the farthest depth, for each factor of e."""
KNOWN = 3.0
"""Cost of another depth than the known one, for a factor of e or more."""
STIFFNESS, MIN_STIFFNESS, COLOR_EDGE = 1.2, 0.05, 0.15
"""Cost of a jump between neighbouring cells of the same colour; of very different ones; and the difference of colours
at which it falls to a third."""
JUMP = 0.2
"""Logarithm of the ratio of two depths from which on a jump does not cost more."""


@dataclass(frozen=True)
class _Photo:
    """A photo in cells; `[h, w]` is the part of the grid that it covers."""

    camera: tuple[Tensor, Tensor, int, int]
    """Intrinsics `[3, 3]`, world to camera `[4, 4]`, width and height: what `in_cells` asks for."""
    colors: Float[Tensor, "h w 3"]
    """The mean colour of each cell, in [0, 1]."""
    depths: Float[Tensor, "h w"]
    """Known depths; 0 where there is none."""
    usable: Bool[Tensor, "h w"]
    """Cells to guess a depth for, if none is known: neither masked nor sky."""

    def points(self, depths: Float[Tensor, "*D h w"]) -> Float[Tensor, "*D h w 3"]:
        """The middle of each cell at these depths, world coordinates."""
        K, viewmat, width, height = self.camera
        side = max(width, height) / CELLS
        y, x = torch.meshgrid(*((torch.arange(count) + 0.5) * side for count in depths.shape[-2:]), indexing="ij")
        rays = torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)], dim=-1)
        to_world = torch.linalg.inv(viewmat)
        return (rays * depths[..., None]) @ to_world[:3, :3].T + to_world[:3, 3]


def guessed_points(
    images: Sequence[Tensor],
    cameras: Cameras,
    points: Float[Tensor, "P 3"],
    masks: Sequence[Tensor | None] | None,
    sky: SkyPoints | None,
) -> tuple[Float[Tensor, "G 3"], Float[Tensor, "G 3"]] | None:
    """One point for each cell of few photos in which no depth is known, and its colour; None if there is none.

    Args:
        images: Of the photos, `[H, W, 3]` bytes, RGB. Photos with opacity (`[H, W, 4]`) show objects: what is beside
            these is nothing.
        cameras: Of shape [N], pinhole.
        points: Known points on surfaces, world coordinates.
        masks: `[H, W, 1]` for each photo, true where it is used; None where all of it is.
        sky: What the photos show of the sky.

    Returns:
        World coordinates, and colours in [0, 1].
    """
    if not 1 < len(images) < ENOUGH_PHOTOS or any(image.shape[-1] != 3 for image in images):
        return None
    photos = _photos(images, cameras, points, masks, sky)
    known = torch.cat([photo.depths[photo.depths > 0] for photo in photos])
    if len(known) == 0:
        return None
    farthest = FARTHEST * float(known.quantile(1 - OUTLIERS))
    found, colors = [], []
    for photo in photos:
        missing = photo.usable & (photo.depths == 0)
        if missing.any() and photo.depths.any():
            others = [other for other in photos if other is not photo]
            found.append(photo.points(_completed(photo, others, farthest))[missing])
            colors.append(photo.colors[missing])
    return (torch.cat(found), torch.cat(colors)) if found else None


def _photos(
    images: Sequence[Tensor],
    cameras: Cameras,
    points: Float[Tensor, "P 3"],
    masks: Sequence[Tensor | None] | None,
    sky: SkyPoints | None,
) -> list[_Photo]:
    Ks, poses = cameras.get_intrinsics_matrices().cpu(), viewmats(cameras.camera_to_worlds.cpu())
    photos = []
    for i, image in enumerate(images):
        width, height = int(cameras.width[i]), int(cameras.height[i])
        camera = (Ks[i], poses[i], width, height)
        rows, columns = (math.ceil(CELLS * length / max(width, height)) for length in (height, width))
        small = cv2.resize(image.cpu().numpy(), (columns, rows), interpolation=cv2.INTER_AREA)
        usable = torch.ones(rows, columns, dtype=torch.bool)
        mask = None if masks is None else masks[i]
        if mask is not None:
            used = cv2.resize(mask.cpu().numpy().astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
            usable &= torch.from_numpy(used > 0.5)
        if sky is not None:
            usable &= ~_sky_cells(sky.points[sky.shown[i]], camera)[:rows, :columns]
        depths = nearest_depths(points.cpu().float(), *camera)[:rows, :columns]
        photos.append(_Photo(camera, torch.from_numpy(small).float() / 255, depths, usable))
    return photos


def _sky_cells(shown: Float[Tensor, "S 3"], camera: tuple[Tensor, Tensor, int, int]) -> Bool[Tensor, "h w"]:
    """Cells in or beside which a photo shows a point of the sky; these points are about as far apart as cells."""
    _, inside, cells, _ = in_cells(shown, *camera)
    grid = torch.zeros(CELLS**2)
    grid[cells[inside]] = 1
    return torch.nn.functional.max_pool2d(grid.view(1, CELLS, CELLS), 3, stride=1, padding=1)[0] > 0


def _completed(photo: _Photo, others: Sequence[_Photo], farthest: float) -> Float[Tensor, "h w"]:
    """The depth of each cell, known or guessed."""
    known = photo.depths > 0
    nearest = NEAREST * float(photo.depths[known].quantile(OUTLIERS))
    logs = torch.linspace(math.log(nearest), math.log(max(farthest, nearest)), NUM_DEPTHS)
    shape = (NUM_DEPTHS, *photo.depths.shape)
    places = photo.points(logs.exp()[:, None, None].expand(shape))
    seen_through, visible, unlike = torch.zeros(3, *shape)
    for other in others:
        _, inside, cells, depths = in_cells(places.view(-1, 3), *other.camera)
        inside, depths = inside.view(shape), depths.view(shape)
        row, column = (cells // CELLS).view(shape), (cells % CELLS).view(shape)
        surface = other.depths[row, column]
        before = inside & (surface > 0) & (depths < TOLERANCE * surface)
        behind = inside & (surface > 0) & (TOLERANCE * depths > surface)
        difference = (other.colors[row, column] - photo.colors).abs().mean(dim=-1)
        shown = inside & ~before
        seen_through += before
        visible += shown
        unlike += shown * torch.where(behind, HIDDEN, (COLOR_COST * difference).clamp(max=MAX_COLOR_COST))
    costs = torch.where(visible > 0, unlike / visible.clamp(min=1), HIDDEN)
    costs = costs + (SEEN_THROUGH * seen_through).clamp(max=MAX_SEEN_THROUGH)
    costs = costs.permute(1, 2, 0) + NEARER * (logs[-1] - logs)
    off = (logs - photo.depths.clamp(min=nearest)[..., None].log()).abs()
    costs = torch.where(known[..., None], KNOWN * off.clamp(max=1), costs)
    jumps = (logs[:, None] - logs).abs().clamp(max=JUMP) / JUMP
    down, right = (photo.colors.diff(dim=dim).abs().mean(dim=-1) for dim in (0, 1))
    stiffness = [MIN_STIFFNESS + STIFFNESS * (-differences / COLOR_EDGE).exp() for differences in (down, right)]
    return logs[semi_global(costs, jumps, *stiffness)].exp()
