# SPDX-License-Identifier: Apache-2.0
"""A field's density at the samples of rays, in plain torch, and how much light each sample absorbs.

Only numbers are padded to the longest ray; what the networks calculate is packed. A step of a bounded field has as many
rays as fill it on average, of which single ones are far longer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldParameters, geometry_torch
from img3d_kernels.fields.rays import RayEnds, Samples

MIN_LIGHT = 1e-4
"""A ray ends with the sample behind which less than this share of its light remains."""


@dataclass
class LitSamples:
    """N samples of R rays: those that light reaches, ray by ray in order."""

    num_rays: int
    """R."""
    rays: Int64[Tensor, "N"]
    """The ray of each sample."""
    places: Int64[Tensor, "N"]
    """Number of the sample in its ray, from 0."""
    points: Float[Tensor, "N 3"]
    """World coordinates."""
    middles: Float[Tensor, "N"]
    """Distance of the middle along the ray."""
    lengths: Float[Tensor, "N"]
    """Length along the ray."""
    before: Float[Tensor, "N"]
    """Share of the ray's light that reaches the sample."""
    behind: Float[Tensor, "N"]
    """Share that is left behind it."""
    geometry: Float[Tensor, "N G"]
    """Outputs of the density network."""

    @property
    def weights(self) -> Float[Tensor, "N"]:
        """Share of the ray's light that the sample absorbs."""
        return self.before - self.behind

    def counts(self) -> Int32[Tensor, "R"]:
        """The number of samples of each ray."""
        return torch.bincount(self.rays, minlength=self.num_rays).to(torch.int32)

    def along_rays(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "R C"]:
        """Sums of the samples' values by ray."""
        return values.new_zeros(self.num_rays, values.shape[1]).index_add(0, self.rays, values)

    def padded(self, values: Float[Tensor, "N"]) -> Float[Tensor, "R S"]:
        """Values in rows, 0 where a ray has no sample."""
        size = int(self.places.max()) + 1 if len(self.places) else 1
        return values.new_zeros(self.num_rays, size).index_put((self.rays, self.places), values)

    def distortion(self) -> Float[Tensor, ""]:
        """The distortion loss (Mip-NeRF 360, Barron et al. 2021, arXiv 2111.12077, equation 15) over t / (1 + t) for
        distances t; the mean over the rays."""
        weights, at = self.weights, self.middles / (1 + self.middles)
        widths = self.lengths / (1 + self.middles) ** 2
        nearer, moments = (
            self.padded(value).cumsum(dim=1)[self.rays, self.places] - value for value in (weights, weights * at)
        )
        # Each pair once, as samples are sorted by distance.
        spread = 2 * weights * (at * nearer - moments) + weights**2 * widths / 3
        return spread.sum() / max(1, self.num_rays)


def lit_samples(field: FieldParameters, rays: RayEnds, samples: Samples, near_scaling: bool = False) -> LitSamples:
    """Evaluates the density; differentiable in the field's table and networks, and in the rays.

    Args:
        field: The field.
        rays: The rays.
        samples: Their samples.
        near_scaling: Scale gradients of the density at samples nearer than 1 with the square of the distance.
    """
    size = max(1, int(samples.counts.max())) if len(rays) else 1
    used = torch.arange(size, device=samples.counts.device) < samples.counts[:, None]
    ray, place = used.nonzero(as_tuple=True)
    middles, lengths = samples.middles[ray, place], samples.lengths[ray, place]
    points = rays.origins[ray] + middles[:, None] * rays.directions[ray]
    density, geometry = geometry_torch(field, points)
    if near_scaling:
        density = with_scaled_gradient(density, middles.clamp_max(1) ** 2)
    thickness = density.new_zeros(len(rays), size).index_put((ray, place), density * lengths)
    behind = torch.exp(-thickness.cumsum(dim=1))
    before = torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], dim=1)
    lit = before.detach()[ray, place] >= MIN_LIGHT
    ray, place = ray[lit], place[lit]
    return LitSamples(
        *(len(rays), ray, place, points[lit], middles[lit], lengths[lit]),
        *(before[ray, place], behind[ray, place], geometry[lit]),
    )


def with_scaled_gradient(values: Tensor, scale: Tensor) -> Tensor:
    """The same values, of which gradients are multiplied by `scale`."""
    return values.detach() + scale * (values - values.detach())
