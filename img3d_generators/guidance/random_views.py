# SPDX-License-Identifier: Apache-2.0
"""Draws random cameras around an object, with lights, as DreamFusion does.

World coordinates have z up, and the object's front faces +x. Cameras have OpenGL axes: x right, y up, z backwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from img3d_generators.guidance.views import ViewAngles

Range = tuple[float, float]


@runtime_checkable
class Draws(Protocol):
    """A source of random numbers."""

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1)."""
        ...

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        ...

    def coin(self) -> float:
        """One number in [0, 1), to make a decision."""
        ...


class GeneratorDraws:
    """Draws from one of torch's generators, on the CPU."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)

    def coin(self) -> float:
        return float(torch.rand((), generator=self._generator))


@dataclass(frozen=True)
class DrawnViews:
    """B cameras that look roughly at the object."""

    angles: ViewAngles
    """Angles and distances before the perturbations."""
    camera_to_worlds: Float[Tensor, "B 3 4"]
    fovs: Float[Tensor, "B"]
    """Fields of view between opposite edges of the picture, in degrees."""
    lights: Float[Tensor, "B 3"]
    """Positions of one point light for each camera."""


@dataclass(frozen=True)
class RandomViews:
    """The distribution of cameras and lights. The defaults are DreamFusion's, with threestudio's distances for Stable
    Diffusion."""

    elevations: Range = (-10.0, 45.0)
    """In degrees."""
    azimuths: Range = (-180.0, 180.0)
    """In degrees."""
    distances: Range = (1.5, 2.0)
    """From the origin, before the perturbations."""
    fovs: Range = (40.0, 70.0)
    """In degrees."""
    even_azimuths: bool = True
    """Whether a batch of B has one camera in each of B equal parts of the azimuths."""
    camera_perturb: float = 0.1
    """Largest perturbation of each coordinate of a camera's position."""
    center_perturb: float = 0.2
    """Standard deviation of each coordinate of the point that a camera looks at."""
    up_perturb: float = 0.02
    """Standard deviation of each coordinate of a camera's up direction."""
    light_distances: Range = (0.8, 1.5)
    """From the origin."""
    light: Literal["camera", "hemisphere"] = "camera"
    """"camera": lights are near the camera's direction, as in DreamFusion. "hemisphere": they are between 30 and 90
    degrees above the plane perpendicular to it, as in Magic3D."""

    def draw(self, count: int, draws: Draws) -> DrawnViews:
        """Draws cameras and lights. Half of the batches have elevations that are uniform in angle, the others on the
        sphere.

        Args:
            count: Number of cameras, B.
            draws: Source of random numbers.
        """
        if draws.coin() < 0.5:
            elevations = _within(draws.uniform(count), self.elevations)
        else:  # uniform on the sphere
            low, high = (math.sin(math.radians(limit)) for limit in self.elevations)
            elevations = torch.rad2deg(torch.asin(_within(draws.uniform(count), (low, high))))
        shares = draws.uniform(count)
        if self.even_azimuths:
            shares = (shares + torch.arange(count)) / count
        azimuths = _within(shares, self.azimuths)
        distances = _within(draws.uniform(count), self.distances)
        positions = distances[:, None] * directions(elevations, azimuths)
        positions = positions + (2 * draws.uniform(count, 3) - 1) * self.camera_perturb
        centres = draws.normal(count, 3) * self.center_perturb
        ups = torch.tensor([0.0, 0.0, 1.0]) + draws.normal(count, 3) * self.up_perturb
        fovs = _within(draws.uniform(count), self.fovs)
        lights = self._lights(count, positions, draws)
        angles = ViewAngles(elevations, azimuths, distances)
        return DrawnViews(angles, looking_at(positions, centres, ups), fovs, lights)

    def _lights(self, count: int, positions: Float[Tensor, "B 3"], draws: Draws) -> Float[Tensor, "B 3"]:
        distances = _within(draws.uniform(count), self.light_distances)[:, None]
        if self.light == "camera":
            return distances * F.normalize(positions + draws.normal(count, 3), dim=-1)
        z = F.normalize(positions, dim=-1)
        x = F.normalize(torch.stack([z[:, 1], -z[:, 0], torch.zeros_like(z[:, 0])], dim=-1), dim=-1)
        y = F.normalize(torch.linalg.cross(z, x), dim=-1)
        azimuths = (2 * draws.uniform(count) - 1) * math.pi
        elevations = draws.uniform(count) * (math.pi / 3) + math.pi / 6
        local = distances * directions(torch.rad2deg(elevations), torch.rad2deg(azimuths))
        return (torch.stack([x, y, z], dim=-1) @ local[:, :, None])[:, :, 0]


def directions(elevations: Float[Tensor, "B"], azimuths: Float[Tensor, "B"]) -> Float[Tensor, "B 3"]:
    """Unit vectors from the origin to cameras at these angles, in degrees."""
    elevation, azimuth = elevations.deg2rad(), azimuths.deg2rad()
    return torch.stack([elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], dim=-1)


def looking_at(
    positions: Float[Tensor, "B 3"], centres: Float[Tensor, "B 3"], ups: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 3 4"]:
    """Camera-to-world poses of cameras at these positions that look at these centres."""
    forward = F.normalize(centres - positions, dim=-1)
    right = F.normalize(torch.linalg.cross(forward, ups), dim=-1)
    up = F.normalize(torch.linalg.cross(right, forward), dim=-1)
    return torch.stack([right, up, -forward, positions], dim=-1)


def around_image(elevation: float, spread: float = 30.0) -> Range:
    """DreamGaussian's range of elevations for views of an object, in degrees. It contains `elevation` ± `spread` and
    0 ± `spread`, and is limited to ± 80.

    Args:
        elevation: Elevation of the image's camera in degrees, positive above.
        spread: In degrees.
    """
    lowest = max(-80.0, min(-spread, elevation - spread))
    highest = min(80.0, max(spread, elevation + spread))
    return lowest, highest


def _within(shares: Tensor, limits: Range) -> Tensor:
    return shares * (limits[1] - limits[0]) + limits[0]
