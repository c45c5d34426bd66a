# SPDX-License-Identifier: Apache-2.0
"""The photometric loss of Gaussian splatting: L1 and structural similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from img3d_kernels.rendering import default_backend

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
"""SSIM's constants for images in [0, 1]."""


def l1_ssim(
    render: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"] | UInt8[Tensor, "H W 3"],
    ssim_lambda: float,
    mask: Tensor | None = None,
) -> Float[Tensor, ""]:
    """(1 - ssim_lambda) * L1 + ssim_lambda * (1 - SSIM), averaged over all pixels and channels.

    SSIM as in Wang et al. 2004, with a Gaussian window without padding. Equals
    `pytorch_msssim.SSIM(data_range=1, channel=3)`, which splatfacto uses; as there, a side shorter than the window's 11
    pixels is not filtered.

    Args:
        render: Image in [0, 1].
        target: Image of the same shape in [0, 1], or bytes from 0 to 255.
        ssim_lambda: Weight of the SSIM part, in [0, 1].
        mask: `[H, W]` or `[H, W, 1]`, multiplied into both images as in splatfacto: pixels with 0 do not count.

    Raises:
        ValueError: The shapes do not match.
    """
    if render.dim() != 3 or render.shape != target.shape:
        raise ValueError(f"render and target must both be [H, W, 3], got {list(render.shape)} and {list(target.shape)}")
    if mask is not None:
        if mask.shape[:2] != render.shape[:2] or mask.shape[2:] not in ((), (1,)):
            raise ValueError(
                f"mask must be [H, W] or [H, W, 1] for an image {list(render.shape)}, got {list(mask.shape)}"
            )
    if (
        default_backend(render) == "cpu"
        and target.dtype in (torch.float32, torch.uint8)
        and min(render.shape[:2]) >= WINDOW_SIZE
        and not target.requires_grad
        and not (mask is not None and mask.requires_grad)
    ):
        from img3d_kernels import cpu_backend

        of_pixels = None if mask is None else mask.reshape(render.shape[:2]).float()
        return cpu_backend.l1_ssim(render, target, ssim_lambda, of_pixels)
    if target.dtype == torch.uint8:
        target = target.to(render) / 255
    if mask is not None:
        mask = mask.reshape(*render.shape[:2], 1)
        render, target = render * mask, target * mask
    return _l1_ssim_torch(render, target, ssim_lambda)


def _l1_ssim_torch(
    render: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], ssim_lambda: float
) -> Float[Tensor, ""]:
    l1 = (render - target).abs().mean()
    x, y = render.permute(2, 0, 1), target.permute(2, 0, 1)
    # All five moments are filtered in one call.
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _smooth(torch.stack([x, y, x * x, y * y, x * y])).unbind(0)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    contrast_structure = (2 * (mean_xy - mean_x * mean_y) + C2) / (mean_xx - mean_x**2 + mean_yy - mean_y**2 + C2)
    ssim = (luminance * contrast_structure).mean()
    return (1 - ssim_lambda) * l1 + ssim_lambda * (1 - ssim)


def _smooth(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Filters with the Gaussian window along both axes, without padding."""
    offsets = torch.arange(WINDOW_SIZE, device=images.device, dtype=images.dtype) - WINDOW_SIZE // 2
    window = torch.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    window = window / window.sum()
    smoothed = images.flatten(0, 1)[:, None]
    if images.shape[-2] >= WINDOW_SIZE:
        smoothed = F.conv2d(smoothed, window.reshape(1, 1, -1, 1))
    if images.shape[-1] >= WINDOW_SIZE:
        smoothed = F.conv2d(smoothed, window.reshape(1, 1, 1, -1))
    return smoothed.reshape(*images.shape[:2], *smoothed.shape[-2:])
