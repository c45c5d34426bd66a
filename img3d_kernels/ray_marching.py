# SPDX-License-Identifier: Apache-2.0
"""Marches rays through a field of density and colour in a box, in plain torch: evenly spaced samples, of which those
in empty space and behind the surface are not evaluated. Differentiable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool3d

SAMPLES_AT_A_TIME = 8
"""Samples along each ray that are evaluated before rays that have ended are dropped."""
OPAQUE = 1e-4
"""A ray ends where less than this share of the light remains."""
PARALLEL = 1e-6
"""Components of directions that are smaller are replaced by this."""
TINY = 1e-10
"""Added to each sample's transmittance, so that gradients exist behind opaque samples."""

Query = Callable[[Float[Tensor, "N 3"]], tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]]
"""Density per world unit and colour at N world coordinates."""


@dataclass
class OccupancyGrid:
    """Which cells of a box may hold something."""

    low: Float[Tensor, "3"]
    """Lower corner of the box in world coordinates."""
    high: Float[Tensor, "3"]
    """Upper corner."""
    cells: Bool[Tensor, "X Y Z"]

    @staticmethod
    @torch.no_grad()
    def of(query: Query, low: Float[Tensor, "3"], high: Float[Tensor, "3"], size: int, least: float) -> OccupancyGrid:
        """Evaluates a field at the corners of `size`³ cells; cells with a corner of at least the density `least`, and
        their neighbours, are occupied."""
        corners = lattice(low, high, size + 1)
        dense = (query(corners)[0] >= least).view(1, 1, *(size + 1,) * 3).float()
        cells = max_pool3d(dense, 2, stride=1)
        cells = max_pool3d(cells, 3, stride=1, padding=1)
        return OccupancyGrid(low, high, cells[0, 0].bool())

    def at(self, points: Float[Tensor, "*N 3"]) -> Bool[Tensor, "*N"]:
        """Whether points are in occupied cells."""
        size = self.cells.shape[0]
        x, y, z = (((points - self.low) * (size / (self.high - self.low))).long().clamp_(0, size - 1)).unbind(dim=-1)
        return self.cells.view(-1)[(x * size + y) * size + z]


@dataclass
class Marched:
    """What N rays saw."""

    rgb: Float[Tensor, "N 3"]
    """On black: premultiplied with the accumulation."""
    accumulation: Float[Tensor, "N 1"]
    """Share of the light that was absorbed."""
    depth: Float[Tensor, "N 1"]
    """Distance along the ray at which half of the light is absorbed; 0 where that never happens."""


def lattice(low: Float[Tensor, "3"], high: Float[Tensor, "3"], size: int) -> Float[Tensor, "N 3"]:
    """The size³ points of a lattice from `low` to `high`, both included; x changes slowest."""
    sides = [torch.linspace(float(a), float(b), size) for a, b in zip(low, high, strict=True)]
    return torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).reshape(-1, 3).to(low.device)


def in_box(
    origins: Float[Tensor, "N 3"],
    directions: Float[Tensor, "N 3"],
    low: Float[Tensor, "3"],
    high: Float[Tensor, "3"],
    shortest: float = 0.0,
) -> tuple[Float[Tensor, "N 1"], Float[Tensor, "N 1"], Bool[Tensor, "N"]]:
    """Where rays enter and leave a box, and which of them stay in it for longer than `shortest`; those that do not
    have 0 and 0."""
    directions = torch.where(directions.abs() < PARALLEL, PARALLEL, directions)
    faces = torch.stack([(low - origins) / directions, (high - origins) / directions])
    near = faces.amin(dim=0).amax(dim=-1, keepdim=True).clamp_min(0)
    far = faces.amax(dim=0).amin(dim=-1, keepdim=True)
    hits = far - near > shortest
    return torch.where(hits, near, 0), torch.where(hits, far, 0), hits[:, 0]


def march(
    query: Query,
    origins: Float[Tensor, "N 3"],
    directions: Float[Tensor, "N 3"],
    low: Float[Tensor, "3"],
    high: Float[Tensor, "3"],
    num_samples: int,
    path_length: float | None = None,
    shortest: float = 0.0,
    occupied: OccupancyGrid | None = None,
    nears: Float[Tensor, "N 1"] | None = None,
    fars: Float[Tensor, "N 1"] | None = None,
) -> Marched:
    """Renders rays.

    Args:
        query: The field.
        origins: World coordinates.
        directions: Unit directions.
        low: Lower corner of the field's box.
        high: Upper corner.
        num_samples: Number of samples, evenly spaced between a ray's entry into the box and its exit.
        path_length: The length that every ray's path counts as; None for its true one.
        shortest: Rays with a path of at most this length see nothing.
        occupied: Samples in other cells count as empty.
        nears: Distances before which rays see nothing.
        fars: Distances behind which rays see nothing.
    """
    near, far, hits = in_box(origins, directions, low, high, shortest)
    chosen = hits.nonzero()[:, 0]
    near, far, origins, directions = near[chosen], far[chosen], origins[chosen], directions[chosen]
    step = (far - near) / num_samples
    length = step if path_length is None else torch.full_like(step, path_length / num_samples)
    rgb, light, depth = origins.new_zeros(len(chosen), 3), torch.ones_like(near), torch.zeros_like(near)
    for first in range(0, num_samples, SAMPLES_AT_A_TIME):
        going = (light.detach()[:, 0] > OPAQUE).nonzero()[:, 0]
        if len(going) == 0:
            break
        last = min(first + SAMPLES_AT_A_TIME, num_samples)
        begins = near[going] + torch.arange(first, last, device=near.device) * step[going]
        middles = begins + step[going] / 2
        points = origins[going, None] + middles[..., None] * directions[going, None]
        wanted = torch.ones_like(middles, dtype=torch.bool) if occupied is None else occupied.at(points)
        if nears is not None:
            wanted = wanted & (middles >= nears[chosen[going]])
        if fars is not None:
            wanted = wanted & (middles <= fars[chosen[going]])
        where = wanted.nonzero(as_tuple=True)
        if len(where[0]) == 0:
            continue
        density, colors = query(points[where])
        absorbed = torch.zeros_like(middles).index_put(where, 1 - torch.exp(-density * length[going[where[0]], 0]))
        passing = 1 - absorbed + TINY
        after = light[going] * passing.cumprod(dim=1)
        before = torch.cat([light[going], after[:, :-1]], dim=1)
        weights = before * absorbed
        seen = torch.zeros_like(points).index_put(where, colors)
        rgb = rgb.index_add(0, going, (weights[..., None] * seen).sum(dim=1))
        with torch.no_grad():
            half = (before > 0.5) & (after <= 0.5)
            share = torch.log(2 * before) / -torch.log(passing.clamp_max(1 - 1e-7))
            depth[going] += torch.where(half, begins + share * step[going], 0).sum(dim=1, keepdim=True)
        light = light.index_put((going,), after[:, -1:])
    total = len(hits)
    return Marched(
        rgb=rgb.new_zeros(total, 3).index_put((chosen,), rgb),
        accumulation=rgb.new_zeros(total, 1).index_put((chosen,), 1 - light),
        depth=depth.new_zeros(total, 1).index_put((chosen,), depth),
    )
