# SPDX-License-Identifier: Apache-2.0
"""Limits that prevent floaters, fog in front of the cameras, while splats train.

Wide, faint Gaussians close to the cameras explain a few photos as well as the surface does; held-out views, which lie
between the photos, show them as veils. Two limits are computed here: no Gaussian stays close to a camera, and none is
wide in relation to its distance from the nearest camera. The model also lets opacities decay. Each of the three is
measured in benchmarks/RESULTS.md (casual captures).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

OUTLIERS = 0.002
"""Fraction of the seed points that is ignored, as outliers, in the distance from a camera to the nearest point."""
MAX_POINTS = 5_000
"""Maximum number of seed points in that distance."""
MAX_CAMERAS = 500
"""Maximum number of cameras to which distances are measured."""
LIMIT_SIZE_EVERY = 10
"""Steps between two limitations of size. At the learning rate of scales, a Gaussian grows by a tenth in this time."""
CLEAR_AT = (0.3, 0.5, 0.7)
"""Fractions of a run after which Gaussians close to cameras are removed; later, removal would leave holes."""


@dataclass(frozen=True)
class FloaterLimits:
    """Where Gaussians may be, and how wide."""

    origins: Float[Tensor, "C 3"]
    """Camera centres."""
    clearance: float
    """Minimum distance of Gaussians from the cameras; 0: any."""
    max_relative_size: float
    """Largest standard deviation, relative to the distance from the nearest camera; 0: any."""

    @classmethod
    def around(
        cls,
        origins: Float[Tensor, "C 3"],
        points: Float[Tensor, "P 3"] | None,
        relative_clearance: float,
        max_relative_size: float,
    ) -> FloaterLimits:
        """Limits for cameras at these centres.

        Args:
            origins: Camera centres.
            points: Seed points on surfaces; None, if there are none, gives a clearance of 0.
            relative_clearance: Clearance, relative to the median, over the cameras, of the distance to the nearest
                seed point.
            max_relative_size: Largest standard deviation, relative to the distance from the nearest camera.
        """
        origins = _every_nth(origins.float(), MAX_CAMERAS)
        clearance = 0.0
        if points is not None and len(points) > 0:
            distances = torch.cdist(_every_nth(points.to(origins), MAX_POINTS), origins)
            clearance = relative_clearance * float(distances.quantile(OUTLIERS, dim=0).median())
        return cls(origins, clearance, max_relative_size)

    def too_close(self, means: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
        """Which Gaussians are within the clearance of a camera."""
        return self._distances(means) < self.clearance

    @torch.no_grad()
    def limit_size(self, means: Float[Tensor, "N 3"], log_scales: Float[Tensor, "N 3"]) -> None:
        """Makes Gaussians that are too wide smaller, in place."""
        if self.max_relative_size <= 0:
            return
        # Outside the clearance only these can be too wide, so that distances of the others are not needed.
        suspects = torch.nonzero(log_scales.amax(dim=1).exp() > self.max_relative_size * self.clearance)[:, 0]
        largest = (self.max_relative_size * self._distances(means[suspects])).clamp_min(1e-9).log()
        log_scales[suspects] = torch.minimum(log_scales[suspects], largest[:, None])

    def _distances(self, means: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Distances to the nearest camera."""
        return torch.cdist(means.detach(), self.origins.to(means)).amin(dim=1)


def clearing_steps(max_steps: int) -> set[int]:
    """Steps of a run after which Gaussians close to cameras are removed."""
    return {math.ceil(fraction * max_steps) for fraction in CLEAR_AT}


def _every_nth(rows: Float[Tensor, "N 3"], max_rows: int) -> Float[Tensor, "M 3"]:
    """At most `max_rows` rows, evenly spread over all."""
    return rows[:: math.ceil(len(rows) / max_rows)] if len(rows) > max_rows else rows
