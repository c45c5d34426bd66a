# SPDX-License-Identifier: Apache-2.0
"""Zero123, Zero123-XL and Stable Zero123 as guidance: they show the object of an image from other sides (Liu et al.
2023, arXiv 2303.11328).

The network takes the image in two ways: as latents, which are additional channels of its input, and as CLIP embedding,
which makes the only token of cross-attention together with the camera's movement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from img3d_generators.guidance.denoiser import noise_of
from img3d_generators.guidance.latent_space import InLatentSpace, LatentSpace
from img3d_generators.guidance.offloading import on_device
from img3d_generators.guidance.views import ViewAngles

NUM_POSE_NUMBERS = 4
"""Numbers that describe a camera's movement: `pose_numbers`."""


class CameraProjection(nn.Module):
    """Makes the token from an image's embedding and a camera's movement. Repositories in diffusers' layout define it.

    Args:
        embedding_dim: Width of the embedding and of the token.
        additional_embeddings: Number of pose numbers.
    """

    def __init__(self, embedding_dim: int, additional_embeddings: int = NUM_POSE_NUMBERS) -> None:
        super().__init__()
        self.proj = nn.Linear(embedding_dim + additional_embeddings, embedding_dim)

    def forward(self, embeds: Float[Tensor, "B D"], pose: Float[Tensor, "B 4"]) -> Float[Tensor, "B 1 D"]:
        """The token."""
        joined = torch.cat([embeds, pose], dim=-1)
        return self.proj(joined.to(self.proj.weight.dtype))[:, None]


@dataclass(frozen=True)
class ConditionView:
    """The image, as the network takes it, and its camera."""

    embeds: Float[Tensor, "1 D"]
    """CLIP's projected embedding."""
    latents: Float[Tensor, "1 4 h w"]
    """The mode of the VAE's distribution, unscaled."""
    elevation: float = 0.0
    """In degrees; positive is above the object."""
    distance: float = 0.0
    """From the origin, in the guidance's unit."""
    azimuth: float = 0.0
    """In degrees."""


@dataclass
class Zero123(InLatentSpace):
    """A denoiser that is guided by an image of the object. `zero123_files.load_zero123` loads one.

    Networks may be in half precision; all other calculations are in float32.
    """

    unet: Any
    """diffusers' `UNet2DConditionModel` with 8 channels of input."""
    space: LatentSpace
    projection: CameraProjection
    condition: ConditionView
    alphas_cumprod: Float[Tensor, "T"]
    prediction: str = "epsilon"
    guidance_scale: float = 5.0
    """Scale of classifier-free guidance: uncond + scale * (cond - uncond)."""
    fixed_distance: bool = False
    """Whether the fourth pose number is the image's angle from the zenith instead of the change of distance: so in
    Stable Zero123."""
    device: torch.device | None = None
    """The device of the network while it computes, if it is in main memory between steps; None: it is not moved."""

    def tokens(self, views: ViewAngles) -> Float[Tensor, "B 1 D"]:
        """The token of each view."""
        pose = pose_numbers(views, self.condition, self.fixed_distance)
        weight = self.projection.proj.weight
        embeds = self.condition.embeds.expand(len(views), -1)
        return self.projection(embeds.to(weight.device), pose.to(weight.device))

    @torch.no_grad()
    def predicted_noise(
        self, noisy: Float[Tensor, "B 4 h w"], times: Int[Tensor, "B"], views: ViewAngles
    ) -> Float[Tensor, "B 4 h w"]:
        """The noise, with guidance by the image."""
        count, dtype = len(noisy), self.unet.dtype
        with on_device(self.unet, self.device):
            device = self.unet.device
            tokens = self.tokens(views).to(device, dtype)
            seen = self.condition.latents.expand(count, -1, -1, -1).to(noisy)
            # Without the image, its latents and its token are zero.
            inputs = torch.cat([torch.cat([noisy, seen], dim=1), torch.cat([noisy, torch.zeros_like(seen)], dim=1)])
            output = self.unet(
                inputs.to(device, dtype), times.repeat(2).to(device),
                encoder_hidden_states=torch.cat([tokens, torch.zeros_like(tokens)]), return_dict=False,
            )[0].float().to(noisy.device)  # fmt: skip
        alphas = self.alphas_cumprod.to(noisy)[times.to(noisy.device).repeat(2)][:, None, None, None]
        with_image, without = noise_of(output, noisy.repeat(2, 1, 1, 1), alphas, self.prediction).chunk(2)
        return without + self.guidance_scale * (with_image - without)


def pose_numbers(views: ViewAngles, condition: ConditionView, fixed_distance: bool = False) -> Float[Tensor, "B 4"]:
    """The movement of the camera from the image to each view: how much lower it is in radians, sine and cosine of the
    azimuth's change, and the change of distance.

    Args:
        views: The views.
        condition: The image's camera.
        fixed_distance: Whether the last number is the angle in radians between the zenith and the image's camera
            instead, as in Stable Zero123.
    """
    lower = torch.deg2rad(condition.elevation - views.elevations)
    around = torch.deg2rad(views.azimuths - condition.azimuth)
    if fixed_distance:
        last = torch.deg2rad(torch.full_like(lower, 90 - condition.elevation))
    else:
        last = views.distances - condition.distance
    return torch.stack([lower, around.sin(), around.cos(), last], dim=-1)
