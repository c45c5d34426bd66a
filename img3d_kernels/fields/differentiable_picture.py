# SPDX-License-Identifier: Apache-2.0
"""Renders a field along rays with gradients for any loss.

The compiled pass (`field_loss`) only has the gradients of one loss: the mean squared error to given colours over given
backgrounds. The backward pass here chooses a colour and a background for each ray so that these gradients equal those
of the actual loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldParameters
from img3d_kernels.fields.rays import Rays, Samples
from img3d_kernels.fields.surface_samples import surface_samples
from img3d_kernels.fields.volume_rendering import field_loss, render

MIN_SHARE = 0.01
"""Minimum length of a ray's colour gradient, as a share of its opacity gradient. With a shorter one, the background
would have to be so bright that rounding errors dominate."""


def differentiable_picture(
    field: FieldParameters, rays: Rays, samples: Samples
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 1"]]:
    """Colours on black and opacity, differentiable in the field's table and networks.

    Args:
        field: The field.
        rays: The rays; they get no gradients.
        samples: What `march` returned for them.
    """
    if field.is_compiled:
        rgb, accumulation = _Picture.apply(field.table, field.networks, field, rays, samples)
        return rgb, accumulation[:, None]
    seen = surface_samples(field, rays, samples)
    return seen.along_rays(seen.colors), seen.accumulation()


class _Picture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: Tensor, networks: Tensor, field: FieldParameters, rays: Rays, samples: Samples
    ) -> tuple[Tensor, Tensor]:
        seen = render(field, rays, samples)
        ctx.seen, ctx.inputs = seen, (field, rays, samples)
        return seen.rgb, seen.accumulation

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, v_rgb: Tensor, v_accumulation: Tensor
    ) -> tuple[Tensor | None, ...]:
        field, rays, samples = ctx.inputs
        v_rgb = _at_least(v_rgb, MIN_SHARE * v_accumulation.abs())
        # The loss of a ray is |rgb + (1 - accumulation) background - target|² / 3 R. Its gradient with respect to rgb
        # is 2 (difference) / 3 R, and with respect to the accumulation it is -background · that.
        background = -v_accumulation[:, None] * v_rgb / v_rgb.square().sum(dim=1, keepdim=True).clamp_min(1e-30)
        scale = float(v_rgb.abs().max().clamp_min(1e-30))
        differences = v_rgb / scale
        target = ctx.seen.rgb + (1 - ctx.seen.accumulation[:, None]) * background - differences
        parameters = [value.detach().requires_grad_() for value in (field.table, field.networks)]
        copied = replace(field, table=parameters[0], networks=parameters[1])
        with torch.enable_grad():
            loss, _, _ = field_loss(copied, rays, samples, target, background)
            gradients = torch.autograd.grad(loss, parameters)
        factor = 1.5 * len(rays) * scale
        return factor * gradients[0], factor * gradients[1], None, None, None


def _at_least(vectors: Float[Tensor, "R 3"], least: Float[Tensor, "R"]) -> Float[Tensor, "R 3"]:
    """Lengthens vectors to at least these lengths; zero vectors become grey."""
    lengths = vectors.norm(dim=1, keepdim=True)
    grey = vectors.new_full((3,), 3**-0.5)
    unit = torch.where(lengths > 1e-30, vectors / lengths.clamp_min(1e-30), grey)
    return torch.where(lengths < least[:, None], least[:, None] * unit, vectors)
