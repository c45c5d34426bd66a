# SPDX-License-Identifier: Apache-2.0
"""Marching, rendering and the fused training pass of radiance fields: what they must do, and against their twins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import kernel_scenes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fields import BOX, MARCHING, SPACES, small_field, some_colors, some_rays
from torch import Tensor

from img3d_kernels.fields.guided_sampling import Guide, guided_samples, guided_samples_torch
from img3d_kernels.fields.radiance_field import FieldParameters, FieldSpace, density, geometry_torch, has_bfloat16
from img3d_kernels.fields.rays import Marching, Rays, Samples
from img3d_kernels.fields.volume_rendering import (
    field_loss,
    field_loss_torch,
    march,
    march_torch,
    render,
    render_torch,
)

pytestmark = kernel_scenes.needs_compiled


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    with kernel_scenes.one_torch_thread():
        yield


def gradients(
    field: FieldParameters,
    rays: Rays,
    samples: Samples,
    distortion: float,
    scale: float = 1.0,
    near_scaling: bool = False,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Loss, colours, and all gradients."""
    targets, backgrounds = (some_colors(len(rays), seed, field.table.dtype) for seed in (1, 2))
    samples = Samples(samples.counts, samples.middles.to(field.table.dtype), samples.lengths.to(field.table.dtype))
    loss, rgb, _ = field_loss(field, rays, samples, targets, backgrounds, distortion, near_scaling)
    names = {"table": field.table, "networks": field.networks, "features": rays.features}
    names |= {"origins": rays.origins, "directions": rays.directions}
    found = torch.autograd.grad(scale * loss, list(names.values()))
    return loss.detach(), rgb, dict(zip(names, found, strict=True))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("levels", "count"), [(1, 3), (4, 50), (7, 40), (16, 33)])
