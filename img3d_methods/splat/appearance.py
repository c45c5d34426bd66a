# SPDX-License-Identifier: Apache-2.0
"""Each photo's own colours: exposure and white balance differ where a camera chose them anew for every photo.

An affine map for each photo turns the scene's colours into what that photo shows. (Urban Radiance Fields, arXiv
2111.14643, section 4.2, has the same map, there predicted from an embedding.) On average the maps are the identity:
otherwise the scene's own colours would not be determined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_kernels.poses import viewmats
from img3d_kernels.projection import in_picture

NOTABLE_DIFFERENCE = 0.1
"""Standard deviation of the logarithm of the photos' gains from which they count as differently exposed: 10 %."""
CELLS = 24
"""Cells along a photo's longer side in which only the nearest points count as seen."""
DEPTH_TOLERANCE = 1.1
"""How much farther than the nearest point of its cell a point may be to count as seen."""
MIN_POINTS = 30
"""Seed points in view from which a photo's gains are known."""
DARK, BRIGHT = 20, 235
"""Bytes between which a photo's pixel tells its exposure: neither noise nor saturated."""


class PhotoAppearance(torch.nn.Module):
    """An affine map of colours for each photo.

    Args:
        num_photos: Photos that are trained on.
    """

    in_use: Tensor

    def __init__(self, num_photos: int) -> None:
        super().__init__()
        self.offsets = torch.nn.Parameter(torch.zeros(num_photos, 3, 4))
        """What is added to the identity `[3, 3 + 1]`: from RGB and 1 to RGB."""
        self.register_buffer("in_use", torch.tensor(False))
        self.is_active = False
        """`in_use` as a bool: reading the tensor in every step would make each wait for a CUDA device."""

    @torch.no_grad()
    def start_from(self, log_gains: Float[Tensor, "N 3"]) -> None:
        """Use the maps, beginning with these gains of red, green and blue."""
        self.in_use.fill_(True)
        self.is_active = True
        self.offsets.zero_()
        self.offsets[:, range(3), range(3)] = log_gains.exp().to(self.offsets) - 1

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.is_active = bool(self.in_use)

    def forward(self, rgb: Float[Tensor, "H W 3"], photo: int) -> Float[Tensor, "H W 3"]:
        """The scene's colours as the photo of this index shows them; unchanged while the maps are not in use."""
        if not self.is_active:
            return rgb
        matrix = torch.eye(3, 4, device=rgb.device) + self.offsets[photo] - self.offsets.mean(dim=0)
        return rgb @ matrix[:, :3].T + matrix[:, 3]


def differently_exposed(log_gains: Float[Tensor, "N 3"]) -> bool:
    """Whether photos with these gains need maps of their own."""
    return len(log_gains) > 1 and bool(log_gains.std(dim=0).max() > NOTABLE_DIFFERENCE)


def log_gains_of_photos(
    images: Sequence[UInt8[Tensor, "..."]],
    cameras: Cameras,
    points: Float[Tensor, "P 3"],
    colors: Float[Tensor, "P 3"] | UInt8[Tensor, "P 3"],
    masks: Sequence[Tensor | None] | None = None,
) -> Float[Tensor, "N 3"]:
    """How much brighter each photo shows the seed points than the other photos do, as natural logarithms.

    Args:
        images: `[H, W, 3 or 4]` of each photo.
        cameras: Of shape [N], without lens distortion.
        points: Seed points in the cameras' world.
        colors: Of the points, in [0, 255]: means over the photos that see them.
        masks: `[H, W, 1]` of each photo, False where it does not count; None: all of it counts.

    Returns:
        Medians over the points in view, less their mean over the photos; 0 for a photo that sees too few.
    """
    gains = torch.full((len(images), 3), torch.nan)
    for i, image in enumerate(images):
        seen, rows, columns = _seen(cameras, i, points.float().cpu())
        shown, expected = image.cpu()[rows, columns, :3].float(), colors.float().cpu()[seen]
        usable = ((shown > DARK) & (shown < BRIGHT) & (expected > DARK) & (expected < BRIGHT)).all(dim=1)
        mask = None if masks is None else masks[i]
        if mask is not None:
            usable &= mask.cpu()[rows, columns, 0]
        if int(usable.sum()) >= MIN_POINTS:
            gains[i] = (shown[usable] / expected[usable]).log().median(dim=0).values
    return (gains - gains.nanmean(dim=0)).nan_to_num(0.0)


def _seen(cameras: Cameras, index: int, points: Float[Tensor, "P 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the points that a camera sees, and the rows and columns of their pixels.

    A point behind others of its neighbourhood counts as hidden: points alone do not show where the surface is closed.
    """
    camera = cameras[index : index + 1].to("cpu")
    width, height = int(camera.width), int(camera.height)
    inside, pixels, in_camera = in_picture(
        points, camera.get_intrinsics_matrices()[0], viewmats(camera.camera_to_worlds)[0], width, height
    )
    ahead = torch.nonzero(inside)[:, 0]
    (columns, rows), depth = pixels[ahead].long().unbind(dim=1), in_camera[ahead, 2]
    side = max(1, max(width, height) // CELLS)
    cell = rows // side * (width // side + 1) + columns // side
    nearest = torch.full((int(cell.max()) + 1 if len(cell) else 0,), torch.inf)
    nearest.scatter_reduce_(0, cell, depth, "amin")
    front = depth <= DEPTH_TOLERANCE * nearest[cell]
    return ahead[front], rows[front], columns[front]
