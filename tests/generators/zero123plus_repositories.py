# SPDX-License-Identifier: Apache-2.0
"""Zero123++ in small, with seeded weights of its own, and its repository's folder as the authors lay theirs out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from img3d_generators.zero123plus.model import ClipPreprocessing, Zero123Plus

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
CONFIGS: dict[str, dict[str, Any]] = {
    "unet": {
        "block_out_channels": [16, 32],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": 1,
        "attention_head_dim": [2, 4],
        "cross_attention_dim": 32,
        "norm_num_groups": 8,
        "use_linear_projection": True,
    },
    "vae": {
        "block_out_channels": [8, 8, 16, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "force_upcast": True,
    },
    "text_encoder": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "vocab_size": 4,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    },
    "vision_encoder": {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "image_size": 28,
        "patch_size": 14,
        "projection_dim": 32,
    },
    "scheduler": {
        "clip_sample": False,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "trained_betas": None,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "linear",
        "prediction_type": "v_prediction",
        "steps_offset": 1,
        "timestep_spacing": "linspace",
    },
    "feature_extractor_vae": {
        "size": {"shortest_edge": 64},
        "resample": 2,
        "image_mean": 0.5,
        "image_std": 0.8,
    },
    "feature_extractor_clip": {
        "size": {"shortest_edge": 28},
        "resample": 3,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    },
}
RAMP = [0.3 + 0.01 * token for token in range(77)]
EMPTY_PROMPT = [2, 3] + [1] * 75
"""Begin, end and padding, in the tokenizer's vocabulary of four."""
BUILDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "unet": UNet2DConditionModel.from_config,
    "vae": AutoencoderKL.from_config,
    "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig.from_dict(config)),
    "vision_encoder": lambda config: CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config)),
}
NETWORKS = tuple(BUILDERS)
DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "unet": {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.24.0", "_name_or_path": "D:\\unet"},
    "vae": {"_class_name": "AutoencoderKL", "_diffusers_version": "0.24.0"},
    "text_encoder": {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "torch_dtype": "float16",
        "transformers_version": "4.36.0",
    },
    "vision_encoder": {"architectures": ["CLIPVisionModelWithProjection"], "torch_dtype": "float16"},
}
"""What published configurations say beside the networks' numbers."""


def preprocessing(config: dict[str, Any]) -> ClipPreprocessing:
    """What a preprocessor_config.json asks for."""
    mean, std = (value if isinstance(value, list) else [value] for value in (config["image_mean"], config["image_std"]))
    return ClipPreprocessing(
        config["size"]["shortest_edge"], Image.Resampling(config["resample"]), tuple(mean), tuple(std)
    )


def zero123plus(configs: dict[str, dict[str, Any]], ramp: Tensor, empty_prompt: Tensor) -> Zero123Plus:
    """The networks that these configurations describe, with weights of torch's choice."""
    scheduler = EulerAncestralDiscreteScheduler.from_config(configs["scheduler"], timestep_spacing="trailing")
    assert isinstance(scheduler, EulerAncestralDiscreteScheduler)
    return Zero123Plus(
        **{name: build(configs[name]).eval() for name, build in BUILDERS.items()},
        scheduler=scheduler,
        ramp=ramp,
        empty_prompt=empty_prompt,
        vae_preprocessing=preprocessing(configs["feature_extractor_vae"]),
        clip_preprocessing=preprocessing(configs["feature_extractor_clip"]),
    )


def tiny_zero123plus() -> Zero123Plus:
    """A Zero123++ that paints in fractions of a second what nobody can recognise."""
    torch.manual_seed(0)
    return zero123plus(CONFIGS, torch.tensor(RAMP), torch.tensor([EMPTY_PROMPT]))


def published_name(network: str, key: str) -> str:
    """What the published files call a weight."""
    return key if network != "text_encoder" or key.startswith("text_model.") else f"text_model.{key}"


def published_state_dict(network: str, module: nn.Module) -> dict[str, Tensor]:
    """A network's weights under the names in the published files."""
    return {published_name(network, key): value.contiguous() for key, value in module.state_dict().items()}


def write_repository(folder: Path, model: Zero123Plus, safetensors: bool = True) -> Path:
    """Writes the folder of sudo-ai/zero123plus-v1.2; with pickled weights instead, that of v1.1."""
    files: dict[str, Any] = {
        "model_index.json": {"_class_name": "Zero123PlusPipeline", "ramping_coefficients": model.ramp.tolist()},
        "scheduler/scheduler_config.json": CONFIGS["scheduler"],
        "tokenizer/vocab.json": {"!</w>": 0, "<pad>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3},
        "tokenizer/tokenizer_config.json": {
            "tokenizer_class": "CLIPTokenizer",
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": "<pad>",
            "model_max_length": 77,
        },
        "tokenizer/special_tokens_map.json": {
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": "<pad>",
        },
    }
    for name in ("vae", "clip"):
        files[f"feature_extractor_{name}/preprocessor_config.json"] = CONFIGS[f"feature_extractor_{name}"]
    for name in NETWORKS:
        files[f"{name}/config.json"] = {**DESCRIPTIONS[name], **CONFIGS[name]}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    for name in NETWORKS:
        weights = published_state_dict(name, getattr(model, name))
        stem = "diffusion_pytorch_model" if name in ("unet", "vae") else "model" if safetensors else "pytorch_model"
        if safetensors:
            save_file(weights, folder / name / f"{stem}.safetensors")
        else:
            torch.save(weights, folder / name / f"{stem}.bin")
    return folder


def picture(size: int = 48) -> Image.Image:
    """An RGBA picture of a coloured disc."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    alpha = np.where(x**2 + y**2 < 0.16, 255, 0)
    return Image.fromarray(np.stack([255 * (x + 0.5), 255 * (y + 0.5), 0 * x + 90, alpha], axis=-1).astype(np.uint8))
