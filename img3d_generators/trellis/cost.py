# SPDX-License-Identifier: Apache-2.0
"""Estimates how long TRELLIS takes, from the operations of its flows and the speed of this machine."""

from __future__ import annotations

import time

import torch

from img3d_generators.trellis.latent_flow import LatentFlowConfig
from img3d_generators.trellis.structure import FlowConfig

USUAL_VOXELS = 20_000
"""Mean number of an object's occupied voxels."""
VOXELS_OF_TOKEN = 4
"""Mean number of voxels that share a token of the transformer."""
NEIGHBOURS = 12
"""Mean number of occupied voxels among the 27 in a kernel."""
TOKENS, CHANNELS, HIDDEN = 512, 1024, 4096
"""Sizes of the matrix product that is timed: an MLP's, for a part of the tokens."""
TIMED_FOR = 0.2
"""Time in seconds for which products are repeated."""
SHARE, SHARE_OF_FAST = 0.75, 0.3
"""Speed of whole networks as a share of the speed of large matrix products: in float32, and in types of 16 bits, where
other operations take more of the time."""


def structure_operations(config: FlowConfig, condition_tokens: int) -> float:
    """Number of floating-point operations for one velocity of the structure's latent."""
    return _transformer_operations(config, config.resolution**3, condition_tokens)


def detail_operations(config: LatentFlowConfig, voxels: int, condition_tokens: int) -> float:
    """Approximate number of floating-point operations for one velocity of the voxels' latents."""
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
    """Approximate number of floating-point operations of networks per second, measured for `TIMED_FOR` seconds."""
    left = torch.ones(TOKENS, CHANNELS, device=device, dtype=dtype)
    right = torch.ones(CHANNELS, HIDDEN, device=device, dtype=dtype)
    products, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < TIMED_FOR:
        float((left @ right)[0, 0])  # waits for a GPU
        products += 1
    share = SHARE if dtype == torch.float32 else SHARE_OF_FAST
    return share * products * 2 * TOKENS * CHANNELS * HIDDEN / seconds
