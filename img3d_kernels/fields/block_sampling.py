# SPDX-License-Identifier: Apache-2.0
"""Places samples for blocks of a picture's pixels, without those that hardly count.

One ray of each block is looked at. The block's other rays have its samples, but for those that have little weight in it
and in the neighbours' rays: in empty space, or behind a surface. Samples are never placed more densely than in
training: a field learns to be opaque for samples of the lengths that it was trained with, and sampled more densely in
thin places it lost 5 dB (fox, 12,000 steps).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64
from torch import Tensor

from img3d_kernels.fields.guided_sampling import Guide, RayBins, bin_coordinate, guided_samples_torch
from img3d_kernels.fields.lit_samples import lit_samples
from img3d_kernels.fields.radiance_field import FieldParameters
from img3d_kernels.fields.rays import BlockSamples, RayEnds, Samples


def block_samples(
    field: FieldParameters, rays: RayEnds, width: int, side: int, guide: Guide, least_weight: float
) -> BlockSamples:
    """Places the samples of a picture's rays.

    Args:
        field: The field.
        rays: The rays of whole rows of a picture.
        width: Pixels in a row.
        side: Pixels along each side of a block.
        guide: How the chosen rays are sampled.
        least_weight: A sample is left out if all samples in its bins weigh less than this, in the chosen rays of its
            block and of the eight around it.
    """
    if field.is_compiled:
        from img3d_kernels.fields import compiled

        return compiled.block_samples(field, rays, width, side, guide, least_weight)
    return block_samples_torch(field, rays, width, side, guide, least_weight)


def chosen_rays(num_rays: int, width: int, side: int) -> Int64[Tensor, "down across"]:
    """Indices of the rays that are looked at, one for each block. Their places in the blocks differ from neighbour to
    neighbour, so that something thin along a row or a column of pixels does not pass between all of them."""
    height = num_rays // width
    row, column = torch.meshgrid(torch.arange(-(-height // side)), torch.arange(-(-width // side)), indexing="ij")
    y = (row * side + (row + 3 * column) % side).clamp_max(height - 1)
    x = (column * side + (3 * row + column) % side).clamp_max(width - 1)
    return y * width + x


@torch.no_grad()
def block_samples_torch(
    field: FieldParameters, rays: RayEnds, width: int, side: int, guide: Guide, least_weight: float
) -> BlockSamples:
    """`block_samples` in plain torch."""
    chosen = chosen_rays(len(rays), width, side).to(rays.origins.device)
    of_blocks = chosen.flatten()
    looked_at = RayEnds(*(value[of_blocks] for value in (rays.origins, rays.directions, rays.nears, rays.fars)))
    samples = guided_samples_torch(field, looked_at, guide)
    bins = RayBins.of(field, looked_at, guide.num_bins)
    reached = _reached_bins(samples, bins)
    lit = lit_samples(field, looked_at, samples)
    weights = lit.padded(lit.weights)
    weights = F.pad(weights, (0, guide.num_samples - weights.shape[1]))
    met = torch.where(reached, weights[..., None], 0).amax(dim=1)
    known = F.max_pool2d(met.T.reshape(1, -1, *chosen.shape), 3, stride=1, padding=1)
    heaviest = torch.where(reached, known.reshape(guide.num_bins, -1).T[:, None], 0).amax(dim=2)
    kept = (heaviest >= least_weight) & (samples.counts > 0)[:, None]
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)
    samples = Samples(
        kept.sum(dim=1, dtype=torch.int32), samples.middles.gather(1, order), samples.lengths.gather(1, order)
    )
    return BlockSamples(samples, width, side)


def _reached_bins(samples: Samples, bins: RayBins) -> Bool[Tensor, "R S bins"]:
    """The bins that samples reach into."""
    begins, ends = (
        ((bin_coordinate(samples.middles + side * samples.lengths) - bins.firsts[:, None]) / bins.widths[:, None])
        .clamp(0, bins.num_bins - 1)
        .floor()
        for side in (-0.5, 0.5)
    )
    number = torch.arange(bins.num_bins, device=begins.device)
    return (number >= begins[..., None]) & (number <= ends[..., None])
