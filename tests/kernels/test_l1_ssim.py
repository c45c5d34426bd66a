# SPDX-License-Identifier: Apache-2.0
"""The photometric loss has splatfacto's numbers, that is pytorch_msssim's, and their gradients."""

from __future__ import annotations

import pytest
import torch
from pytorch_msssim import SSIM
from torch import Tensor

from img3d_kernels.losses import l1_ssim


def splatfactos(render: Tensor, target: Tensor, ssim_lambda: float, mask: Tensor | None = None) -> Tensor:
    if mask is not None:
        render, target = render * mask, target * mask
    ssim = SSIM(data_range=1.0, size_average=True, channel=3)
    similarity = ssim(target.permute(2, 0, 1)[None], render.permute(2, 0, 1)[None])
    return (1 - ssim_lambda) * torch.abs(target - render).mean() + ssim_lambda * (1 - similarity)


LOSS_TOLERANCE = 1e-5
"""SSIM divides differences of moments, rounded at 2^-24, by its constant of 9e-4: up to 1e-4 in a pixel, which averages
out over hundreds. Another window, constant or border gives 1e-3 and more."""


def images(height: int, width: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    target = torch.rand(height, width, 3, generator=generator)
    render = (target + 0.2 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    return render.to(dtype).requires_grad_(), target.to(dtype)


@pytest.mark.parametrize("ssim_lambda", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(("height", "width"), [(11, 11), (12, 37), (64, 48)])
def test_is_splatfactos_loss(height: int, width: int, ssim_lambda: float) -> None:
    render, target = images(height, width)
    loss, expected = l1_ssim(render, target, ssim_lambda), splatfactos(render, target, ssim_lambda)
    torch.testing.assert_close(loss, expected, rtol=0, atol=LOSS_TOLERANCE)
    (gradient,) = torch.autograd.grad(loss, render)
    (expected_gradient,) = torch.autograd.grad(expected, render)
    assert (gradient - expected_gradient).norm() < 1e-4 * expected_gradient.norm()  # as above


def test_mask_leaves_pixels_out() -> None:
    render, target = images(30, 40)
    mask = torch.ones(30, 40, 1)
    mask[5:20, 10:25] = 0
    loss = l1_ssim(render, target, 0.2, mask)
    torch.testing.assert_close(loss, splatfactos(render, target, 0.2, mask), rtol=0, atol=LOSS_TOLERANCE)
    (gradient,) = torch.autograd.grad(loss, render)
    assert not gradient[5:20, 10:25].any() and gradient[0, 0].any()
    torch.testing.assert_close(l1_ssim(render, target, 0.2, mask[..., 0].bool()), loss)


@pytest.mark.parametrize(("height", "width"), [(11, 11), (12, 37), (64, 400)])
def test_mask_may_be_anything(height: int, width: int) -> None:
    """Rows with ones only are left as they are; a picture 400 wide is divided into strips."""
    render, target = images(height, width)
    mask = torch.rand(height, width, generator=torch.Generator().manual_seed(1))
    mask[: height // 2] = 1
    loss, expected = l1_ssim(render, target, 0.2, mask), splatfactos(render, target, 0.2, mask[..., None])
    torch.testing.assert_close(loss, expected, rtol=0, atol=LOSS_TOLERANCE)
    (gradient,), (by_splatfacto,) = (torch.autograd.grad(each, render) for each in (loss, expected))
    assert (gradient - by_splatfacto).norm() < 1e-4 * by_splatfacto.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_photos_may_be_bytes(dtype: torch.dtype) -> None:
    render, target = images(20, 37, dtype)
    photo = (target * 255).round().to(torch.uint8)
    loss, expected = l1_ssim(render, photo, 0.2), l1_ssim(render, photo.to(dtype) / 255, 0.2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, render)[0] for each in (loss, expected)))


@pytest.mark.filterwarnings("ignore:Skipping Gaussian Smoothing")
@pytest.mark.parametrize(("height", "width"), [(5, 30), (30, 5), (4, 4)])
def test_images_smaller_than_the_window(height: int, width: int) -> None:
    render, target = images(height, width)
    torch.testing.assert_close(
        l1_ssim(render, target, 0.2), splatfactos(render, target, 0.2), rtol=0, atol=LOSS_TOLERANCE
    )


def test_gradient_is_that_of_finite_differences() -> None:
    render, target = images(13, 12, torch.float64)
    assert torch.autograd.gradcheck(lambda image: l1_ssim(image, target, 0.2), render, fast_mode=True)


def test_equal_images_lose_nothing() -> None:
    _, target = images(20, 20)
    assert l1_ssim(target, target, 0.2).item() == pytest.approx(0.0, abs=LOSS_TOLERANCE)


@pytest.mark.usefixtures("annotations_unchecked")
def test_shapes_that_do_not_fit_are_named() -> None:
    image = torch.zeros(20, 30, 3)
    with pytest.raises(ValueError, match=r"\[20, 30, 3\] and \[30, 20, 3\]"):
        l1_ssim(image, image.transpose(0, 1), 0.2)
    with pytest.raises(ValueError, match="mask must be"):
        l1_ssim(image, image, 0.2, torch.ones(30, 20))
