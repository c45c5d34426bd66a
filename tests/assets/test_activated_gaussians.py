# SPDX-License-Identifier: Apache-2.0
"""Generated Gaussians: moved, thinned out and rendered."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.gaussian_frames import rotated
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, normalised_to_first, orbit_camera_to_worlds


def random_gaussians(count: int = 200) -> ActivatedGaussians:
    """Long and thin ones, so that a wrong rotation shows."""
    generator = torch.Generator().manual_seed(3)
    return ActivatedGaussians(
        means=0.6 * torch.rand(count, 3, generator=generator) - 0.3,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=torch.tensor([0.08, 0.02, 0.01]).expand(count, 3),
        opacities=torch.rand(count, generator=generator),
        colors=torch.rand(count, 3, generator=generator),
    )


@given(st.floats(-180, 180), st.floats(-70, 70), st.floats(-180, 180))
def test_moving_gaussians_and_camera_together_changes_nothing_in_the_picture(
    azimuth: float, elevation: float, other: float
) -> None:
    poses = orbit_camera_to_worlds([azimuth, other], [elevation, 10], LGM_RADIUS)
    normalised, transform = normalised_to_first(poses)
    gaussians = random_gaussians()
    before, _ = gaussians.render(poses, LGM_FOV, 32)
    after, _ = gaussians.transformed(transform).render(normalised, LGM_FOV, 32)
    assert (before - after).abs().max() < 1.1 / 255  # a Gaussian may gain or lose a pixel where its opacity is 1/255
    assert (before - after).abs().mean() < 1e-5


def test_view_dependent_colours_turn_with_the_gaussians() -> None:
    """The same picture as that of the Gaussians that `gaussian_frames.rotated` turns, in the camera at the front."""
    gaussians = random_gaussians()
    gaussians.colors = torch.randn(200, 16, 3, generator=torch.Generator().manual_seed(4)) / 4
    gaussians.sh_degree = 3
    turn = Rotation.from_euler("xyz", [20, 130, -70], degrees=True).as_matrix()
    transform = torch.eye(4)
    transform[:3, :3] = torch.from_numpy(turn)
    moved = gaussians.transformed(transform)
    expected = ActivatedGaussians.of(rotated(gaussians.asset(), turn))
    assert moved.sh_degree == 3
    # Opacities and scales of `expected` went through a logit and a logarithm in float32.
    pose = orbit_camera_to_worlds([0], [0], LGM_RADIUS)
    pictures = [each.render(pose, LGM_FOV, 32)[0] for each in (moved, expected)]
    assert (pictures[0] - pictures[1]).abs().max() < 1e-4
    torch.testing.assert_close(moved.colors, expected.colors, rtol=0, atol=1e-5)


def test_pruning_keeps_what_lgm_keeps() -> None:
    gaussians = random_gaussians(4)
    gaussians.opacities = torch.tensor([0.0, 0.0049, 0.005, 1.0])
    assert torch.equal(gaussians.pruned().means, gaussians.means[2:])


def test_the_right_side_is_seen_from_azimuth_90() -> None:
    """A red ball at +x and a blue one at -x: from +x the red one hides the blue one."""
    balls = ActivatedGaussians(
        means=torch.tensor([[0.3, 0, 0], [-0.3, 0, 0]]),
        quats=torch.tensor([[1.0, 0, 0, 0]] * 2),
        scales=torch.full((2, 3), 0.05),
        opacities=torch.ones(2),
        colors=torch.tensor([[1.0, 0, 0], [0, 0, 1]]),
    )
    pictures, alpha = balls.render(orbit_camera_to_worlds([0, 90], [0, 0], LGM_RADIUS), LGM_FOV, 33)
    focal_pixels = 0.3 / LGM_RADIUS * 33 / 2 / torch.tan(torch.deg2rad(torch.tensor(LGM_FOV / 2)))
    red_column = int(16.5 + focal_pixels)
    assert pictures[0, 16, red_column, 0] > 0.9 > 0.3 > pictures[0, 16, red_column, 2]
    assert pictures[1, 16, 16, 0] > 0.95
    assert pictures[1, 16, 16, 2] < 0.05
    assert pictures[0, 0, 0].tolist() == pytest.approx([1, 1, 1])  # white where nothing is
    assert alpha[0, 0, 0] == 0
