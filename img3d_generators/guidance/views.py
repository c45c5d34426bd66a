# SPDX-License-Identifier: Apache-2.0
"""From where a batch of renders looks at the object, as networks are told."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ViewAngles:
    """Cameras of B pictures, relative to the object: all look at it, with its up axis up in the picture."""

    elevations: Float[Tensor, "B"]
    """In degrees; positive is above the object."""
    azimuths: Float[Tensor, "B"]
    """In degrees; 0 looks at the object's front, 90 is the camera moved to its own right by a quarter turn."""
    distances: Float[Tensor, "B"]
    """From the origin, in the unit of the guidance."""

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
