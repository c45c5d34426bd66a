# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn import functional as F

from img3d_kernels import rasterization
from img3d_methods.splat.smaller_images import SCREEN_DILATION, downscaled, screen_dilation

SIZE = 96


def render(scale: float, downscale_factor: int, eps2d: float) -> torch.Tensor:
    """A faint Gaussian, `scale` pixels wide at full size, seen by a camera at distance 10; `[h, w]`."""
    size, focal = SIZE // downscale_factor, 100.0 / downscale_factor
    K = torch.tensor([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    image, _, _ = rasterization(
        means=torch.tensor([[0.31, -0.17, 10.0]]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        scales=torch.full((1, 3), scale * 10.0 / 100.0),
        opacities=torch.tensor([0.9]),
        colors=torch.ones(1, 3),
        viewmats=torch.eye(4)[None],
        Ks=K[None],
        width=size,
        height=size,
        eps2d=eps2d,
    )
    return image[0, ..., 0]


def test_the_full_size_has_the_usual_dilation() -> None:
    assert screen_dilation(1) == SCREEN_DILATION


@pytest.mark.parametrize("downscale_factor", [2, 4])
@pytest.mark.parametrize("scale", [4.0, 8.0])
def test_a_coarse_render_is_close_to_the_full_render_averaged(scale: float, downscale_factor: int) -> None:
    averaged = F.avg_pool2d(render(scale, 1, SCREEN_DILATION)[None], downscale_factor)[0]

    error = (render(scale, downscale_factor, screen_dilation(downscale_factor)) - averaged).abs().mean()
    usual = (render(scale, downscale_factor, SCREEN_DILATION) - averaged).abs().mean()

    assert error < 0.35 * usual
    assert error < 0.1 * averaged.mean()


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_photos_are_averaged_over_whole_blocks(factor: int, channels: int) -> None:
    image = torch.rand(25, 38, channels)

    expected = F.avg_pool2d(image.permute(2, 0, 1), factor).permute(1, 2, 0)

    torch.testing.assert_close(downscaled(image, factor), expected)
