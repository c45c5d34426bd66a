# SPDX-License-Identifier: Apache-2.0
"""What a splat model puts out for rays of any kind, as Nerfstudio's renderers and exporters ask for it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_methods.splat.ray_compositing import composite_rays
from img3d_methods.viewing.ray_bundles import normals_from_distances

MAX_PIXEL_PITCH = 0.5
"""Rays whose pixels are said to be wider have none: Nerfstudio's texture baking passes areas of 1."""


def composited(
    bundle: RayBundle, gaussians: ActivatedGaussians, background: Float[Tensor, "3"]
) -> dict[str, Float[Tensor, "*R C"]]:
    """Colour, distance along the ray, opacity and normals of a bundle of any shape.

    Normals are mapped from [-1, 1] to [0, 1], as ns-export expects them.
    """
    shape = bundle.shape
    pitch = bundle.pixel_area.flatten().sqrt()
    seen = composite_rays(
        gaussians,
        bundle.origins.reshape(-1, 3),
        bundle.directions.reshape(-1, 3),
        background,
        nears=None if bundle.nears is None else bundle.nears.flatten(),
        fars=None if bundle.fars is None else bundle.fars.flatten(),
        pixel_pitch=torch.where(pitch < MAX_PIXEL_PITCH, pitch, 0.0),
    )
    return {
        "rgb": seen.rgb.clamp(0, 1).reshape(*shape, 3),
        "depth": seen.distance.reshape(*shape, 1),
        "accumulation": seen.alpha.reshape(*shape, 1),
        "normals": _mapped(seen.normals).reshape(*shape, 3),
        "background": background.expand(*shape, 3),
    }


def along_rays(bundle: RayBundle, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """A pinhole camera's outputs as those of its rays: depth becomes the distance along the ray, and normals follow
    from it."""
    distances = outputs["depth"] * bundle.metadata["directions_norm"]
    normals = normals_from_distances(bundle.origins, bundle.directions, distances)
    return {**outputs, "depth": distances, "normals": _mapped(normals)}


def _mapped(normals: Float[Tensor, "*R 3"]) -> Float[Tensor, "*R 3"]:
    return (0.5 * normals + 0.5).clamp(0, 1)
