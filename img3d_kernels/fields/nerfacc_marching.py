# SPDX-License-Identifier: Apache-2.0
"""Samples of rays on CUDA through nerfacc (Li et al. 2023, arXiv 2305.04966), where its kernels can be compiled.

Nerfstudio installs nerfacc, which compiles its kernels with nvcc when they are first called.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldSpace
from img3d_kernels.fields.rays import Marching, Rays, Samples


def can_march(space: FieldSpace, rays: Rays) -> bool:
    """Whether nerfacc takes these rays: on CUDA, in single precision, through a box some of whose cells are empty."""
    on_cuda = rays.origins.is_cuda and rays.origins.dtype == torch.float32
    return on_cuda and not space.contracted and space.occupied is not None and _has_kernels()


@cache
def _has_kernels() -> bool:
    try:
        from nerfacc.cuda._backend import _C  # pyright: ignore[reportAttributeAccessIssue] # a compiled module
    # A missing compiler, one that does not fit torch's CUDA, and a failed build raise different types.
    except Exception as error:
        print(f"nerfacc's kernels were not compiled, so rays are marched in plain torch: {str(error).splitlines()[:1]}")
        return False
    return _C is not None


def placed_samples(space: FieldSpace, rays: Rays, marching: Marching, begins: Tensor, ends: Tensor) -> Samples:
    """A sample in the middle of each step that lies in an occupied cell.

    Args:
        space: A box with `occupied`.
        rays: R rays.
        marching: The steps; at most `max_samples` of them are taken, the nearest.
        begins: `[R]`, distances at which each ray's first step begins.
        ends: `[R]`, distances behind which no step's middle lies.
    """
    import nerfacc

    size = space.grid_size
    binaries = space.may_be_dense(torch.arange(size**3, device=begins.device)).view(1, size, size, size)
    box = begins.new_tensor([[*space.low, *space.high]])
    _, found = nerfacc.traverse_grids(
        rays.origins, rays.directions, binaries, box, begins, ends.contiguous(), step_size=marching.step
    )
    assert found.packed_info is not None and found.ray_indices is not None
    ray = found.ray_indices.long()
    place = torch.arange(len(ray), device=ray.device) - found.packed_info[:, 0].long()[ray]
    kept = place < marching.max_samples
    middles, lengths = (begins.new_zeros(len(rays), marching.max_samples) for _ in range(2))
    middles[ray[kept], place[kept]], lengths[ray[kept], place[kept]] = found.vals[kept], marching.step
    return Samples(found.packed_info[:, 1].clamp_max(marching.max_samples).int(), middles, lengths)
