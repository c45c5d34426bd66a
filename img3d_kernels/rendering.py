# SPDX-License-Identifier: Apache-2.0
"""`rasterization()`: gsplat's interface and semantics, with a backend for every device.

There are three backends: `gsplat` (CUDA), `cpu` (compiled, multithreaded, float32) and `torch` (a readable
implementation of the same maths: the reference in tests, and the fallback). Conventions are gsplat 1.4's: OpenCV
cameras (x right, y down, z forward), pixel centres at +0.5, quaternions wxyz.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_kernels import torch_backend
from img3d_kernels.grad_stats import GradStats
from img3d_kernels.gsplat_compat import gsplat_radii
from img3d_kernels.torch_backend import TILE_SIZE

Backend = Literal["gsplat", "cpu", "torch"]
RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]


def rasterization(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    colors: Float[Tensor, "N D"] | Float[Tensor, "N K 3"] | tuple[Float[Tensor, "N 1 3"], Float[Tensor, "N L 3"]],
    viewmats: Float[Tensor, "C 4 4"],
    Ks: Float[Tensor, "C 3 3"],
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = False,
    backgrounds: Float[Tensor, "C D"] | None = None,
    render_mode: RenderMode = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: RasterizeMode = "classic",
    backend: Backend | None = None,
    grad_stats: GradStats | None = None,
) -> tuple[Float[Tensor, "C H W X"], Float[Tensor, "C H W 1"], dict[str, Any]]:
    """Renders 3D Gaussians into images, differentiably.

    Args:
        means: Centres in world coordinates.
        quats: Rotations as quaternions wxyz; normalised inside.
        scales: Standard deviations along the three axes, in world units (after `exp`).
        opacities: In [0, 1] (after `sigmoid`).
        colors: Colours `[N, D]`, or spherical harmonics coefficients `[N, K, 3]` if `sh_degree` is given. Coefficients
            may be a pair, degree 0 `[N, 1, 3]` and the rest `[N, K - 1, 3]`, which saves a concatenation.
        viewmats: World-to-camera matrices, OpenCV convention.
        Ks: Pinhole intrinsics, in pixels.
        width: Image width in pixels.
        height: Image height in pixels.
        near_plane: Gaussians whose centre is nearer than this are culled.
        far_plane: Gaussians whose centre is farther than this are culled.
        radius_clip: Gaussians whose radius in pixels is at most this are culled.
        eps2d: Added to the diagonal of the projected covariance, in pixels squared.
        sh_degree: Degree of spherical harmonics to evaluate (0 to 3); None: `colors` are colours.
        packed: gsplat's packed layout, which saves memory on CUDA. No effect on the other backends.
        backgrounds: Colour behind everything, per camera.
        render_mode: "RGB", accumulated depth "D", expected depth "ED", or colour with either.
        sparse_grad: gsplat's sparse gradients (CUDA, packed only). No effect on the other backends.
        absgrad: Also sum the absolute per-pixel gradients of `means2d` into `meta["means2d"].absgrad`.
        rasterize_mode: "antialiased" scales opacity to compensate for `eps2d` (Mip-Splatting, arXiv 2311.16493).
        backend: "gsplat", "cpu" or "torch"; by default chosen by the tensors' device and dtype.
        grad_stats: Statistics for densification that the backward pass accumulates; not supported with gsplat.

    Returns:
        render `[C, H, W, X]`, with X = D, 1 or D + 1 by `render_mode`; depth is the z-depth in the camera's frame.
        alpha `[C, H, W, 1]`.
        meta, as gsplat's strategies read it: `means2d` `[C, N, 2]` (call `retain_grad()` for its gradient), `radii`
        (`[C, N]`, or `[C, N, 2]` if the installed gsplat is 1.5 or later), `depths`, `conics`, `opacities`, `width`,
        `height`, `n_cameras`, `tile_size`, `gaussian_ids` and `camera_ids` (None: not packed).

    Raises:
        ValueError: A tensor has the wrong shape, or an option is not one of those above.
    """
    _check_shapes(means, quats, scales, opacities, colors, viewmats, Ks, width, height, sh_degree, backgrounds)
    if render_mode not in ("RGB", "D", "ED", "RGB+D", "RGB+ED"):
        raise ValueError(f"render_mode must be RGB, D, ED, RGB+D or RGB+ED, not {render_mode!r}")
    if rasterize_mode not in ("classic", "antialiased"):
        raise ValueError(f"rasterize_mode must be classic or antialiased, not {rasterize_mode!r}")
    backend = backend or default_backend(means)
    if grad_stats is not None and (backend == "gsplat" or (grad_stats.absgrad and not absgrad)):
        raise ValueError("grad_stats needs the cpu or torch backend, and absgrad=True if grad_stats.absgrad is set")
    if isinstance(colors, tuple) and backend != "cpu":
        colors = torch.cat(colors, dim=1)

    if backend == "gsplat":
        from gsplat import rasterization as gsplat_rasterization

        return gsplat_rasterization(
            means,
            quats,
            scales,
            opacities,
            colors,  # pyright: ignore[reportArgumentType] # in two parts only for the cpu backend
            viewmats,
            Ks,
            width,
            height,
            near_plane=near_plane,
            far_plane=far_plane,
            radius_clip=radius_clip,
            eps2d=eps2d,
            sh_degree=sh_degree,
            packed=packed,
            tile_size=TILE_SIZE,
            backgrounds=backgrounds,
            render_mode=render_mode,
            sparse_grad=sparse_grad,
            absgrad=absgrad,
            rasterize_mode=rasterize_mode,
        )
    if backend == "cpu":
        from img3d_kernels import cpu_backend as kernels
    elif backend == "torch":
        kernels = torch_backend
    else:
        raise ValueError(f"backend must be gsplat, cpu or torch, not {backend!r}")

    radii, means2d, depths, conics, opacities_2d, colors_2d = kernels.project_gaussians(
        means,
        quats,
        scales,
        opacities,
        colors,  # pyright: ignore[reportArgumentType]
        viewmats,
        Ks,
        width,
        height,
        near_plane=near_plane,
        far_plane=far_plane,
        radius_clip=radius_clip,
        eps2d=eps2d,
        sh_degree=sh_degree,
        antialiased=rasterize_mode == "antialiased",
        grad_stats=grad_stats,
    )

    n_cameras = viewmats.shape[0]
    if render_mode in ("D", "ED"):
        colors_2d = depths[..., None]
        backgrounds = None if backgrounds is None else backgrounds.new_zeros(n_cameras, 1)
    elif render_mode in ("RGB+D", "RGB+ED"):
        colors_2d = torch.cat([colors_2d, depths[..., None]], dim=-1)
        if backgrounds is not None:
            backgrounds = torch.cat([backgrounds, backgrounds.new_zeros(n_cameras, 1)], dim=-1)

    render, alpha = kernels.rasterize_to_pixels(
        means2d,
        conics,
        colors_2d,
        opacities_2d,
        radii,
        depths,
        width,
        height,
        backgrounds=backgrounds,
        absgrad=absgrad,
        grad_stats=grad_stats,
    )
    if render_mode in ("ED", "RGB+ED"):
        expected_depth = render[..., -1:] / alpha.clamp(min=1e-10)
        render = torch.cat([render[..., :-1], expected_depth], dim=-1)

    meta = {
        "means2d": means2d,
        "radii": gsplat_radii(radii),
        "depths": depths,
        "conics": conics,
        "opacities": opacities_2d,
        "camera_ids": None,
        "gaussian_ids": None,
        "width": width,
        "height": height,
        "n_cameras": n_cameras,
        "tile_size": TILE_SIZE,
        "tile_width": math.ceil(width / TILE_SIZE),
        "tile_height": math.ceil(height / TILE_SIZE),
    }
    return render, alpha, meta


def default_backend(means: Tensor) -> Backend:
    """The fastest backend for the tensor's device and dtype (the compiled one is float32)."""
    if means.is_cuda:
        return "gsplat"
    if means.device.type == "cpu" and means.dtype == torch.float32 and has_compiled_kernels():
        return "cpu"
    return "torch"


