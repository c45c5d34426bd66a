# SPDX-License-Identifier: Apache-2.0
"""Following rays one by one shows what the rasteriser shows."""

from __future__ import annotations

import math

import pytest
import torch
from gaussian_scenes import pinhole_camera, small_model
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from scipy.spatial.transform import Rotation

from img3d_kernels import rasterization
from img3d_methods.splat import ray_compositing
from img3d_methods.splat.model import FAR, Img3dSplatModel
from img3d_methods.splat.ray_compositing import ActivatedGaussians, composite_rays


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(((a - b) ** 2).mean()))


def one_gaussian(opacity: float = 0.8, scale: float = 0.1, center: tuple[float, float, float] = (0, 0, 0)):
    return ActivatedGaussians(
        means=torch.tensor([center], dtype=torch.float32),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        scales=torch.full((1, 3), scale),
        opacities=torch.tensor([opacity]),
        colors=torch.tensor([[1.0, 0.5, 0.25]]),
        sh_degree=None,
    )


def test_a_ray_beside_a_gaussian_sees_its_profile() -> None:
    offsets = torch.tensor([0.0, 0.1, 0.2, 1.0])
    origins = torch.stack([torch.full((4,), -2.0), offsets, torch.zeros(4)], dim=-1)
    directions = torch.tensor([[1.0, 0, 0]]).expand(4, 3)
    seen = composite_rays(one_gaussian(), origins, directions, torch.zeros(3))
    expected = torch.tensor([0.8, 0.8 * math.exp(-0.5), 0.8 * math.exp(-2.0), 0.0])
    torch.testing.assert_close(seen.alpha[:, 0], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(seen.rgb[:, 0], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(seen.distance[:3, 0], torch.full((3,), 2.0))


@pytest.mark.parametrize("opacity", [0.6, 0.995, 1.0])
def test_an_opaque_gaussian_lets_through_what_it_does_in_the_rasteriser(opacity: float) -> None:
    gaussian = one_gaussian(opacity, center=(0, 0, 2))
    K = torch.tensor([[20.0, 0, 4.5], [0, 20.0, 4.5], [0, 0, 1]])  # the middle pixel's centre is on the axis
    arguments = (gaussian.means, gaussian.quats, gaussian.scales, gaussian.opacities, gaussian.colors)
    image, alpha, _ = rasterization(*arguments, torch.eye(4)[None], K[None], width=9, height=9)
    seen = composite_rays(gaussian, torch.zeros(1, 3), torch.tensor([[0.0, 0, 1]]), torch.zeros(3))
    # Both are the opacity up to the error of exp2, some 1e-7; a clamp of 0.99 would differ by 5e-3.
    torch.testing.assert_close(seen.alpha[0], alpha[0, 4, 4], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.rgb[0], image[0, 4, 4], atol=1e-5, rtol=0)


def test_near_and_far_bound_what_is_seen() -> None:
    origins, directions = torch.tensor([[-2.0, 0, 0]]).repeat(3, 1), torch.tensor([[1.0, 0, 0]]).repeat(3, 1)
    nears, fars = torch.tensor([0.0, 2.1, 0.0]), torch.tensor([9.0, 9.0, 1.9])
    seen = composite_rays(one_gaussian(), origins, directions, torch.ones(3), nears, fars)
    torch.testing.assert_close(seen.alpha[:, 0], torch.tensor([0.8, 0.0, 0.0]))
    torch.testing.assert_close(seen.rgb[1], torch.ones(3))


def test_a_flat_gaussian_has_its_normal() -> None:
    gaussians = one_gaussian()
    gaussians.scales = torch.tensor([[0.3, 0.3, 0.001]])
    seen = composite_rays(gaussians, torch.tensor([[0.0, 0.1, 2.0]]), torch.tensor([[0.0, 0, -1]]), torch.zeros(3))
    torch.testing.assert_close(seen.normals[0], torch.tensor([0.0, 0, 1]))


@pytest.fixture(scope="module")
def model() -> Img3dSplatModel:
    return small_model(num_points=400, background_color="white", init_opacity=0.6, init_scale=0.1)


@pytest.mark.parametrize("block", [7, 1024])
def test_pixel_rays_show_the_rasterisers_image(
    model: Img3dSplatModel, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(ray_compositing, "GAUSSIANS_PER_BLOCK", block)
    camera = pinhole_camera((3.0, 1.0, 0.7), fx=60.0, fy=60.0)
    with torch.no_grad():
        image = model.get_outputs(camera)
        bundle = camera.generate_rays(camera_indices=0, keep_shape=True)
        rays = model.get_outputs(bundle.flatten()[torch.arange(48 * 40)])
    # Not equal: the rasteriser replaces perspective by its tangent at each Gaussian's centre. (With Gaussians half as
    # large the difference is 58 dB.)
    assert psnr(rays["rgb"].reshape(40, 48, 3), image["rgb"]) > 38
    assert psnr(rays["accumulation"].reshape(40, 48, 1), image["accumulation"]) > 38
    solid = (image["accumulation"] > 0.7)[..., 0]
    distance = image["depth"] * bundle.metadata["directions_norm"]
    assert float((rays["depth"].reshape(40, 48, 1) - distance)[solid].abs().median()) < 0.02


def test_blocks_and_packets_do_not_change_the_result(model: Img3dSplatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = pinhole_camera((3.0, 1.0, 0.7)).generate_rays(camera_indices=0).flatten()
    whole = model.get_outputs(bundle)
    monkeypatch.setattr(ray_compositing, "GAUSSIANS_PER_BLOCK", 5)
    blocks = model.get_outputs(bundle)
    torch.testing.assert_close(blocks["rgb"], whole["rgb"], atol=1e-5, rtol=0)
    torch.testing.assert_close(blocks["accumulation"], whole["accumulation"], atol=1e-5, rtol=0)


def test_culling_leaves_nothing_out(model: Img3dSplatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    origins = torch.randn(300, 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(300, 3, generator=generator), dim=-1)
    bundle = RayBundle(origins=origins, directions=directions, pixel_area=torch.zeros(300, 1))
    culled = model.get_outputs(bundle)
    monkeypatch.setattr(
        ray_compositing,
        "_gaussians_near",
        lambda means, reach, origins, directions, *bounds: (
            (means - origins.mean(0)) @ torch.nn.functional.normalize(directions.sum(0), dim=0)
        ).argsort(),
    )
    monkeypatch.setattr(ray_compositing, "RAYS_PER_PACKET", 1)
    dense = model.get_outputs(bundle)
    assert float((dense["accumulation"] > 0.1).float().mean()) > 0.1
    # The order along a packet's axis differs a little from that along each ray; what is seen must not.
    torch.testing.assert_close(culled["accumulation"], dense["accumulation"], atol=2e-3, rtol=0)


@pytest.mark.parametrize("sh_degree", [None, 0, 2, 3])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_compiled_kernel_does_what_torch_does(
    sh_degree: int | None, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All around a point and from places around it, with rays that end early and a last packet that is not full."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    count, rays = 900, 64 * 7 + 5
    gaussians = ActivatedGaussians(
        means=1.5 * normal(count, 3),
        quats=torch.nn.functional.normalize(normal(count, 4), dim=-1),
        scales=(0.5 * normal(count, 3) - 2).exp(),
        opacities=normal(count).sigmoid(),
        colors=normal(count, 3).sigmoid() if sh_degree is None else 0.4 * normal(count, 16, 3),
        sh_degree=sh_degree,
    )
    bundle = (spread * normal(rays, 3), torch.nn.functional.normalize(normal(rays, 3), dim=-1), torch.rand(3))
    ends = (0.2 * torch.rand(rays), 1 + 4 * torch.rand(rays), 0.05 * torch.rand(rays))
    actual = composite_rays(gaussians, *bundle, *ends)
    monkeypatch.setattr(ray_compositing, "default_backend", lambda means: "torch")
    monkeypatch.setattr(ray_compositing, "RAYS_PER_PACKET", 64)  # packets decide the order of Gaussians
    expected = composite_rays(gaussians, *bundle, *ends)
    assert 0.3 < float(expected.alpha.mean()) < 0.95 and float((expected.alpha > 0.99).float().mean()) > 0.02
    # Where an alpha is at the threshold below which it is nothing, rounding decides.
    for name, tolerance in (("rgb", 2e-3), ("alpha", 2e-3), ("distance", 5e-3)):
        torch.testing.assert_close(getattr(actual, name), getattr(expected, name), atol=tolerance, rtol=0)
    assert float((actual.rgb - expected.rgb).abs().mean()) < 1e-5
    facing = (actual.normals * expected.normals).sum(dim=-1)[expected.alpha[:, 0] > 0.1]
    assert float((facing > 0.999).float().mean()) > 0.99


def test_rays_of_gaussians_that_are_learnt_have_gradients() -> None:
    gaussian = one_gaussian()
    gaussian.means.requires_grad_()
    seen = composite_rays(gaussian, torch.tensor([[-2.0, 0.1, 0]]), torch.tensor([[1.0, 0, 0]]), torch.zeros(3))
    seen.alpha.sum().backward()
    assert gaussian.means.grad is not None and float(gaussian.means.grad[0, 1]) > 0.1


def test_rays_that_meet_nothing_see_the_background_at_an_endless_distance(model: Img3dSplatModel) -> None:
    up = torch.tensor([[0.0, 0, 1]])
    bundle = RayBundle(origins=100 * up, directions=up, pixel_area=torch.zeros(1, 1))
    outputs = model.get_outputs(bundle)
    assert float(outputs["accumulation"]) == 0
    assert float(outputs["depth"]) == pytest.approx(FAR)
    torch.testing.assert_close(outputs["rgb"], torch.ones(1, 3))


def test_a_panorama_has_no_seams() -> None:
    """Turned by a quarter, it is the same panorama moved by a quarter of its width: wherever its edges and the packets'
    borders are, nothing shows them."""
    model = small_model()
    turns = []
    for quarter in (0, 1):
        pose = torch.eye(4)[:3]
        pose[:, :3] = torch.from_numpy(Rotation.from_euler("y", -90 * quarter, degrees=True).as_matrix()).float()
        camera = Cameras(pose[None], 32.0, 32.0, 32.0, 16.0, 64, 32, camera_type=CameraType.EQUIRECTANGULAR)
        turns.append(model.get_outputs_for_camera(camera))
    assert float(turns[0]["accumulation"].mean()) > 0.1
    for name in ("rgb", "accumulation"):
        torch.testing.assert_close(turns[1][name], turns[0][name].roll(-16, dims=1), atol=2e-2, rtol=0)
