# SPDX-License-Identifier: Apache-2.0
"""The rasteriser in plain PyTorch: the readable reference implementation for the compiled backends.

Any device, any floating dtype. The maths and every threshold are those of gsplat 1.4.0's CUDA kernels
(https://github.com/nerfstudio-project/gsplat), which follow "3D Gaussian Splatting for Real-Time Radiance Field
Rendering" (Kerbl et al. 2023, arXiv 2308.04079); notation as in arXiv 2312.02121.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from img3d_kernels.grad_stats import GradStats
from img3d_kernels.quaternions import rotation_matrices
from img3d_kernels.spherical_harmonics import sh_basis

# gsplat 1.4.0's thresholds. They affect the image, so every backend uses the same values.
MAX_ALPHA = 0.999
"""A Gaussian transmits at least 0.1 %, so that whatever is behind it still gets a gradient."""
MIN_ALPHA = 1.0 / 255.0
"""A Gaussian whose alpha is below one level of an 8-bit image is skipped in that pixel."""
MIN_TRANSMITTANCE = 1e-4
"""Blending of a pixel stops before the Gaussian that would reduce its transmittance to this or below."""
FOV_MARGIN = 0.3
"""Margin around the image, in half image sizes, to which the centre is clamped where the projection is linearised."""
MAX_RADIUS = 1e9
"""In pixels. Radii are int32: Gaussians with a larger radius or NaN are culled."""
TILE_SIZE = 16
"""Pixels along a tile's side. It affects the image, not only the speed: as in gsplat, a Gaussian reaches exactly the
pixels of the tiles that its 3-sigma square touches."""


def project_gaussians(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    colors: Float[Tensor, "N D"] | Float[Tensor, "N K 3"],
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
    """Projects Gaussians into images and evaluates their colour as seen from each camera.

    Arguments as in `rendering.rasterization`. Differentiable in everything but `Ks`, as in gsplat.

    Returns:
        radii: int32, 3 sigma of the longer axis in pixels, rounded up; 0 for a Gaussian that is culled: not between
            near and far plane, no larger than `radius_clip`, outside the image, or without a finite projection.
        means2d: Projected centres in pixels. Zero for culled Gaussians, as are depths and conics.
        depths: z in the camera's frame.
        conics: Upper triangle (xx, xy, yy) of the inverse of the projected covariance.
        opacities: Per camera; if `antialiased`, scaled to compensate for `eps2d`.
        colors: `[C, N, D]`, or `[C, N, 3]` from spherical harmonics.

        Culled Gaussians get zero gradients from all of these but `opacities` (unless `antialiased`) and `colors`
        (without `sh_degree`), which do not depend on the view.
    """
    Ks = Ks.detach()
    with torch.no_grad():
        means_c, covars_c = _to_camera(means, quat_scale_to_covar(quats, scales), viewmats)
        means2d, covars2d = _project(means_c, covars_c, Ks, width, height)
        radii = _visible_radii(
            means_c[..., 2], means2d, covars2d, width, height, near_plane, far_plane, radius_clip, eps2d
        )

    # A second, differentiable pass, with harmless values in place of culled Gaussians: a zero gradient times the
    # infinite derivative of 1/z at z = 0 would be NaN, so the inputs must be replaced, not the results.
    visible = radii > 0  # [C, N]
    anywhere = visible.any(dim=0)[:, None]  # [N, 1]
    means = torch.where(anywhere, means, torch.zeros_like(means))
    quats = torch.where(anywhere, quats, quats.new_tensor([1.0, 0.0, 0.0, 0.0]))
    scales = torch.where(anywhere, scales, torch.ones_like(scales))
    means_c, covars_c = _to_camera(means, quat_scale_to_covar(quats, scales), viewmats)
    means_c = torch.where(visible[..., None], means_c, means_c.new_tensor([0.0, 0.0, 1.0]))
    covars_c = torch.where(visible[..., None, None], covars_c, torch.eye(3).to(covars_c))
    means2d, covars2d = _project(means_c, covars_c, Ks, width, height)

    (a, b, c), det_sharp, det = _blur(covars2d, eps2d)
    conics = torch.stack([c, -b, a], dim=-1) / det[..., None]
    opacities = opacities.expand(visible.shape)
    if antialiased:
        ratio = det_sharp / det
        positive = visible & (ratio > 0)  # sqrt has no finite derivative at 0
        compensations = torch.where(positive, torch.where(positive, ratio, torch.ones_like(ratio)).sqrt(), 0.0)
        opacities = opacities * compensations

    if sh_degree is None:
        colors = colors.expand(len(viewmats), *colors.shape)
    else:
        camera_centers = torch.linalg.inv(viewmats)[:, :3, 3]
        dirs = means - camera_centers[:, None]
        dirs = torch.where(visible[..., None], dirs, dirs.new_tensor([0.0, 0.0, 1.0]))
        colors = torch.clamp_min(spherical_harmonics(sh_degree, dirs, colors) + 0.5, 0.0)
        colors = torch.where(visible[..., None], colors, 0.0)

    def keep(x: Tensor) -> Tensor:
        return torch.where(visible.reshape(visible.shape + (1,) * (x.dim() - 2)), x, 0.0)

    means2d = keep(means2d)
    if grad_stats is not None and means2d.requires_grad:
        means2d.register_hook(lambda grad: _add_grad_stats(grad_stats, grad, radii, width, height))
    return radii, means2d, keep(means_c[..., 2]), keep(conics), opacities, colors


def _add_grad_stats(
    stats: GradStats, v_means2d: Float[Tensor, "C N 2"], radii: Int[Tensor, "C N"], width: int, height: int
) -> None:
    """gsplat's `DefaultStrategy._update_state`."""
    if stats.absgrad:
        assert stats.means2d_absgrad is not None
        v_means2d = stats.means2d_absgrad
    visible = radii > 0
    half_images = 0.5 * len(radii) * v_means2d.new_tensor([width, height])
    norms = (v_means2d * half_images).norm(dim=-1)
    stats.grad2d += torch.where(visible, norms, 0.0).sum(dim=0).to(stats.grad2d)
    stats.count += visible.sum(dim=0)
    if stats.radii is not None:
        torch.maximum(stats.radii, radii.amax(dim=0) / max(width, height), out=stats.radii)


