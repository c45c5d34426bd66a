# SPDX-License-Identifier: Apache-2.0
"""A radiance field as an asset: the interface of every field, whatever its representation in memory."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from img3d_assets.axes import UpAxis


@runtime_checkable
class Field(Protocol):
    """View-independent density and colour in a box.

    A triplane, a hash grid or a dense grid provides these. World coordinates are right-handed.
    """

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Lower and upper corner of the box in world coordinates; outside it the density is 0."""
        ...

    @property
    def up(self) -> UpAxis | None:
        """The axis that points up; None if unknown."""
        ...

    @property
    def surface_density(self) -> float:
        """The density of the object's surface, per world unit, at which a mesh of it is made."""
        ...

    def query(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        """Density per world unit (at least 0) and sRGB in [0, 1] at some points.

        Args:
            points: World coordinates, on the field's device.
        """
        ...
