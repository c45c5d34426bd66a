# SPDX-License-Identifier: Apache-2.0
"""What score distillation costs: time and peak memory of a step of each model, with random weights of its size.

python benchmarks/guidance.py
python benchmarks/guidance.py --only zero123-float32

A step encodes one render, predicts the noise with and without the prompt (or the image), and goes back through the
encoder to the render. Every row runs in a process of its own. On CUDA where there is a device.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from generators import Cost, Run, cost_of, device, with_random_weights
from kernels import describe_machine

from img3d_generators.guidance.distillation import ScoreDistillation
from img3d_generators.guidance.exact_denoiser import stable_diffusion_alphas
from img3d_generators.guidance.latent_space import LatentSpace
from img3d_generators.guidance.text_diffusion import TextDiffusion
from img3d_generators.guidance.view_prompts import PromptEmbeddings
from img3d_generators.guidance.views import ViewAngles
from img3d_generators.guidance.zero123 import CameraProjection, ConditionView, Zero123

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
UP, CROSS_UP = "UpBlock2D", "CrossAttnUpBlock2D"
STABLE_DIFFUSION_1: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [CROSS, CROSS, CROSS, PLAIN],
    "up_block_types": [UP, CROSS_UP, CROSS_UP, CROSS_UP],
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
UNETS: dict[str, dict[str, Any]] = {
    "stable-diffusion-1.5": STABLE_DIFFUSION_1,
    "stable-diffusion-2.1": {
        **STABLE_DIFFUSION_1,
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": [PLAIN, CROSS, CROSS],
        "up_block_types": [CROSS_UP, CROSS_UP, UP],
        "layers_per_block": 2,
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "zero123": {**STABLE_DIFFUSION_1, "sample_size": 32, "in_channels": 8},
}
VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}
TOKENS, POOLED = 77, 1280
VIEW = ViewAngles(torch.tensor([10.0]), torch.tensor([30.0]), torch.tensor([2.0]))


def step(name: str, dtype: torch.dtype) -> Run:
    """One step of a model: the loss of a render and its gradient."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    config = UNETS[name]
    unet: Any = with_random_weights(lambda: UNet2DConditionModel(**config), dtype)
    vae: Any = with_random_weights(lambda: AutoencoderKL(**VAE), dtype)
    size = 8 * config["sample_size"]
    space, width = LatentSpace(size, vae), config["cross_attention_dim"]
    alphas = stable_diffusion_alphas()
    denoiser: TextDiffusion | Zero123
    if name == "zero123":
        latents = torch.randn(1, 4, size // 8, size // 8, device=device())
        projection = CameraProjection(width).to(device(), dtype).requires_grad_(False)
        denoiser = Zero123(unet, space, projection, ConditionView(torch.randn(1, width), latents), alphas)
    else:
        tokens, pooled = torch.randn(5, TOKENS, width), torch.randn(5, POOLED)
        has_pooled = "addition_embed_type" in config
        prompts = PromptEmbeddings(
            tokens[:4], tokens[4], pooled[:4] if has_pooled else None, pooled[4] if has_pooled else None
        )
        denoiser = TextDiffusion(unet, space, prompts, alphas)
    return partial(one_step, ScoreDistillation(denoiser), size)


def one_step(guidance: ScoreDistillation, size: int) -> torch.Tensor:
    """The gradient of a render."""
    with torch.enable_grad():
        render = torch.rand(1, 3, size, size, device=device(), requires_grad=True)
        guidance.loss(render, VIEW.to(device()), 0, 0.5).backward()
    assert render.grad is not None
    return render.grad


ROWS: dict[str, Callable[[], Run]] = {
    f"{name}-{str(dtype).removeprefix('torch.')}": partial(step, name, dtype)
    for name in UNETS
    for dtype in (torch.float32, torch.bfloat16 if device().type == "cpu" else torch.float16)
}


def measure(name: str) -> Cost:
    """Prepare and run one row in this process."""
    return cost_of(ROWS[name]())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="rows to measure")
    rows = parser.parse_args().only
    print(f"{describe_machine()}.\n\n| guidance | seconds a step | processor seconds | peak memory, GiB |")
    print("|---|---:|---:|---:|")
    for name in rows:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            cost = pool.apply(measure, (name,))
        print(f"| {name} | {cost.seconds:.2f} | {cost.processor_seconds:.2f} | {cost.gibibytes:.2f} |", flush=True)


if __name__ == "__main__":
    main()