@pytest.mark.parametrize(("distortion", "near_scaling"), [(0.0, False), (0.3, False), (0.3, True)])
def test_the_fused_pass_has_its_twins_values_and_gradients(
    space: str, levels: int, count: int, distortion: float, near_scaling: bool
) -> None:
    marching = MARCHING[space]
    samples = march(small_field(SPACES[space]), some_rays(count), marching, torch.rand(count))
    actual, expected = (
        gradients(
            *(small_field(SPACES[space], levels, dtype), some_rays(count, dtype), samples, distortion),
            near_scaling=near_scaling,
        )
        for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(actual[1].double(), expected[1], rtol=0, atol=2e-5)
    for name, value in expected[2].items():
        error = (actual[2][name].double() - value).abs().flatten()
        # Where rounding moves a sample into the next cell, the gradient with respect to its position is another one; a
        # unit that is about to switch may do so, which changed the norm by up to 1.3 % in 120 draws of offsets.
        usual = error.sort().values[: int(0.9 * len(error)) + 1]
        assert usual.max() < 2e-4 * value.abs().max(), name
        if name in ("table", "networks", "features"):
            assert error.norm() < 3e-2 * value.norm(), name


def test_the_heaviest_sample_of_each_cell_is_noted() -> None:
    samples = march(small_field(BOX), some_rays(60), MARCHING["box"], torch.rand(60))
    before, noted = 0.02 * torch.rand(16**3), []
    for dtype in (torch.float32, torch.float64):
        heaviest = before.clone()
        targets, backgrounds = (some_colors(60, seed, dtype) for seed in (1, 2))
        wanted = Samples(samples.counts, samples.middles.to(dtype), samples.lengths.to(dtype))
        field_loss(small_field(BOX, dtype=dtype), some_rays(60, dtype), wanted, targets, backgrounds, heaviest=heaviest)
        noted.append(heaviest)
    assert (noted[0] >= before).all() and 50 < (noted[0] > before).sum() < 2000
    assert ((noted[0] - noted[1]).abs() < 1e-4).float().mean() > 0.99  # at a cell's border rounding decides


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("moved", [False, True])
def test_guided_samples_are_those_of_the_twin(space: str, moved: bool) -> None:
    field, size, count = small_field(SPACES[space]), SPACES[space].grid_size, 200
    weights = torch.rand(size**3, generator=torch.Generator().manual_seed(0)) ** 8
    offsets = torch.rand(count, generator=torch.Generator().manual_seed(1)) if moved else None
    guide = Guide(weights, 64, 20)
    actual = guided_samples(field, some_rays(count), guide, offsets)
    twin = guided_samples_torch(
        small_field(SPACES[space], dtype=torch.float64),
        some_rays(count, torch.float64),
        Guide(weights.double(), 64, 20),
        None if offsets is None else offsets.double(),
    )
    assert torch.equal(actual.counts, twin.counts)
    used = actual.counts > 0
    assert used.float().mean() > 0.8
    close = ((actual.middles - twin.middles).abs() < 2e-3 * twin.middles)[used]
    assert close.all(dim=1).float().mean() > 0.9  # at a cell's border rounding decides, for the whole ray


def test_guided_samples_are_where_the_weights_are() -> None:
    """On a ray along x: most of them in the one cell that weighs, without gaps or overlaps, some everywhere."""
    field, size = small_field(BOX), BOX.grid_size
    weights = torch.zeros(size, size, size)
    weights[10, size // 2, size // 2] = 1.0
    y, z = (0.5 * (BOX.low[i] + BOX.high[i]) + 0.02 for i in (1, 2))
    rays = Rays(
        *(torch.tensor([[-2.0, y, z]]), torch.tensor([[1.0, 0.0, 0.0]])),
        *(torch.tensor([0.05]), torch.tensor([50.0]), torch.zeros(1, 64)),
    )
    samples = guided_samples(field, rays, Guide(weights.flatten(), 128, 64, explored=5), torch.rand(1))
    x = -2 + samples.middles[0]
    first, width = BOX.low[0] + 10 * 2.0 / size, 2.0 / size
    assert ((x > first - 0.3 * width) & (x < first + 1.3 * width)).float().mean() > 0.5
    assert ((x > -1) & (x < 1)).all() and x.min() < -0.8 and x.max() > 0.8
    lengths = samples.lengths[0]
    torch.testing.assert_close(x.diff(), 0.5 * (lengths[1:] + lengths[:-1]), rtol=0, atol=1e-4)


def test_the_twins_gradient_is_that_of_finite_differences() -> None:
    field, rays = small_field(BOX, 2, torch.float64), some_rays(2, torch.float64)
    samples = march(field, rays, Marching(0.3, 8))
    targets, backgrounds = (some_colors(2, seed, torch.float64) for seed in (1, 2))

    def loss(table: Tensor, networks: Tensor, features: Tensor, origins: Tensor) -> Tensor:
        moved = replace(rays, features=features, origins=origins)
        return field_loss(replace(field, table=table, networks=networks), moved, samples, targets, backgrounds, 0.3)[0]

    inputs = [field.table, field.networks, rays.features, rays.origins]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no products of bfloat16")


@needs_bfloat16
@pytest.mark.parametrize(("levels", "count"), [(1, 3), (4, 50), (8, 40), (16, 33)])
def test_with_bfloat16_the_fused_pass_has_its_twins_values_and_gradients(levels: int, count: int) -> None:
    samples = march(small_field(BOX), some_rays(count), MARCHING["box"], torch.rand(count))
    field, targets, backgrounds = small_field(BOX, levels), *(some_colors(count, i, torch.float32) for i in (1, 2))
    found = {}
    for name, backend, bfloat16 in [
        ("compiled", field_loss, True),
        ("twin", field_loss_torch, True),
        ("float32", field_loss_torch, False),
    ]:
        rays = some_rays(count)
        learned = [field.table, field.networks, rays.features, rays.origins, rays.directions]
        loss, rgb, _ = backend(replace(field, bfloat16=bfloat16), rays, samples, targets, backgrounds, 0.3)
        found[name] = [loss.detach(), rgb, *torch.autograd.grad(loss, learned)]
    for i, (actual, expected, unrounded) in enumerate(zip(*found.values(), strict=True)):
        # The kernels also round the gradients that they multiply; the twin's are those of rounded values.
        assert (actual - expected).norm() < (2e-2 if i >= 2 else 1e-3) * expected.norm()
        assert 0 < (expected - unrounded).norm() < 0.2 * unrounded.norm()


@needs_bfloat16
def test_with_bfloat16_pictures_are_those_of_the_twin() -> None:
    field, rays = replace(small_field(BOX), bfloat16=True), some_rays(300)
    samples = march(field, rays, MARCHING["box"])
    actual, expected = render(field, rays, samples), render_torch(field, rays, samples)
    assert (actual.rgb - expected.rgb).abs().max() < 3e-3
    assert (actual.accumulation - expected.accumulation).abs().max() < 5e-4
    assert (actual.rgb - render(small_field(BOX), rays, samples).rgb).abs().max() > 1e-5


def test_densities_are_never_rounded_to_bfloat16() -> None:
    field, points = small_field(BOX), torch.rand(50, 3)
    assert torch.equal(density(field, points), density(replace(field, bfloat16=True), points))


def test_a_scaled_loss_has_scaled_gradients() -> None:
    field, rays = small_field(BOX), some_rays(20)
    samples = march(field, rays, MARCHING["box"])
    once, thrice = (gradients(field, rays, samples, 0.1, scale)[2] for scale in (1.0, 3.0))
    for name, value in once.items():
        torch.testing.assert_close(thrice[name], 3 * value)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    from img3d_kernels import _C

    field, rays = small_field(BOX, 7), some_rays(500)
    samples = march(field, rays, MARCHING["box"])
    found = []
    before = _C.num_threads()
    for threads in (1, 3):
        _C.set_num_threads(threads)
        found.append(gradients(field, rays, samples, 0.1)[2])
    _C.set_num_threads(before)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_gradients_of_near_samples_are_scaled_down() -> None:
    field, rays = small_field(BOX), some_rays(30)
    count = len(rays)
    lengths = torch.full((count, 1), 0.1)

    def table_gradient(distance: float, near_scaling: bool) -> Tensor:
        samples = Samples(torch.ones(count, dtype=torch.int32), torch.full((count, 1), distance), lengths)
        targets, backgrounds = (some_colors(count, seed, torch.float32) for seed in (1, 2))
        loss, _, _ = field_loss(field, rays, samples, targets, backgrounds, near_scaling=near_scaling)
        return torch.autograd.grad(loss, field.table)[0]

    torch.testing.assert_close(table_gradient(0.5, True), 0.25 * table_gradient(0.5, False))
    torch.testing.assert_close(table_gradient(1.5, True), table_gradient(1.5, False))


@pytest.mark.parametrize("count", [0, 1])
def test_rays_without_samples_see_the_background(count: int) -> None:
    field, rays = small_field(BOX), some_rays(count)
    samples = Samples(torch.zeros(count, dtype=torch.int32), torch.zeros(count, 4), torch.zeros(count, 4))
    _, rgb, found = gradients(field, rays, samples, 0.1)
    assert torch.equal(rgb, some_colors(count, 2, torch.float32))
    assert all(not value.any() for value in found.values())


@pytest.mark.parametrize("space", SPACES)
def test_pictures_are_those_of_the_twin(space: str) -> None:
    marching = replace(MARCHING[space], max_samples=512)
    actual = render(small_field(SPACES[space]), some_rays(300), marching)
    expected = render_torch(small_field(SPACES[space], dtype=torch.float64), some_rays(300, torch.float64), marching)
    assert (actual.rgb - expected.rgb).abs().max() < 3e-3  # colours of samples with hardly any weight are left out
    assert (actual.accumulation - expected.accumulation).abs().max() < 2e-4
    same = (actual.depth > 0) == (expected.depth > 0)
    assert same.float().mean() > 0.99
    assert (actual.depth - expected.depth)[same].abs().max() < 2e-3


@pytest.mark.parametrize("sharing_weight", [0.0, 0.1])
@pytest.mark.parametrize("space", SPACES)
def test_pictures_of_given_samples_are_those_of_the_twin(space: str, sharing_weight: float) -> None:
    samples = march(small_field(SPACES[space]), some_rays(100), MARCHING[space])
    actual = render(small_field(SPACES[space]), some_rays(100), samples, sharing_weight)
    twin = small_field(SPACES[space], dtype=torch.float64)
    expected = render_torch(twin, some_rays(100, torch.float64), samples, sharing_weight)
    assert (actual.rgb - expected.rgb).abs().max() < 3e-3
    assert (actual.accumulation - expected.accumulation).abs().max() < 2e-4


@pytest.mark.parametrize("space", SPACES)
def test_samples_that_share_a_colour_are_a_little_off(space: str) -> None:
    field, rays = small_field(SPACES[space]), some_rays(100)
    samples = march(field, rays, MARCHING[space])
    exact, shared = render(field, rays, samples), render(field, rays, samples, 0.1)
    assert 1e-4 < (shared.rgb - exact.rgb).abs().max() < 0.05
    assert torch.equal(shared.accumulation, exact.accumulation)
    assert torch.equal(shared.depth, exact.depth)


@pytest.mark.parametrize("space", SPACES)
def test_samples_are_those_of_the_twin(space: str) -> None:
    words = torch.randint(-(2**31), 2**31, (16**3 // 32,), generator=torch.Generator().manual_seed(0))
    occupied = replace(SPACES[space], occupied=words.to(torch.int32), grid_size=16)
    offsets = torch.rand(200, generator=torch.Generator().manual_seed(1))
    marching = replace(MARCHING[space], max_samples=40)
    actual = march(small_field(occupied), some_rays(200), marching, offsets)
    expected = march_torch(
        small_field(occupied, dtype=torch.float64), some_rays(200, torch.float64), marching, offsets.double()
    )
    same = actual.counts == expected.counts
    assert same.float().mean() > 0.9 and 5 < actual.counts.float().mean()
    used = (torch.arange(40) < actual.counts[:, None]) & same[:, None]
    close = ((actual.middles - expected.middles).abs() < 1e-3) & ((actual.lengths - expected.lengths).abs() < 1e-4)
    assert close[used].float().mean() > 0.97  # at a cell's border rounding decides


@pytest.mark.parametrize("count", [0, 1, 130, 1100])
@pytest.mark.parametrize("space", SPACES)
def test_visible_samples_are_those_of_the_twin(space: str, count: int) -> None:
    offsets = torch.rand(count, generator=torch.Generator().manual_seed(1))
    marching = replace(MARCHING[space], visible_only=True)
    actual = march(small_field(SPACES[space]), some_rays(count), marching, offsets)
    twin = small_field(SPACES[space], dtype=torch.float64)
    expected = march_torch(twin, some_rays(count, torch.float64), marching, offsets.double())
    same = actual.counts == expected.counts
    assert count == 0 or same.float().mean() > 0.9  # at a cell's border rounding decides
    assert (actual.counts - expected.counts).abs().sum() <= 2 * (~same).sum()
    used = (torch.arange(marching.max_samples) < actual.counts[:, None]) & same[:, None]
    assert torch.allclose(actual.middles[used], expected.middles[used].float(), atol=1e-3)


@pytest.mark.parametrize("space", SPACES)
def test_samples_that_are_not_visible_do_not_matter(space: str) -> None:
    """They are most of the samples of an opaque object."""
    field, rays = small_field(SPACES[space]), some_rays(200)
    field.density_bias += 6
    along, visible = (march(field, rays, replace(MARCHING[space], visible_only=only)) for only in (False, True))
    assert 0 < visible.counts.sum() < 0.5 * along.counts.sum()
    assert torch.equal(render(field, rays, visible).rgb, render(field, rays, along).rgb)
    in_front = torch.arange(visible.middles.shape[1]) < visible.counts[:, None]
    assert torch.equal(along.middles[in_front], visible.middles[in_front])


def test_where_nothing_is_known_to_be_empty_samples_follow_each_other_without_gaps() -> None:
    samples = march(small_field(FieldSpace.unbounded()), some_rays(5), Marching(0.2, 512), torch.rand(5))
    for count, middles, lengths in zip(samples.counts, samples.middles, samples.lengths, strict=True):
        assert (lengths[:count] == 0.2).all()
        assert torch.allclose(middles[:count].diff(), lengths[1:count], atol=1e-5)
        assert middles[0] < 0.05 + 1.5 * 0.2 and 49.8 < middles[count - 1] < 50


def test_samples_stay_in_the_box() -> None:
    rays = some_rays(300)
    samples = march(small_field(BOX), rays, MARCHING["box"])
    used = torch.arange(64) < samples.counts[:, None]
    points = rays.origins[:, None] + samples.middles[..., None] * rays.directions[:, None]
    low, high = torch.tensor(BOX.low), torch.tensor(BOX.high)
    assert ((points > low - 0.03) & (points < high + 0.03)).all(dim=-1)[used].all()


@pytest.mark.parametrize("space", SPACES)
def test_hostile_rays_see_something_finite_or_nothing(space: str) -> None:
    rays = some_rays(8)
    with torch.no_grad():
        rays.origins[0, 1], rays.origins[1], rays.directions[2] = torch.nan, torch.inf, 0.0
        rays.nears[3], rays.fars[3] = 5.0, 1.0
        rays.fars[4:6] = torch.tensor([torch.inf, torch.nan])
        rays.nears[6] = -3.0
    picture = render(small_field(SPACES[space]), rays, MARCHING[space])
    assert picture.accumulation[3] == 0 and picture.rgb[[3, 4, 6, 7]].isfinite().all()
    march(small_field(SPACES[space]), rays, MARCHING[space])


@settings(max_examples=60, deadline=None)
@given(
    count=st.sampled_from([0, 1, 15, 16, 17, 127, 128, 129, 511, 513]) | st.integers(0, 2000),
    log2_table_size=st.integers(0, 14),
    resolutions=st.lists(st.integers(1, 4096) | st.sampled_from([1, 2, 4, 8, 16]), min_size=1, max_size=16),
    space=st.sampled_from(list(SPACES.values())),
)
def test_densities_are_those_of_the_twin(
    count: int, log2_table_size: int, resolutions: list[int], space: FieldSpace
) -> None:
    points = 3 * torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
    shape, generator = (len(resolutions), 1 << log2_table_size, 2), torch.Generator().manual_seed(log2_table_size)
    table = torch.randn(shape, generator=generator)
    single, double = (
        replace(small_field(space, len(resolutions), dtype), table=table.to(dtype), resolutions=resolutions)
        for dtype in (torch.float32, torch.float64)
    )
    expected = geometry_torch(double, points.double())[0].detach()
    # In single precision a point is off by up to 1e-7 of the space, which is 4e-4 cells of the finest grid.
    torch.testing.assert_close(density(single, points).double(), expected, rtol=2e-2, atol=1e-6)


def test_a_point_that_is_not_a_number_spoils_no_other() -> None:
    points = torch.randn(100, 3)
    expected = density(small_field(BOX), points)
    points[7, 1] = torch.nan
    others = torch.arange(100) != 7
    assert torch.equal(density(small_field(BOX), points)[others], expected[others])


@pytest.mark.parametrize("space", SPACES)
def test_the_unit_cube_is_the_whole_space(space: str) -> None:
    unit = torch.rand(500, 3, dtype=torch.float64)
    assert torch.allclose(SPACES[space].to_unit(SPACES[space].from_unit(unit)), unit, atol=1e-3)


@pytest.mark.usefixtures("annotations_unchecked")
def test_what_does_not_fit_is_named() -> None:
    field = small_field(BOX)
    with pytest.raises(ValueError, match=r"networks must be \[107, 64\], got \[3, 64\]"):
        FieldParameters(field.table, torch.zeros(3, 64), field.resolutions, BOX)
    with pytest.raises(ValueError, match=r"table must be \[4, T, 2\]"):
        FieldParameters(torch.zeros(3, 8, 2), field.networks, field.resolutions, BOX)
    with pytest.raises(ValueError, match="1 to 16 levels, got 17"):
        FieldParameters(field.table, field.networks, [4] * 17, BOX)
    with pytest.raises(ValueError, match="max_samples must be from 1 to 512, got 600"):
        march(field, some_rays(1), Marching(0.1, 600))
    with pytest.raises(ValueError, match="num_bins must be from 1 to 512, got 600"):
        Guide(torch.zeros(8), 600, 4)
    with pytest.raises(ValueError, match="explored must be positive, got 0"):
        Guide(torch.zeros(8), 8, 4, explored=0)
