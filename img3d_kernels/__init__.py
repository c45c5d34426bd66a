# SPDX-License-Identifier: Apache-2.0
"""Differentiable rasterisation of 3D Gaussians on a CPU or, through gsplat, on a GPU.

Plain tensors in, plain tensors out; knows nothing of Nerfstudio.
"""

from img3d_kernels.rendering import rasterization

__all__ = ["rasterization"]
