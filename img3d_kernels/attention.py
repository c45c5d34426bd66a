# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention, without its projections: torch's, or in bfloat16 on a CPU a compiled kernel.

torch's attention on a CPU is no faster in bfloat16 than in float32. The kernel uses the processor's dot products of
bfloat16 pairs, and keeps the scores in the caches as flash attention does (Dao et al. 2022, arXiv 2205.14135).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from img3d_kernels.rendering import has_compiled_kernels

COMPILED_CHANNELS = 64
"""Channels of a head for which there is a compiled kernel: those of most transformers."""


def attention(
    queries: Float[Tensor, "B T H D"], keys: Float[Tensor, "B S H D"], values: Float[Tensor, "B S H D"]
) -> Float[Tensor, "B T H D"]:
    """softmax(queries · keys / sqrt(D)) · values in each of B sets and H heads, for T queries and S keys.

    Sums are accumulated in float32, whatever the data type. Differentiable.
    """
    if _is_compiled(queries, keys, values):
        return _compiled(queries, keys, values)
    q, k, v = (tokens.transpose(1, 2) for tokens in (queries, keys, values))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2)


def _is_compiled(*inputs: Tensor) -> bool:
    if not all(each.dtype == torch.bfloat16 and each.device.type == "cpu" for each in inputs):
        return False
    if inputs[0].shape[3] != COMPILED_CHANNELS or 0 in (each.numel() for each in inputs):
        return False
    if torch.is_grad_enabled() and any(each.requires_grad for each in inputs):
        return False
    if not has_compiled_kernels():
        return False
    from img3d_kernels import _C

    return _C.has_attention_bfloat16()


def _compiled(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    from img3d_kernels import _C

    found = torch.empty(queries.shape, dtype=queries.dtype)
    # numpy has no bfloat16.
    bits = (each.detach().contiguous().view(torch.int16).numpy() for each in (queries, keys, values, found))
    _C.attention_bfloat16(*bits)
    return found
