# SPDX-License-Identifier: Apache-2.0
"""The torch twin against gsplat's own PyTorch code: projection, covariances, spherical harmonics, and their gradients.

gsplat's reference differs from its CUDA kernels (which we follow) in two corners that the scenes here avoid: it leaves
out a Gaussian exactly on the near or far plane, and it knows no `radius_clip`.
"""

from __future__ import annotations

import pytest
import torch
from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci, _spherical_harmonics
from kernel_scenes import SCENES

from img3d_kernels import torch_backend
from img3d_kernels.gsplat_compat import gsplat_version

PROJECTED = ["spherical harmonics", "off the screen", "huge", "needle-thin", "wide angle", "three cameras", "one pixel"]


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("name", PROJECTED)
def test_projection(name: str, antialiased: bool) -> None:
    scene = SCENES[name]()
    size = {"width": scene.width, "height": scene.height}
    ours, theirs = scene.tensors(torch.float64), scene.tensors(torch.float64)
    Ks = scene.Ks.double()

    radii, means2d, depths, conics, opacities, _ = torch_backend.project_gaussians(
        *(ours[key] for key in ("means", "quats", "scales", "opacities", "colors", "viewmats")),
        Ks,
        **size,
        near_plane=0.01,
        far_plane=1e10,
        radius_clip=0.0,
        eps2d=0.3,
        sh_degree=3,
        antialiased=antialiased,
    )
    covars, _ = _quat_scale_to_covar_preci(theirs["quats"], theirs["scales"], compute_preci=False)
    expected_radii, *expected = _fully_fused_projection(
        theirs["means"], covars, theirs["viewmats"], Ks, **size, calc_compensations=antialiased
    )
    compensations = expected.pop()
    expected_opacities = theirs["opacities"] * (
        torch.ones_like(expected[1]) if compensations is None else compensations
    )

    visible = radii > 0
    if gsplat_version() >= (1, 5):  # 3.33 standard deviations along each of the picture's axes, not 3 of the longest
        expected_radii = expected_radii.amax(dim=-1)
        assert (expected_radii <= torch.ceil(3.33 / 3 * radii) + 1)[visible].all()
        visible &= expected_radii > 0
    else:
        assert torch.equal(radii, expected_radii)
    assert visible.any()
    assert radii.dtype == torch.int32
    ours_kept = [values[visible] for values in (means2d, depths, conics, opacities)]
    theirs_kept = [values[visible] for values in (*expected, expected_opacities)]
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(values.shape, generator=generator).double() for values in ours_kept]
    for values, reference in zip(ours_kept, theirs_kept, strict=True):
        torch.testing.assert_close(values, reference, rtol=1e-9, atol=1e-9)
    sum((values * w).sum() for values, w in zip(ours_kept, weights, strict=True)).backward()
    sum((values * w).sum() for values, w in zip(theirs_kept, weights, strict=True)).backward()
    for key in ("means", "quats", "scales", "opacities", "viewmats"):
        # Needles' inverse covariances (variances 1e-10 and 0.1) amplify the rounding of 1e-16 a billion times.
        torch.testing.assert_close(ours[key].grad, theirs[key].grad, rtol=1e-6, atol=1e-8)


def test_field_of_view_clamp_is_active_in_the_wide_angle_scene() -> None:
    """Otherwise the tests that use that scene would show nothing of it."""
    scene = SCENES["wide angle"]()
    means_c = scene.means @ scene.viewmats[0, :3, :3].T + scene.viewmats[0, :3, 3]
    slope = (means_c[:, 0] / means_c[:, 2]).abs()
    limit = (1 + torch_backend.FOV_MARGIN) * 0.5 * scene.width / scene.Ks[0, 0, 0]
    assert ((slope > 1.1 * limit) & (means_c[:, 2] > 0)).sum() > 10


def test_covariances() -> None:
    scene = SCENES["unnormalised quats"]()
    quats, scales = scene.quats.double(), scene.scales.double()
    expected, _ = _quat_scale_to_covar_preci(quats, scales)
    torch.testing.assert_close(torch_backend.quat_scale_to_covar(quats, scales), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spherical_harmonics(degree: int) -> None:
    generator = torch.Generator().manual_seed(degree)
    dirs = torch.randn(2, 50, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    coeffs = torch.randn(50, 16, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    ours = torch_backend.spherical_harmonics(degree, dirs, coeffs)
    theirs = _spherical_harmonics(degree, dirs, coeffs.expand(2, -1, -1, -1))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    weights = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    for mine, other in zip(
        torch.autograd.grad((ours * weights).sum(), (dirs, coeffs), allow_unused=True),
        torch.autograd.grad((theirs * weights).sum(), (dirs, coeffs), allow_unused=True),
        strict=True,
    ):
        if degree == 0 and mine is None:
            assert other is None or not other.any()
            continue
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
