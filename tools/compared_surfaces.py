# SPDX-License-Identifier: Apache-2.0
"""How far two surfaces are from each other, in words, for the tools that fit something to a mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_sampling import points_on_mesh

NUM_POINTS = 50_000
"""Points on each surface."""
NEAR = 0.01
"""Share of the diagonal that counts as near for the F-score."""


@dataclass(frozen=True)
class Distances:
    """Distances between points of two surfaces, as shares of the expected surface's diagonal."""

    to_expected: np.ndarray
    """`[N]`, from the made surface to the expected one."""
    to_made: np.ndarray
    """`[N]`, from the expected surface to the made one."""

    @property
    def chamfer(self) -> float:
        """The mean of the mean distances in both directions."""
        return float(self.to_expected.mean() + self.to_made.mean()) / 2

    @property
    def f_score(self) -> float:
        """The harmonic mean of the shares of points that are `NEAR`."""
        precision, recall = ((each <= NEAR).mean() for each in (self.to_expected, self.to_made))
        return float(2 * precision * recall / max(precision + recall, 1e-9))

    def __str__(self) -> str:
        both = np.concatenate([self.to_expected, self.to_made])
        return (
            f"off by {self.chamfer:.2%} of the diagonal on average (Chamfer), by {np.quantile(both, 0.99):.2%} "
            f"at 99 of 100 points, by {both.max():.2%} at the worst; F-score at {NEAR:.0%}: {self.f_score:.3f}"
        )


def compared(made: Mesh, expected: Mesh) -> Distances:
    """The distances between two surfaces in the same world."""
    first, second = (points_on_mesh(mesh, NUM_POINTS).points for mesh in (made, expected))
    diagonal = np.linalg.norm(np.ptp(expected.vertices, axis=0))
    return Distances(KDTree(second).query(first)[0] / diagonal, KDTree(first).query(second)[0] / diagonal)
