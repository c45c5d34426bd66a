# SPDX-License-Identifier: Apache-2.0
"""Where networks run, and in which precision."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "fast"]
"""Precision of a network's matrix products: "float32" gives the reference's numbers; "fast" is `default_dtype`."""


def default_device() -> torch.device:
    """CUDA if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """float16 on CUDA; on a CPU bfloat16 if it has instructions for it, otherwise float32."""
    if device.type == "cuda":
        return torch.float16
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older versions of torch
    return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else torch.float32


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The data type of matrix products on a device."""
    return torch.float32 if precision == "float32" else default_dtype(device)
