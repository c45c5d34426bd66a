# SPDX-License-Identifier: Apache-2.0
"""Nothing stays close to a camera or grows wide before it, and what no photo asks for fades."""

from __future__ import annotations

import pytest
import torch
from gaussian_scenes import pinhole_camera, small_model

from img3d_methods.representation import firmness_of
from img3d_methods.splat.floaters import USUAL_DECAY, FloaterLimits, clearing_steps
from img3d_methods.splat.model import Img3dSplatModel

ORIGINS = torch.tensor([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]])
SURFACE = torch.tensor([[5.0, 4.0, 0.0], [5.0, 3.0, 0.0]])  # at 5.8 from both cameras

ANGLES = torch.arange(12) * torch.pi / 6


def test_the_clearance_is_a_share_of_the_distance_to_the_nearest_surface() -> None:
    limits = FloaterLimits.around(ORIGINS, SURFACE, relative_clearance=0.5, max_relative_size=0.3)
    torch.testing.assert_close(limits.clearances[:2], torch.full((2,), 0.5 * 34**0.5), rtol=1e-3, atol=0)
    means = torch.tensor([[0.0, 0.0, 1.0], [9.0, 0.0, 1.0], [5.0, -2.5, 0.0]])
    assert limits.too_close(means).tolist() == [True, True, False]
    assert not limits.too_close(means + torch.tensor([0.0, -3.0, 0.0])).any()


def test_the_way_between_neighbouring_cameras_is_kept_clear_as_far_as_surfaces_allow() -> None:
    limits = FloaterLimits.around(ORIGINS, SURFACE, relative_clearance=0.5, max_relative_size=0.3)
    torch.testing.assert_close(limits.origins[2:], torch.tensor([[2.5, 0.0, 0.0], [5.0, 0.0, 0.0], [7.5, 0.0, 0.0]]))
    assert float(limits.clearances[3]) == pytest.approx(1.5, rel=1e-2), "half the way to the surface at (5, 3, 0)"
    assert limits.too_close(torch.tensor([[5.0, 1.4, 0.0], [5.0, 1.6, 0.0]])).tolist() == [True, False]


def test_there_is_no_way_between_photos_from_one_place() -> None:
    limits = FloaterLimits.around(torch.zeros(3, 3), SURFACE, relative_clearance=0.5, max_relative_size=0.3)
    assert len(limits.origins) == 3


def test_places_between_cameras_take_the_room_that_cameras_leave() -> None:
    far_apart = 100 * torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
    limits = FloaterLimits.around(far_apart, far_apart + 0.5, relative_clearance=0.5, max_relative_size=0.3)
    torch.testing.assert_close(limits.origins[:300], far_apart)
    assert 300 < len(limits.origins) <= 500


def test_an_object_between_two_cameras_is_not_in_the_way() -> None:
    object_points = torch.tensor([[5.0, 0.0, 0.0], [5.0, 0.1, 0.0], [5.0, 0.0, 0.1]])
    limits = FloaterLimits.around(ORIGINS, object_points, relative_clearance=0.4, max_relative_size=0.3)
    assert not limits.too_close(object_points).any()
    assert limits.too_close(torch.tensor([[1.0, 0.0, 0.0]])).all()


def test_ways_between_many_cameras_lead_to_neighbours_only() -> None:
    ring = torch.stack([torch.cos(ANGLES), torch.sin(ANGLES), torch.zeros(12)], dim=1)
    limits = FloaterLimits.around(ring, torch.zeros(1, 3), relative_clearance=0.2, max_relative_size=0.3)
    distances = limits.origins.norm(dim=1)
    assert len(limits.origins) > 12 and float(distances.min()) > 0.8, "not across the ring"
    assert len(limits.origins.unique(dim=0)) == len(limits.origins)


@pytest.mark.parametrize("points", [None, torch.empty(0, 3)])
def test_without_seed_points_nothing_is_too_close(points: torch.Tensor | None) -> None:
    limits = FloaterLimits.around(ORIGINS, points, relative_clearance=0.5, max_relative_size=0.3)
    assert not limits.too_close(ORIGINS).any()


