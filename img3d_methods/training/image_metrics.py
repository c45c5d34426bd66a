# SPDX-License-Identifier: Apache-2.0
"""PSNR, SSIM and LPIPS of a rendered image, without network access and without parameters in checkpoints.

Splatfacto creates LPIPS with the model, which downloads AlexNet (233 MB) and stores it in every checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_base.console import CONSOLE


def lpips_weights_on_disk() -> bool:
    """Whether torch's hub cache holds the AlexNet that LPIPS is computed with."""
    return any((Path(torch.hub.get_dir()) / "checkpoints").glob("alexnet-owt-*.pth"))


class ImageMetrics:
    """The metrics that splatfacto reports. Deliberately not a torch module, so that nothing of it moves to a device
    or into a checkpoint."""

    def __init__(self) -> None:
        from pytorch_msssim import SSIM

        self._ssim = SSIM(data_range=1.0, size_average=True, channel=3)
        self._lpips: torch.nn.Module | None = None
        self._said_no_lpips = False

    def psnr(self, image: Float[Tensor, "*S 3"], reference: Float[Tensor, "*S 3"]) -> Float[Tensor, ""]:
        """Peak signal-to-noise ratio in dB, for values in [0, 1]."""
        return -10 * torch.log10(torch.mean((image - reference) ** 2).clamp_min(1e-12))

    def ssim(self, image: Float[Tensor, "H W 3"], reference: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
        """Structural similarity with the usual 11 x 11 Gaussian window (pytorch_msssim, as splatfacto)."""
        return self._ssim(reference.permute(2, 0, 1)[None], image.permute(2, 0, 1)[None])

    def lpips(self, image: Float[Tensor, "H W 3"], reference: Float[Tensor, "H W 3"]) -> Float[Tensor, ""] | None:
        """LPIPS (AlexNet); None, with a message the first time, if its weights are not on disk."""
        if self._lpips is None:
            if not lpips_weights_on_disk():
                if not self._said_no_lpips:
                    CONSOLE.print("LPIPS is not computed: its weights are not on disk")
                    self._said_no_lpips = True
                return None
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            self._lpips = LearnedPerceptualImagePatchSimilarity(normalize=True).to(image.device)
        return self._lpips(reference.permute(2, 0, 1)[None], image.permute(2, 0, 1)[None])

    def all(self, image: Float[Tensor, "H W 3"], reference: Float[Tensor, "H W 3"]) -> dict[str, float]:
        """All metrics that can be computed here, by name."""
        metrics = {"psnr": float(self.psnr(image, reference)), "ssim": float(self.ssim(image, reference))}
        lpips = self.lpips(image, reference)
        if lpips is not None:
            metrics["lpips"] = float(lpips)
        return metrics
