# SPDX-License-Identifier: Apache-2.0
"""Renders Gaussians along arbitrary rays, such as those of mesh texels, single pixels and panoramas.

The response of a ray to a Gaussian is the maximum along the ray, which equals the projected 2D Gaussian at the ray
(minimising the quadratic form over one coordinate gives the marginal's form). Responses are composited front to back
with the rasteriser's rules (minimum and maximum alpha, minimum transmittance). Rays are sorted into packets of
neighbours, and each packet considers only Gaussians whose 3-sigma sphere reaches its bounding cone, so that no table
of rays x Gaussians is needed. A compiled kernel does so on a CPU; torch on other devices, and for gradients.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_kernels.quaternions import rotation_matrices
from img3d_kernels.rendering import default_backend
from img3d_kernels.spherical_harmonics import sh_basis
from img3d_kernels.torch_backend import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE
from img3d_methods.splat.smaller_images import SCREEN_DILATION

RAYS_PER_PACKET = 256
"""Of the torch code."""
GAUSSIANS_PER_BLOCK = 1024
"""Number of depth-sorted Gaussians composited at a time: it bounds memory and lets opaque packets stop early."""


class RaySums(NamedTuple):
    """Sums over the Gaussians along R rays, weighted with the light that they absorb."""

    rgb: Float[Tensor, "R 3"]
    passing: Float[Tensor, "R"]
    """Share of the light that passes all of them."""
    distance: Float[Tensor, "R"]
    normals: Float[Tensor, "R 3"]


class RayRender(NamedTuple):
    """The result of rendering R rays."""

    rgb: Float[Tensor, "R 3"]
    alpha: Float[Tensor, "R 1"]
    distance: Float[Tensor, "R 1"]
    """Expected distance along the ray."""
    normals: Float[Tensor, "R 3"]
    """Mean of the Gaussians' shortest axes, turned towards the origin; unit length, or 0 for rays without a hit."""


def composite_rays(
    gaussians: ActivatedGaussians,
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    background: Float[Tensor, "3"],
    nears: Float[Tensor, "R"] | None = None,
    fars: Float[Tensor, "R"] | None = None,
    pixel_pitch: Float[Tensor, "R"] | None = None,
) -> RayRender:
    """Renders colour, opacity, expected distance and surface normal of each ray.

    Args:
        gaussians: The Gaussians to render.
        origins: Ray origins.
        directions: Unit directions.
        background: Colour behind everything.
        nears: Gaussians whose centre is nearer along the ray are skipped (default: 0.01, the rasteriser's near
            plane).
        fars: Gaussians whose centre is farther along the ray are skipped (default: none).
        pixel_pitch: Distance between the rays of neighbouring pixels at distance 1, for the rasteriser's dilation of
            0.3 pixels; None or 0: no dilation.
    """
    num_rays, device = len(origins), origins.device
    nears = torch.full((num_rays,), 0.01, device=device) if nears is None else nears
    fars = torch.full((num_rays,), math.inf, device=device) if fars is None else fars
    pixel_pitch = torch.zeros(num_rays, device=device) if pixel_pitch is None else pixel_pitch
    rays = (origins, directions, nears, fars, pixel_pitch)
    order = _neighbouring_rays(origins, directions)
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(num_rays, device=device)
    learnt = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors, *rays)
    wants_gradient = torch.is_grad_enabled() and any(values.requires_grad for values in learnt)
    composite = _composite_torch
    if default_backend(gaussians.means) == "cpu" and not wants_gradient:
        composite = _composite_compiled
    sums = RaySums(*(values[inverse] for values in composite(gaussians, *(values[order] for values in rays))))
    opacity = 1 - sums.passing[:, None]
    return RayRender(
        sums.rgb + sums.passing[:, None] * background,
        opacity,
        sums.distance[:, None] / opacity.clamp_min(1e-10),
        torch.nn.functional.normalize(sums.normals, dim=-1),
    )


def _composite_compiled(gaussians: ActivatedGaussians, *rays: Tensor) -> RaySums:
    from img3d_kernels import cpu_backend

    return RaySums(
        *cpu_backend.composite_rays(
            gaussians.means,
            rotation_matrices(gaussians.quats),
            gaussians.scales,
            gaussians.opacities,
            gaussians.colors,
            gaussians.sh_degree,
            *rays,
            eps2d=SCREEN_DILATION,
        )
    )


def _composite_torch(
    gaussians: ActivatedGaussians,
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    nears: Float[Tensor, "R"],
    fars: Float[Tensor, "R"],
    pixel_pitch: Float[Tensor, "R"],
) -> RaySums:
    rotations = rotation_matrices(gaussians.quats)
    reach = 3 * gaussians.scales.amax(dim=-1)
    packets = []
    for first in range(0, len(origins), RAYS_PER_PACKET):
        rays = [values[first : first + RAYS_PER_PACKET] for values in (origins, directions, nears, fars, pixel_pitch)]
        ids = _gaussians_near(gaussians.means, reach, rays[0], rays[1], rays[2].min(), rays[3].max(), rays[4])
        packets.append(_composite_packet(gaussians, rotations, ids, *rays))
    return RaySums(*(torch.cat(values) for values in zip(*packets, strict=True)))


