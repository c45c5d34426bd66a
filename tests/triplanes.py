# SPDX-License-Identifier: Apache-2.0
"""Small triplanes for tests."""

from __future__ import annotations

import torch

from img3d_assets.fields.triplane import FieldMlp, TriplaneField, TriplaneLayout


def random_field() -> TriplaneField:
    """Noise in the box [-1, 1]^3, z up."""
    torch.manual_seed(1)
    return TriplaneField(torch.randn(3, 4, 5, 6), FieldMlp(12, 8, 2), TriplaneLayout(), torch.eye(3), up="z")


def ball_field(radius: float = 0.5, size: int = 64) -> TriplaneField:
    """A ball in the middle of the box [-1, 1]^3, exact to the planes' texels. Its colours change along x from
    (0, 0.5, 0.5) to (1, 0.5, 0.5)."""
    side = (torch.arange(size) + 0.5) / size * 2 - 1
    columns, rows = torch.meshgrid(side, side, indexing="xy")
    nothing = torch.zeros(size, size)
    # Planes (x, y), (x, z), (y, z): squares of x and y from the first, of z from the second, x from the first.
    planes = torch.stack(
        [
            torch.stack([columns**2 + rows**2, columns]),
            torch.stack([rows**2, nothing]),
            torch.stack([nothing, nothing]),
        ]
    )
    mlp = FieldMlp(6, 3, 1)
    large = 100.0  # SiLU is linear far from 0
    with torch.no_grad():
        for weight in mlp.parameters():
            weight.zero_()
        first, last = mlp.layers[0], mlp.layers[2]
        assert isinstance(first, torch.nn.Linear) and isinstance(last, torch.nn.Linear)
        first.weight[0, [0, 2]] = 1.0
        first.weight[1, 1] = 1.0
        first.bias[:2] = large
        layout = TriplaneLayout()
        # log density = log(surface) + 40 (radius² - r²)
        last.weight[0, 0] = -40.0
        at_surface = torch.log(torch.tensor(layout.surface_density)) - layout.density_bias
        last.bias[0] = at_surface + 40.0 * (radius**2 + large)
        last.weight[1, 1] = 6.0
        last.bias[1] = -6.0 * large
    return TriplaneField(planes, mlp, layout, torch.eye(3), up="z")
