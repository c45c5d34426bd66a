# SPDX-License-Identifier: Apache-2.0
"""Loads one of diffusers' text-to-image pipelines as guidance, of any supported kind.

The text encoders, half of the weights, are in memory only while they read the prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.guidance.denoiser import alphas_cumprod
from img3d_generators.guidance.latent_space import LatentSpace
from img3d_generators.guidance.text_diffusion import TextDiffusion
from img3d_generators.guidance.view_prompts import PromptEmbeddings, directed_prompts
from img3d_generators.networks.diffusers_folders import Config, load_network, read_config

T5_LENGTH = 77
"""Number of tokens that DeepFloyd IF reads."""
PREDICTIONS = ("epsilon", "v_prediction", "sample")


def load_text_diffusion(
    folder: Path,
    prompt: str,
    negative_prompt: str = "",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    offload: bool = False,
    **settings: Any,
) -> TextDiffusion:
    """Loads the networks of a pipeline, and encodes the prompts.

    Args:
        folder: The pipeline's folder, with unet/, scheduler/, text_encoder/ and tokenizer/; with vae/, unless the model
            works on pixels; and with text_encoder_2/ and tokenizer_2/ for SDXL.
        prompt: What to show.
        negative_prompt: What not to show.
        dtype: Data type of the networks. The VAE is in float32 if its configuration asks for that.
        device: The device on which they compute.
        offload: Whether the largest network is in main memory between steps.
        settings: Further fields of `TextDiffusion`.

    Raises:
        InputError: A file is missing, damaged, or of another kind of model.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet_config, scheduler = read_config(folder / "unet" / "config.json"), _scheduler(folder)
    vae_folder = folder / "vae"
    has_vae = (vae_folder / "config.json").is_file()
    channels, wanted = unet_config.get("in_channels", 4), 4 if has_vae else 3
    if channels != wanted:
        raise InputError(
            f"{folder} is not a text-to-image model that can guide: its network takes {channels} channels, not {wanted}"
        )
    prompts = _embeddings(folder, [*directed_prompts(prompt), negative_prompt], dtype, device)
    vae = None
    if has_vae:
        config = read_config(vae_folder / "config.json")
        vae_dtype = torch.float32 if config.get("force_upcast", True) else dtype
        vae = load_network(vae_folder, AutoencoderKL.from_config, vae_dtype, device)
        vae.enable_slicing()  # a picture at a time
    unet = load_network(folder / "unet", UNet2DConditionModel.from_config, dtype, "cpu" if offload else device)
    levels = len(vae.config["block_out_channels"]) - 1 if vae is not None else 0
    return TextDiffusion(
        unet=unet,
        space=LatentSpace(unet_config.get("sample_size", 64) * 2**levels, vae),
        prompts=prompts,
        alphas_cumprod=alphas_cumprod(scheduler),
        prediction=scheduler.get("prediction_type", "epsilon"),
        device=torch.device(device) if offload else None,
        **settings,
    )


def _scheduler(folder: Path) -> Config:
    scheduler = read_config(folder / "scheduler" / "scheduler_config.json")
    kind = scheduler.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise InputError(f"{folder} cannot guide: its network predicts {kind}, not one of {', '.join(PREDICTIONS)}")
    return scheduler


@torch.no_grad()
def _embeddings(folder: Path, texts: list[str], dtype: torch.dtype, device: torch.device | str) -> PromptEmbeddings:
    """The embeddings of the prompts of all directions and of the negative prompt, which is the last text."""
    if (folder / "text_encoder_2").is_dir():
        first, _ = _read_by_clip(folder, "", texts, dtype, device)
        second, pooled = _read_by_clip(folder, "_2", texts, dtype, device)
        tokens = torch.cat([first, second], dim=-1)
        return PromptEmbeddings(tokens[:-1], tokens[-1], pooled[:-1], pooled[-1])
    config = read_config(folder / "text_encoder" / "config.json")
    if config.get("model_type") == "t5" or "d_model" in config:
        tokens = _read_by_t5(folder, texts, dtype, device)
    else:
        tokens, _ = _read_by_clip(folder, "", texts, dtype, device)
    return PromptEmbeddings(tokens[:-1], tokens[-1])


def _read_by_clip(
    folder: Path, suffix: str, texts: list[str], dtype: torch.dtype, device: torch.device | str
) -> tuple[Float[Tensor, "N T D"], Float[Tensor, "N P"]]:
    """The last hidden states (for SDXL, those before the last layer), and the pooled embedding."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizer = _tokenizer(folder / f"tokenizer{suffix}", CLIPTokenizer.from_pretrained)
    kind = CLIPTextModelWithProjection if suffix else CLIPTextModel

    def build(config: Config) -> Any:
        return kind(CLIPTextConfig.from_dict(config))

    encoder = load_network(folder / f"text_encoder{suffix}", build, dtype, device)
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    read = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    output = encoder(read.input_ids.to(device), output_hidden_states=True)
    is_sdxl = suffix or (folder / "text_encoder_2").is_dir()
    hidden = output.hidden_states[-2] if is_sdxl else output.last_hidden_state
    pooled = output.text_embeds if suffix else output.pooler_output
    return hidden.float().cpu(), pooled.float().cpu()


def _read_by_t5(
    folder: Path, texts: list[str], dtype: torch.dtype, device: torch.device | str
) -> Float[Tensor, "N T D"]:
    """DeepFloyd IF's embeddings. Padding is masked, as in its pipeline."""
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    tokenizer = _tokenizer(folder / "tokenizer", AutoTokenizer.from_pretrained)

    def build(config: Config) -> Any:
        return T5EncoderModel(T5Config.from_dict(config))

    # T5's activations exceed the range of float16.
    encoder = load_network(folder / "text_encoder", build, torch.float32 if dtype is torch.float16 else dtype, device)
    read = tokenizer(
        [text.lower().strip() for text in texts],
        padding="max_length",
        max_length=T5_LENGTH,
        truncation=True,
        add_special_tokens=True,
        return_tensors="pt",
    )
    output = encoder(read.input_ids.to(device), attention_mask=read.attention_mask.to(device))
    return output.last_hidden_state.float().cpu()


def _tokenizer(folder: Path, load: Callable[..., Any]) -> Any:
    if not folder.is_dir():
        raise InputError(f"There is no {folder}: fetch it again.")
    try:
        return load(folder, local_files_only=True)
    except Exception as error:  # tokenizers raise errors without a common base
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"the tokenizer in {folder} cannot be read ({reason})") from None
