# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of stereo: grey pictures with cameras, planes, and maps of depth and normals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

MAX_PIXELS = (1 << 24) - 1
"""Maximum number of pixels of a picture: single precision represents all indices up to it exactly."""


@dataclass(frozen=True)
class StereoView:
    """A picture and its pinhole camera."""

    grey: UInt8[Tensor, "H W"]
    K: Float[Tensor, "3 3"]
    """Intrinsics in pixels without skew; pixel centres at +0.5."""
    viewmat: Float[Tensor, "4 4"]
    """World to camera, OpenCV axes (x right, y down, z forward)."""
    mask: Bool[Tensor, "H W"] | None = None
    """Pixels to use; None for all. Others get no depth, and no patch of this view or of a source includes them."""
    outline: Bool[Tensor, "H W"] | None = None
    """Pixels that may show the object; all others are known to show nothing of it. None: nothing is known."""

    def __post_init__(self) -> None:
        if self.grey.dim() != 2 or not 0 < self.grey.numel() <= MAX_PIXELS:
            raise ValueError(f"grey must be [H, W] with 1 to {MAX_PIXELS:,} pixels, got {list(self.grey.shape)}")
        if self.mask is not None and self.mask.shape != self.grey.shape:
            raise ValueError(f"mask must have the shape of grey, {list(self.grey.shape)}, got {list(self.mask.shape)}")
        if self.outline is not None and self.outline.shape != self.grey.shape:
            raise ValueError(f"outline must have the shape of grey, got {list(self.outline.shape)}")
        if self.K.shape != (3, 3) or self.viewmat.shape != (4, 4):
            raise ValueError(f"K and viewmat must be [3, 3] and [4, 4], got {self.K.shape} and {self.viewmat.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.grey.shape[0], self.grey.shape[1]

    def resized(self, height: int, width: int) -> StereoView:
        """The view at another size, without its outline; each pixel is the mean of the pixels that it covers."""
        scale = torch.tensor([width / self.size[1], height / self.size[0], 1.0], dtype=self.K.dtype)
        mask = self.mask
        if mask is not None:
            mask = F.interpolate(mask[None, None].float(), (height, width), mode="area")[0, 0] > 0.5
        grey = F.interpolate(self.grey[None, None].float(), (height, width), mode="area")[0, 0]
        return replace(self, grey=grey.round().to(torch.uint8), K=self.K * scale[:, None], mask=mask, outline=None)


@dataclass(frozen=True)
class DepthMap:
    """Result of stereo for a picture. Depth and normal are 0 where they are unknown."""

    depth: Float32[Tensor, "H W"]
    """Along the camera's axis, world units."""
    normals: Float32[Tensor, "H W 3"]
    """Unit vectors towards the camera, in its OpenCV axes."""
    cost: Float32[Tensor, "H W"]
    """One minus the correlation of the patches, in [0, 2], averaged over the selected sources, plus the geometric term;
    about 2 where there is no texture or the depth is unknown."""

    @classmethod
    def empty(cls, height: int, width: int) -> DepthMap:
        """A map whose depth is unknown everywhere."""
        return cls(torch.zeros(height, width), torch.zeros(height, width, 3), torch.full((height, width), 2.0))

    def where(self, keep: Bool[Tensor, "H W"]) -> DepthMap:
        """The map with the depth unknown outside `keep`."""
        return DepthMap(self.depth * keep, self.normals * keep[..., None], torch.where(keep, self.cost, 2.0))


def enlarged(found: DepthMap, view: StereoView, larger: StereoView) -> DepthMap:
    """A depth map at another size: each pixel takes the plane of the pixel that contains it.

    Args:
        found: The map.
        view: The view at the map's size.
        larger: The view at the wanted size.
    """
    known = found.depth > 0
    facing = found.normals.new_tensor([0.0, 0.0, -1.0])
    planes = to_planes(
        view.K, torch.where(known, found.depth, 1.0), torch.where(known[..., None], found.normals, facing)
    )
    depth, normals = from_planes(larger.K, resized_planes(planes, *larger.size))
    rest = torch.stack([found.cost, known.float()])[None]
    cost, known = F.interpolate(rest, larger.size, mode="nearest-exact")[0]
    return DepthMap(depth, normals, cost).where(known > 0)


def pixel_centers(height: int, width: int) -> tuple[Float32[Tensor, "H W"], Float32[Tensor, "H W"]]:
    """x and y of the pixels' centres, which lie at +0.5."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return x, y


def rays(K: Float[Tensor, "3 3"], height: int, width: int) -> Float32[Tensor, "H W 3"]:
    """Directions through the pixels' centres, in camera axes, with z = 1."""
    x, y = pixel_centers(height, width)
    return torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)], dim=-1).float()


def to_planes(
    K: Float[Tensor, "3 3"], depth: Float32[Tensor, "H W"], normals: Float32[Tensor, "H W 3"]
) -> Float32[Tensor, "H W 3"]:
    """Planes as the kernel stores them: inverse depth at the pixel, and its slopes per pixel along x and y.

    Args:
        K: Intrinsics.
        depth: Depth, positive.
        normals: Unit normals, not perpendicular to the pixel's ray.
    """
    inverse = 1 / depth
    along = (normals * rays(K, *depth.shape)).sum(dim=-1)
    scaled = normals * (inverse / along)[..., None]
    return torch.stack([inverse, scaled[..., 0] / K[0, 0], scaled[..., 1] / K[1, 1]], dim=-1).float().contiguous()


def from_planes(
    K: Float[Tensor, "3 3"], planes: Float32[Tensor, "H W 3"]
) -> tuple[Float32[Tensor, "H W"], Float32[Tensor, "H W 3"]]:
    """Inverse of `to_planes`: depth, and unit normals towards the camera."""
    along = rays(K, *planes.shape[:2])
    nx, ny = planes[..., 1] * K[0, 0], planes[..., 2] * K[1, 1]
    nz = planes[..., 0] - nx * along[..., 0] - ny * along[..., 1]
    normals = -F.normalize(torch.stack([nx, ny, nz], dim=-1), dim=-1)
    return 1 / planes[..., 0], normals.float()


def resized_planes(planes: Float32[Tensor, "h w 3"], height: int, width: int) -> Float32[Tensor, "H W 3"]:
    """Upsamples planes: each pixel takes the plane of the coarse pixel that contains it."""
    coarse_height, coarse_width = planes.shape[:2]
    x, y = pixel_centers(height, width)
    x, y = x * (coarse_width / width), y * (coarse_height / height)
    columns, rows = x.long().clamp(max=coarse_width - 1), y.long().clamp(max=coarse_height - 1)
    found = planes[rows, columns]
    inverse = found[..., 0] + found[..., 1] * (x - columns - 0.5) + found[..., 2] * (y - rows - 0.5)
    # A steep plane may be behind the camera outside its own pixel.
    inverse = torch.where(inverse > 0, inverse, found[..., 0])
    slopes = found[..., 1:] * found.new_tensor([coarse_width / width, coarse_height / height])
    return torch.cat([inverse[..., None], slopes], dim=-1).contiguous()
