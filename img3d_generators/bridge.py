# SPDX-License-Identifier: Apache-2.0
"""Adapts views by Zero123++ to the cameras that LGM was trained with, and transforms LGM's Gaussians back.

LGM expects cameras at distance 1.5 with a field of view of 49.1 degrees, in the world of the first one. Zero123++
v1.1 has that field of view. v1.2 (and InstantMesh's network) looks from farther away with 30 degrees, which can be
adapted in three ways:

- "pad": the picture is reduced and padded with white to what LGM's camera would see from the same place. Exact, but
  only a third of the pixels, and of the Gaussians, are used.
- "rescale": the picture is reduced less, as if the object were nearer. The perspective is then slightly wrong: by 0.6
  of 256 pixels on average at the default size.
- "rays": the picture is kept, and LGM gets the rays of the true camera. Exact, but unlike its training data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, normalised_to_first
from img3d_generators.lgm import LGM_INPUT_SIZE, network_input
from img3d_generators.posed_views import PosedViews

BridgeMode = Literal["pad", "rescale", "rays"]
DEFAULT_VIEWS = (0, 2, 3, 5)
"""Indices of four of the six views, at 30, 150, 210 and 330 degrees, which together see the most; two of them are
frontal."""
OBJECT_RADIUS = {"rescale": 0.45, "rays": 0.6}
"""Radius at which LGM sees an object that fills the frame; at 0.6 the rays' moments are as in training."""
SAME_LENS = 0.1
"""Difference of fields of view, in degrees, that is ignored; LGM's own is v1.1's, rounded."""


@dataclass(frozen=True)
class BridgedViews:
    """Views in LGM's world, with the transform back."""

    images: Float[Tensor, "V 3 S S"]
    """sRGB in [0, 1], on white."""
    camera_to_worlds: Float[Tensor, "V 3 4"]
    """Poses; the first one is [I | (0, 0, distance)]. OpenGL axes."""
    fov: float
    """Field of view in degrees."""
    to_views: Float[Tensor, "4 4"]
    """From LGM's world to the axes of the views' world; both have the same origin."""
    scale: float
    """Length of LGM's unit in the views' world."""

    def network_input(self) -> Float[Tensor, "V 9 H W"]:
        """The input of `LGM.generate`."""
        return network_input(self.images, self.camera_to_worlds, self.fov)

    def to_world(self, gaussians: ActivatedGaussians) -> ActivatedGaussians:
        """LGM's Gaussians in the views' world, where +z faces the viewer of the input image."""
        turned = gaussians.transformed(self.to_views)
        return replace(turned, means=turned.means * self.scale, scales=turned.scales * self.scale)


def bridge(views: PosedViews, mode: BridgeMode = "rescale", object_radius: float | None = None) -> BridgedViews:
    """Adapts views to LGM.

    Args:
        views: Views from cameras at one distance that look at the origin; the first becomes LGM's front view.
        mode: How to adapt a field of view that is not LGM's.
        object_radius: For "rescale" and "rays", the size in LGM's world of the frame's half width at the origin,
            where published networks put the object's radius. 0.402 is exact for v1.2; None is `OBJECT_RADIUS`.

    Raises:
        ValueError: An object of this radius does not fit LGM's pictures.
    """
    distance = float(views.camera_to_worlds[0, :, 3].norm())
    half_width = distance * math.tan(math.radians(views.fov) / 2)
    largest = LGM_RADIUS * math.tan(math.radians(LGM_FOV) / 2)
    images, fov, bridged_distance = views.images, LGM_FOV, LGM_RADIUS
    if abs(views.fov - LGM_FOV) < SAME_LENS:
        scale = LGM_RADIUS / distance
    elif mode == "pad":
        scale = LGM_RADIUS / distance
        images = reduced_on_white(images, scale * half_width / largest, LGM_INPUT_SIZE)
    else:
        radius = OBJECT_RADIUS[mode] if object_radius is None else object_radius
        if not 0 < radius <= largest:
            raise ValueError(f"an object of radius {radius} does not fit LGM's pictures, which show {largest:.3f}")
        scale = radius / half_width
        if mode == "rescale":
            images = reduced_on_white(images, radius / largest, LGM_INPUT_SIZE)
        else:
            fov, bridged_distance = views.fov, distance * scale
    poses = views.camera_to_worlds.clone()
    poses[:, :, 3] *= bridged_distance / distance
    poses, to_first = normalised_to_first(poses)
    return BridgedViews(images, poses, fov, torch.linalg.inv(to_first), 1 / scale)


def reduced_on_white(images: Float[Tensor, "V 3 S S"], share: float, size: int) -> Float[Tensor, "V 3 T T"]:
    """Reduces pictures and centres them on white ones, with subpixel accuracy.

    Args:
        images: Square pictures in [0, 1].
        share: Fraction of the result's width that they take.
        size: Height and width of the result in pixels.
    """
    old_size = images.shape[-1]
    step = old_size / (share * size)  # in old pixels
    centres = (torch.arange(size, dtype=torch.float64) + 0.5 - size / 2) * step + old_size / 2
    margin = int(old_size / share) + 2
    pixels = torch.arange(-margin, old_size + margin, dtype=torch.float64) + 0.5
    weights = (1 - (pixels - centres[:, None]).abs() / max(step, 1)).clamp_min(0)  # a triangle filter, for antialiasing
    weights = (weights / weights.sum(dim=1, keepdim=True))[:, margin : margin + old_size].to(images)
    return (1 + weights @ (images - 1) @ weights.T).clamp(0, 1)  # white where no pixel is
