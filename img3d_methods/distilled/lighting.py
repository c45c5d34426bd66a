# SPDX-License-Identifier: Apache-2.0
"""Renders a field in the light of a lamp, as DreamFusion does for its diffusion model (arXiv 2209.14988, section 3.1):
in such renders, a flat picture of an object looks wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldParameters
from img3d_kernels.fields.rays import Rays, Samples
from img3d_kernels.fields.surface_samples import SurfaceSamples, lambertian, looking_away, normals, surface_samples

MIN_WEIGHT = 1e-3
"""Samples that absorb less of the light get ambient light only."""


@dataclass
class LitPicture:
    """R rendered rays."""

    rgb: Float[Tensor, "R 3"]
    """On black."""
    opacity: Float[Tensor, "R 1"]
    orientation: Float[Tensor, ""]
    """The loss of normals that look away from the camera."""


def lit_picture(
    field: FieldParameters,
    rays: Rays,
    samples: Samples,
    light: Float[Tensor, "3"],
    ambient: float,
    textureless: bool,
    normal_distance: float,
) -> LitPicture:
    """Renders a field with lighting, with gradients in its table and its networks.

    Args:
        field: The field.
        rays: The rays.
        samples: Their samples, from `march`.
        light: The lamp's position, in world coordinates.
        ambient: Brightness where the lamp does not shine, in [0, 1].
        textureless: Whether everything is white, so that only the shape is visible.
        normal_distance: Distance from a sample to the densities from which its normal is calculated, in world units.
    """
    seen = surface_samples(field, rays, samples)
    solid = (seen.weights.detach() > MIN_WEIGHT).nonzero()[:, 0]
    some = SurfaceSamples(seen.rays[solid], seen.points[solid], seen.weights[solid], seen.colors[solid], seen.num_rays)
    facing = normals(field, some.points, normal_distance)
    brightness = torch.full_like(seen.weights, ambient)[:, None]
    brightness = brightness.index_put((solid,), lambertian(some.points, facing, light, ambient))
    colors = brightness.expand(-1, 3) if textureless else brightness * seen.colors
    return LitPicture(seen.along_rays(colors), seen.accumulation(), looking_away(some, facing, rays.directions))
