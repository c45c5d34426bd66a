# SPDX-License-Identifier: Apache-2.0
"""Prompts that name the direction of view, so that not every side becomes a front; and Perp-Neg, which also uses the
other directions as negative prompts (arXiv 2304.04968)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from img3d_generators.guidance.views import ViewAngles, wrapped

DIRECTIONS = ("side", "front", "back", "overhead")
"""In the order of `PromptEmbeddings.of_direction`."""
SIDE, FRONT, BACK, OVERHEAD = range(4)
OVERHEAD_ELEVATION = 60.0
"""Views from above this elevation, in degrees, are from overhead."""
# (a, b, c) of the negative prompts' weights a * exp(-b * r) + c, with r from 0 to 1 between two directions.
FRONT_AGAINST_SIDE = SIDE_AGAINST_FRONT = (4.0, 0.5, -2.426)
SIDE_AGAINST_BACK = (1.0, 0.5, -0.606)
FRONT_AGAINST_BACK = (1.0, 0.5, 0.967)


def directed_prompts(prompt: str) -> list[str]:
    """The prompt for each direction, in the order of `DIRECTIONS`."""
    return [f"{prompt}, {direction} view" for direction in DIRECTIONS]


@dataclass(frozen=True)
class PromptEmbeddings:
    """The text encoder's embeddings of the prompts."""

    of_direction: Float[Tensor, "4 T D"]
    """Embeddings of the prompt for each of `DIRECTIONS`."""
    negative: Float[Tensor, "T D"]
    """Embeddings of the negative prompt, which is usually empty."""
    pooled_of_direction: Float[Tensor, "4 P"] | None = None
    """SDXL's embedding of the whole prompt for each of `DIRECTIONS`."""
    pooled_negative: Float[Tensor, "P"] | None = None
    """The same of the negative prompt."""
    front_angle: float = 45.0
    """Views whose azimuth is below this, in degrees, are from the front."""
    back_angle: float = 135.0
    """Views whose azimuth is above this, in degrees, are from the back."""

    def directions(self, views: ViewAngles) -> Int[Tensor, "B"]:
        """The direction of each view, as an index into `DIRECTIONS`."""
        azimuths = wrapped(views.azimuths).abs()
        found = torch.full_like(azimuths, SIDE, dtype=torch.long)
        found[azimuths < self.front_angle] = FRONT
        found[azimuths > self.back_angle] = BACK
        found[views.elevations > OVERHEAD_ELEVATION] = OVERHEAD
        return found.to(self.of_direction.device)

    def mixed(self, views: ViewAngles) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B 2 T D"], Float[Tensor, "B 2"]]:
        """For Perp-Neg, for each view: the embeddings between two directions, those of two negative prompts, and the
        negative prompts' weights."""
        positives, negatives, weights = [], [], []
        side, front, back, overhead = self.of_direction
        for azimuth, elevation in zip(wrapped(views.azimuths).abs().tolist(), views.elevations.tolist(), strict=True):
            if elevation > OVERHEAD_ELEVATION:
                positives.append(overhead)
                negatives.append(torch.stack([self.negative, self.negative]))
                weights.append((0.0, 0.0))
            elif azimuth < 90:
                share = 1 - azimuth / 90
                positives.append(share * front + (1 - share) * side)
                negatives.append(torch.stack([front, side]))
                weights.append((-_decayed(FRONT_AGAINST_SIDE, share), -_decayed(SIDE_AGAINST_FRONT, 1 - share)))
            else:
                share = 2 - azimuth / 90
                positives.append(share * side + (1 - share) * back)
                negatives.append(torch.stack([side, front]))
                weights.append((-_decayed(SIDE_AGAINST_BACK, share), -_decayed(FRONT_AGAINST_BACK, share)))
        return torch.stack(positives), torch.stack(negatives), positives[0].new_tensor(weights)


def perpendicular(a: Float[Tensor, "B *S"], b: Float[Tensor, "B *S"]) -> Float[Tensor, "B *S"]:
    """The component of each `a` that is perpendicular to its `b`, as vectors of all numbers of a picture."""
    dims = tuple(range(1, a.dim()))
    return a - (a * b).sum(dims, keepdim=True) / (b * b).sum(dims, keepdim=True).clamp_min(1e-6) * b


def _decayed(factors: tuple[float, float, float], share: float) -> float:
    a, b, c = factors
    return a * float(torch.exp(torch.tensor(-b * share, dtype=torch.float64))) + c
