# SPDX-License-Identifier: Apache-2.0
"""Makes Gaussians from the network's columns."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize, pad

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS
from img3d_generators.small.columns import COLUMNS, DEPTHS
from img3d_generators.small.objects import MAX_RADIUS
from img3d_kernels.poses import focal_length

LEVEL = 0.65
"""Probability from which a bin certainly belongs to the object."""
OPACITY = 0.97
ALONG, ACROSS = 0.6, 0.3
"""Standard deviations of Gaussians along the surface and across it, in distances between columns."""
INSET = 0.02
"""Distance in world units by which predictions are too large on all sides, so that thin parts survive."""
POSSIBLE, INTERIOR = 0.1, 0.9
"""Probabilities between which bins get a translucent Gaussian of their own."""
TRANSLUCENT, FALLOFF, WIDTH = 0.15, 1.5, 0.6
"""Opacity of such a Gaussian where the probability is 1, the exponent with which it falls, and its standard deviation
in distances between columns."""
MAX_LOG_OPACITY, MAX_LOG_WIDTH = 3.0, 1.0
"""Largest corrections of these, as logarithms of factors."""


def gaussians_of(
    probabilities: Float[Tensor, "H W D"], colours: Float[Tensor, "H W C 3"], corrections: Float[Tensor, "H W D 3"]
) -> ActivatedGaussians:
    """An opaque surface where the object certainly is, and translucent mist where it may be.

    Where the network is uncertain, mist is less sharp, but closer to the truth than any one surface: by over a decibel
    in views of validation objects. Differentiable, but for the choice of bins.

    Args:
        probabilities: Probabilities of the occupancy, row by row, front to back.
        colours: Colours of the coarser bins of colours.
        corrections: Logarithms of factors of the mist's opacity and width, and what is added to the logit of the
            surface's opacity.
    """
    opacity, width, surface_logit = corrections.unbind(dim=-1)
    surface = surface_gaussians(probabilities, colours, surface_logit)
    mist = mist_gaussians(probabilities, colours, opacity, width)
    return ActivatedGaussians(
        torch.cat([surface.means, mist.means]),
        torch.cat([surface.quats, mist.quats]),
        torch.cat([surface.scales, mist.scales]),
        torch.cat([surface.opacities, mist.opacities]),
        torch.cat([surface.colors, mist.colors]),
    )


def mist_gaussians(
    probabilities: Float[Tensor, "H W D"],
    colours: Float[Tensor, "H W C 3"],
    log_opacity: Float[Tensor, "H W D"],
    log_width: Float[Tensor, "H W D"],
) -> ActivatedGaussians:
    """One round, translucent Gaussian in each bin that may belong to the object and is not deep inside it.

    Args:
        probabilities: Probabilities of the occupancy, row by row, front to back.
        colours: Colours of the coarser bins of colours.
        log_opacity: Logarithms of factors of the usual opacities.
        log_width: Logarithms of factors of the usual width.
    """
    shown = (probabilities > POSSIBLE) & ~_surrounded(probabilities > INTERIOR)
    bins = shown.nonzero()
    means = _world(bins)
    share = (probabilities[shown] - POSSIBLE) / (1 - POSSIBLE)
    opacity_factor = log_opacity[shown].clamp(-MAX_LOG_OPACITY, MAX_LOG_OPACITY).exp()
    width_factor = log_width[shown].clamp(-MAX_LOG_WIDTH, MAX_LOG_WIDTH).exp()
    spacing = (LGM_RADIUS - means[:, 2]) / focal_length(LGM_FOV, COLUMNS)
    return ActivatedGaussians(
        means,
        means.new_tensor([1.0, 0, 0, 0]).repeat(len(means), 1),
        (WIDTH * spacing * width_factor)[:, None].repeat(1, 3),
        (TRANSLUCENT * share**FALLOFF * opacity_factor).clamp(max=OPACITY),
        _colours_at(colours, bins).clamp(0, 1),
    )


def surface_gaussians(
    probabilities: Float[Tensor, "H W D"], colours: Float[Tensor, "H W C 3"], added_logit: Float[Tensor, "H W D"]
) -> ActivatedGaussians:
    """One flat Gaussian in each bin of the object that has a free neighbour, moved to the surface between the two.

    Args:
        probabilities: Probabilities of the occupancy, row by row, front to back.
        colours: Colours of the coarser bins of colours.
        added_logit: What is added to the logits of the usual opacity.
    """
    inside = probabilities > LEVEL
    at_surface = inside & ~_surrounded(inside)
    bins = at_surface.nonzero()
    slope = _gradient(probabilities)[:, bins[:, 0], bins[:, 1], bins[:, 2]].T
    excess = probabilities[at_surface] - LEVEL
    step = -(excess / slope.square().sum(dim=1).clamp(min=1e-3))[:, None] * slope
    means = _world(bins + step.clamp(-0.5, 0.5))
    # The slope in world directions: x runs along columns, y against rows, z against depths.
    spacing = (LGM_RADIUS - means[:, 2]) / focal_length(LGM_FOV, COLUMNS)
    bin_length = 2 * MAX_RADIUS / DEPTHS
    outward = -torch.stack([slope[:, 1] / spacing, -slope[:, 0] / spacing, -slope[:, 2] / bin_length], dim=1)
    normals = normalize(
        torch.where(outward.norm(dim=1, keepdim=True) > 1e-3, outward, outward.new_tensor([0.0, 0, 1])), dim=1
    )
    means = means - INSET * normals
    scales = torch.tensor([ALONG, ALONG, ACROSS]).to(means) * spacing[:, None]
    return ActivatedGaussians(
        means,
        _turning_z_to(normals),
        scales,
        (added_logit[at_surface] + math.log(OPACITY / (1 - OPACITY))).sigmoid(),
        _colours_at(colours, bins).clamp(0, 1),
    )


def _surrounded(inside: Bool[Tensor, "H W D"]) -> Bool[Tensor, "H W D"]:
    """Bins whose six neighbours are all inside."""
    free = pad(~inside, (1, 1, 1, 1, 1, 1), value=True)
    middle = slice(1, -1)
    return ~(
        free[2:, middle, middle]
        | free[:-2, middle, middle]
        | free[middle, 2:, middle]
        | free[middle, :-2, middle]
        | free[middle, middle, 2:]
        | free[middle, middle, :-2]
    )


def _gradient(values: Float[Tensor, "H W D"]) -> Float[Tensor, "3 H W D"]:
    """Central differences per bin; 0 outside of the volume."""
    padded = pad(values, (1, 1, 1, 1, 1, 1))
    middle = slice(1, -1)
    return (
        torch.stack(
            [
                padded[2:, middle, middle] - padded[:-2, middle, middle],
                padded[middle, 2:, middle] - padded[middle, :-2, middle],
                padded[middle, middle, 2:] - padded[middle, middle, :-2],
            ]
        )
        / 2
    )


def _world(bins: Float[Tensor, "N 3"] | Int[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """World coordinates of places in the volume: row, column and depth, whole numbers in the middle of bins."""
    row, column, depth = (bins.float() + 0.5).unbind(dim=1)
    z = MAX_RADIUS * (1 - 2 * depth / DEPTHS)
    rays = torch.stack([column - COLUMNS / 2, COLUMNS / 2 - row], dim=1) / focal_length(LGM_FOV, COLUMNS)
    return torch.cat([rays * (LGM_RADIUS - z)[:, None], z[:, None]], dim=1)


def _colours_at(colours: Float[Tensor, "H W C 3"], bins: Int[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Colours at bins, linear between the coarser ones."""
    count = colours.shape[2]
    place = (bins[:, 2].float() + 0.5) / DEPTHS * count - 0.5
    before = place.floor().clamp(0, count - 1)
    share = (place - before)[:, None].clamp(0, 1)
    row, column, first = bins[:, 0], bins[:, 1], before.long()
    return colours[row, column, first] * (1 - share) + colours[row, column, (first + 1).clamp(max=count - 1)] * share


def _turning_z_to(normals: Float[Tensor, "N 3"]) -> Float[Tensor, "N 4"]:
    """Quaternions wxyz of the shortest rotations that take +z to unit vectors."""
    nearly_zero = 1e-6  # for -z the rotation is not unique
    w = 1 + normals[:, 2] + nearly_zero
    return normalize(torch.stack([w, -normals[:, 1], normals[:, 0], torch.zeros_like(w)], dim=1), dim=1)
