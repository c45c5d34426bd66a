# SPDX-License-Identifier: Apache-2.0
"""Limits that keep fog from forming before the cameras while splats train.

Wide, faint Gaussians close to the cameras explain a few photos as well as the surface does; held-out views, which lie
between the photos, show them as veils. Three limits, each measured in benchmarks/RESULTS.md (casual captures): no
Gaussian stays close to a camera, none is wide in relation to its distance from the nearest camera, and opacities decay,
so that only what photos ask for stays opaque.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NEAREST_POINTS = 0.002
"""Share of the seed points that may be nearer to a camera than what counts as its nearest point: outliers."""
MAX_POINTS = 5_000
"""Seed points that the distance to the nearest point is measured with."""
MAX_CAMERAS = 500
"""Cameras that distances are measured to."""
LIMIT_SIZE_EVERY = 10
"""Steps between limitations of size: at scales' learning rate a Gaussian grows by a tenth in them."""
CLEAR_AT = (0.3, 0.5, 0.7)
"""Fractions of a run after which Gaussians close to cameras are removed. What is removed near the end leaves holes."""


@dataclass(frozen=True)
class FloaterLimits:
    """Where Gaussians may not be, and how wide they may be."""

    origins: Float[Tensor, "C 3"]
    """Camera centres."""
    clearance: float
    """Distance from the cameras within which nothing may be; 0: none."""
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
            points: Seed points on surfaces; None: nothing is known of surfaces, and no clearance is asked.
            relative_clearance: Clearance, relative to the distance from a camera to the nearest points, of which the
                median over the cameras is taken.
            max_relative_size: Largest standard deviation, relative to the distance from the nearest camera.
        """
        origins = _every_nth(origins.float(), MAX_CAMERAS)
        clearance = 0.0
        if points is not None and len(points) > 0:
            distances = torch.cdist(_every_nth(points.to(origins), MAX_POINTS), origins)
            clearance = relative_clearance * float(distances.quantile(NEAREST_POINTS, dim=0).median())
        return cls(origins, clearance, max_relative_size)

    def too_close(self, means: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
        """Which Gaussians are within the clearance of a camera."""
        return self._distances(means) < self.clearance

    @torch.no_grad()
    def limit_size(self, means: Float[Tensor, "N 3"], log_scales: Float[Tensor, "N 3"]) -> None:
        """Makes Gaussians that are too wide smaller, in place."""
        if self.max_relative_size <= 0:
            return
        # Only these can be too wide where nothing is within the clearance: distances to the others are not needed.
        suspects = torch.nonzero(log_scales.amax(dim=1).exp() > self.max_relative_size * self.clearance)[:, 0]
        largest = (self.max_relative_size * self._distances(means[suspects])).clamp_min(1e-9).log()
        log_scales[suspects] = torch.minimum(log_scales[suspects], largest[:, None])

    def _distances(self, means: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Distances to the nearest camera."""
        return torch.cdist(means.detach(), self.origins.to(means)).amin(dim=1)


def clearing_steps(max_steps: int) -> set[int]:
    """Steps of a run after which Gaussians close to cameras are removed."""
    return {math.ceil(fraction * max_steps) for fraction in CLEAR_AT}


def _every_nth(rows: Float[Tensor, "N 3"], most: int) -> Float[Tensor, "M 3"]:
    """At most `most` rows, evenly spread over all."""
    return rows[:: math.ceil(len(rows) / most)] if len(rows) > most else rows
