# SPDX-License-Identifier: Apache-2.0
"""Random cameras: from the references' random numbers come the references' cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import Golden, golden_fixtures
from guidance_goldens import assert_equals, meaning, stated, tensor
from torch import Tensor

from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.guidance.random_views import DrawnViews, GeneratorDraws, RandomViews, around_image

OPTIONS = {
    "elevation_range": "elevations",
    "camera_distance_range": "distances",
    "fovy_range": "fovs",
    **{name: name for name in ("camera_perturb", "center_perturb", "up_perturb")},
    "light_distance_range": "light_distances",
    "batch_uniform_azimuth": "even_azimuths",
}
"""The reference's options in ours; `light_sample_strategy` is one, too."""
DEFAULTS = RandomViews(elevations=(-10, 90), distances=(1, 1.5))
"""The reference's: what its class does where a sidecar's configuration says nothing."""
CONFIGURATIONS = ("dreamfusion", "stable_zero123", "magic3d_light")


def views_of(golden: Golden, name: str) -> RandomViews:
    """Our cameras with the reference's options."""
    said = golden.sidecar["config"][name]
    options = {ours: said[theirs] for theirs, ours in OPTIONS.items() if theirs in said}
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if said.get("light_sample_strategy") == "magic3d":
        options["light"] = "hemisphere"
    return replace(DEFAULTS, **options)


class Recorded:
    """The reference's random numbers, in the order in which it drew them."""

    def __init__(self, numbers: Tensor, coin: float) -> None:
        self._numbers, self._coin = numbers, coin

    def uniform(self, *shape: int) -> Tensor:
        count = int(np.prod(shape))
        taken, self._numbers = self._numbers[:count], self._numbers[count:]
        return taken.reshape(shape)

    normal = uniform

    def coin(self) -> float:
        return self._coin


@golden_fixtures("sds_cameras")
@pytest.mark.parametrize("branch", ["uniform", "sphere"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_cameras_and_lights(golden: Golden, name: str, branch: str) -> None:
    case = f"{name}_{branch}"
    draws = Recorded(tensor(golden, f"{case}_draws"), *stated(meaning(golden, f"{case}_draws"), "coin #"))
    drawn = views_of(golden, name).draw(len(golden.arrays[f"{case}_azimuth"]), draws)
    assert_equals(golden, f"{case}_elevation", drawn.angles.elevations)
    assert_equals(golden, f"{case}_azimuth", drawn.angles.azimuths)
    assert_equals(golden, f"{case}_camera_distances", drawn.angles.distances)
    assert_equals(golden, f"{case}_light_positions", drawn.lights)
    assert_equals(golden, f"{case}_fovy", drawn.fovs.deg2rad())
    assert_equals(golden, f"{case}_camera_positions", drawn.camera_to_worlds[:, :, 3])
    if len(drawn.fovs) == 3:
        return  # the reference's cross products of three cameras run over the cameras instead of the coordinates
    last_row = torch.tensor([0.0, 0, 0, 1]).expand(len(drawn.fovs), 1, 4)
    assert_equals(golden, f"{case}_c2w", torch.cat([drawn.camera_to_worlds, last_row], dim=1))
    if f"{case}_rays_d" in golden.arrays:
        assert_equals(golden, f"{case}_rays_d", directions_of(drawn, golden.arrays[f"{case}_rays_d"].shape[1]))


def directions_of(drawn: DrawnViews, size: int) -> Tensor:
    """Unit directions through the centres of pixels."""
    steps = torch.arange(size) + 0.5 - size / 2
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    focal = size / 2 / (drawn.fovs.deg2rad() / 2).tan()
    local = (
        torch.stack([x.expand(len(focal), -1, -1), y.expand(len(focal), -1, -1)], dim=-1) / focal[:, None, None, None]
    )
    local = torch.cat([local, -torch.ones_like(local[..., :1])], dim=-1)
    turned = torch.einsum("bij,bhwj->bhwi", drawn.camera_to_worlds[:, :, :3], local)
    return torch.nn.functional.normalize(turned, dim=-1)


@golden_fixtures("sds_cameras")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_is_drawn_on_the_whole(golden: Golden, name: str) -> None:
    draws, config = GeneratorDraws(torch.Generator().manual_seed(0)), views_of(golden, name)
    many = [config.draw(16, draws) for _ in range(600)]
    positions = torch.cat([drawn.camera_to_worlds[:, :, 3] for drawn in many])
    found = {
        "elevation": torch.cat([drawn.angles.elevations for drawn in many]),
        "azimuth": torch.cat([drawn.angles.azimuths for drawn in many]),
        "camera_distances": torch.cat([drawn.angles.distances for drawn in many]),
        "fovy": torch.cat([drawn.fovs for drawn in many]),
        "position_norm": positions.norm(dim=1),
        "light_distance": torch.cat([drawn.lights for drawn in many]).norm(dim=1),
    }
    for quantity, values in found.items():
        expected = golden.sidecar["statistics"][name][quantity]
        width = max(expected["max"] - expected["min"], 1e-4)
        quantiles = values.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
        for value, reference in zip(
            [float(values.mean()), *quantiles], [expected["mean"], *expected["quantiles_10_50_90"]], strict=True
        ):
            assert abs(value - reference) < 0.025 * width, quantity


@golden_fixtures("sds_cameras")
def test_dreamgaussians_orbit_is_ours(golden: Golden) -> None:
    elevations, azimuths = tensor(golden, "dreamgaussian_orbit_in").T
    (radius,) = stated(meaning(golden, "dreamgaussian_orbit_c2w"), "radius #")
    ours = orbit_camera_to_worlds(azimuths, -elevations, radius)
    torch.testing.assert_close(ours, tensor(golden, "dreamgaussian_orbit_c2w")[:, :3], atol=2e-6, rtol=0)


@golden_fixtures("sds_cameras")
def test_dreamgaussians_elevations_around_an_image(golden: Golden) -> None:
    # In its own sign, positive below.
    given = stated(meaning(golden, "dreamgaussian_elevation_range"), "input elevations #(,#)*")
    for elevation, offsets in zip(given, golden.arrays["dreamgaussian_elevation_range"].tolist(), strict=True):
        theirs = [-(elevation + offset) for offset in offsets]
        assert around_image(-elevation) == (min(theirs), max(theirs))


def test_the_cameras_axes() -> None:
    still = RandomViews(camera_perturb=0, center_perturb=0, up_perturb=0)
    drawn = still.draw(8, GeneratorDraws(torch.Generator().manual_seed(1)))
    poses = drawn.camera_to_worlds
    torch.testing.assert_close(poses[:, :, 2], torch.nn.functional.normalize(poses[:, :, 3], dim=1))
    assert (poses[:, 2, 1] > 0).all(), "up in the picture is up in the world"
    # Moved to its own right, the camera has a larger azimuth.
    moved = poses[:, :, 3] + 1e-2 * poses[:, :, 0]
    azimuths = torch.rad2deg(torch.atan2(moved[:, 1], moved[:, 0]))
    assert (((azimuths - drawn.angles.azimuths + 180) % 360 - 180) > 0).all()
