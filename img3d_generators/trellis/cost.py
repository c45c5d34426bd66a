# SPDX-License-Identifier: Apache-2.0
"""How long TRELLIS takes: operations of its flows, and how many this machine does in a second."""

from __future__ import annotations

import time

import torch

from img3d_generators.trellis.latent_flow import LatentFlowConfig
from img3d_generators.trellis.structure import FlowConfig

USUAL_VOXELS = 20_000
"""Occupied voxels of an object, on average."""
VOXELS_OF_TOKEN = 4
"""Voxels that have one token of the transformer in common, on average."""
NEIGHBOURS = 12
"""Occupied ones among the 27 voxels around one, on average."""
TOKENS, CHANNELS, HIDDEN = 512, 1024, 4096
"""Sizes of the matrix product that is timed: that of an MLP, for some of the tokens."""
TIMED_FOR = 0.2
"""Seconds for which products are timed."""
SHARE, SHARE_OF_FAST = 0.75, 0.3
"""Of the speed of large matrix products that whole networks reach in float32, and in types of 16 bits, where more of
the time goes into what is not a product."""


def structure_operations(config: FlowConfig, condition_tokens: int) -> float:
    """Floating-point operations for the velocity of one latent."""
    return _transformer_operations(config, config.resolution**3, condition_tokens)


def detail_operations(config: LatentFlowConfig, voxels: int, condition_tokens: int) -> float:
    """Floating-point operations for the velocity of one set of latents, about."""
    channels, thin, tokens = config.model_channels, config.io_channels, voxels / VOXELS_OF_TOKEN
    of_voxel = thin * (thin + thin + 2 * channels + thin + 2 * thin + thin)
    of_token = channels * (thin + channels)
    convolutions = 2 * NEIGHBOURS * (voxels * of_voxel + tokens * of_token)
    return convolutions + _transformer_operations(config, tokens, condition_tokens)


def _transformer_operations(config: FlowConfig, tokens: float, condition_tokens: int) -> float:
    channels = config.model_channels
    products = 2 * channels**2 * (6 + 2 * config.mlp_ratio)  # queries, keys, values, both outputs, and the MLP
    attention = 4 * channels * (tokens + condition_tokens)
    return config.num_blocks * tokens * (products + attention)


@torch.no_grad()
def operations_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations that networks do in a second on this machine, about; takes a moment to find out."""
    left = torch.ones(TOKENS, CHANNELS, device=device, dtype=dtype)
    right = torch.ones(CHANNELS, HIDDEN, device=device, dtype=dtype)
    products, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < TIMED_FOR:
        float((left @ right)[0, 0])  # waits for a GPU
        products += 1
    share = SHARE if dtype == torch.float32 else SHARE_OF_FAST
    return share * products * 2 * TOKENS * CHANNELS * HIDDEN / seconds
