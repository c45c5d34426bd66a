# SPDX-License-Identifier: Apache-2.0
"""Loads Zero123++ from its repository: folders of configurations and weights in the layout of diffusers and
transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from img3d_base.errors import InputError
from img3d_generators.weights.state_dicts import load_weights, read_state_dict
from img3d_generators.zero123plus.model import ClipPreprocessing, Zero123Plus

WEIGHTS_NAMES = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
)
"""Possible file names of the weights in a network's folder, in order of preference."""

Config = dict[str, Any]


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

    index = _json(folder / "model_index.json")
    scheduler = EulerAncestralDiscreteScheduler.from_config(
        _json(folder / "scheduler" / "scheduler_config.json"), timestep_spacing="trailing"
    )
    assert isinstance(scheduler, EulerAncestralDiscreteScheduler)
    prediction = scheduler.config["prediction_type"]
    if "ramping_coefficients" not in index or prediction != "v_prediction":
        raise InputError(f"{folder} is not Zero123++: no ramping_coefficients, or a network that predicts {prediction}")

    vae_config = _json(folder / "vae" / "config.json")
    vae_dtype = torch.float32 if vae_config.get("force_upcast", True) else dtype

    def text_encoder(config: Config) -> CLIPTextModel:
        return CLIPTextModel(CLIPTextConfig.from_dict(config))

    def vision_encoder(config: Config) -> CLIPVisionModelWithProjection:
        return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config))

    return Zero123Plus(
        unet=_network(folder / "unet", UNet2DConditionModel.from_config, dtype, device),
        vae=_network(folder / "vae", AutoencoderKL.from_config, vae_dtype, device),
        text_encoder=_network(folder / "text_encoder", text_encoder, dtype, device),
        vision_encoder=_network(folder / "vision_encoder", vision_encoder, dtype, device),
        scheduler=scheduler,
        ramp=torch.tensor(index["ramping_coefficients"]),
        empty_prompt=_empty_prompt(folder / "tokenizer", len(index["ramping_coefficients"])),
        vae_preprocessing=_preprocessing(folder / "feature_extractor_vae"),
        clip_preprocessing=_preprocessing(folder / "feature_extractor_clip"),
        background=background,
    )


def _network(folder: Path, build: Callable[[Config], Any], dtype: torch.dtype, device: torch.device | str) -> Any:
    """Loads a network. It is built on the "meta" device, so that memory never holds the weights twice."""
    with torch.device("meta"):
        network = build(_json(folder / "config.json"))
    path = next((folder / name for name in WEIGHTS_NAMES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"There are no weights in {folder}: {', '.join(WEIGHTS_NAMES)}")
    load_weights(network, in_names_of(network, read_state_dict(path)), path, dtype)
    for name, buffer in network.named_buffers():
        if buffer.is_meta:  # position numbers, which no file holds
            assert name.endswith("embeddings.position_ids")
            network.get_submodule(name.rpartition(".")[0]).position_ids = torch.arange(buffer.shape[-1])[None]
    return network.to(device)


def in_names_of(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames weights to the names in the installed version of the network's library.

    transformers 5 dropped the prefix "text_model." of CLIP's text encoder, transformers 4.31 dropped the stored
    position numbers, and diffusers 0.18 renamed the VAE's attention layers.
    """
    expected = network.state_dict().keys()
    renamed = {}
    for key, value in weights.items():
        if key not in expected:
            key = key.removeprefix("text_model.")
        if key not in expected:
            for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
                key = key.replace(f".{old}.", f".{new}.")
        if not key.endswith("embeddings.position_ids"):
            renamed[key] = value
    return renamed


def _empty_prompt(folder: Path, length: int) -> Tensor:
    from transformers import CLIPTokenizer

    if not (folder / "vocab.json").is_file():
        raise InputError(f"There is no {folder / 'vocab.json'}.")
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True).input_ids
    return torch.tensor(tokens)[None]


def _preprocessing(folder: Path) -> ClipPreprocessing:
    config = _json(folder / "preprocessor_config.json")
    size = config["size"]
    mean, std = config["image_mean"], config["image_std"]
    return ClipPreprocessing(
        size=size["shortest_edge"] if isinstance(size, dict) else size,
        resample=Image.Resampling(config["resample"]),
        mean=tuple(mean) if isinstance(mean, list) else (mean,),
        std=tuple(std) if isinstance(std, list) else (std,),
    )


def _json(path: Path) -> Config:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); fetch it again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a configuration.")
    return content
