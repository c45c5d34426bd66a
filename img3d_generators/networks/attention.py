# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention between sequences of tokens, without its projections."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from img3d_kernels.attention import attention


def attended(
    queries: Float[Tensor, "B T D"], keys: Float[Tensor, "B S D"], values: Float[Tensor, "B S D"], num_heads: int
) -> Float[Tensor, "B T D"]:
    """Attention of the queries to the keys and values. The channels are divided among the heads in order."""
    q, k, v = (tokens.unflatten(-1, (num_heads, -1)) for tokens in (queries, keys, values))
    return attention(q, k, v).flatten(2)
