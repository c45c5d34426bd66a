# SPDX-License-Identifier: Apache-2.0
"""Stereo's depth and normals as a loss: what it is of right and wrong surfaces, and that training follows it."""

from __future__ import annotations

import pytest
import torch
from gaussian_scenes import pinhole_camera, small_model
from jaxtyping import Float
from test_splat_model import Training
from torch import Tensor

from img3d_kernels.poses import viewmats
from img3d_kernels.stereo.views import DepthMap, StereoView, from_planes
from img3d_methods.splat.stereo_prior import NORMAL_WEIGHT, StereoPrior

HEIGHT, WIDTH = 24, 32
K = torch.tensor([[40.0, 0, 16], [0, 40, 12], [0, 0, 1]])
OPAQUE = torch.ones(HEIGHT, WIDTH, 1)


def slanted() -> DepthMap:
    """A plane whose depth grows to the right."""
    planes = torch.zeros(HEIGHT, WIDTH, 3)
    planes[..., 0] = 0.5 - 0.004 * torch.arange(WIDTH)
    planes[..., 1] = -0.004
    depth, normals = from_planes(K, planes)
    return DepthMap(depth, normals, torch.zeros(HEIGHT, WIDTH))


def prior_of(found: DepthMap) -> StereoPrior:
    view = StereoView(torch.zeros(found.depth.shape, dtype=torch.uint8), K, torch.eye(4))
    return StereoPrior.of([view], [found])


def loss_of(found: DepthMap, depth: Float[Tensor, "H W"], alpha: Tensor = OPAQUE) -> float:
    return float(prior_of(found).loss(0, depth[..., None], alpha))


def test_the_surface_of_stereo_costs_nothing() -> None:
    found = slanted()
    assert loss_of(found, found.depth) == pytest.approx(0, abs=1e-6)
    # Rendered finer than stereo, and coarser.
    for factor, tolerance in ((2.0, 1e-3), (0.5, 3e-3)):
        resized = torch.nn.functional.interpolate(
            found.depth[None, None], scale_factor=factor, mode="bilinear" if factor > 1 else "area"
        )[0, 0]
        assert loss_of(found, resized, torch.ones(*resized.shape, 1)) < tolerance


def test_it_grows_with_the_relative_error_and_not_with_the_scale_of_the_scene() -> None:
    found = slanted()
    near, far = loss_of(found, found.depth * 1.01), loss_of(found, found.depth * 1.1)
    assert 0 < near < far / 10
    scaled = DepthMap(found.depth * 1000, found.normals, found.cost)
    assert loss_of(scaled, found.depth * 1100) == pytest.approx(far, rel=1e-4)


def test_a_wrong_slope_costs_although_the_depth_is_right_in_the_middle() -> None:
    found = slanted()
    turned = DepthMap(found.depth, found.normals.flip(-1), found.cost)
    expected = NORMAL_WEIGHT * (1 - (found.normals * turned.normals).sum(dim=-1)[:-1, :-1].sum() / found.depth.numel())
    assert loss_of(turned, found.depth) == pytest.approx(float(expected), abs=NORMAL_WEIGHT * 0.1)


def test_nothing_is_asked_where_stereo_knows_nothing_or_nothing_is_rendered() -> None:
    found, depth = slanted(), slanted().depth * 2
    left = torch.arange(WIDTH).expand(HEIGHT, WIDTH) < 8
    assert loss_of(found.where(left), torch.where(left, found.depth, depth)) == pytest.approx(0, abs=1e-6)
    assert loss_of(found, depth, torch.full((HEIGHT, WIDTH, 1), 0.1)) == 0
    empty = torch.zeros(HEIGHT, WIDTH, 1, requires_grad=True)
    loss = prior_of(DepthMap.empty(HEIGHT, WIDTH)).loss(0, empty + 1, OPAQUE)
    loss.backward()
    assert loss == 0 and (empty.grad == 0).all()


def test_its_gradient_leads_to_the_surface() -> None:
    found = slanted()
    depth = torch.full((HEIGHT, WIDTH, 1), 2.3, requires_grad=True)
    optimizer = torch.optim.Adam([depth], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        prior_of(found).loss(0, depth, OPAQUE).backward()
        optimizer.step()
    assert (depth.detach()[..., 0] / found.depth - 1).abs().median() < 0.01


def test_training_follows_stereo_and_flattens() -> None:
    """A grey photo tells nothing of depth: Gaussians move to where stereo says that the surface is."""
    camera = pinhole_camera(width=48, height=40, cx=24.0, cy=20.0)
    wall = DepthMap(
        torch.full((40, 48), 2.0), torch.tensor([0.0, 0, -1]).expand(40, 48, 3).contiguous(), torch.zeros(40, 48)
    )
    view = StereoView(
        torch.zeros(40, 48, dtype=torch.uint8),
        camera.get_intrinsics_matrices()[0],
        viewmats(camera.camera_to_worlds)[0],
    )
    batch = {"image": torch.full((40, 48, 3), 128, dtype=torch.uint8), "image_idx": 0}
    off, thickness = [], []
    for weight in (0.0, 1.0):
        model = small_model(stereo_prior=weight, flatness=weight, appearance="off", num_points=400)
        if weight > 0:
            model.stereo_prior = StereoPrior.of([view], [wall])
        training = Training(model, 100)
        losses = [training.step(step, camera, batch) for step in range(60)]
        assert ("stereo_prior" in losses[0]) == ("flatness" in losses[0]) == (weight > 0)
        depth = model.eval().get_outputs(camera)["depth"].detach()
        off.append(float((depth / 2 - 1).abs().median()))
        thickness.append(float(model.scales.detach().exp().amin(dim=-1).median()))
    assert off[1] < 0.5 * off[0]
    assert thickness[1] < 0.7 * thickness[0]  # 60 steps of 0.01 make a width at most e^0.6 times smaller
