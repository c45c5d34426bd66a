# SPDX-License-Identifier: Apache-2.0
"""Differentiable rasterisation of 3D Gaussians, on the CPU or, through gsplat, on a GPU.

Functions take and return plain tensors; the package does not depend on Nerfstudio.
"""

from img3d_kernels.rendering import rasterization

__all__ = ["rasterization"]
