# SPDX-License-Identifier: Apache-2.0
"""The bridge to LGM: the published poses and residuals, and pictures whose colours say which point they show."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_generators.bridge import DEFAULT_VIEWS, BridgedViews, BridgeMode, bridge, reduced_on_white
from img3d_generators.cameras import LGM_RADIUS, ZERO123PLUS_RIGS
from img3d_generators.networks.imagenet import MEAN, STD
from img3d_generators.posed_views import PosedViews
from img3d_kernels.poses import focal_length, world_to_cameras

WAYS: list[tuple[str, BridgeMode]] = [("v1.1", "rescale"), ("v1.2", "pad"), ("v1.2", "rescale"), ("v1.2", "rays")]
"""Rigs and modes; the mode makes no difference to v1.1."""


def signed_distance(points: Tensor) -> Tensor:
    """Distance of points `[..., 3]` to the test object's surface, negative inside: a ball with a ring and a nose.

    Its diameter is 0.92. It has no symmetry that a wrong pose could hide behind.
    """
    x, y, z = points.unbind(-1)
    ring = torch.hypot(torch.hypot(x, z) - 0.38, y - 0.02) - 0.08
    ball = (points - torch.tensor([0.0, -0.03, 0.0])).norm(dim=-1) - 0.3
    nose = (points - torch.tensor([0.1, 0.12, 0.3])).norm(dim=-1) - 0.09
    return torch.minimum(torch.minimum(ring, ball), nose)


OBJECT_SIZE = 0.92


@cache
def views_of_object(rig: str) -> PosedViews:
    """Four views of the test object; the colour of each surface point is its position + 0.5."""
    cameras, size = ZERO123PLUS_RIGS[rig], 320
    poses = cameras.camera_to_worlds()[list(DEFAULT_VIEWS)]
    steps = (torch.arange(size) + 0.5 - size / 2) / focal_length(cameras.fov, size)
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    directions = torch.stack([x, y, -torch.ones_like(x)], dim=-1).flatten(0, 1) @ poses[:, :, :3].mT
    directions = directions / directions.norm(dim=-1, keepdim=True)
    points = poses[:, None, :, 3] + (cameras.radius - 0.6) * directions
    for _ in range(40):  # sphere tracing
        points = points + signed_distance(points)[..., None] * directions
    on_surface = signed_distance(points).abs()[..., None] < 1e-4
    images = torch.where(on_surface, points + 0.5, 1.0).mT.unflatten(-1, (size, size))
    return PosedViews(images, poses, cameras.fov)


def points_and_rays(bridged: BridgedViews) -> tuple[Tensor, Tensor, Tensor]:
    """What the network's input says of every pixel.

    Returns:
        The surface points `[V, P, 3]` that the colours tell, and the rays' moments and directions `[V, P, 3]`.
    """
    colours, moments, directions = bridged.network_input().flatten(2).mT.split(3, dim=-1)
    return colours * torch.tensor(STD) + torch.tensor(MEAN) - 0.5, moments, directions


def depths(points: Tensor, camera_to_worlds: Tensor) -> Tensor:
    """How far points `[V, P, 3]` are before the origin of their world, as seen by each camera; `[V, P]`."""
    in_cameras = world_to_cameras(camera_to_worlds)
    return (points @ in_cameras[:, 2, :3, None])[..., 0]


def back_projected(bridged: BridgedViews, views: PosedViews) -> tuple[Tensor, Tensor]:
    """Where LGM has to put a Gaussian for each pixel: on its ray, as far before the origin as the picture shows.

    Returns:
        The Gaussians' means `[N, 3]` brought back to the views' world, and the points that the pixels show; only
        pixels that show one smooth piece of the surface.
    """
    points, moments, directions = points_and_rays(bridged)
    starts = torch.linalg.cross(directions, moments)  # the point of each ray that is nearest to the origin
    backward = bridged.camera_to_worlds[:, None, :, 2]
    wanted = depths(points, views.camera_to_worlds) / bridged.scale
    along = (wanted - (starts * backward).sum(-1)) / (directions * backward).sum(-1)
    means = (starts + along[..., None] * directions).flatten(0, 1)
    gaussians = ActivatedGaussians(
        means, torch.rand(len(means), 4), means.exp(), means[:, 0].sigmoid(), means.sigmoid()
    )
    points = points.flatten(0, 1)
    unmixed = (points < 0.499).all(dim=-1) & (signed_distance(points).abs() < 0.002)
    return bridged.to_world(gaussians).means[unmixed], points[unmixed]


@pytest.mark.parametrize(("rig", "mode"), WAYS)
class TestPixels:
    def test_come_back_to_the_surface_that_they_show(self, rig: str, mode: BridgeMode) -> None:
        views = views_of_object(rig)
        means, points = back_projected(bridge(views, mode), views)
        assert len(points) > 10_000
        assert signed_distance(means).abs().mean() < 0.005 * OBJECT_SIZE
        assert (means - points).norm(dim=-1).mean() < (0.006 if mode == "rescale" else 0.003) * OBJECT_SIZE

    def test_would_not_with_a_wrong_pose(self, rig: str, mode: BridgeMode) -> None:
        views = views_of_object(rig)
        wrong = PosedViews(views.images, views.camera_to_worlds.roll(1, dims=0), views.fov)
        means, _ = back_projected(bridge(wrong, mode), views)
        assert signed_distance(means).abs().mean() > 0.02 * OBJECT_SIZE

    def test_gaussians_look_the_same_from_lgm_s_cameras_and_from_the_views(self, rig: str, mode: BridgeMode) -> None:
        bridged = bridge(views_of_object(rig), mode)
        generator = torch.Generator().manual_seed(0)
        gaussians = ActivatedGaussians(
            0.2 * torch.randn(40, 3, generator=generator),
            torch.nn.functional.normalize(torch.randn(40, 4, generator=generator), dim=-1),
            0.15 * torch.rand(40, 3, generator=generator) + 0.01,
            torch.rand(40, generator=generator),
            torch.rand(40, 3, generator=generator),
        )
        seen_by_lgm, _ = gaussians.render(bridged.camera_to_worlds, bridged.fov, 48)
        poses = ZERO123PLUS_RIGS[rig].camera_to_worlds()[list(DEFAULT_VIEWS)]
        poses[:, :, 3] *= bridged.camera_to_worlds[0, 2, 3] * bridged.scale / ZERO123PLUS_RIGS[rig].radius
        seen_in_world, _ = bridged.to_world(gaussians).render(poses, bridged.fov, 48)
        torch.testing.assert_close(seen_in_world, seen_by_lgm, atol=1e-3, rtol=0)


class TestPoses:
    @pytest.mark.parametrize(
        ("rig", "rotation"),
        [
            ("v1.2", [[0.86603, 0, -0.5], [-0.17101, 0.93969, -0.2962], [0.46985, 0.34202, 0.8138]]),
            ("v1.1", [[0.86603, 0, -0.5], [-0.25, 0.86603, -0.43301], [0.43301, 0.5, 0.75]]),
        ],
    )
    def test_the_first_view_is_the_front(self, rig: str, rotation: list[list[float]]) -> None:
        bridged = bridge(views_of_object(rig), "pad")
        torch.testing.assert_close(bridged.to_views[:3, :3].T, torch.tensor(rotation), atol=1e-5, rtol=0)
        torch.testing.assert_close(bridged.to_views[:3, 3], torch.zeros(3), atol=1e-6, rtol=0)
        expected = torch.eye(3, 4)
        expected[2, 3] = LGM_RADIUS
        torch.testing.assert_close(bridged.camera_to_worlds[0], expected, atol=1e-6, rtol=0)

    def test_v1_1_is_taken_as_it_is(self) -> None:
        views = views_of_object("v1.1")
        bridged = bridge(views)
        assert torch.equal(bridged.images, views.images)
        assert (bridged.fov, bridged.scale) == (49.1, 1.0)

    def test_rays_are_the_true_ones_for_a_scaled_object(self) -> None:
        views = views_of_object("v1.2")
        bridged = bridge(views, "rays", object_radius=0.6)
        assert torch.equal(bridged.images, views.images)
        assert bridged.fov == 30
        assert bridged.scale == pytest.approx(0.5 / 0.6)
        assert float(bridged.camera_to_worlds[0, 2, 3]) == pytest.approx(2.239, abs=1e-3)


class TestLens:
    """How far, in pixels of 256, the pictures for LGM are from what its lens sees of a ball that fills v1.2's frame."""

    @staticmethod
    def residuals(object_radius: float) -> Tensor:
        rig = ZERO123PLUS_RIGS["v1.2"]
        generator = torch.Generator().manual_seed(0)
        inside = torch.randn(200_000, 3, generator=generator)
        inside *= 0.5 * torch.rand(len(inside), 1, generator=generator) ** (1 / 3) / inside.norm(dim=-1, keepdim=True)
        poses = rig.camera_to_worlds()[list(DEFAULT_VIEWS)]
        share = object_radius / (LGM_RADIUS * math.tan(math.radians(49.1 / 2)))
        painted = share * 256 / 320 * projected(inside, poses, focal_length(30, 320))
        poses[:, :, 3] *= LGM_RADIUS / rig.radius
        believed = projected(inside * object_radius / 0.5, poses, focal_length(49.1, 256))
        return (painted - believed).norm(dim=-1)

    def test_padding_is_exact(self) -> None:
        assert self.residuals(0.5 * LGM_RADIUS / ZERO123PLUS_RIGS["v1.2"].radius).max() < 1e-3

    @pytest.mark.parametrize(
        ("object_radius", "mean", "largest"), [(0.42, 0.20, 0.74), (0.45, 0.58, 2.2), (0.5, 1.3, 5.1)]
    )
    def test_rescaling_costs_what_was_computed(self, object_radius: float, mean: float, largest: float) -> None:
        residuals = self.residuals(object_radius)
        assert float(residuals.mean()) == pytest.approx(mean, rel=0.15)
        assert float(residuals.max()) == pytest.approx(largest, rel=0.15)

    @pytest.mark.parametrize(("mode", "width"), [("pad", 150.17), ("rescale", 168.1)])
    def test_pictures_are_reduced_on_white(self, mode: BridgeMode, width: float) -> None:
        views = views_of_object("v1.2")
        black = PosedViews(torch.zeros_like(views.images), views.camera_to_worlds, views.fov)
        images = bridge(black, mode).images
        assert images.shape[-2:] == (256, 256)
        middle = (1 - images[0, 0]).sum(dim=1)
        assert float(middle[128]) == pytest.approx(width, abs=0.05)
        torch.testing.assert_close(images, images.flip(-1))
        torch.testing.assert_close(images, images.mT)

    def test_an_object_that_does_not_fit(self) -> None:
        with pytest.raises(ValueError, match="radius 0.7 does not fit"):
            bridge(views_of_object("v1.2"), "rescale", object_radius=0.7)


def projected(points: Tensor, camera_to_worlds: Tensor, focal: float) -> Tensor:
    """Pixels `[V, N, 2]` from the picture's middle at which cameras see points `[N, 3]`."""
    transforms = world_to_cameras(camera_to_worlds)
    in_cameras = points @ transforms[:, :3, :3].mT + transforms[:, None, :3, 3]
    return focal * in_cameras[..., :2] / -in_cameras[..., 2:]


@pytest.mark.parametrize("share", [1.0, 0.59, 0.2])
def test_a_reduced_picture_stays_in_place(share: float) -> None:
    ramp = torch.linspace(0.1, 0.9, 320).expand(1, 3, 320, 320)
    reduced = reduced_on_white(ramp, share, 256)[0, 0, 128]
    middle = slice(128 - int(100 * share), 128 + int(100 * share))
    position = (torch.arange(256) + 0.5 - 128) / (share * 128)  # from -1 to 1 across the old picture
    torch.testing.assert_close(reduced[middle], (0.5 + 0.4 * position * 320 / 319)[middle], atol=2e-4, rtol=0)
