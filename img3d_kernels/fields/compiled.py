# SPDX-License-Identifier: Apache-2.0
"""The compiled kernels of radiance fields. `radiance_field`, `guided_sampling` and `volume_rendering` choose between
them and torch."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels import _C
from img3d_kernels.cpu_backend import array
from img3d_kernels.fields.guided_sampling import Guide
from img3d_kernels.fields.radiance_field import HIDDEN, FieldParameters, has_bfloat16
from img3d_kernels.fields.rays import BlockSamples, Marching, Picture, RayEnds, Rays, Samples


def density(field: FieldParameters, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """`radiance_field.density`."""
    found = torch.empty(len(positions))
    _C.field_density(_arrays(field), array(positions), array(found))
    return found


def surface_normals(field: FieldParameters, rays: RayEnds, depth: Float[Tensor, "R"], distance: float) -> Tensor:
    """`surface_samples.surface_normals`."""
    found = torch.empty(len(rays), 3)
    _C.field_surface_normals(
        _arrays(field), array(rays.origins), array(rays.directions), array(depth), distance, array(found)
    )
    return found


def march(field: FieldParameters, rays: Rays, marching: Marching, offsets: Float[Tensor, "R"] | None) -> Samples:
    """`volume_rendering.march`."""
    counts = torch.empty(len(rays), dtype=torch.int32)
    middles, lengths = torch.empty(len(rays), marching.max_samples), torch.empty(len(rays), marching.max_samples)
    ends = array(rays.origins), array(rays.directions), array(rays.nears), array(rays.fars)
    written = array(counts), array(middles), array(lengths)
    place = _C.field_march_visible if marching.visible_only else _C.field_march
    place(_arrays(field), *ends, array(offsets), marching.step, *written)
    return Samples(counts, middles, lengths)


def guided_samples(field: FieldParameters, rays: RayEnds, guide: Guide, offsets: Float[Tensor, "R"] | None) -> Samples:
    """`guided_sampling.guided_samples`."""
    counts = torch.empty(len(rays), dtype=torch.int32)
    middles, lengths = (torch.empty(len(rays), guide.num_samples) for _ in range(2))
    ends = array(rays.origins), array(rays.directions), array(rays.nears), array(rays.fars)
    written = array(counts), array(middles), array(lengths)
    _C.field_guided_samples(
        _arrays(field), array(guide.weights), *ends, array(offsets), guide.num_bins, guide.explored, *written
    )
    return Samples(counts, middles, lengths)


def block_samples(
    field: FieldParameters, rays: RayEnds, width: int, side: int, guide: Guide, least_weight: float
) -> BlockSamples:
    """`block_sampling.block_samples`."""
    blocks = -(-len(rays) // width // side) * -(-width // side)
    counts = torch.empty(blocks, dtype=torch.int32)
    middles, lengths = (torch.empty(blocks, guide.num_samples) for _ in range(2))
    ends = array(rays.origins), array(rays.directions), array(rays.nears), array(rays.fars)
    options = width, side, guide.num_bins, guide.explored, least_weight
    written = array(counts), array(middles), array(lengths)
    _C.field_block_samples(_arrays(field), array(guide.weights), *ends, *options, *written)
    return BlockSamples(Samples(counts, middles, lengths), width, side)


def render(
    field: FieldParameters, rays: Rays, along: Marching | Samples | BlockSamples, sharing_weight: float, width: int
) -> Picture:
    """`volume_rendering.render`."""
    n = len(rays)
    picture = Picture(torch.empty(n, 3), torch.empty(n), torch.empty(n))
    lit = [array(t) for t in (rays.origins, rays.directions, rays.features)]
    outputs = [array(t) for t in (picture.rgb, picture.accumulation, picture.depth)]
    if isinstance(along, Marching):
        ends = array(rays.nears), array(rays.fars)
        _C.field_render(_arrays(field), *lit, width, *ends, along.step, sharing_weight, *outputs)
    elif isinstance(along, Samples):
        known = [array(t) for t in (along.counts, along.middles, along.lengths)]
        _C.field_render_samples(_arrays(field), *lit, width, *known, sharing_weight, *outputs)
    else:
        known = [array(t) for t in (along.samples.counts, along.samples.middles, along.samples.lengths)]
        blocks = along.width, along.side
        _C.field_render_blocks(_arrays(field), *lit, *blocks, *known, sharing_weight, *outputs)
    return picture


class FieldLoss(torch.autograd.Function):
    """`volume_rendering.field_loss`. The forward pass also calculates the gradients; the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        networks: Tensor,
        ray_features: Tensor,
        origins: Tensor,
        directions: Tensor,
        field: FieldParameters,
        samples: Samples,
        targets: Tensor,
        backgrounds: Tensor,
        distortion: float,
        near_scaling: bool,
        heaviest: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        n = len(origins)
        wants_rays = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        rgb = torch.empty(n, 3)
        v_rays = [torch.empty(n, 3), torch.empty(n, 3)] if wants_rays else [None, None]
        ctx.gradients = [torch.empty(table.shape), torch.empty(networks.shape), torch.empty(n, HIDDEN), *v_rays]
        inputs = (origins, directions, ray_features, samples.counts, samples.middles, samples.lengths)
        color_loss, distortion_loss = _C.field_loss(
            _arrays(field),
            *(array(t) for t in (*inputs, targets, backgrounds)),
            distortion,
            near_scaling,
            array(heaviest),
            *(array(t) for t in (rgb, *ctx.gradients)),
        )
        metric = torch.tensor(distortion_loss)
        ctx.mark_non_differentiable(rgb, metric)
        return torch.tensor(color_loss + distortion * distortion_loss), rgb, metric

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, v_loss: Tensor, *_: Any
    ) -> tuple[Tensor | None, ...]:
        gradients = ctx.gradients
        if float(v_loss) != 1.0:
            gradients = [None if gradient is None else v_loss * gradient for gradient in gradients]
        return (*gradients, *(None,) * 7)


def _arrays(field: FieldParameters) -> Any:
    space = field.space
    return _C.FieldArrays(
        array(field.table),
        array(field.networks),
        list(field.resolutions),
        field.density_bias,
        space.contracted,
        list(space.low),
        list(space.high),
        array(space.occupied),
        space.grid_size,
        field.bfloat16 and has_bfloat16(),
    )
