# SPDX-License-Identifier: Apache-2.0
"""Where networks run, and in which precision."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """CUDA if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """float16 on CUDA; on a CPU bfloat16 if it has instructions for it, otherwise float32."""
    if device.type == "cuda":
        return torch.float16
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older versions of torch
    return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else torch.float32
