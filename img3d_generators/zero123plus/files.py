# SPDX-License-Identifier: Apache-2.0
"""Loads Zero123++ from its repository: folders of configurations and weights in the layout of diffusers and
transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.networks.diffusers_folders import Config, load_network, read_config
from img3d_generators.zero123plus.model import ClipPreprocessing, Zero123Plus


def load_zero123plus(
    folder: Path, background: int = 127, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Zero123Plus:
    """Reads a repository such as sudo-ai/zero123plus-v1.2.

    Args:
        folder: Contains model_index.json, unet/, vae/, text_encoder/, vision_encoder/, scheduler/, tokenizer/,
            feature_extractor_vae/ and feature_extractor_clip/.
        background: The grey value behind the object in the training pictures of these weights.
        dtype: Data type of the computation: float32, bfloat16 or float16. The VAE stays in float32 if its
            configuration asks for that.
        device: Device of the networks.

    Raises:
        InputError: A file is missing, damaged, or of another model.
    """
    from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    index = read_config(folder / "model_index.json")
    scheduler = EulerAncestralDiscreteScheduler.from_config(
        read_config(folder / "scheduler" / "scheduler_config.json"), timestep_spacing="trailing"
    )
    assert isinstance(scheduler, EulerAncestralDiscreteScheduler)
    prediction = scheduler.config["prediction_type"]
    if "ramping_coefficients" not in index or prediction != "v_prediction":
        raise InputError(f"{folder} is not Zero123++: no ramping_coefficients, or a network that predicts {prediction}")

    vae_config = read_config(folder / "vae" / "config.json")
    vae_dtype = torch.float32 if vae_config.get("force_upcast", True) else dtype

    def text_encoder(config: Config) -> CLIPTextModel:
        return CLIPTextModel(CLIPTextConfig.from_dict(config))

    def vision_encoder(config: Config) -> CLIPVisionModelWithProjection:
        return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config))

    return Zero123Plus(
        unet=load_network(folder / "unet", UNet2DConditionModel.from_config, dtype, device),
        vae=load_network(folder / "vae", AutoencoderKL.from_config, vae_dtype, device),
        text_encoder=load_network(folder / "text_encoder", text_encoder, dtype, device),
        vision_encoder=load_network(folder / "vision_encoder", vision_encoder, dtype, device),
        scheduler=scheduler,
        ramp=torch.tensor(index["ramping_coefficients"]),
        empty_prompt=_empty_prompt(folder / "tokenizer", len(index["ramping_coefficients"])),
        vae_preprocessing=_preprocessing(folder / "feature_extractor_vae"),
        clip_preprocessing=_preprocessing(folder / "feature_extractor_clip"),
        background=background,
    )


def _empty_prompt(folder: Path, length: int) -> Tensor:
    from transformers import CLIPTokenizer

    if not (folder / "vocab.json").is_file():
        raise InputError(f"There is no {folder / 'vocab.json'}.")
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True).input_ids
    return torch.tensor(tokens)[None]


def _preprocessing(folder: Path) -> ClipPreprocessing:
    config = read_config(folder / "preprocessor_config.json")
    size = config["size"]
    mean, std = config["image_mean"], config["image_std"]
    return ClipPreprocessing(
        size=size["shortest_edge"] if isinstance(size, dict) else size,
        resample=Image.Resampling(config["resample"]),
        mean=tuple(mean) if isinstance(mean, list) else (mean,),
        std=tuple(std) if isinstance(std, list) else (std,),
    )
