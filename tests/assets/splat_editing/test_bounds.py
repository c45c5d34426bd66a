# SPDX-License-Identifier: Apache-2.0
"""The box that holds most of a scene's Gaussians."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from splat_scenes import colorful_splats

from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_editing.bounds import visible_bounds


def splats_at(means: np.ndarray) -> Gaussians:
    return replace(colorful_splats(len(means)), means=means.astype(np.float32))


def test_outliers_lie_outside() -> None:
    means = np.linspace(0, 1, 101)[:, None] * [1.0, 2.0, 3.0]
    means[0], means[-1] = -1000, 1000
    bounds = visible_bounds(splats_at(means), "y", fraction=0.98)
    assert bounds is not None
    np.testing.assert_allclose(bounds, [[0.01, 0.02, 0.03], [0.99, 1.98, 2.97]], atol=1e-6)


def test_bounds_are_those_of_the_world_with_y_up() -> None:
    means = np.array([[0.0, 0, 0], [1, 2, 3]])
    far = replace(splats_at(means), origin=(100_000.0, 0.0, 200.0))
    bounds = visible_bounds(far, "z", fraction=1.0)
    assert bounds is not None
    np.testing.assert_allclose(bounds, [[100_000, 200, -2], [100_001, 203, 0]])


def test_nothing_visible_has_no_bounds() -> None:
    splats = splats_at(np.zeros((3, 3)))
    assert visible_bounds(replace(splats, opacities=np.full(3, -20, np.float32)), "y", 1.0) is None
