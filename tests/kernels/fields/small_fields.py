# SPDX-License-Identifier: Apache-2.0
"""Small random fields and rays, the same in both precisions: single goes to the compiled kernels, double to torch."""

from __future__ import annotations

import torch

from img3d_kernels.fields.radiance_field import HIDDEN, FieldParameters, FieldSpace, num_weight_rows
from img3d_kernels.fields.rays import Marching, Rays

BOX = FieldSpace((-1.0, -0.8, -1.2), (1.0, 1.1, 1.0), contracted=False, grid_size=16)
SPACES = {"box": BOX, "unbounded": FieldSpace.unbounded()}
MARCHING = {"box": Marching(0.05, 64), "unbounded": Marching(0.4, 128)}


def small_field(space: FieldSpace, levels: int = 4, dtype: torch.dtype = torch.float32) -> FieldParameters:
    """Features as after some training, in a table with dense and hashed levels."""
    generator = torch.Generator().manual_seed(levels)
    table = torch.randn(levels, 1 << 10, 2, generator=generator)
    networks = 0.25 * torch.randn(num_weight_rows(levels), HIDDEN, generator=generator)
    resolutions = [4 + 7 * level for level in range(levels)]
    table, networks = (value.to(dtype).requires_grad_() for value in (table, networks))
    return FieldParameters(table, networks, resolutions, space, density_bias=-1.0)


def some_rays(count: int, dtype: torch.dtype = torch.float32) -> Rays:
    """From around the origin in all directions."""
    generator = torch.Generator().manual_seed(count)
    origins, directions = (torch.randn(count, 3, generator=generator) for _ in range(2))
    features = 0.5 * torch.randn(count, HIDDEN, generator=generator)
    learned = [0.5 * origins, torch.nn.functional.normalize(directions, dim=-1), features]
    origins, directions, features = (value.to(dtype).requires_grad_() for value in learned)
    nears, fars = (torch.full((count,), end, dtype=dtype) for end in (0.05, 50.0))
    return Rays(origins, directions, nears, fars, features)


def some_colors(count: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)).to(dtype)
