# SPDX-License-Identifier: Apache-2.0
"""Samples of a radiance field along rays with gradients by autograd, for any loss: of lit colours, opacity or normals.

The normals and the light are DreamFusion's (Poole et al. 2022, arXiv 2209.14988, section 3.1), the loss of normals that
look away from the camera is Ref-NeRF's (Verbin et al. 2021, arXiv 2112.03907, equation 11).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from img3d_kernels.density_normals import density_normals
from img3d_kernels.fields.lit_samples import lit_samples
from img3d_kernels.fields.radiance_field import FieldParameters, color_torch, log_density_torch
from img3d_kernels.fields.rays import RayEnds, Rays, Samples


@dataclass
class SurfaceSamples:
    """N samples of R rays: those that light reaches."""

    rays: Int64[Tensor, "N"]
    """The ray of each sample."""
    points: Float[Tensor, "N 3"]
    """World coordinates."""
    weights: Float[Tensor, "N"]
    """Share of the ray's light that the sample absorbs."""
    colors: Float[Tensor, "N 3"]
    """sRGB in [0, 1], before lighting."""
    num_rays: int
    """R."""

    def along_rays(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "R C"]:
        """Weighted sums of the samples' values."""
        return values.new_zeros(self.num_rays, values.shape[1]).index_add(0, self.rays, self.weights[:, None] * values)

    def accumulation(self) -> Float[Tensor, "R 1"]:
        """Share of the light that is absorbed."""
        return self.along_rays(torch.ones_like(self.weights)[:, None])


def surface_samples(field: FieldParameters, rays: Rays, samples: Samples) -> SurfaceSamples:
    """Evaluates a field at the samples of rays; differentiable in its table and its networks.

    Args:
        field: The field.
        rays: The rays.
        samples: Their samples, from `march`.
    """
    lit = lit_samples(field, rays, samples)
    colors = color_torch(field, lit.geometry, rays.features[lit.rays])
    return SurfaceSamples(lit.rays, lit.points, lit.weights, colors, lit.num_rays)


def normals(field: FieldParameters, points: Float[Tensor, "N 3"], distance: float) -> Float[Tensor, "N 3"]:
    """`density_normals` of a field, differentiable in its table, its networks and the points."""
    return density_normals(lambda around: log_density_torch(field, around)[0], points, distance)


@torch.no_grad()
def surface_normals(
    field: FieldParameters, rays: RayEnds, depth: Float[Tensor, "R"], distance: float
) -> Float[Tensor, "R 3"]:
    """`normals` of what rays meet, without gradients; 0 for rays that meet nothing.

    Args:
        field: The field; its `bfloat16` does not matter.
        rays: The rays.
        depth: Distances along them; 0 where they meet nothing.
        distance: Distance from a point to the four at which the density is looked up, in world units.
    """
    if field.is_compiled:
        from img3d_kernels.fields import compiled

        return compiled.surface_normals(field, rays, depth, distance)
    hits, found = depth > 0, torch.zeros_like(rays.origins)
    points = rays.origins[hits] + depth[hits, None] * rays.directions[hits]
    found[hits] = normals(replace(field, bfloat16=False), points, distance)
    return found


def lambertian(
    points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], light: Float[Tensor, "3"], ambient: float
) -> Float[Tensor, "N 1"]:
    """Brightness of matt surfaces in [0, 1], in the light of a lamp and ambient light.

    Args:
        points: World coordinates.
        normals: Unit normals.
        light: The lamp's position.
        ambient: Brightness where the lamp does not shine, in [0, 1].
    """
    towards = F.normalize(light - points, dim=-1)
    return ambient + (1 - ambient) * (normals * towards).sum(dim=-1, keepdim=True).clamp_min(0)


def looking_away(
    samples: SurfaceSamples, normals: Float[Tensor, "N 3"], directions: Float[Tensor, "R 3"]
) -> Float[Tensor, ""]:
    """The loss of visible normals that look away from the camera: the mean over the rays that hit the object.

    Args:
        samples: The samples; their weights get no gradients.
        normals: Unit normals of the samples.
        directions: Directions of the rays, of unit length.
    """
    away = (normals * directions[samples.rays]).sum(dim=-1).clamp_min(0).square()
    met = (samples.accumulation().detach() > 0.01).sum().clamp_min(1)
    return (samples.weights.detach() * away).sum() / met