@lru_cache(maxsize=1)
def has_compiled_kernels() -> bool:
    """Whether the compiled backend can be imported; warns once if it cannot."""
    try:
        from img3d_kernels import _C  # noqa: F401
    except ImportError as error:
        warnings.warn(
            f"img3d's compiled kernels are missing ({error}): the torch backend renders instead, which is many "
            "times slower. Reinstall img3d with a C++ compiler present.",
            stacklevel=2,
        )
        return False
    return True


def _check_shapes(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor | tuple[Tensor, Tensor],
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    sh_degree: int | None,
    backgrounds: Tensor | None,
) -> None:
    """Raises ValueError, naming the argument, if a shape is not the one that `rasterization` documents."""
    n, c = means.shape[0], viewmats.shape[0]
    expected = {
        "means": (means, (n, 3)),
        "quats": (quats, (n, 4)),
        "scales": (scales, (n, 3)),
        "opacities": (opacities, (n,)),
        "viewmats": (viewmats, (c, 4, 4)),
        "Ks": (Ks, (c, 3, 3)),
    }
    if sh_degree is None:
        if isinstance(colors, tuple):
            raise ValueError("colors in two parts are spherical harmonics: give their sh_degree")
        expected["colors"] = (colors, (n, colors.shape[-1]))
        channels = colors.shape[-1]
    else:
        parts = colors if isinstance(colors, tuple) else (colors,)
        for part in parts:
            expected["colors" if part is parts[0] else "the second part of colors"] = (
                part,
                (n, part.shape[1] if part.dim() == 3 else -1, 3),
            )
        channels = 3
        if not 0 <= sh_degree <= 3:
            raise ValueError(f"sh_degree must be 0 to 3, not {sh_degree}")
        count = sum(part.shape[1] for part in parts if part.dim() == 3)
        if all(part.dim() == 3 for part in parts) and count < (sh_degree + 1) ** 2:
            raise ValueError(f"sh_degree {sh_degree} needs {(sh_degree + 1) ** 2} coefficients, got {count}")
        if len(parts) == 2 and parts[0].shape[1] != 1:
            raise ValueError(f"the first part of colors must have shape {[n, 1, 3]}, got {list(parts[0].shape)}")
    if backgrounds is not None:
        expected["backgrounds"] = (backgrounds, (c, channels))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {list(shape)}, got {list(tensor.shape)}")
    if width < 1 or height < 1:
        raise ValueError(f"width and height must be at least 1 pixel, got {width} x {height}")
