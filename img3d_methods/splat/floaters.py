# SPDX-License-Identifier: Apache-2.0
"""Limits that prevent floaters, fog in front of the cameras, while splats train.

Wide, faint Gaussians close to the cameras explain a few photos as well as the surface does; held-out views, which lie
between the photos, show them as veils. Two limits are computed here: no Gaussian stays close to a camera or to the way
to a neighbouring one, from where others may look, and none is wide in relation to its distance from there. Opacities
decay, the faster the fewer photos there are, and the model removes what is in free space (free_space.py).
Each is measured in benchmarks/RESULTS.md (casual captures).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from img3d_methods.training.few_photos import by_photos

OUTLIERS = 0.002
"""Fraction of the seed points that is ignored, as outliers, in the distance from a camera to the nearest point."""
MAX_POINTS = 5_000
"""Maximum number of seed points in that distance."""
MAX_ORIGINS = 500
"""Maximum number of cameras and places between them to which distances are measured: one for each Gaussian and each of
them."""
NUM_NEIGHBOURS = 4
"""Neighbours of each camera to which the way is kept clear: others may look from there."""
MAX_BETWEEN = 3
"""Largest number of places on such a way."""
MIN_OPEN = 0.25
"""Smallest clearance of such a place, relative to the cameras'; seed points are too near to others."""
LIMIT_SIZE_EVERY = 10
"""Steps between two limitations of size. At the learning rate of scales, a Gaussian grows by a tenth in this time."""
USUAL_DECAY = 0.003
"""How much each step lowers the logit of every opacity."""
MAX_DECAY_FACTOR = 4.0
"""Factor of the decay of opacities with few photos; it falls to 1 with enough of them. Measured with 3 to 24 photos: a
factor of 4 costs 0.2 to 0.6 dB from 21 photos on."""
CLEAR_AT = (0.3, 0.5, 0.7)
"""Fractions of a run after which Gaussians close to cameras are removed; later, removal would leave holes."""


@dataclass(frozen=True)
class FloaterLimits:
    """Where Gaussians may be, and how wide."""

    origins: Float[Tensor, "C 3"]
    """Camera centres, and places between neighbouring cameras."""
    clearances: Float[Tensor, "C"]
    """Minimum distance of Gaussians from each; 0: any."""
    max_relative_size: float
    """Largest standard deviation, relative to the distance from the nearest camera; 0: any."""
    decay: float
    """How much each step lowers the logit of every opacity."""

    @classmethod
    def around(
        cls,
        origins: Float[Tensor, "C 3"],
        points: Float[Tensor, "P 3"] | None,
        relative_clearance: float,
        max_relative_size: float,
        decay: float = USUAL_DECAY,
    ) -> FloaterLimits:
        """Limits for cameras at these centres.

        Args:
            origins: Camera centres, one for each photo.
            points: Seed points on surfaces; None, if there are none, gives a clearance of 0.
            relative_clearance: Clearance of the cameras, relative to the median, over the cameras, of the distance to
                the nearest seed point. Places between cameras have no more, and less where seed points are near.
            max_relative_size: Largest standard deviation, relative to the distance from the nearest camera.
            decay: How much each step lowers the logit of every opacity if there are enough photos.
        """
        decay *= by_photos(len(origins), MAX_DECAY_FACTOR, 1)
        origins = _every_nth(origins.float(), MAX_ORIGINS)
        if points is None or len(points) == 0:
            return cls(origins, torch.zeros(len(origins)), max_relative_size, decay)
        points = _every_nth(points.to(origins), MAX_POINTS)
        nearest = torch.cdist(points, origins).quantile(OUTLIERS, dim=0)
        clearance = relative_clearance * nearest.median()
        between = _between(origins, float(clearance))
        if room := MAX_ORIGINS - len(origins):
            origins = torch.cat([origins, _every_nth(between, room)])
        near_points = relative_clearance * torch.cdist(points, origins).quantile(OUTLIERS, dim=0)
        clearances = near_points.clamp_max(clearance)
        clearances[: len(nearest)] = clearance
        is_open = clearances >= MIN_OPEN * clearance  # nobody looks from inside an object
        return cls(origins[is_open], clearances[is_open], max_relative_size, decay)

    @property
    def firmness(self) -> float:
        """How many times each Gaussian has to count where surfaces are sought, after opacities decayed like this.

        Surfaces become translucent, so that their mean depth is behind them. With the usual decay hardly: there, meshes
        of firmer Gaussians are worse (benchmarks/NOTES.md, "Few photos").
        """
        return max(1.0, self.decay / USUAL_DECAY)

    def too_close(self, means: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
        """Which Gaussians are within the clearance of a camera or of a place between cameras."""
        return (torch.cdist(means.detach(), self.origins.to(means)) < self.clearances.to(means)).any(dim=1)

    @torch.no_grad()
    def limit_size(self, means: Float[Tensor, "N 3"], log_scales: Float[Tensor, "N 3"]) -> None:
        """Makes Gaussians that are too wide smaller, in place."""
        if self.max_relative_size <= 0:
            return
        # Outside the clearance only these can be too wide, so that distances of the others are not needed.
        narrow = self.max_relative_size * float(self.clearances.min())
        suspects = torch.nonzero(log_scales.amax(dim=1).exp() > narrow)[:, 0]
        largest = (self.max_relative_size * self._distances(means[suspects])).clamp_min(1e-9).log()
        log_scales[suspects] = torch.minimum(log_scales[suspects], largest[:, None])

    def _distances(self, means: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Distances to the nearest camera or place between cameras."""
        return torch.cdist(means.detach(), self.origins.to(means)).amin(dim=1)


def clearing_steps(max_steps: int) -> set[int]:
    """Steps of a run after which Gaussians close to cameras are removed."""
    return {math.ceil(fraction * max_steps) for fraction in CLEAR_AT}


def _between(origins: Float[Tensor, "C 3"], spacing: float) -> Float[Tensor, "B 3"]:
    """Places on the straight ways from cameras to their neighbours, `spacing` apart or, on long ways, farther."""
    num_neighbours = min(NUM_NEIGHBOURS, len(origins) - 1)
    if num_neighbours < 1 or spacing <= 0:
        return origins[:0]
    gaps, neighbours = torch.cdist(origins, origins).topk(num_neighbours + 1, largest=False)
    ways = {
        (min(i, j), max(i, j)): gap
        for i in range(len(origins))
        for gap, j in zip(gaps[i].tolist(), neighbours[i].tolist(), strict=True)
        if i != j
    }
    places = [origins[:0]]
    for (i, j), gap in ways.items():
        count = min(MAX_BETWEEN, max(0, math.ceil(gap / spacing) - 1))  # photos can be taken from one place
        shares = torch.arange(1, count + 1).to(origins) / (count + 1)
        places.append(torch.lerp(origins[i], origins[j], shares[:, None]))
    return torch.cat(places)


def _every_nth(rows: Float[Tensor, "N 3"], max_rows: int) -> Float[Tensor, "M 3"]:
    """At most `max_rows` rows, evenly spread over all."""
    return rows[:: math.ceil(len(rows) / max_rows)] if len(rows) > max_rows else rows