def quat_scale_to_covar(quats: Float[Tensor, "N 4"], scales: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3 3"]:
    """Covariances R diag(scales^2) R^T, with R from quaternions wxyz (normalised here; 0 gives NaN)."""
    unit = quats / quats.norm(dim=-1, keepdim=True)  # 0 becomes NaN, as in gsplat
    axes = rotation_matrices(unit) * scales[:, None, :]
    return axes @ axes.transpose(-1, -2)


def spherical_harmonics(
    degree: int, dirs: Float[Tensor, "C N 3"], coeffs: Float[Tensor, "N K 3"]
) -> Float[Tensor, "C N 3"]:
    """Evaluates spherical harmonics up to `degree` (0 to 3) in directions `dirs`, which are normalised here."""
    basis = sh_basis(degree, F.normalize(dirs, dim=-1))
    return torch.einsum("cnk,nkd->cnd", basis, coeffs[:, : basis.shape[-1]])


def _to_camera(
    means: Float[Tensor, "N 3"], covars: Float[Tensor, "N 3 3"], viewmats: Float[Tensor, "C 4 4"]
) -> tuple[Float[Tensor, "C N 3"], Float[Tensor, "C N 3 3"]]:
    """Means and covariances in each camera's frame."""
    R, t = viewmats[:, :3, :3], viewmats[:, :3, 3]
    return (
        torch.einsum("cij,nj->cni", R, means) + t[:, None],
        torch.einsum("cij,njk,clk->cnil", R, covars, R),
    )


def _project(
    means_c: Float[Tensor, "C N 3"], covars_c: Float[Tensor, "C N 3 3"], Ks: Float[Tensor, "C 3 3"], w: int, h: int
) -> tuple[Float[Tensor, "C N 2"], Float[Tensor, "C N 2 2"]]:
    """Pinhole projection of the means, and of the covariances through its Jacobian (EWA splatting, Zwicker 2001)."""
    z = means_c[..., 2]
    size = means_c.new_tensor([w, h])
    focal = torch.stack([Ks[:, 0, 0], Ks[:, 1, 1]], dim=-1)[:, None]  # [C, 1, 2]
    center = Ks[:, None, :2, 2]
    slopes = means_c[..., :2] / z[..., None]
    margin = FOV_MARGIN * 0.5 * size / focal
    # Far outside the image the linearisation is so poor that it smears Gaussians across it: use the one at the margin.
    clamped = torch.minimum(torch.maximum(slopes, -center / focal - margin), (size - center) / focal + margin)
    fx_z, fy_z = (focal / z[..., None]).unbind(-1)
    zero = torch.zeros_like(z)
    J = torch.stack(
        [
            torch.stack([fx_z, zero, -fx_z * clamped[..., 0]], dim=-1),
            torch.stack([zero, fy_z, -fy_z * clamped[..., 1]], dim=-1),
        ],
        dim=-2,
    )  # [C, N, 2, 3]
    return slopes * focal + center, J @ covars_c @ J.transpose(-1, -2)


def _blur(covars2d: Float[Tensor, "C N 2 2"], eps2d: float) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
    """Adds `eps2d` to the diagonal. Returns the entries (xx, xy, yy) and the determinant before and after, `[C, N]`."""
    a, b, c = covars2d[..., 0, 0], covars2d[..., 0, 1], covars2d[..., 1, 1]
    det_sharp = a * c - b * b
    a, c = a + eps2d, c + eps2d
    return (a, b, c), det_sharp, a * c - b * b


def _visible_radii(
    depths: Float[Tensor, "C N"],
    means2d: Float[Tensor, "C N 2"],
    covars2d: Float[Tensor, "C N 2 2"],
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
    eps2d: float,
) -> Int[Tensor, "C N"]:
    """Radii in pixels, 0 for culled Gaussians. The comparisons are written so that NaN culls."""
    (a, _, c), _, det = _blur(covars2d, eps2d)
    half_trace = 0.5 * (a + c)
    longest_variance = half_trace + (half_trace * half_trace - det).clamp(min=0.01).sqrt()
    radius = (3.0 * longest_variance.sqrt()).ceil()
    x, y = means2d.unbind(-1)
    visible = (
        (depths >= near_plane) & (depths <= far_plane) & (det > 0) & (radius > radius_clip) & (radius < MAX_RADIUS)
    )
    visible &= (x + radius > 0) & (x - radius < width) & (y + radius > 0) & (y - radius < height)
    return torch.where(visible, radius, 0.0).to(torch.int32)


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
    """Blends projected Gaussians front to back in every pixel.

    Differentiable in means2d, conics, colors, opacities and backgrounds; not in depths, which only determine the order
    (ties by index). If `absgrad`, backward sets `means2d.absgrad` `[C, N, 2]`: the sum over pixels of the absolute
    gradient of `means2d` (AbsGS, arXiv 2404.10484).

    Returns:
        render `[C, H, W, D]`, and alpha `[C, H, W, 1]`: 1 minus the remaining transmittance.
    """
    tracker = (
        _AbsgradTracker(means2d, grad_stats) if absgrad and means2d.requires_grad and torch.is_grad_enabled() else None
    )
    means2d_in = means2d if tracker is None else tracker.watched

    with torch.no_grad():
        tile_min = torch.floor((means2d - radii[..., None]) / TILE_SIZE)  # [C, N, 2]
        tile_max = torch.ceil((means2d + radii[..., None]) / TILE_SIZE)
        order = torch.argsort(depths, dim=-1, stable=True)

    renders, alphas = [], []
    for camera in range(len(means2d)):
        visible = order[camera][radii[camera][order[camera]] > 0]
        background = None if backgrounds is None else backgrounds[camera]
        rows = []
        for tile_y in range(0, height, TILE_SIZE):
            row = []
            for tile_x in range(0, width, TILE_SIZE):
                tile = tile_min.new_tensor([tile_x // TILE_SIZE, tile_y // TILE_SIZE])
                reaches = ((tile_min[camera, visible] <= tile) & (tile < tile_max[camera, visible])).all(dim=-1)
                ids = visible[reaches]
                # Each tile is recomputed in backward, so that memory is needed for one tile, not for the image.
                composited = checkpoint(
                    _composite,
                    _pixel_centers(tile_x, tile_y, width, height, means2d),
                    means2d_in[camera, ids],
                    conics[camera, ids],
                    colors[camera, ids],
                    opacities[camera, ids],
                    background,
                    None if tracker is None else tracker.hook(camera, ids),
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
                row.append(composited)
            rows.append(torch.cat(row, dim=1))
        image = torch.cat(rows, dim=0)
        renders.append(image[..., :-1])
        alphas.append(image[..., -1:])
    return torch.stack(renders), torch.stack(alphas)


def _pixel_centers(x: int, y: int, width: int, height: int, like: Tensor) -> Float[Tensor, "h w 2"]:
    """Centres (x, y) of the pixels of the tile that starts at (x, y)."""
    xs = torch.arange(x, min(x + TILE_SIZE, width)).to(like) + 0.5
    ys = torch.arange(y, min(y + TILE_SIZE, height)).to(like) + 0.5
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)


def _composite(
    pixels: Float[Tensor, "h w 2"],
    means2d: Float[Tensor, "G 2"],
    conics: Float[Tensor, "G 3"],
    colors: Float[Tensor, "G D"],
    opacities: Float[Tensor, "G"],
    background: Float[Tensor, "D"] | None,
    absgrad_hook: Callable[[Tensor | None], None] | None,
) -> Float[Tensor, "h w D+1"]:
    """Blends Gaussians, sorted front to back, in some pixels; the last channel is alpha."""
    means2d = means2d.expand(*pixels.shape[:2], -1, -1)  # [h, w, G, 2]
    if absgrad_hook is not None:
        means2d.register_hook(absgrad_hook)
    dx, dy = (means2d - pixels[..., None, :]).unbind(-1)  # [h, w, G]
    sigmas = 0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) + conics[:, 1] * dx * dy
    alphas = torch.clamp(opacities * torch.exp(-sigmas.clamp(min=0.0)), max=MAX_ALPHA)
    with torch.no_grad():
        blended = (sigmas >= 0) & (alphas >= MIN_ALPHA)
        blended &= torch.where(blended, 1.0 - alphas, 1.0).cumprod(dim=-1) > MIN_TRANSMITTANCE
    alphas = torch.where(blended, alphas, 0.0)
    # Transmittance before each Gaussian and, as the last entry, behind all of them.
    transmittances = F.pad(torch.cumprod(1.0 - alphas, dim=-1), (1, 0), value=1.0)
    render = (alphas * transmittances[..., :-1]) @ colors
    remaining = transmittances[..., -1:]
    if background is not None:
        render = render + remaining * background
    return torch.cat([render, 1.0 - remaining], dim=-1)


class _AbsgradTracker:
    """Sums absolute per-pixel gradients while backward runs, then stores them in `means2d.absgrad`.

    The tiles use `watched` in place of `means2d`: backward reaches it after all tiles, when the sums are complete.
    """

    def __init__(self, means2d: Tensor, grad_stats: GradStats | None) -> None:
        self.watched = means2d.view_as(means2d)
        total = torch.zeros_like(means2d)

        def publish(_: Tensor) -> None:
            means2d.absgrad = total.clone()  # pyright: ignore[reportAttributeAccessIssue]
            if grad_stats is not None and grad_stats.absgrad:
                grad_stats.means2d_absgrad = means2d.absgrad  # pyright: ignore[reportAttributeAccessIssue]
            total.zero_()

        self.watched.register_hook(publish)
        self._total = total

    def hook(self, camera: int, ids: Int[Tensor, "G"]) -> Callable[[Tensor | None], None]:
        """A hook for the per-pixel copies `[h, w, G, 2]` of the Gaussians `ids`."""
        total = self._total[camera]

        def add(grad: Float[Tensor, "h w G 2"] | None) -> None:
            if grad is not None:  # None: the loss does not depend on the image
                total.index_add_(0, ids, grad.abs().sum(dim=(0, 1)))

        return add
