# SPDX-License-Identifier: Apache-2.0
"""Repositories of models that guide, in diffusers' layouts, with tiny networks: what `--pipeline.weights` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from img3d_generators.guidance.zero123 import CameraProjection

WIDTH = 16
"""Of the tokens."""
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
VAE: dict[str, Any] = {
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
    "force_upcast": False,
}
TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 30,
    "max_position_embeddings": 77,
    "projection_dim": 8,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 1,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": WIDTH,
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def write_text_to_image(folder: Path, **changes: Any) -> Path:
    """Stable Diffusion 1.5's layout.

    Args:
        folder: Where to.
        changes: Of the scheduler's configuration.
    """
    torch.manual_seed(0)
    write_network(folder / "unet", UNet2DConditionModel.from_config(UNET), UNET)
    write_network(folder / "vae", AutoencoderKL.from_config(VAE), VAE)
    write_network(folder / "text_encoder", CLIPTextModel(CLIPTextConfig(**TEXT)), TEXT, "model")
    write_tokenizer(folder / "tokenizer")
    write_json(folder / "scheduler" / "scheduler_config.json", {**SCHEDULER, **changes})
    return folder


def write_sdxl(folder: Path) -> Path:
    """SDXL's layout: two text encoders, and more conditions."""
    write_text_to_image(folder)
    unet = {
        **UNET,
        "cross_attention_dim": 2 * WIDTH,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + TEXT["projection_dim"],
    }
    write_network(folder / "unet", UNet2DConditionModel.from_config(unet), unet)
    second = CLIPTextModelWithProjection(CLIPTextConfig(**TEXT))
    write_network(folder / "text_encoder_2", second, TEXT, "model")
    write_tokenizer(folder / "tokenizer_2")
    return folder


def write_deepfloyd_if(folder: Path) -> Path:
    """DeepFloyd IF's layout: pixels, predicted variances, and T5 in two files."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(0)
    unet = {**UNET, "in_channels": 3, "out_channels": 6, "sample_size": 16}
    write_network(folder / "unet", UNet2DConditionModel.from_config(unet), unet)
    scheduler = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range"}
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDPMScheduler", **scheduler})
    t5 = {"d_model": WIDTH, "d_kv": 4, "d_ff": 32, "num_layers": 1, "num_heads": 4, "vocab_size": 30}
    encoder = T5EncoderModel(T5Config(**t5))
    write_json(folder / "text_encoder" / "config.json", {"model_type": "t5", **t5})
    weights = {
        key: value.clone() for key, value in encoder.state_dict().items() if key != "encoder.embed_tokens.weight"
    }
    halves = [dict(list(weights.items())[:3]), dict(list(weights.items())[3:])]
    places = {}
    for i, half in enumerate(halves):
        name = f"model-0000{i + 1}-of-00002.safetensors"
        save_file(half, folder / "text_encoder" / name)
        places |= dict.fromkeys(half, name)
    write_json(folder / "text_encoder" / "model.safetensors.index.json", {"weight_map": places})
    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "a", "cow", ",", "view"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=77
    )
    fast.save_pretrained(folder / "tokenizer")
    return folder


def write_zero123(folder: Path) -> Path:
    """The layout of ashawkey/zero123-xl-diffusers."""
    torch.manual_seed(0)
    unet = {**UNET, "in_channels": 8}
    write_network(folder / "unet", UNet2DConditionModel.from_config(unet), unet)
    write_network(folder / "vae", AutoencoderKL.from_config(VAE), VAE)
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION))
    write_network(folder / "image_encoder", encoder, VISION, "model")
    projection = CameraProjection(WIDTH)
    sizes = {"embedding_dim": WIDTH, "additional_embeddings": 4}
    write_network(folder / "clip_camera_projection", projection, sizes)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    return folder


def write_network(
    folder: Path, network: nn.Module, config: dict[str, Any], stem: str = "diffusion_pytorch_model"
) -> None:
    """A network's folder."""
    write_json(folder / "config.json", config)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / f"{stem}.safetensors")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A configuration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer with a vocabulary of single letters."""
    letters = {f"{letter}</w>": 4 + i for i, letter in enumerate("abcdefghijklmnopqrstuvwxy")}
    special = {name: f"<|{text}|>" for name, text in (("bos_token", "startoftext"), ("eos_token", "endoftext"))}
    special |= {"unk_token": "<|endoftext|>", "pad_token": "<pad>"}
    vocabulary = {"!</w>": 0, "<pad>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3, **letters}
    write_json(folder / "vocab.json", vocabulary)
    write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    )
    write_json(folder / "special_tokens_map.json", special)
    (folder / "merges.txt").write_text("#version: 0.2\n")