def _neighbouring_rays(origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]) -> Int[Tensor, "R"]:
    """An order in which consecutive rays have similar origins and directions: a Morton curve over all six
    coordinates."""
    extent = (origins.amax(dim=0) - origins.amin(dim=0)).amax().clamp_min(1e-12)
    position = (origins - origins.amin(dim=0)) / extent  # in [0, 1]; all 0 for a common origin up to rounding
    cells = (torch.cat([position, 0.5 * directions + 0.5], dim=-1).clamp(0, 1) * 1023).long()
    if extent < 1e-6:
        cells[:, :3] = 0
    code = torch.zeros(len(origins), dtype=torch.long, device=origins.device)
    for bit in range(10):
        for axis in range(6):
            code |= ((cells[:, axis] >> bit) & 1) << (6 * bit + axis)
    return code.argsort()


def _gaussians_near(
    means: Float[Tensor, "N 3"],
    reach: Float[Tensor, "N"],
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    near: Float[Tensor, ""],
    far: Float[Tensor, ""],
    pixel_pitch: Float[Tensor, "R"],
) -> Int[Tensor, "M"]:
    """Gaussians that rays of the packet may meet, nearest first along the packet's axis."""
    center = 0.5 * (origins.amin(dim=0) + origins.amax(dim=0))
    origin_radius = (origins - center).norm(dim=-1).amax()
    axis = directions.sum(dim=0)
    axis = axis / axis.norm() if axis.norm() > 1e-3 else directions[0]  # opposite rays have no mean direction
    half_angle = torch.acos((directions @ axis).amin().clamp(-1, 1))
    offset = means - center
    distance = offset.norm(dim=-1).clamp_min(1e-12)
    along = offset @ axis
    radius = reach + 3 * math.sqrt(SCREEN_DILATION) * pixel_pitch.amax() * distance + origin_radius
    angle = torch.acos((along / distance).clamp(-1, 1))
    inside = angle <= half_angle + torch.asin((radius / distance).clamp(max=1))
    inside = (inside | (distance <= radius)) & (distance - radius <= far) & (distance + radius >= near)
    ids = inside.nonzero()[:, 0]
    return ids[along[ids].argsort()]


def _composite_packet(
    gaussians: ActivatedGaussians,
    rotations: Float[Tensor, "N 3 3"],
    ids: Int[Tensor, "M"],
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    nears: Float[Tensor, "R"],
    fars: Float[Tensor, "R"],
    pixel_pitch: Float[Tensor, "R"],
) -> RaySums:
    """Composites the Gaussians `ids`, in this order, along each ray of a packet."""
    num_rays = len(origins)
    basis = None if gaussians.sh_degree is None else sh_basis(gaussians.sh_degree, directions)
    transmittance = torch.ones(num_rays, 1, device=origins.device)
    going_on = torch.ones(num_rays, 1, device=origins.device, dtype=torch.bool)
    rgb = torch.zeros(num_rays, 3, device=origins.device)
    distance = torch.zeros(num_rays, 1, device=origins.device)
    normals = torch.zeros(num_rays, 3, device=origins.device)
    for block in ids.split(GAUSSIANS_PER_BLOCK):
        offset = gaussians.means[block] - origins[:, None]  # [R, M, 3]
        along = (offset * directions[:, None]).sum(dim=-1)  # [R, M]
        variance = gaussians.scales[block] ** 2 + SCREEN_DILATION * (pixel_pitch[:, None, None] * along[..., None]) ** 2
        # In each Gaussian's local axes: the minimum of the quadratic form along the ray.
        local_offset = torch.einsum("rmi,mij->rmj", offset, rotations[block])
        local_direction = torch.einsum("ri,mij->rmj", directions, rotations[block])
        peak = (local_offset * local_direction / variance).sum(-1) / (local_direction**2 / variance).sum(-1)
        closest = local_offset - peak[..., None] * local_direction
        alpha = gaussians.opacities[block] * torch.exp(-0.5 * (closest**2 / variance).sum(dim=-1))
        seen = (alpha >= MIN_ALPHA) & (along > nears[:, None]) & (along < fars[:, None])
        alpha = torch.where(seen, alpha.clamp_max(MAX_ALPHA), 0.0)

        passing = transmittance * torch.cumprod(1 - alpha, dim=1)  # after each Gaussian
        before = torch.cat([transmittance, passing[:, :-1]], dim=1)
        weights = torch.where((passing > MIN_TRANSMITTANCE) & going_on, alpha * before, 0.0)
        if basis is None:
            rgb += weights @ gaussians.colors[block]
        else:
            coefficients = gaussians.colors[block][:, : basis.shape[-1]]
            colors = (torch.einsum("rk,mkc->rmc", basis, coefficients) + 0.5).clamp_min(0)
            rgb += torch.einsum("rm,rmc->rc", weights, colors)
        distance += (weights * along).sum(dim=1, keepdim=True)
        shortest = gaussians.scales[block].argmin(dim=-1)
        axes = rotations[block].gather(2, shortest[:, None, None].expand(-1, 3, 1))[..., 0]
        normals -= (weights * torch.sign(directions @ axes.T)) @ axes
        # As in the rasteriser, the Gaussian that would take transmittance below the minimum is skipped and ends the
        # ray.
        transmittance = (transmittance - weights.sum(dim=1, keepdim=True)).clamp_min(0)
        going_on = going_on & (passing[:, -1:] > MIN_TRANSMITTANCE)
        if not bool(going_on.any()):
            break
    return RaySums(rgb, transmittance[:, 0], distance[:, 0], normals)
