# SPDX-License-Identifier: Apache-2.0
"""A radiance field as an asset: what every system that makes one can be asked, whatever its layout in memory."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from img3d_assets.axes import UpAxis


@runtime_checkable
class Field(Protocol):
    """Density and colour at each point of a box, the same from every direction.

    A triplane, a hash grid or a dense grid provides these three. World coordinates are right-handed.
    """

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Lower and upper corner of the box in world coordinates; outside it there is nothing."""
        ...

    @property
    def up(self) -> UpAxis | None:
        """The axis that points up, where it is known."""
        ...

    def query(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        """Density per world unit (at least 0) and sRGB in [0, 1] at these points.

        Args:
            points: World coordinates, on the field's device.
        """
        ...
