# SPDX-License-Identifier: Apache-2.0
"""Depth and normals from multi-view stereo as a training loss: surfaces lie where several photos agree that they do.

Depth and normal terms as in DN-Splatter (Turkulainen et al. 2024) and 2D Gaussian Splatting (Huang et al. 2024), with
stereo of the training photos in place of a network's guess: its depth has the scene's scale, and is known only where
photos confirm it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from img3d_kernels.stereo.views import DepthMap, StereoView, rays

NORMAL_WEIGHT = 0.1
"""Weight of the normal term, relative to the depth term."""
TRANSITION = 0.02
"""Relative error of depth up to which the loss is quadratic: stereo's wrong depths are far off, and must not count
more than that."""
MIN_ALPHA = 0.5
"""Minimum accumulation of a pixel whose rendered depth is that of a surface."""
MAX_STEP = 0.05
"""Maximum relative difference of the depths of neighbouring pixels on one surface, which has a normal."""


@dataclass(frozen=True)
class StereoPrior:
    """What stereo says about the training photos, which may have different sizes."""

    Ks: Sequence[Float[Tensor, "3 3"]]
    """Intrinsics in pixels of the maps."""
    maps: Sequence[DepthMap]

    @classmethod
    def of(cls, views: Sequence[StereoView], maps: Sequence[DepthMap]) -> StereoPrior:
        """The prior from each training photo's view and map."""
        return cls([view.K.float() for view in views], maps)

    def loss(
        self, photo: int, depth: Float[Tensor, "H W 1"], accumulation: Float[Tensor, "H W 1"]
    ) -> Float[Tensor, ""]:
        """How far rendered depth is from stereo's, in position and slope; 0 where stereo knows nothing.

        The depth term is the Huber loss of the relative error, so that it does not depend on the scene's scale. The
        normal term is one minus the cosine between stereo's normal and that of the rendered depth.

        Args:
            photo: Index of the training photo.
            depth: Expected depth along the camera's axis, of the whole photo at any size.
            accumulation: The opacity of the same pixels.
        """
        found = self.maps[photo]
        scale = min(depth.shape[0] / found.depth.shape[0], 1.0)  # compared at the smaller of both sizes
        size = depth.shape[:2] if scale < 1 else found.depth.shape
        known = torch.cat([found.depth[..., None], found.normals], dim=-1).permute(2, 0, 1).to(depth)
        target, *normal = F.interpolate(known[None], size, mode="nearest-exact")[0]
        rendered, alpha = F.interpolate(
            torch.cat([depth, accumulation], dim=-1).permute(2, 0, 1)[None], size, mode="area"
        )[0]
        compared = (target > 0) & (alpha >= MIN_ALPHA)
        ratio = rendered / torch.where(compared, target, 1.0)
        error = F.huber_loss(ratio, torch.ones_like(ratio), reduction="none", delta=TRANSITION) / TRANSITION
        K = self.Ks[photo] * torch.tensor([[size[1] / found.depth.shape[1]], [size[0] / found.depth.shape[0]], [1.0]])
        slopes, smooth = _normals(rendered, K)
        turned = 1 - (slopes * torch.stack(normal, dim=-1)[:-1, :-1]).sum(dim=-1)
        turned = turned * (smooth & compared[:-1, :-1])
        return ((error * compared).sum() + NORMAL_WEIGHT * turned.sum()) / compared.numel()


def _normals(depth: Float32[Tensor, "H W"], K: Float32[Tensor, "3 3"]) -> tuple[Float32[Tensor, "h w 3"], Tensor]:
    """Unit normals towards the camera (OpenCV axes) of a depth map from the differences to the pixels to the right
    and below, and where these lie on the same surface; `[H - 1, W - 1]`."""
    points = rays(K.cpu(), *depth.shape).to(depth) * depth[..., None]
    corner, right, below = points[:-1, :-1], points[:-1, 1:], points[1:, :-1]
    near = MAX_STEP * depth[:-1, :-1]
    smooth = ((depth[:-1, 1:] - depth[:-1, :-1]).abs() <= near) & ((depth[1:, :-1] - depth[:-1, :-1]).abs() <= near)
    return F.normalize(torch.linalg.cross(below - corner, right - corner), dim=-1), smooth
