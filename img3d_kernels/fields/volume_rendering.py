# SPDX-License-Identifier: Apache-2.0
"""Marches rays through a radiance field and renders it, with the gradients of a loss in the same pass.

Compiled kernels do the work on a CPU. The torch twins are their reference in tests, and run on other devices.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from img3d_kernels.fields.lit_samples import LitSamples, lit_samples, with_scaled_gradient
from img3d_kernels.fields.nerfacc_marching import can_march, placed_samples
from img3d_kernels.fields.radiance_field import FieldParameters, FieldSpace, color_torch
from img3d_kernels.fields.rays import MAX_RAY_SAMPLES, BlockSamples, Marching, Picture, Rays, Samples, ray_ranges

STEPS_AT_A_TIME = 1 << 18
"""Steps of all rays together that the torch twin of `march` takes at a time."""


def march(field: FieldParameters, rays: Rays, marching: Marching, offsets: Float[Tensor, "R"] | None = None) -> Samples:
    """Places samples where the field may be dense: in occupied cells, and in its box if it has one.

    Args:
        field: The field; only its space is used, unless only visible samples are wanted.
        rays: The rays.
        marching: The steps.
        offsets: Shift of each ray's samples as a fraction of a step, in [0, 1); None: 0.5.

    Raises:
        ValueError: `marching.max_samples` is out of range.
    """
    if not 1 <= marching.max_samples <= MAX_RAY_SAMPLES:
        raise ValueError(f"max_samples must be from 1 to {MAX_RAY_SAMPLES}, got {marching.max_samples}")
    if field.is_compiled:
        from img3d_kernels.fields import compiled

        return compiled.march(field, rays, marching, offsets)
    return march_torch(field, rays, marching, offsets)


def render(
    field: FieldParameters,
    rays: Rays,
    along: Marching | Samples | BlockSamples,
    sharing_weight: float = 0.0,
    width: int = 0,
) -> Picture:
    """Renders rays, without gradients.

    Args:
        field: The field.
        rays: The rays.
        along: The samples, or the steps to place them. With steps, the compiled kernels do not limit their number.
        sharing_weight: Samples in a row share the colour of their mean outputs of the density network until they have
            this weight, which is faster; 0: each sample has its own colour.
        width: Pixels in a row of the picture if the rays are whole rows of one: neighbours are then rendered together,
            which is faster.
    """
    if field.is_compiled:
        from img3d_kernels.fields import compiled

        return compiled.render(field, rays, along, sharing_weight, width)
    return render_torch(field, rays, along, sharing_weight)


def field_loss(
    field: FieldParameters,
    rays: Rays,
    samples: Samples,
    targets: Float[Tensor, "R 3"],
    backgrounds: Float[Tensor, "R 3"],
    distortion: float = 0.0,
    near_scaling: bool = False,
    heaviest: Float[Tensor, "cells"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "R 3"], Float[Tensor, ""]]:
    """The mean squared error of rays' colours, plus the distortion loss.

    Differentiable in the field's table and networks and in the rays' features, origins and directions; the latter two
    through the positions of samples only, not through their distances.

    Args:
        field: The field.
        rays: The rays.
        samples: Their samples.
        targets: Colours in [0, 1].
        backgrounds: Colours behind the field; where the photo is transparent, the targets have them too.
        distortion: Factor of the distortion loss (Mip-NeRF 360, Barron et al. 2021, arXiv 2111.12077, equation 15),
            over t / (1 + t) for distances t; the mean over the rays.
        near_scaling: Whether gradients of samples nearer than 1 are scaled with the square of the distance, so that
            no fog forms right before cameras (Philip and Deschaintre 2023, arXiv 2305.02756).
        heaviest: A value for each cell of the space's grid, `grid_size` along an axis, x slowest. It is raised, in
            place, to the highest weight of the samples in the cell.

    Returns:
        The loss; the colours over the backgrounds and the distortion loss before its factor, both without gradients.
    """
    if field.is_compiled:
        from img3d_kernels.fields.compiled import FieldLoss

        return FieldLoss.apply(
            field.table,
            field.networks,
            rays.features,
            rays.origins,
            rays.directions,
            field,
            samples,
            targets,
            backgrounds,
            distortion,
            near_scaling,
            heaviest,
        )
    return field_loss_torch(field, rays, samples, targets, backgrounds, distortion, near_scaling, heaviest)


# ------------------------------------------------------------------------------------------------------- torch twins


@torch.no_grad()
def march_torch(field: FieldParameters, rays: Rays, marching: Marching, offsets: Tensor | None = None) -> Samples:
    """`march` in plain torch, and with nerfacc on CUDA where it can be used."""
    space = field.space
    nears, fars = ray_ranges(space, rays)
    starts = nears / marching.step + (0.5 if offsets is None else offsets)
    if can_march(space, rays):
        samples = placed_samples(space, rays, marching, starts * marching.step, fars)
    else:
        samples = _placed_samples(space, rays, marching, starts, fars, nears < fars)
    if marching.visible_only:
        samples.counts = lit_samples(field, rays, samples).counts()
    return samples


def _placed_samples(
    space: FieldSpace, rays: Rays, marching: Marching, starts: Tensor, fars: Tensor, hits: Tensor
) -> Samples:
    origins, directions = rays.origins, rays.directions
    n = len(rays)
    num_steps = int((fars / marching.step - starts)[hits].max().clamp_min(0)) + 2 if hits.any() else 0
    counts = torch.zeros(n, dtype=torch.int32, device=origins.device)
    middles, lengths = origins.new_zeros(n, marching.max_samples), origins.new_zeros(n, marching.max_samples)
    for first in range(0, num_steps, chunk := max(1, STEPS_AT_A_TIME // max(1, n))):
        steps = torch.arange(first, min(first + chunk, num_steps), device=origins.device)
        at = (starts[:, None] + steps + 0.5) * marching.step
        wanted = hits[:, None] & (at < fars[:, None])
        if space.occupied is not None:
            points = space.to_unit(origins[:, None] + at[..., None] * directions[:, None])
            wanted &= space.may_be_dense(space.cells(points, space.grid_size))
        places = counts[:, None] + wanted.cumsum(dim=1) - 1
        wanted &= places < marching.max_samples
        ray, step = wanted.nonzero(as_tuple=True)
        place = places[ray, step].long()
        middles[ray, place], lengths[ray, place] = at[ray, step], marching.step
        counts += wanted.sum(dim=1, dtype=torch.int32)
    return Samples(counts, middles, lengths)


def _colors(field: FieldParameters, rays: Rays, lit: LitSamples) -> Float[Tensor, "N 3"]:
    return color_torch(field, lit.geometry, rays.features[lit.rays])


def _groups(lit: LitSamples, sharing_weight: float) -> Int64[Tensor, "N"]:
    """The number of the group of samples in a row that share a colour, for each sample; numbers may be left out."""
    weights = lit.padded(lit.weights)
    group, waiting = torch.zeros_like(weights[:, 0], dtype=torch.int64), torch.zeros_like(weights[:, 0])
    groups = torch.empty_like(weights, dtype=torch.int64)
    for place in range(weights.shape[1]):
        groups[:, place] = group
        waiting = waiting + weights[:, place]
        is_full = waiting >= sharing_weight
        group, waiting = group + is_full, torch.where(is_full, 0, waiting)
    return groups[lit.rays, lit.places] + lit.rays * weights.shape[1]


@torch.no_grad()
def render_torch(
    field: FieldParameters, rays: Rays, along: Marching | Samples | BlockSamples, sharing_weight: float = 0.0
) -> Picture:
    """`render` in plain torch, with at most `max_samples` samples of a ray."""
    if isinstance(along, Marching):
        along = march_torch(field, rays, along)
    elif isinstance(along, BlockSamples):
        along = along.of_rays(len(rays))
    lit = lit_samples(field, rays, along)
    half = (lit.before > 0.5) & (lit.behind <= 0.5)
    share = torch.log(2 * lit.before) / torch.log(lit.before / lit.behind.clamp_min(1e-30)).clamp_min(1e-30)
    depth = torch.where(half, lit.middles + (share - 0.5) * lit.lengths, 0)
    weights = lit.weights
    accumulation, depth = lit.along_rays(torch.stack([weights, depth], dim=1)).unbind(dim=1)
    if sharing_weight > 0:
        group = _groups(lit, sharing_weight).unique(return_inverse=True)[1]
        count = int(group.max()) + 1 if len(group) else 0
        sums = torch.cat([weights[:, None], weights[:, None] * lit.geometry], dim=1)
        sums = sums.new_zeros(count, sums.shape[1]).index_add(0, group, sums)
        lit.geometry = (sums[:, 1:] / sums[:, :1].clamp_min(1e-12))[group]
    return Picture(lit.along_rays(weights[:, None] * _colors(field, rays, lit)), accumulation, depth)


def field_loss_torch(
    field: FieldParameters,
    rays: Rays,
    samples: Samples,
    targets: Tensor,
    backgrounds: Tensor,
    distortion: float = 0.0,
    near_scaling: bool = False,
    heaviest: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`field_loss` in plain torch."""
    lit = lit_samples(field, rays, samples, near_scaling)
    color, weights = _colors(field, rays, lit), lit.weights
    if near_scaling:
        color = with_scaled_gradient(color, lit.middles.clamp_max(1)[:, None] ** 2)
    if heaviest is not None:
        _raise_heaviest(heaviest, field.space, lit)
    absorbed = lit.along_rays(torch.cat([weights[:, None] * color, weights[:, None]], dim=1))
    rgb = absorbed[:, :3] + (1 - absorbed[:, 3:]) * backgrounds
    spread = lit.distortion()
    loss = ((rgb - targets) ** 2).mean() + distortion * spread
    return loss, rgb.detach(), spread.detach()


@torch.no_grad()
def _raise_heaviest(heaviest: Tensor, space: FieldSpace, lit: LitSamples) -> None:
    cells = FieldSpace.cells(space.to_unit(lit.points), space.grid_size)
    heaviest.scatter_reduce_(0, cells, lit.weights.to(heaviest.dtype), "amax")
