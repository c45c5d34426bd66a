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
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldParameters
from img3d_kernels.fields.rays import RayEnds, Samples, ray_ranges

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
    field: FieldParameters, rays: RayEnds, guide: Guide, offsets: Float[Tensor, "R"] | None = None
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


def bin_coordinate(distances: Tensor) -> Tensor:
    """The coordinate in which bins have equal widths: linear in the distance up to 1, and in its inverse beyond."""
    return torch.where(distances < 1, 0.5 * distances, 1 - 0.5 / distances.clamp_min(1))


def _bin_distance(coordinates: Tensor) -> Tensor:
    return torch.where(coordinates < 0.5, 2 * coordinates, 0.5 / (1 - coordinates).clamp_min(1e-7))


@dataclass
class RayBins:
    """The bins of R rays, of which the coordinate `firsts + widths * bin` is that of the edge before a bin."""

    nears: Float[Tensor, "R"]
    """Distances at which the rays enter the space."""
    fars: Float[Tensor, "R"]
    """Distances at which they leave it; not above `nears` if they miss it."""
    firsts: Float[Tensor, "R"]
    widths: Float[Tensor, "R"]
    num_bins: int

    @staticmethod
    def of(field: FieldParameters, rays: RayEnds, num_bins: int) -> RayBins:
        """The bins of rays in a field's space."""
        nears, fars = ray_ranges(field.space, rays)
        firsts = bin_coordinate(nears)
        return RayBins(nears, fars, firsts, (bin_coordinate(fars) - firsts) / num_bins, num_bins)

    def distances(self, bins: Float[Tensor, "#R K"]) -> Float[Tensor, "R K"]:
        """Distances of places among the bins."""
        return _bin_distance(self.firsts[:, None] + self.widths[:, None] * bins)

    def place(
        self, weights: Float[Tensor, "R bins"], explored: float, num_samples: int, offsets: Float[Tensor, "R"] | None
    ) -> Samples:
        """Samples at equal shares of the bins' weights, which are widened to the neighbours; `explored` goes to all."""
        known = F.pad(weights, (1, 1))
        larger = torch.maximum(known[:, 1:], known[:, :-1])
        chances = 0.5 * (larger[:, 1:] + larger[:, :-1]) + explored / self.num_bins
        until = F.pad(chances.cumsum(dim=1), (1, 0))
        shift = torch.full_like(self.nears, 0.5) if offsets is None else offsets
        counted = torch.arange(num_samples + 1, device=known.device) + shift[:, None]
        wanted = counted / (num_samples + 1) * until[:, -1:]
        found = (torch.searchsorted(until.contiguous(), wanted.contiguous()) - 1).clamp(0, self.num_bins - 1)
        within = (wanted - until.gather(1, found)) / chances.gather(1, found)
        distances = self.distances(found + within.clamp(0, 1))
        counts = torch.where(self.nears < self.fars, num_samples, 0).to(torch.int32)
        return Samples(counts, 0.5 * (distances[:, 1:] + distances[:, :-1]), distances.diff(dim=1))


@torch.no_grad()
def guided_samples_torch(field: FieldParameters, rays: RayEnds, guide: Guide, offsets: Tensor | None = None) -> Samples:
    """`guided_samples` in plain torch."""
    space, size = field.space, field.space.grid_size
    bins = RayBins.of(field, rays, guide.num_bins)
    middles = bins.distances(torch.arange(guide.num_bins, device=rays.origins.device)[None] + 0.5)
    points = space.to_unit(rays.origins[:, None] + middles[..., None] * rays.directions[:, None])
    return bins.place(guide.weights[space.cells(points, size)], guide.explored, guide.num_samples, offsets)
