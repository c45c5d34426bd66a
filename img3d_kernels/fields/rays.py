# SPDX-License-Identifier: Apache-2.0
"""Rays through a field, samples along them, and the rendered result."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldSpace

MAX_DISTANCE = 1e6
"""Rays end at this distance at the latest."""
MAX_RAY_SAMPLES = 512
"""Maximum number of samples of a ray in a training step."""


@dataclass
class RayEnds:
    """Where R rays begin and end."""

    origins: Float[Tensor, "R 3"]
    """World coordinates."""
    directions: Float[Tensor, "R 3"]
    """Of unit length."""
    nears: Float[Tensor, "R"]
    """Distances at which the rays begin."""
    fars: Float[Tensor, "R"]
    """Distances at which the rays end."""

    def __len__(self) -> int:
        return len(self.origins)


@dataclass
class Rays(RayEnds):
    """R rays."""

    features: Float[Tensor, "R 64"]
    """Added to the colour network's first hidden layer."""


@dataclass(frozen=True)
class Marching:
    """Steps along rays, all of the same length."""

    step: float
    """In world units."""
    max_samples: int = MAX_RAY_SAMPLES
    """Maximum number of samples of a ray in training; those beyond it, the farthest, are left out."""
    visible_only: bool = False
    """Whether a ray's samples behind opaque ones are left out, which takes their densities."""


@dataclass
class Samples:
    """Samples of R rays in order, at most S of each."""

    counts: Int32[Tensor, "R"]
    """Number of samples in each row."""
    middles: Float[Tensor, "R S"]
    """Distances of the samples' middles along the ray."""
    lengths: Float[Tensor, "R S"]
    """Lengths of the samples along the ray."""


@dataclass
class BlockSamples:
    """Samples of a picture's rays, which those of a block of pixels share."""

    samples: Samples
    """One row for each block, from left to right and from top to bottom."""
    width: int
    """Pixels in a row of the picture."""
    side: int
    """Pixels along each side of a block; blocks at the right and lower edge may be smaller."""

    def in_rows(self, first: int, last: int) -> BlockSamples:
        """Of the picture's pixel rows from `first`, a multiple of `side`, up to `last`."""
        across = -(-self.width // self.side)
        blocks = slice(first // self.side * across, -(-last // self.side) * across)
        samples = self.samples
        return replace(self, samples=Samples(samples.counts[blocks], samples.middles[blocks], samples.lengths[blocks]))

    def of_rays(self, count: int) -> Samples:
        """A row for each of the picture's `count` rays."""
        ray = torch.arange(count, device=self.samples.counts.device)
        across = -(-self.width // self.side)
        block = ray // self.width // self.side * across + ray % self.width // self.side
        samples = self.samples
        return Samples(samples.counts[block], samples.middles[block], samples.lengths[block])


@dataclass
class Picture:
    """R rendered rays."""

    rgb: Float[Tensor, "R 3"]
    """On black: premultiplied with the accumulation."""
    accumulation: Float[Tensor, "R"]
    """Share of the light that is absorbed."""
    depth: Float[Tensor, "R"]
    """Distance along the ray at which half of the light is absorbed; 0 where that never happens."""


def ray_ranges(space: FieldSpace, rays: RayEnds) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
    """Distances at which rays enter and leave a space. For rays that miss it, the second is not above the first."""
    nears, fars = rays.nears.clamp_min(0), rays.fars.clamp_max(MAX_DISTANCE)
    if space.contracted:
        return nears, fars
    safe = torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)
    faces = torch.stack([(safe.new_tensor(side) - rays.origins) / safe for side in (space.low, space.high)])
    return torch.maximum(nears, faces.amin(dim=0).amax(dim=-1)), torch.minimum(fars, faces.amax(dim=0).amin(dim=-1))
