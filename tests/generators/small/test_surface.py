# SPDX-License-Identifier: Apache-2.0
"""img3d-small's Gaussians lie on the surface of what is in the columns, and look like it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, orbit_camera_to_worlds
from img3d_generators.small import surface
from img3d_generators.small.columns import (
    COLOURS,
    COLUMNS,
    CORRECTIONS,
    DEPTHS,
    column_rays,
    in_volume,
    points_in_columns,
)
from img3d_generators.small.surface import gaussians_of, surface_gaussians

RADIUS = 0.4


def ball() -> tuple[Tensor, Tensor]:
    """Probabilities of a red ball, larger by the margin that the network predicts."""
    distance = in_volume(points_in_columns(column_rays())).norm(dim=-1) - RADIUS - surface.INSET
    colours = torch.tensor([0.9, 0.1, 0.1]).expand(COLUMNS, COLUMNS, COLOURS, 3)
    return (surface.LEVEL - distance / 0.08).clamp(0, 1), colours


NONE = torch.zeros(COLUMNS, COLUMNS, DEPTHS)
"""No correction."""


def uncorrected(probabilities: Tensor, colours: Tensor) -> ActivatedGaussians:
    """What the rule alone makes of a volume."""
    return gaussians_of(probabilities, colours, NONE[..., None].expand(-1, -1, -1, CORRECTIONS))


def test_gaussians_are_flat_on_the_surface() -> None:
    gaussians = surface_gaussians(*ball(), NONE)
    distances = gaussians.means.norm(dim=1)
    assert float(distances.mean()) == pytest.approx(RADIUS, abs=0.003)
    assert float((distances - RADIUS).abs().max()) < 0.015
    outward = gaussians.means / distances[:, None]
    w, x, y, z = gaussians.quats.unbind(dim=1)
    normals = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], dim=1)
    assert float((normals * outward).sum(dim=1).min()) > 0.9
    assert (gaussians.scales[:, 2] < gaussians.scales[:, 0]).all()


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 180.0])
def test_a_ball_looks_round_and_closed_from_all_sides(azimuth: float) -> None:
    size = 256
    poses = orbit_camera_to_worlds([azimuth], [10.0], LGM_RADIUS)
    rgb, alpha = surface_gaussians(*ball(), NONE).render(poses, LGM_FOV, size)
    shown = alpha[0, ..., 0] > 0.5
    focal = 0.5 * size / torch.tensor(LGM_FOV / 2).deg2rad().tan()
    radius = focal * RADIUS / (LGM_RADIUS**2 - RADIUS**2) ** 0.5
    assert float(shown.sum()) == pytest.approx(float(torch.pi * radius**2), rel=0.15)
    middle = slice(size // 2 - 32, size // 2 + 32)
    assert float(alpha[0, middle, middle].min()) > 0.85
    torch.testing.assert_close(rgb[0, size // 2, size // 2], torch.tensor([0.9, 0.1, 0.1]), atol=0.05, rtol=0)


def test_nothing_gives_nothing() -> None:
    assert len(uncorrected(NONE, ball()[1])) == 0


def test_what_may_be_there_is_mist() -> None:
    """Half a probability has no surface, and a little of the opacity of what is certain."""
    probabilities, colours = ball()
    assert len(surface_gaussians(0.5 * probabilities, colours, NONE)) == 0
    mist = uncorrected(0.5 * probabilities, colours)
    assert len(mist) > 1000 and 0 < mist.opacities.max() < surface.TRANSLUCENT / 2
    certain = uncorrected(probabilities, colours)
    opaque = (certain.opacities - surface.OPACITY).abs() < 1e-6
    assert opaque.sum() == len(surface_gaussians(probabilities, colours, NONE))
    inside = certain.means.norm(dim=1) < 0.7 * RADIUS
    assert not inside.any()


def test_a_full_volume_is_hollow() -> None:
    gaussians = surface_gaussians(torch.ones(COLUMNS, COLUMNS, DEPTHS), ball()[1], NONE)
    assert len(gaussians) == COLUMNS**2 * DEPTHS - (COLUMNS - 2) ** 2 * (DEPTHS - 2)
    assert gaussians.means.isfinite().all()


def test_corrections_change_opacities_and_width_within_bounds() -> None:
    """The mist's by a factor, the surface's along the logistic function."""
    probabilities, colours = ball()
    plain = uncorrected(probabilities, colours)
    count = len(surface_gaussians(probabilities, colours, NONE))
    for value, opacity, width in ((0.5, 0.5, 0.5), (9.0, surface.MAX_LOG_OPACITY, surface.MAX_LOG_WIDTH)):
        changed = gaussians_of(probabilities, colours, torch.full((COLUMNS, COLUMNS, DEPTHS, CORRECTIONS), value))
        assert len(changed) == len(plain)
        logits = changed.opacities[:count].logit() - plain.opacities[:count].logit()
        torch.testing.assert_close(logits, torch.full_like(logits, value), rtol=0.01, atol=0)
        mist = (plain.opacities[count:] * torch.tensor(opacity).exp()).clamp(max=surface.OPACITY)
        torch.testing.assert_close(changed.opacities[count:], mist)
        torch.testing.assert_close(changed.scales[count:], plain.scales[count:] * torch.tensor(width).exp())
        assert torch.equal(changed.scales[:count], plain.scales[:count])


def test_corrections_get_gradients_from_renders() -> None:
    corrections = torch.zeros(COLUMNS, COLUMNS, DEPTHS, CORRECTIONS, requires_grad=True)
    gaussians = gaussians_of(*ball(), corrections)
    _, alpha = gaussians.render(orbit_camera_to_worlds([90.0], [10.0], LGM_RADIUS), LGM_FOV, 64)
    alpha.sum().backward()
    assert corrections.grad is not None
    assert (corrections.grad.abs().sum(dim=(0, 1, 2)) > 0).all()
