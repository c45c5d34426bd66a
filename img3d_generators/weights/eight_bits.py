# SPDX-License-Identifier: Apache-2.0
"""Weights in 8 bits each, for networks that come with img3d: half the size of float16, and hardly less exact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from img3d_base.errors import InputError

STEP = ".step"
"""What is appended to the name of a matrix to name the steps of its rows."""
LARGEST = 127


def in_eight_bits(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8, in multiples of a step of their own for each row (first axis); the rest in float16.

    Args:
        weights: Of any floating-point type.
    """
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if value.ndim < 2:
            found[name] = value.half()
            continue
        rows = value.float().flatten(1)
        steps = (rows.abs().amax(dim=1) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
        found[name] = (rows / steps[:, None]).round().to(torch.int8).view(value.shape)
        found[name + STEP] = steps
    return found


def from_eight_bits(packed: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The inverse of `in_eight_bits`, in float32.

    Args:
        packed: The tensors of a file.
        source: The file, for messages.

    Raises:
        InputError: Steps are missing or do not fit.
    """
    found: dict[str, Tensor] = {}
    for name, value in packed.items():
        if name.endswith(STEP) and name.removesuffix(STEP) in packed:
            continue
        if value.dtype == torch.int8:
            steps = packed.get(name + STEP)
            if value.ndim < 2 or steps is None or steps.shape != value.shape[:1]:
                raise InputError(f"{source} is damaged: {name} lacks the steps of its rows; fetch it again")
            value = (value.flatten(1) * steps.float()[:, None]).view(value.shape)
        found[name] = value.float()
    return found
