# SPDX-License-Identifier: Apache-2.0
"""The normalisation of colours with which networks were pretrained on ImageNet."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalised(images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Images in [0, 1] with ImageNet's mean 0 and standard deviation 1 in every channel."""
    mean, std = (torch.tensor(values).to(images)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std
