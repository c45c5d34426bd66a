# SPDX-License-Identifier: Apache-2.0
"""From Zero123++ to LGM: the views that one paints as the other was trained to take them, and the Gaussians back.

LGM knows cameras at distance 1.5 with a lens of 49.1 degrees, in the world of the first one. Zero123++ v1.1 has that
lens; v1.2 (and InstantMesh's network) looks from further away through one of 30 degrees, which can be brought to LGM in
three ways:

- "pad": the picture becomes smaller, on white: what a camera in the same place with LGM's lens sees. Exact, but only a
  third of the pixels, and of the Gaussians, are used.
- "rescale": larger than that, as if the object were nearer. The perspective is slightly wrong then: by 0.6 of 256
  pixels on average at the default size.
- "rays": the picture as it is, and LGM is told the true lens and distance. Exact, but unlike what it was trained on.
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
"""Of the six: 30, 150, 210 and 330 degrees, the four that see most between them, two of them from the front."""
OBJECT_RADIUS = {"rescale": 0.45, "rays": 0.6}
"""How large what fills the frame is made for LGM; at 0.6 the rays' moments are those of training."""
SAME_LENS = 0.1
"""Degrees of difference between lenses that count as none; LGM's own is a rounding of v1.1's."""


@dataclass(frozen=True)
class BridgedViews:
    """Views in LGM's world, and the way back."""

    images: Float[Tensor, "V 3 S S"]
    """sRGB in [0, 1], on white."""
    camera_to_worlds: Float[Tensor, "V 3 4"]
    """The first is at [I | (0, 0, distance)]. OpenGL axes."""
    fov: float
    """Degrees."""
    to_views: Float[Tensor, "4 4"]
    """From LGM's world to the axes of the views' world, about the origin that both have."""
    scale: float
    """LGM's unit in that of the views' world."""

    def network_input(self) -> Float[Tensor, "V 9 H W"]:
        """What `LGM.generate` takes."""
        return network_input(self.images, self.camera_to_worlds, self.fov)

    def to_world(self, gaussians: ActivatedGaussians) -> ActivatedGaussians:
        """LGM's Gaussians in the world of the views, where +z faces the viewer of the input image."""
        turned = gaussians.transformed(self.to_views)
        return replace(turned, means=turned.means * self.scale, scales=turned.scales * self.scale)


def bridge(views: PosedViews, mode: BridgeMode = "rescale", object_radius: float | None = None) -> BridgedViews:
    """Brings views to LGM.

    Args:
        views: cameras at one distance that look at the origin; the first becomes LGM's front.
        mode: what to do about a lens that is not LGM's; nothing has to be done about one that is.
        object_radius: for "rescale" and "rays", what LGM is to see the frame's half width at the origin as, where the
            published networks put the object's radius. 0.402 is exact for v1.2; None is `OBJECT_RADIUS`.

    Raises:
        ValueError: an object so large does not fit LGM's pictures.
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
    """Pictures in the middle of white ones, at any size to a fraction of a pixel.

    Args:
        images: square, in [0, 1].
        share: of the result's width that they take.
        size: height and width of the result in pixels.
    """
    old_size = images.shape[-1]
    step = old_size / (share * size)  # in old pixels
    centres = (torch.arange(size, dtype=torch.float64) + 0.5 - size / 2) * step + old_size / 2
    margin = int(old_size / share) + 2
    pixels = torch.arange(-margin, old_size + margin, dtype=torch.float64) + 0.5
    weights = (1 - (pixels - centres[:, None]).abs() / max(step, 1)).clamp_min(0)  # a triangle, as antialiasing has it
    weights = (weights / weights.sum(dim=1, keepdim=True))[:, margin : margin + old_size].to(images)
    return (1 + weights @ (images - 1) @ weights.T).clamp(0, 1)  # what no pixel covers is white
