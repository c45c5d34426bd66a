# SPDX-License-Identifier: Apache-2.0
"""Places samples along rays where earlier samples had high weights.

A coarse grid stores these weights; in Mip-NeRF 360 (Barron et al. 2021, arXiv 2111.12077, section 3) a proposal network
predicts them. A grid needs no training and is cheap to read.

It stores weights, not densities: a cell with too high a density would attract all samples of the rays through it, and
no samples behind it could correct it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldParameters
from img3d_kernels.fields.rays import Rays, Samples, ray_ranges

MAX_BINS = 512
"""Maximum number of bins along a ray."""
DECAY = 0.95
"""Factor of all weights when they fade."""


class WeightGrid(torch.nn.Module):
    """The highest weight of recent samples in each cell of the unit cube, which a `FieldSpace` maps to the world.

    Training passes `weights` to `field_loss`, which raises them.

    Args:
        size: Cells along an axis.
    """

    weights: Float[Tensor, "cells"]
    """From 0 to 1; x slowest."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("weights", torch.zeros(size**3))

    def fade(self) -> None:
        """Reduces all weights, so that cells that have become empty lose their samples."""
        self.weights *= DECAY


@dataclass(frozen=True)
class Guide:
    """Options of `guided_samples`.

    Raises:
        ValueError: `num_bins` or `explored` is out of range.
    """

    weights: Float[Tensor, "cells"]
    """Weights of the cells of the field's space, `grid_size` along each axis, x slowest."""
    num_bins: int
    """Bins of a ray, each of which looks up one weight. They are equally wide in a coordinate that is linear in the
    distance up to 1, and linear in the inverse distance from there on."""
    num_samples: int
    """Samples of each ray."""
    explored: float = 0.3
    """Weight that is distributed evenly over all bins of a ray."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_bins <= MAX_BINS:
            raise ValueError(f"num_bins must be from 1 to {MAX_BINS}, got {self.num_bins}")
        if self.explored <= 0:
            raise ValueError(f"explored must be positive, got {self.explored}")


def guided_samples(
    field: FieldParameters, rays: Rays, guide: Guide, offsets: Float[Tensor, "R"] | None = None
) -> Samples:
    """Places samples by inverse transform sampling of the weights of a ray's bins. Rays that miss the field's space get
    none.

    Args:
        field: The field; only its space is used.
        rays: The rays.
        guide: The weights.
        offsets: Shift of each ray's samples as a fraction of a sample, in [0, 1); None: 0.5.
    """
    if field.is_compiled:
        from img3d_kernels.fields import compiled

        return compiled.guided_samples(field, rays, guide, offsets)
    return guided_samples_torch(field, rays, guide, offsets)


def _bin_coordinate(distances: Tensor) -> Tensor:
    return torch.where(distances < 1, 0.5 * distances, 1 - 0.5 / distances.clamp_min(1))


def _bin_distance(coordinates: Tensor) -> Tensor:
    return torch.where(coordinates < 0.5, 2 * coordinates, 0.5 / (1 - coordinates).clamp_min(1e-7))


@torch.no_grad()
def guided_samples_torch(field: FieldParameters, rays: Rays, guide: Guide, offsets: Tensor | None = None) -> Samples:
    """`guided_samples` in plain torch."""
    space, origins, size = field.space, rays.origins, field.space.grid_size
    nears, fars = ray_ranges(space, rays)
    firsts = _bin_coordinate(nears)
    widths = (_bin_coordinate(fars) - firsts) / guide.num_bins
    bins = torch.arange(guide.num_bins + 1, device=origins.device)
    edges = firsts[:, None] + widths[:, None] * bins
    middles = _bin_distance(0.5 * (edges[:, 1:] + edges[:, :-1]))
    points = space.to_unit(origins[:, None] + middles[..., None] * rays.directions[:, None])
    known = torch.nn.functional.pad(guide.weights[space.cells(points, size)], (1, 1))
    larger = torch.maximum(known[:, 1:], known[:, :-1])
    chances = 0.5 * (larger[:, 1:] + larger[:, :-1]) + guide.explored / guide.num_bins
    until = torch.nn.functional.pad(chances.cumsum(dim=1), (1, 0))
    shift = torch.full_like(nears, 0.5) if offsets is None else offsets
    counted = torch.arange(guide.num_samples + 1, device=origins.device) + shift[:, None]
    wanted = counted / (guide.num_samples + 1) * until[:, -1:]
    found = (torch.searchsorted(until.contiguous(), wanted.contiguous()) - 1).clamp(0, guide.num_bins - 1)
    within = (wanted - until.gather(1, found)) / chances.gather(1, found)
    distances = _bin_distance(firsts[:, None] + widths[:, None] * (found + within.clamp(0, 1)))
    counts = torch.where(nears < fars, guide.num_samples, 0).to(torch.int32)
    return Samples(counts, 0.5 * (distances[:, 1:] + distances[:, :-1]), distances.diff(dim=1))
