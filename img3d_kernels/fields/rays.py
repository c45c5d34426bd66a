# SPDX-License-Identifier: Apache-2.0
"""Rays through a field, samples along them, and what they see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldSpace

MAX_DISTANCE = 1e6
"""Rays end here at the latest."""
MAX_RAY_SAMPLES = 512
"""Maximum number of samples of a ray in a training step."""


@dataclass
class Rays:
    """R rays."""

    origins: Float[Tensor, "R 3"]
    """World coordinates."""
    directions: Float[Tensor, "R 3"]
    """Of unit length."""
    features: Float[Tensor, "R 64"]
    """Added to the colour network's first hidden layer."""
    nears: Float[Tensor, "R"]
    """Distances at which they begin."""
    fars: Float[Tensor, "R"]
    """Distances at which they end."""

    def __len__(self) -> int:
        return len(self.origins)


@dataclass(frozen=True)
class Marching:
    """Steps along rays, all of the same length."""

    step: float
    """In world units."""
    max_samples: int = MAX_RAY_SAMPLES
    """Maximum number of samples of a ray in training; samples farther away are left out."""


@dataclass
class Samples:
    """Samples of R rays in order, at most S of each."""

    counts: Int32[Tensor, "R"]
    """How many of a row are in use."""
    middles: Float[Tensor, "R S"]
    """Distances along the ray."""
    lengths: Float[Tensor, "R S"]


@dataclass
class Picture:
    """What R rays see."""

    rgb: Float[Tensor, "R 3"]
    """On black: premultiplied with the accumulation."""
    accumulation: Float[Tensor, "R"]
    """Share of the light that is absorbed."""
    depth: Float[Tensor, "R"]
    """Distance along the ray at which half of the light is absorbed; 0 where that never happens."""


def ray_ranges(space: FieldSpace, rays: Rays) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
    """Where rays enter and leave a space; those that do not meet it leave before they enter."""
    nears, fars = rays.nears.clamp_min(0), rays.fars.clamp_max(MAX_DISTANCE)
    if space.contracted:
        return nears, fars
    safe = torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)
    faces = torch.stack([(safe.new_tensor(side) - rays.origins) / safe for side in (space.low, space.high)])
    return torch.maximum(nears, faces.amin(dim=0).amax(dim=-1)), torch.minimum(fars, faces.amax(dim=0).amin(dim=-1))
