# SPDX-License-Identifier: Apache-2.0
"""Base classes of our models: what they do alike, whatever they hold."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.model_components.lib_bilagrid import color_correct
from nerfstudio.models.base_model import Model
from torch import Tensor

from img3d_methods.training.image_metrics import ImageMetrics
from img3d_methods.viewing.browser_view import BrowserView


class Img3dModel(Model):
    """A model that the browser shows and whose renders are compared with views.

    Subclasses set `live_view`, `image_metrics` and `step` in `populate_modules`.
    """

    live_view: BrowserView
    """What a browser can draw of the model."""
    image_metrics: ImageMetrics
    step: int
    """The last training step, or that of the checkpoint."""

    def update_to_step(self, step: int) -> None:
        """Notes that the checkpoint being loaded was written after this step."""
        self.step = step

    def data_background(self) -> Float[Tensor, "3"] | None:
        """The colour in [0, 1] that the data set puts behind its objects (white for NeRF-synthetic); None without."""
        return (self.kwargs.get("metadata") or {}).get("alpha_color")

    def background(self) -> Float[Tensor, "3"]:
        """The background colour, in [0, 1]: the data set's, or white."""
        color = self.data_background()
        return torch.ones(3, device=self.device) if color is None else color.to(self.device)

    def resolution_doublings(self, max_steps: int) -> list[int]:
        """Empty: training compares rays with pixels of views at full size, or there is none."""
        return []

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Renders inside the box; for the viewer, only what its page does not draw itself."""
        with self.live_view.frame(camera):
            return super().get_outputs_for_camera(camera, obb_box)

    # ------------------------------------------------------------------------------------------------- metrics

    def _target(self, batch: dict[str, Any]) -> Float[Tensor, "*S 3"]:
        """The pixels of a batch in [0, 1]; transparent ones are blended with the background."""
        image = batch["image"].to(self.device)
        image = image if image.is_floating_point() else image / 255
        if image.shape[-1] == 3:
            return image
        return image[..., :3] * image[..., 3:] + (1 - image[..., 3:]) * self.background()

    @torch.no_grad()
    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """PSNR of a training batch."""
        return {"psnr": self.image_metrics.psnr(outputs["rgb"].clamp(0, 1), self._target(batch))}

    @torch.no_grad()
    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of a view, and the view and render side by side."""
        target, rgb = self._target(batch), outputs["rgb"]
        return self.view_metrics(rgb, target), {"img": torch.cat([target, rgb], dim=1)}

    def photos_have_own_colors(self) -> bool:
        """Whether training gives each photo colours of its own, which a held-out photo has none of."""
        return False

    def view_metrics(self, rgb: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> dict[str, float]:
        """PSNR, SSIM and LPIPS; where photos have colours of their own, with fitted colours too, as cc_psnr etc."""
        metrics = self.image_metrics.all(rgb, target)
        if self.photos_have_own_colors():
            corrected = self.image_metrics.all(color_correct(rgb, target), target)
            metrics.update({f"cc_{name}": value for name, value in corrected.items()})
        return metrics


class PlainBackgroundModel(Img3dModel):
    """A model whose renders are composited over `background()` everywhere, so that it can be removed from them."""

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Float[Tensor, "*S 4"]:
        """Straight colour, without the background, and opacity. `ns-export pointcloud` asks for it."""
        rgb, alpha = outputs[output_name], outputs["accumulation"]
        foreground = (rgb - (1 - alpha) * self.background()) / alpha.clamp_min(1e-6)
        return torch.cat([foreground.clamp(0, 1), alpha], dim=-1)
