# SPDX-License-Identifier: Apache-2.0
"""Loads Zero123 from a repository in diffusers' layout, and encodes the image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.guidance.denoiser import alphas_cumprod
from img3d_generators.guidance.latent_space import LatentSpace
from img3d_generators.guidance.zero123 import NUM_POSE_NUMBERS, CameraProjection, ConditionView, Zero123
from img3d_generators.networks.diffusers_folders import Config, load_network, read_config
from img3d_generators.weights.state_dicts import load_weights, read_state_dict

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PROJECTIONS = ("clip_camera_projection", "cc_projection")
"""Names of the projection's folder in the published repositories."""
PROJECTION_PREFIXES = ("proj.", "projection.", "cc_projection.", "")
"""Prefixes of its weights' names, in repositories in diffusers' layout and in the original checkpoints."""


def load_zero123(
    folder: Path,
    image: Float[Tensor, "4 S S"],
    elevation: float = 0.0,
    distance: float = 0.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    offload: bool = False,
    **settings: Any,
) -> Zero123:
    """Loads the networks of a repository, and encodes the image.

    Args:
        folder: The repository's folder, with unet/, vae/, image_encoder/, scheduler/, and clip_camera_projection/ or
            cc_projection/.
        image: RGBA in [0, 1], straight alpha, framed as in training.
        elevation: Elevation of the image's camera in degrees; positive is above the object.
        distance: Distance of the image's camera, in the guidance's unit.
        dtype: Data type of the networks. The VAE is in float32 if its configuration asks for that.
        device: The device on which they compute.
        offload: Whether the largest network is in main memory between steps.
        settings: Further fields of `Zero123`.

    Raises:
        InputError: A file is missing, damaged, or of another model.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    unet_config = read_config(folder / "unet" / "config.json")
    if unet_config.get("in_channels") != 8:
        raise InputError(f"{folder} is not Zero123: its network takes {unet_config.get('in_channels')} channels, not 8")
    scheduler = read_config(folder / "scheduler" / "scheduler_config.json")
    vae_config = read_config(folder / "vae" / "config.json")
    vae_dtype = torch.float32 if vae_config.get("force_upcast", True) else dtype

    def vision_encoder(config: Config) -> CLIPVisionModelWithProjection:
        return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config))

    encoder = load_network(folder / "image_encoder", vision_encoder, dtype, device)
    vae = load_network(folder / "vae", AutoencoderKL.from_config, vae_dtype, device)
    vae.enable_slicing()
    levels = len(vae.config["block_out_channels"]) - 1
    space = LatentSpace(unet_config.get("sample_size", 32) * 2**levels, vae)
    with torch.no_grad():
        seen = seen_image(image, space, encoder)
    projection = _projection(folder, seen.embeds.shape[-1], dtype, "cpu" if offload else device)
    return Zero123(
        unet=load_network(folder / "unet", UNet2DConditionModel.from_config, dtype, "cpu" if offload else device),
        space=space,
        projection=projection,
        condition=ConditionView(seen.embeds, seen.latents, elevation, distance),
        alphas_cumprod=alphas_cumprod(scheduler),
        prediction=scheduler.get("prediction_type", "epsilon"),
        device=torch.device(device) if offload else None,
        **settings,
    )


def seen_image(image: Float[Tensor, "4 S S"], space: LatentSpace, encoder: Any) -> ConditionView:
    """Encodes the image, on white.

    Args:
        image: RGBA in [0, 1], straight alpha.
        space: The network's latent space, which has an autoencoder.
        encoder: transformers' `CLIPVisionModelWithProjection`.
    """
    on_white = (image[:3] * image[3:] + 1 - image[3:])[None]
    if on_white.shape[-1] != space.size:
        on_white = F.interpolate(
            on_white, size=(space.size, space.size), mode="bilinear", align_corners=False, antialias=True
        )
    vae = space.vae
    assert vae is not None
    pixels = (2 * on_white - 1).to(vae.device, vae.dtype)
    latents = vae.encode(pixels, return_dict=False)[0].mode().float()
    parameters = next(encoder.parameters())
    clip = clip_pixels(on_white, encoder.config.image_size).to(parameters.device, parameters.dtype)
    return ConditionView(encoder(clip).image_embeds.float(), latents)


def clip_pixels(pictures: Float[Tensor, "B 3 H W"], size: int) -> Float[Tensor, "B 3 S S"]:
    """CLIP's input as in Zero123's training: normalised pictures, resized without antialiasing.

    Args:
        pictures: RGB in [0, 1].
        size: Width and height of the result.
    """
    resized = F.interpolate(2 * pictures - 1, size=(size, size), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(values).to(pictures)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (resized / 2 + 0.5 - mean) / std


def _projection(folder: Path, width: int, dtype: torch.dtype, device: torch.device | str) -> CameraProjection:
    """Loads the projection: exactly one matrix and one bias that fit, under any of the known names."""
    place = next((folder / name for name in PROJECTIONS if (folder / name).is_dir()), None)
    if place is None:
        raise InputError(f"{folder} has no {' or '.join(PROJECTIONS)}: it is not Zero123, or part of it is missing")
    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    path = next((place / name for name in names if (place / name).is_file()), place / names[0])
    module = CameraProjection(width, NUM_POSE_NUMBERS)
    load_weights(module, in_our_names(read_state_dict(path)), path, dtype)
    return module.to(device)


def in_our_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The projection's weights under the names of `CameraProjection`; unknown weights keep their names."""
    renamed = {}
    for key, value in weights.items():
        prefix = next(prefix for prefix in PROJECTION_PREFIXES if key.startswith(prefix))
        rest = key.removeprefix(prefix)
        renamed[f"proj.{rest}" if rest in ("weight", "bias") else key] = value
    return renamed
