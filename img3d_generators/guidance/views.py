# SPDX-License-Identifier: Apache-2.0
"""The angles and distances of a batch of renders, which networks take as input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ViewAngles:
    """Cameras of B pictures. All look at the object, whose up axis is up in the picture."""

    elevations: Float[Tensor, "B"]
    """In degrees; positive is above the object."""
    azimuths: Float[Tensor, "B"]
    """In degrees; 0 looks at the object's front, and 90 is a quarter turn around it, to the camera's right."""
    distances: Float[Tensor, "B"]
    """From the origin, in the guidance's unit."""

    def __len__(self) -> int:
        return len(self.elevations)

    def __getitem__(self, index: slice) -> ViewAngles:
        return ViewAngles(self.elevations[index], self.azimuths[index], self.distances[index])

    def to(self, device: torch.device | str) -> ViewAngles:
        """The same views on another device."""
        return ViewAngles(self.elevations.to(device), self.azimuths.to(device), self.distances.to(device))


def wrapped(degrees: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Angles in [-180, 180)."""
    return (degrees + 180) % 360 - 180
