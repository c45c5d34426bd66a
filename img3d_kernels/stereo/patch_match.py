# SPDX-License-Identifier: Apache-2.0
"""PatchMatch multi-view stereo, coarse to fine, with the compiled kernel of csrc/stereo/patch_match.h.

Schönberger, Zheng, Pollefeys, Frahm 2016, "Pixelwise view selection for unstructured multi-view stereo" (COLMAP);
Galliani, Lasinger, Schindler 2015, "Massively parallel multiview stereopsis by surface normal diffusion" (Gipuma);
Xu and Tao 2019, "Multi-scale geometric consistency guided multi-view stereo" (ACMM).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32, Int32, UInt8
from torch import Tensor

from img3d_kernels.stereo.views import DepthMap, StereoView, from_planes, resized_planes, to_planes

MAX_SOURCES = 32
"""Maximum number of sources of a view."""
MAX_COST = 2.0
"""Maximum photometric cost: one minus a correlation of -1."""
MAX_DISAGREEMENT = 0.5
"""Maximum geometric term (0.2 per pixel) of a plane without texture; above it, nothing supports the plane."""
COARSE_ITERATIONS, FINE_ITERATIONS = 5, 3
"""Number of passes over the checkerboard, at the coarsest size and at each finer one."""
MIN_SIDE = 30
"""Minimum shorter side in pixels of a halved picture."""
MAX_LEVELS = 4
"""Maximum number of sizes of the pictures, each half of the next."""


def patch_match(
    reference: StereoView,
    sources: Sequence[StereoView],
    nearest: float,
    farthest: float,
    *,
    levels: int = MAX_LEVELS,
    seed: int = 0,
) -> DepthMap:
    """Estimates depth and normals of a view by comparing it with other views.

    The smallest size starts from random planes, and each larger one from the planes of the size before.

    Args:
        reference: The view; only pixels inside its mask get a depth.
        sources: 1 to 32 other views of the same scene; pixels outside their masks are not compared.
        nearest: The nearest depth to search, along the optical axis of the reference.
        farthest: The farthest depth to search.
        levels: Maximum number of sizes, each half of the next; small pictures have fewer.
        seed: Random seed; the result does not depend on the number of threads.

    Raises:
        ValueError: Not 0 < nearest < farthest, or the number of sources is not 1 to 32.
    """
    height, width = reference.size
    while levels > 1 and min(height, width) >> (levels - 1) < MIN_SIDE:
        levels -= 1
    planes = None
    costs = torch.empty(0, 0)
    for level in reversed(range(levels)):
        smaller = [_halved(view, level) for view in (reference, *sources)]
        if planes is None:
            planes = random_planes(smaller[0], nearest, farthest, seed)
            iterations, random_iterations = COARSE_ITERATIONS, COARSE_ITERATIONS
        else:
            planes = resized_planes(planes, *smaller[0].size)
            iterations, random_iterations = FINE_ITERATIONS, 1
        found = sweep(
            *(smaller[0], smaller[1:], nearest, farthest, planes),
            iterations=iterations,
            random_iterations=random_iterations,
            seed=seed + level + 1,
        )
        if costs.numel():
            # Where a patch has no texture at this size, the coarser patch, which covers more, may have some.
            coarse = torch.nn.functional.interpolate(costs[None, None], smaller[0].size, mode="nearest-exact")[0, 0]
            found = torch.where(found > MAX_COST, coarse, found)
        costs = found
    assert planes is not None
    return _depth_map(reference, planes, costs, MAX_COST)


def refined(
    reference: StereoView,
    sources: Sequence[StereoView],
    nearest: float,
    farthest: float,
    start: DepthMap,
    source_depths: Sequence[Float32[Tensor, "_ _"]],
    *,
    iterations: int = 2,
    seed: int = 0,
) -> DepthMap:
    """Refines a depth map with a geometric term, so that planes that the sources' depth maps confirm win (ACMM).

    Args:
        reference: As for `patch_match`.
        sources: As for `patch_match`.
        nearest: As for `patch_match`.
        farthest: As for `patch_match`.
        start: The depth map to refine; pixels of unknown depth start from random planes.
        source_depths: The depth map of each source, 0 where unknown.
        iterations: Number of passes over the checkerboard.
        seed: Random seed.

    Returns:
        The refined map. Its cost includes the geometric term: 0.2 per pixel of reprojection error, at most 0.6.
    """
    planes = random_planes(reference, nearest, farthest, seed)
    known = start.depth > 0
    planes[known] = to_planes(reference.K, start.depth.clamp_min(1e-20), start.normals)[known]
    costs = sweep(
        *(reference, sources, nearest, farthest, planes),
        iterations=iterations,
        random_iterations=0,
        seed=seed,
        source_depths=source_depths,
    )
    return _depth_map(reference, planes, costs, MAX_COST + MAX_DISAGREEMENT)


def photometric_costs(
    reference: StereoView, sources: Sequence[StereoView], nearest: float, farthest: float, found: DepthMap
) -> Float32[Tensor, "H W"]:
    """The cost of given depths and normals; more than `MAX_COST` where there is no texture, or the depth is unknown.

    Args:
        reference: As for `patch_match`.
        sources: As for `patch_match`.
        nearest: As for `patch_match`.
        farthest: As for `patch_match`.
        found: The depths and normals.
    """
    known = found.depth > 0
    normals = torch.where(known[..., None], found.normals, torch.tensor([0.0, 0.0, -1.0]))
    planes = to_planes(reference.K, torch.where(known, found.depth, 1.0), normals)
    costs = sweep(reference, sources, nearest, farthest, planes, iterations=0)
    return torch.where(known, costs, 2 * MAX_COST)


def sweep(
    reference: StereoView,
    sources: Sequence[StereoView],
    nearest: float,
    farthest: float,
    planes: Float32[Tensor, "H W 3"],
    *,
    iterations: int,
    random_iterations: int = 0,
    seed: int = 0,
    source_depths: Sequence[Float32[Tensor, "_ _"]] = (),
) -> Float32[Tensor, "H W"]:
    """Improves the planes of a picture at one size, in place.

    Args:
        reference: As for `patch_match`.
        sources: As for `patch_match`.
        nearest: As for `patch_match`.
        farthest: As for `patch_match`.
        planes: A plane for each pixel, as from `to_planes`; contiguous.
        iterations: Number of passes over the checkerboard; 0 only evaluates the costs.
        random_iterations: Number of the first passes that also try random planes.
        seed: Random seed.
        source_depths: The sources' depth maps, for the geometric term; empty for no such term.

    Returns:
        The cost of each plane; more than `MAX_COST` for unusable pixels (outside the mask, no texture, no valid plane).

    Raises:
        ValueError: Not 0 < nearest < farthest, or the number of sources is not 1 to 32.
    """
    from img3d_kernels import _C

    if not 1 <= len(sources) <= MAX_SOURCES:
        raise ValueError(f"there must be 1 to {MAX_SOURCES} sources, got {len(sources)}")
    if not 0 < nearest < farthest:
        raise ValueError(f"depths must be 0 < nearest < farthest, got {nearest} and {farthest}")
    costs = torch.empty(reference.size)
    masks = []
    if any(source.mask is not None for source in sources):
        everything = (torch.ones(source.size) if source.mask is None else source.mask for source in sources)
        masks = [mask.to(torch.uint8).contiguous() for mask in everything]
    K = reference.K.double()
    _C.patch_match(
        reference.grey.float().contiguous(),
        None if reference.mask is None else reference.mask.to(torch.uint8).contiguous(),
        *(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]) - 0.5, float(K[1, 2]) - 0.5),
        [quads_of(source.grey) for source in sources],
        torch.stack([projection(reference, source) for source in sources]).float().contiguous(),
        masks,
        [depth.float().contiguous() for depth in source_depths],
        *(1 / farthest, 1 / nearest),
        *(iterations, random_iterations, seed & 0xFFFFFFFF),
        *(planes, costs),
    )
    return costs


def projection(reference: StereoView, source: StereoView) -> Float[Tensor, "24"]:
    """A `[9]` and b `[3]`: pixel p of the reference (homogeneous, pixel centres at integers) with inverse depth d
    projects to A p + b d in the source. Then the same for the opposite direction."""

    def matrices(first: StereoView, second: StereoView) -> Float[Tensor, "12"]:
        shift = torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], dtype=torch.float64)
        between = second.viewmat.double() @ torch.linalg.inv(first.viewmat.double())
        K = second.K.double() - shift
        A = K @ between[:3, :3] @ torch.linalg.inv(first.K.double() - shift)
        return torch.cat([A.flatten(), K @ between[:3, 3]])

    return torch.cat([matrices(reference, source), matrices(source, reference)])


def quads_of(grey: UInt8[Tensor, "H W"]) -> Int32[Tensor, "H W"]:
    """Packs the grey values of each pixel and its neighbours to the right, below and below right into a 32-bit word."""
    padded = torch.nn.functional.pad(grey[None].float(), (0, 1, 0, 1), mode="replicate")[0].to(torch.int64)
    words = padded[:-1, :-1] | padded[:-1, 1:] << 8 | padded[1:, :-1] << 16 | padded[1:, 1:] << 24
    return words.to(torch.int32).contiguous()


def random_planes(reference: StereoView, nearest: float, farthest: float, seed: int) -> Float32[Tensor, "H W 3"]:
    """Planes with uniformly distributed inverse depths, and with random normals towards the camera."""
    generator = torch.Generator().manual_seed(seed)
    height, width = reference.size
    inverse = 1 / farthest + torch.rand(height, width, generator=generator) * (1 / nearest - 1 / farthest)
    normals = torch.nn.functional.normalize(torch.randn(height, width, 3, generator=generator), dim=-1)
    # Biased towards the camera: few views see a surface at a grazing angle.
    normals[..., 2] = -normals[..., 2].abs() - 1
    return to_planes(reference.K, 1 / inverse, torch.nn.functional.normalize(normals, dim=-1))


def _halved(view: StereoView, times: int) -> StereoView:
    """The view at half its size, `times` times over."""
    height, width = view.size
    return view if times == 0 else view.resized(max(height >> times, 1), max(width >> times, 1))


def _depth_map(
    reference: StereoView, planes: Float32[Tensor, "H W 3"], costs: Float32[Tensor, "H W"], max_cost: float
) -> DepthMap:
    """The depth and normals of planes; unknown where the cost reaches `max_cost`."""
    depth, normals = from_planes(reference.K, planes)
    return DepthMap(depth, normals, costs).where(costs < max_cost)