def test_what_is_wide_for_its_distance_shrinks_and_the_rest_stays() -> None:
    limits = FloaterLimits.around(ORIGINS, SURFACE, relative_clearance=0.5, max_relative_size=0.25)
    means = torch.tensor([[0.0, 4.0, 0.0], [0.0, 4.0, 0.0], [0.0, 400.0, 0.0]])
    scales = torch.tensor([[0.9, 2.0, 30.0], [0.1, 0.2, 0.3], [20.0, 30.0, 40.0]])
    log_scales = scales.log()
    limits.limit_size(means, log_scales)
    expected = torch.tensor([[0.9, 1.0, 1.0], [0.1, 0.2, 0.3], [20.0, 30.0, 40.0]])
    torch.testing.assert_close(log_scales.exp(), expected)


def test_no_size_is_limited_where_the_option_is_off() -> None:
    limits = FloaterLimits.around(ORIGINS, SURFACE, relative_clearance=0.5, max_relative_size=0)
    log_scales = torch.full((1, 3), 9.0)
    limits.limit_size(torch.zeros(1, 3), log_scales)
    assert (log_scales == 9).all()


def test_many_cameras_and_points_are_thinned_out() -> None:
    limits = FloaterLimits.around(torch.rand(3000, 3), torch.rand(20_000, 3), 0.5, 0.3)
    assert len(limits.origins) <= 500
    assert (limits.clearances > 0).all()


def test_gaussians_are_removed_in_the_middle_of_a_run_only() -> None:
    assert clearing_steps(2000) == {600, 1000, 1400}
    assert clearing_steps(1) == {1}


def limits_of(num_photos: int, decay: float = USUAL_DECAY) -> FloaterLimits:
    return FloaterLimits.around(torch.rand(num_photos, 3), None, 0.5, 0.3, decay)


def test_opacities_decay_faster_with_few_photos() -> None:
    factors = [limits_of(num_photos).decay / USUAL_DECAY for num_photos in range(1, 40)]
    assert factors == sorted(factors, reverse=True)
    assert set(factors[:15]) == {4} and set(factors[23:]) == {1}


def test_what_faded_has_to_count_more() -> None:
    assert limits_of(40, decay=0).firmness == limits_of(40).firmness == 1
    assert limits_of(10).firmness == 4
    model = model_in_training()  # of one photo
    assert model.firmness == firmness_of(model) == 4
    again = small_model(num_points=50, sh_degree=1, max_gaussians=50)
    again.load_state_dict(model.state_dict())
    assert again.firmness == 4


def model_in_training() -> Img3dSplatModel:
    """A model of 50 Gaussians and one photo, in a run of 2,000 steps that does not look for free space."""
    model = small_model(num_points=50, sh_degree=1, max_gaussians=50, free_space=0.0).train()
    model.optimizers = {name: torch.optim.Adam([param]) for name, param in model.gauss_params.items()}
    for name, param in model.gauss_params.items():
        param.grad = torch.zeros_like(param)
        model.optimizers[name].step()
    model.know_photos([torch.zeros(40, 48, 3, dtype=torch.uint8)], pinhole_camera())
    model._prepare_schedule(max_steps=2000)
    return model


def test_gaussians_that_fade_after_densification_are_removed() -> None:
    model = model_in_training()
    assert model.floater_limits is not None
    model.opacities.data[:7] = -6.0
    for step in (900, 1010):  # densification, which removes them, is until step 1,000
        model._keep_clear(model.floater_limits, step)
        assert model.num_points == 50
    model._keep_clear(model.floater_limits, 1100)
    assert model.num_points == 43
    assert float(model.opacities.detach().min()) > -5


def test_a_training_step_fades_shrinks_and_clears() -> None:
    model = model_in_training()
    assert model.floater_limits is not None
    model.means.data[0] = pinhole_camera().camera_to_worlds[0, :, 3]  # in the camera itself
    model.scales.data[1] = 5.0
    opacities = model.opacities.detach().clone()
    model._keep_clear(model.floater_limits, 600)
    assert model.num_points == 49  # the first is gone, so the second is the first now
    assert float(model.scales[0].detach().max()) < 1.5
    torch.testing.assert_close(model.opacities.detach(), opacities[1:] - 4 * model.config.opacity_decay)  # one photo
