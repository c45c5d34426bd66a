# SPDX-License-Identifier: Apache-2.0
"""The compiled, multithreaded float32 backend: `torch_backend`'s two functions, implemented by `img3d_kernels._C`.

Other dtypes are converted to float32 here: the extension rejects arrays that it would have to convert. Importing this
module requires the compiled extension.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from img3d_kernels import _C
from img3d_kernels.grad_stats import GradStats

MAX_CHANNELS = 4
"""Channels that the blending kernel keeps in registers."""

# The user's setting for torch (torch.set_num_threads, OMP_NUM_THREADS) applies to these kernels too.
_C.set_num_threads(torch.get_num_threads())


def isa() -> str:
    """The instruction set of the kernels in use: "avx512", "avx2" or "baseline"."""
    return _C.isa()


def project_gaussians(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    colors: Float[Tensor, "N D"] | Float[Tensor, "N K 3"] | tuple[Float[Tensor, "N 1 3"], Float[Tensor, "N L 3"]],
    viewmats: Float[Tensor, "C 4 4"],
    Ks: Float[Tensor, "C 3 3"],
    width: int,
    height: int,
    *,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
    eps2d: float,
    sh_degree: int | None,
    antialiased: bool,
    grad_stats: GradStats | None = None,
) -> tuple[
    Int[Tensor, "C N"],
    Float[Tensor, "C N 2"],
    Float[Tensor, "C N"],
    Float[Tensor, "C N 3"],
    Float[Tensor, "C N"],
    Float[Tensor, "C N D"],
]:
    """Projects 3D Gaussians into each camera; see `torch_backend.project_gaussians`.

    Returns:
        radii (0: not in view), means2d in pixels, z-depths, conics (upper triangle of the inverse covariance),
        opacities (compensated if `antialiased`) and colours (spherical harmonics evaluated).
    """
    means, quats, scales, opacities, viewmats, Ks = (t.float() for t in (means, quats, scales, opacities, viewmats, Ks))
    colors = (colors[0].float(), colors[1].float()) if isinstance(colors, tuple) else colors.float()
    camera_centers = None if sh_degree is None else torch.inverse(viewmats)[:, :3, 3]
    options = (width, height, near_plane, far_plane, radius_clip, eps2d, antialiased)
    sh, sh_rest = (None, None) if sh_degree is None else colors if isinstance(colors, tuple) else (colors, None)
    radii, means2d, depths, conics, opacities_2d, colors_2d = _Project.apply(
        means,
        quats,
        scales,
        opacities,
        sh,
        sh_rest,
        viewmats,
        camera_centers,
        Ks,
        -1 if sh_degree is None else sh_degree,
        options,
        grad_stats,
    )
    if sh_degree is None:
        assert isinstance(colors, Tensor)
        colors_2d = colors.expand(viewmats.shape[0], -1, -1)
    return radii, means2d, depths, conics, opacities_2d, colors_2d


def rasterize_to_pixels(
    means2d: Float[Tensor, "C N 2"],
    conics: Float[Tensor, "C N 3"],
    colors: Float[Tensor, "C N D"],
    opacities: Float[Tensor, "C N"],
    radii: Int[Tensor, "C N"],
    depths: Float[Tensor, "C N"],
    width: int,
    height: int,
    *,
    backgrounds: Float[Tensor, "C D"] | None,
    absgrad: bool,
    grad_stats: GradStats | None = None,
) -> tuple[Float[Tensor, "C H W D"], Float[Tensor, "C H W 1"]]:
    """Blends projected Gaussians, nearest first; see `torch_backend.rasterize_to_pixels`.

    More than `MAX_CHANNELS` channels are blended in several passes.

    Raises:
        ValueError: `absgrad` with more than `MAX_CHANNELS` channels: absolute gradients of passes cannot be summed.
    """
    if absgrad and colors.shape[-1] > MAX_CHANNELS:
        raise ValueError(f"absgrad takes at most {MAX_CHANNELS} channels on the cpu backend, got {colors.shape[-1]}")
    means2d, conics, colors, opacities, depths = (t.float() for t in (means2d, conics, colors, opacities, depths))
    backgrounds = None if backgrounds is None else backgrounds.float()
    renders, alphas = [], []
    for first in range(0, max(1, colors.shape[-1]), MAX_CHANNELS):
        channels = slice(first, first + MAX_CHANNELS)
        background = None if backgrounds is None else backgrounds[:, channels]
        render, alpha = _Rasterize.apply(
            means2d,
            conics,
            colors[..., channels],
            opacities,
            radii,
            depths,
            background,
            width,
            height,
            absgrad,
            grad_stats,
        )
        renders.append(render)
        alphas.append(alpha)
    return (renders[0] if len(renders) == 1 else torch.cat(renders, dim=-1)), alphas[0]


def l1_ssim(
    render: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"] | UInt8[Tensor, "H W 3"],
    ssim_lambda: float,
    mask: Float[Tensor, "H W"] | None = None,
) -> Float[Tensor, ""]:
    """`losses.l1_ssim` in one pass, for images of at least 11 x 11 pixels. Only `render` gets a gradient."""
    return _L1Ssim.apply(render, target, ssim_lambda, mask)


def array(tensor: Tensor | None) -> np.ndarray | None:
    """The tensor as a contiguous NumPy array, which is passed to the extension faster than a tensor."""
    return None if tensor is None else tensor.detach().contiguous().numpy()


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh: Tensor | None,
        sh_rest: Tensor | None,
        viewmats: Tensor,
        camera_centers: Tensor | None,
        Ks: Tensor,
        sh_degree: int,
        options: tuple[int, int, float, float, float, float, bool],
        grad_stats: GradStats | None,
    ) -> tuple[Tensor | None, ...]:
        inputs = [array(t) for t in (means, quats, scales, opacities, sh, sh_rest, viewmats, camera_centers, Ks)]
        n, c = means.shape[0], viewmats.shape[0]
        radii = torch.empty(c, n, dtype=torch.int32)
        means2d, depths, conics = torch.empty(c, n, 2), torch.empty(c, n), torch.empty(c, n, 3)
        opacities_2d = torch.empty(c, n)
        colors = None if sh is None else torch.empty(c, n, 3)
        gaussians, cameras = inputs[:6], inputs[6:]
        ctx.call = (*gaussians, sh_degree, *cameras, *options)
        outputs = [array(t) for t in (radii, means2d, depths, conics, opacities_2d, colors)]
        _C.project_forward(*ctx.call, *outputs)
        ctx.radii = outputs[0]
        ctx.grad_stats = grad_stats
        ctx.mark_non_differentiable(radii)
        return radii, means2d, depths, conics, opacities_2d, colors  # pyright: ignore[reportReturnType]

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        _: Tensor,
        v_means2d: Tensor,
        v_depths: Tensor,
        v_conics: Tensor,
        v_opacities_2d: Tensor,
        v_colors: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        gaussians, cameras = ctx.call[:6], ctx.call[7:9]
        needed = [value if needs else None for value, needs in zip(cameras, ctx.needs_input_grad[6:8], strict=True)]
        gradients = [None if value is None else torch.empty(value.shape) for value in (*gaussians, *needed)]
        if gaussians[4] is None:  # no spherical harmonics
            v_colors = None
        stats: GradStats | None = ctx.grad_stats
        sums = (None,) * 4 if stats is None else (stats.means2d_absgrad, stats.grad2d, stats.count, stats.radii)
        _C.project_backward(
            *ctx.call,
            ctx.radii,
            *(array(v) for v in (v_means2d, v_depths, v_conics, v_opacities_2d, v_colors, *gradients, *sums)),
        )
        return *gradients, None, None, None, None


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        colors: Tensor,
        opacities: Tensor,
        radii: Tensor,
        depths: Tensor,
        backgrounds: Tensor | None,
        width: int,
        height: int,
        absgrad: bool,
        grad_stats: GradStats | None,
    ) -> tuple[Tensor, Tensor]:
        c, channels = means2d.shape[0], colors.shape[-1]
        render, alpha = torch.empty(c, height, width, channels), torch.empty(c, height, width, 1)
        arrays = [array(t) for t in (means2d, conics, colors, opacities, radii, depths, backgrounds)]
        for_backward = any(ctx.needs_input_grad)
        ctx.states = [
            _C.rasterize_forward(
                *(None if a is None else a[i] for a in arrays),
                width,
                height,
                for_backward,
                render[i].numpy(),
                alpha[i].numpy(),
            )
            for i in range(c)
        ]
        ctx.save_for_backward(render, alpha)
        ctx.n = means2d.shape[1]
        ctx.absgrad_of = means2d if absgrad else None
        ctx.grad_stats = grad_stats
        return render, alpha

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, v_render: Tensor, v_alpha: Tensor
    ) -> tuple[Tensor | None, ...]:
        render, alpha = ctx.saved_tensors
        v_render, v_alpha = v_render.contiguous(), v_alpha.contiguous()
        c, n, channels = render.shape[0], ctx.n, render.shape[-1]
        v_means2d, v_conics = torch.zeros(c, n, 2), torch.zeros(c, n, 3)
        v_colors, v_opacities = torch.zeros(c, n, channels), torch.zeros(c, n)
        v_means2d_abs = torch.zeros(c, n, 2) if ctx.absgrad_of is not None else None
        for i, state in enumerate(ctx.states):
            _C.rasterize_backward(
                state,
                *(array(t[i]) for t in (render, alpha, v_render, v_alpha, v_means2d, v_conics, v_colors, v_opacities)),
                None if v_means2d_abs is None else v_means2d_abs[i].numpy(),
            )
        if v_means2d_abs is not None:
            setattr(ctx.absgrad_of, "absgrad", v_means2d_abs)  # noqa: B010 # as gsplat: tensors declare no such attribute
            if ctx.grad_stats is not None and ctx.grad_stats.absgrad:
                ctx.grad_stats.means2d_absgrad = v_means2d_abs
        v_backgrounds = (v_render * (1.0 - alpha)).sum(dim=(1, 2)) if ctx.needs_input_grad[6] else None
        return v_means2d, v_conics, v_colors, v_opacities, None, None, v_backgrounds, None, None, None, None


class _L1Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, render: Tensor, target: Tensor, ssim_lambda: float, mask: Tensor | None) -> Tensor:
        v_render = torch.empty(render.shape) if ctx.needs_input_grad[0] else None
        loss = _C.l1_ssim(array(render), array(target), ssim_lambda, array(mask), array(v_render))
        ctx.v_render = v_render
        return torch.tensor(loss)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, v_loss: Tensor
    ) -> tuple[Tensor | None, None, None, None]:
        return (ctx.v_render if v_loss == 1.0 else v_loss * ctx.v_render), None, None, None


def composite_rays(
    means: Float[Tensor, "N 3"],
    rotations: Float[Tensor, "N 3 3"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    colors: Float[Tensor, "N 3"] | Float[Tensor, "N K 3"],
    sh_degree: int | None,
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    nears: Float[Tensor, "R"],
    fars: Float[Tensor, "R"],
    pixel_pitch: Float[Tensor, "R"],
    eps2d: float,
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R"], Float[Tensor, "R"], Float[Tensor, "R 3"]]:
    """Blends Gaussians along rays, without gradients; faster if neighbouring rays follow each other.

    Args:
        means: Centres, world coordinates.
        rotations: Their columns are each Gaussian's axes.
        scales: Standard deviations along the axes.
        opacities: In [0, 1].
        colors: RGB if `sh_degree` is None, else coefficients of spherical harmonics.
        sh_degree: Degree of the harmonics.
        origins: Where rays begin, world coordinates.
        directions: Unit directions.
        nears: Gaussians whose centre is nearer along the ray are not seen.
        fars: Gaussians whose centre is farther along the ray are not seen.
        pixel_pitch: Distance between the rays of neighbouring pixels at distance 1, for the dilation by `eps2d`.
        eps2d: Variance that is added to Gaussians across the ray, in pixels squared.

    Returns:
        The sum of the colours, weighted with the light that each Gaussian absorbs; the light that passes all of them;
        the weighted sums of their distances, and of the axes along which they are thinnest, turned towards the origins.
    """
    n = len(origins)
    sums = means.new_empty(n, 3), means.new_empty(n), means.new_empty(n), means.new_empty(n, 3)
    _C.composite_rays(
        *(array(value) for value in (means, rotations, scales, opacities, colors)),
        -1 if sh_degree is None else sh_degree,
        *(array(value.float()) for value in (origins, directions, nears, fars, pixel_pitch)),
        eps2d,
        *(array(value) for value in sums),
    )
    return sums
