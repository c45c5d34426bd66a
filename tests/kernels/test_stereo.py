# SPDX-License-Identifier: Apache-2.0
"""Multi-view stereo: the kernel's costs against their torch twin, its depth against a plane sweep's and the truth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import kernel_scenes
import pytest
import torch
from stereo_scenes import stereo_scene
from torch import Tensor

from img3d_kernels.stereo import depth_maps
from img3d_kernels.stereo.consistency import count_agreeing, in_large_pieces, without_rims
from img3d_kernels.stereo.depth_maps import StereoOptions, stereo_depth_maps, view_in_pass
from img3d_kernels.stereo.patch_match import MAX_COST, patch_match, projection, quads_of, random_planes, refined, sweep
from img3d_kernels.stereo.plane_sweep import plane_costs, plane_sweep
from img3d_kernels.stereo.source_views import choose_sources, depth_range
from img3d_kernels.stereo.views import DepthMap, StereoView, enlarged, from_planes, rays, resized_planes, to_planes

MIN_DEPTH, MAX_DEPTH = 2.5, 8.0
# Of a ball 4 away, pictures of 96 x 80 pixels show a percent of depth as a sixth of a pixel.
VIEWS, DEPTHS, NORMALS = stereo_scene()


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    with kernel_scenes.one_torch_thread():
        yield


def interior(margin: int = 6) -> Tensor:
    """Pixels whose patches lie within the picture."""
    mask = torch.zeros(VIEWS[0].size, dtype=torch.bool)
    mask[margin:-margin, margin:-margin] = True
    return mask


def share_within(depth: Tensor, truth: Tensor, tolerance: float, where: Tensor) -> float:
    return float(((depth - truth).abs() <= tolerance * truth)[where].float().mean())


def scene_points() -> Tensor:
    """What the first view sees, world coordinates."""
    pose = torch.linalg.inv(VIEWS[0].viewmat)
    in_camera = (rays(VIEWS[0].K, *VIEWS[0].size) * DEPTHS[0][..., None]).reshape(-1, 3).double()
    return (in_camera @ pose[:3, :3].T + pose[:3, 3])[::7]


class TestGeometry:
    def test_planes_are_depths_and_normals(self) -> None:
        planes = to_planes(VIEWS[0].K, DEPTHS[0], NORMALS[0])
        depth, normals = from_planes(VIEWS[0].K, planes)
        torch.testing.assert_close(depth, DEPTHS[0])
        torch.testing.assert_close(normals, NORMALS[0], rtol=0, atol=1e-4)

    def test_a_plane_is_the_same_at_the_next_pixel(self) -> None:
        """On the wall, a pixel's plane gives the depth of its neighbour."""
        planes = to_planes(VIEWS[0].K, DEPTHS[0], NORMALS[0])
        extended = planes[:4, :-1, 0] + planes[:4, :-1, 1]
        torch.testing.assert_close(1 / extended, DEPTHS[0][:4, 1:], rtol=1e-5, atol=0)

    def test_planes_of_a_coarser_picture(self) -> None:
        view = VIEWS[0].resized(37, 50)
        wall_depth, normal = DEPTHS[0][2, 2], NORMALS[0][2, 2]
        middle = (rays(VIEWS[0].K, 80, 96)[2, 2] * wall_depth * normal).sum()
        coarse_depth = middle / (rays(view.K, 37, 50) * normal).sum(dim=-1)
        coarse = to_planes(view.K, coarse_depth, normal.expand(37, 50, 3))
        depth, normals = from_planes(VIEWS[0].K, resized_planes(coarse, 80, 96))
        expected = middle / (rays(VIEWS[0].K, 80, 96) * normal).sum(dim=-1)
        torch.testing.assert_close(depth, expected, rtol=1e-4, atol=0)
        torch.testing.assert_close(normals, normal.expand(80, 96, 3), rtol=0, atol=1e-4)

    def test_an_enlarged_map_lies_on_the_same_surface(self) -> None:
        fine, coarse = VIEWS[0].resized(160, 192), VIEWS[0]
        known = torch.arange(96).expand(80, 96) >= 10
        found = DepthMap(DEPTHS[0], NORMALS[0], torch.full((80, 96), 0.3)).where(known)
        larger = enlarged(found, coarse, fine)
        assert larger.depth.shape == (160, 192) and larger.normals.shape == (160, 192, 3)
        assert (larger.depth[:, :20] == 0).all() and (larger.cost[:, :20] == 2).all()
        assert (larger.depth[:, 20:] > 0).all() and (larger.cost[:, 20:] == 0.3).all()
        # The mean over a pixel's four is its own depth, where these are on one plane.
        means = torch.nn.functional.avg_pool2d(larger.depth[None], 2)[0]
        assert ((means - DEPTHS[0]).abs()[known] < 1e-3 * DEPTHS[0][known]).float().mean() > 0.97
        torch.testing.assert_close(larger.normals[::2, 20::2], NORMALS[0][:, 10:], rtol=0, atol=1e-3)

    def test_a_projection_takes_points_there_and_back(self) -> None:
        flat = projection(VIEWS[0], VIEWS[1])
        y, x = torch.meshgrid(torch.arange(80.0), torch.arange(96.0), indexing="ij")
        pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).double()
        there = pixels @ flat[:9].reshape(3, 3).T + flat[9:12] / DEPTHS[0][..., None].double()
        in_camera = rays(VIEWS[0].K, 80, 96).double() * DEPTHS[0][..., None]
        between = VIEWS[1].viewmat @ torch.linalg.inv(VIEWS[0].viewmat)
        expected = (in_camera @ between[:3, :3].T + between[:3, 3]) @ VIEWS[1].K.double().T
        torch.testing.assert_close(
            there[..., :2] / there[..., 2:], expected[..., :2] / expected[..., 2:] - 0.5, rtol=0, atol=1e-4
        )
        depth_there = there[..., 2] * DEPTHS[0]
        back = there / there[..., 2:] @ flat[12:21].reshape(3, 3).T + flat[21:] / depth_there[..., None]
        torch.testing.assert_close(back[..., :2] / back[..., 2:], pixels[..., :2], rtol=0, atol=1e-4)

    def test_quads_have_a_pixel_and_its_neighbours(self) -> None:
        quads = quads_of(torch.tensor([[1, 2], [3, 255]], dtype=torch.uint8)).to(torch.int64) & 0xFFFFFFFF
        assert quads[0, 0] == 1 | 2 << 8 | 3 << 16 | 255 << 24
        assert quads[1, 1] == 255 * 0x01010101


@kernel_scenes.needs_compiled
class TestCosts:
    @pytest.mark.parametrize("number", [1, 2, 4])
    def test_are_those_of_the_torch_twin(self, number: int) -> None:
        planes = to_planes(VIEWS[0].K, DEPTHS[0] * (1 + 0.02 * torch.randn(DEPTHS[0].shape)), NORMALS[0])
        expected = plane_costs(VIEWS[0], VIEWS[1 : 1 + number], planes.double())
        costs = sweep(VIEWS[0], VIEWS[1 : 1 + number], 1.0, 20.0, planes.clone(), iterations=0)
        # The twin asks not whether a plane is seen at a grazing angle, as those at the ball's rim are.
        difference = (costs - expected).abs()[costs <= MAX_COST]
        assert difference.numel() > 0.95 * costs.numel()
        # Where a pixel is just within a source for one of them, and just not for the other.
        assert (difference > 2e-3).float().mean() < 0.001
        assert difference[difference <= 2e-3].mean() < 1e-4

    def test_masks_count_as_the_twin_says(self) -> None:
        masks = [
            torch.rand(view.size, generator=torch.Generator().manual_seed(i)) < 0.8 for i, view in enumerate(VIEWS)
        ]
        views = [dataclasses.replace(view, mask=mask) for view, mask in zip(VIEWS, masks, strict=True)]
        planes = to_planes(VIEWS[0].K, DEPTHS[0] * 1.01, NORMALS[0])
        expected = plane_costs(views[0], [*views[1:3], VIEWS[3]], planes.double())
        costs = sweep(views[0], [*views[1:3], VIEWS[3]], 1.0, 20.0, planes.clone(), iterations=0)
        difference = (costs - expected).abs()[costs <= MAX_COST]
        assert (difference > 2e-3).float().mean() < 0.002 and difference.median() < 1e-4
        assert (costs[~masks[0]] > MAX_COST).all()

    def test_true_planes_cost_little_and_others_much(self) -> None:
        truth = sweep(
            VIEWS[0], VIEWS[1:], MIN_DEPTH, MAX_DEPTH, to_planes(VIEWS[0].K, DEPTHS[0], NORMALS[0]), iterations=0
        )
        wrong = sweep(
            VIEWS[0], VIEWS[1:], MIN_DEPTH, MAX_DEPTH, to_planes(VIEWS[0].K, DEPTHS[0] * 1.2, NORMALS[0]), iterations=0
        )
        assert truth[interior()].median() < 0.1 < 0.6 < wrong[interior()].median()

    def test_impossible_planes_and_what_is_masked_out(self) -> None:
        mask = torch.ones(VIEWS[0].size, dtype=torch.bool)
        mask[:, :40] = False
        view = dataclasses.replace(VIEWS[0], mask=mask)
        planes = to_planes(view.K, DEPTHS[0], NORMALS[0])
        planes[:20, :, 0] = 1 / 1.0
        planes[60:, :, 0] = torch.nan
        costs = sweep(view, VIEWS[1:], MIN_DEPTH, MAX_DEPTH, planes, iterations=0)
        assert (costs[:, :40] > MAX_COST).all() and (costs[:20] > MAX_COST).all() and (costs[60:] > MAX_COST).all()
        assert (costs[20:60, 40:] <= MAX_COST).float().mean() > 0.95

    def test_a_white_wall_matches_nothing(self) -> None:
        blank = [dataclasses.replace(view, grey=torch.full_like(view.grey, 200)) for view in VIEWS]
        found = patch_match(blank[0], blank[1:], MIN_DEPTH, MAX_DEPTH)
        assert (found.depth == 0).all() and (found.normals == 0).all() and (found.cost == MAX_COST).all()


@kernel_scenes.needs_compiled
class TestDepth:
    @pytest.fixture(scope="class")
    def found(self) -> DepthMap:
        return patch_match(VIEWS[0], VIEWS[1:], MIN_DEPTH, MAX_DEPTH)

    def test_is_the_true_one(self, found: DepthMap) -> None:
        assert share_within(found.depth, DEPTHS[0], 0.01, interior()) > 0.85
        assert share_within(found.depth, DEPTHS[0], 0.03, interior()) > 0.95

    def test_normals_are_the_true_ones(self, found: DepthMap) -> None:
        cosines = (found.normals * NORMALS[0]).sum(dim=-1)[interior()]
        assert cosines.quantile(0.2) > math.cos(math.radians(20))
        known = found.normals.norm(dim=-1) > 0
        torch.testing.assert_close(found.normals[known].norm(dim=-1), torch.ones(int(known.sum())))

    def test_is_better_than_a_sweep_of_planes(self, found: DepthMap) -> None:
        swept = plane_sweep(VIEWS[0], VIEWS[1:4], 3.0, MAX_DEPTH, 30)
        assert share_within(swept.depth, DEPTHS[0], 0.03, interior()) > 0.85
        assert share_within(found.depth, swept.depth, 0.03, interior()) > 0.85
        better, plain = ((each.depth - DEPTHS[0]).abs()[interior()].median() for each in (found, swept))
        assert better < plain / 1.5
        assert found.cost[interior()].median() < swept.cost[interior()].median()

    def test_is_the_same_for_any_number_of_threads(self, found: DepthMap) -> None:
        from img3d_kernels import _C

        threads = _C.num_threads()
        try:
            for number in (1, 3):
                _C.set_num_threads(number)
                again = patch_match(VIEWS[0], VIEWS[1:], MIN_DEPTH, MAX_DEPTH)
                assert torch.equal(again.depth, found.depth) and torch.equal(again.normals, found.normals)
        finally:
            _C.set_num_threads(threads)

    def test_another_source_that_shows_something_else_does_no_harm(self, found: DepthMap) -> None:
        noise = torch.randint(0, 256, VIEWS[3].size, generator=torch.Generator().manual_seed(1)).to(torch.uint8)
        wrong = dataclasses.replace(VIEWS[3], grey=noise)
        with_wrong = patch_match(VIEWS[0], [*VIEWS[1:3], VIEWS[4], wrong], MIN_DEPTH, MAX_DEPTH)
        assert share_within(with_wrong.depth, DEPTHS[0], 0.01, interior()) > 0.85

    def test_brightness_and_contrast_do_not_matter(self) -> None:
        dark = [
            dataclasses.replace(view, grey=(view.grey * 0.5 + 10 * i).to(torch.uint8)) for i, view in enumerate(VIEWS)
        ]
        found = patch_match(dark[0], dark[1:], MIN_DEPTH, MAX_DEPTH)
        assert share_within(found.depth, DEPTHS[0], 0.01, interior()) > 0.85

    def test_one_source_is_enough_where_it_sees(self) -> None:
        found = patch_match(VIEWS[0], VIEWS[1:2], MIN_DEPTH, MAX_DEPTH)
        assert share_within(found.depth, DEPTHS[0], 0.02, interior(16)) > 0.75

    def test_the_sources_depths_settle_what_pictures_leave_open(self, found: DepthMap) -> None:
        """A picture with a hole in its texture: the others know what is there."""
        grey = VIEWS[0].grey.clone()
        grey[30:50, 38:58] = 128
        blank = dataclasses.replace(VIEWS[0], grey=grey)
        alone = patch_match(blank, VIEWS[1:], MIN_DEPTH, MAX_DEPTH)
        hole = torch.zeros(VIEWS[0].size, dtype=torch.bool)
        hole[36:44, 44:52] = True
        together = refined(blank, VIEWS[1:], MIN_DEPTH, MAX_DEPTH, alone, DEPTHS[1:], iterations=4)
        assert share_within(together.depth, DEPTHS[0], 0.01, hole) > 0.9
        assert share_within(alone.depth, DEPTHS[0], 0.01, hole) < 0.5

    @pytest.mark.parametrize(
        ("sources", "nearest", "farthest", "message"),
        [
            (0, 1.0, 2.0, "1 to 32 sources, got 0"),
            (33, 1.0, 2.0, "1 to 32 sources, got 33"),
            (1, 0.0, 2.0, "0 < nearest < farthest"),
            (1, 2.0, 2.0, "0 < nearest < farthest"),
            (1, math.nan, 2.0, "0 < nearest < farthest"),
        ],
    )
    def test_what_cannot_be_is_named(self, sources: int, nearest: float, farthest: float, message: str) -> None:
        planes = random_planes(VIEWS[0], 1.0, 2.0, 0)
        with pytest.raises(ValueError, match=message):
            sweep(VIEWS[0], [VIEWS[1]] * sources, nearest, farthest, planes, iterations=1)


class TestAgreement:
    def test_true_depths_agree_where_two_views_see_a_point(self) -> None:
        agreeing = count_agreeing(VIEWS[0], DEPTHS[0], VIEWS[1:], DEPTHS[1:])[0]
        assert (agreeing[interior(16)] >= 3).float().mean() > 0.85

    def test_wrong_and_unknown_depths_do_not(self) -> None:
        strictly, loosely = count_agreeing(VIEWS[0], DEPTHS[0] * 1.05, VIEWS[1:], DEPTHS[1:], (0.01, 0.1))
        assert (strictly >= 2).float().mean() < 0.1 and (strictly <= loosely).all()
        assert (count_agreeing(VIEWS[0], torch.zeros(80, 96), VIEWS[1:], DEPTHS[1:]) == 0).all()
        assert (count_agreeing(VIEWS[0], DEPTHS[0], VIEWS[1:], [torch.zeros(80, 96)] * 4) == 0).all()

    @kernel_scenes.needs_compiled
    def test_maps_of_all_views(self) -> None:
        everyone = list(range(len(VIEWS)))
        said = []
        maps = stereo_depth_maps(
            VIEWS,
            [[j for j in everyone if j != i] for i in everyone[:-1]] + [[]],
            [(MIN_DEPTH, MAX_DEPTH)] * 3 + [None, (MIN_DEPTH, MAX_DEPTH)],
            StereoOptions(),
            lambda stage, done, total: said.append((stage, done, total)),
        )
        assert (maps[3].depth == 0).all() and (maps[4].depth == 0).all()
        for found, truth in zip(maps[:3], DEPTHS, strict=False):
            known = found.depth > 0
            assert share_within(found.depth, truth, 0.01, known) > 0.93
            assert share_within(found.depth, truth, 0.03, known) > 0.97
        assert (maps[0].depth > 0)[interior()].float().mean() > 0.75
        assert said[0] == ("Stereo", 0, 3) and said[-1] == ("Refining", 5, 6)

    @kernel_scenes.needs_compiled
    def test_large_views_are_halved_in_all_passes_but_the_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: dict[int, set[tuple[int, ...]]] = {}

        def keep(number: int, view: int, make: Callable[[], DepthMap]) -> DepthMap:
            found = make()
            sizes.setdefault(number, set()).add(tuple(found.depth.shape))
            assert found.depth.shape == view_in_pass(views[view], number, 2).size
            return found

        views, depths, _ = stereo_scene(192, 160)
        monkeypatch.setattr(depth_maps, "LARGE", 160)
        sources = [[j for j in range(5) if j != i] for i in range(5)]
        maps = stereo_depth_maps(views, sources, [(MIN_DEPTH, MAX_DEPTH)] * 5, StereoOptions(), keep=keep)
        assert sizes == {0: {(80, 96)}, 1: {(80, 96)}, 2: {(160, 192)}}
        for found, truth in zip(maps, depths, strict=True):
            assert share_within(found.depth, truth, 0.01, found.depth > 0) > 0.93
            assert (found.depth > 0).float().mean() > 0.5

    @kernel_scenes.needs_compiled
    def test_two_photos_and_photos_of_something_else(self) -> None:
        """What both of two photos say must do; where nothing agrees there are holes rather than nonsense."""
        limits = [(MIN_DEPTH, MAX_DEPTH)] * 2
        maps = stereo_depth_maps(VIEWS[:2], [[1], [0]], limits, StereoOptions(geometric_passes=1))
        known = maps[0].depth > 0
        assert known.float().mean() > 0.4
        assert share_within(maps[0].depth, DEPTHS[0], 0.03, known) > 0.9
        other = stereo_scene(seed=1)[0]
        maps = stereo_depth_maps(
            [VIEWS[0], other[1], other[2]], [[1, 2], [0], [0]], [*limits, limits[0]], StereoOptions()
        )
        assert (maps[0].depth > 0).float().mean() < 0.1  # in noise, some patches are alike by chance

    @kernel_scenes.needs_compiled
    def test_what_only_two_photos_see(self) -> None:
        """A third photo does not show the left half: two that agree closely are enough there."""
        right = torch.zeros(VIEWS[2].size, dtype=torch.bool)
        right[:, 48:] = True
        third = dataclasses.replace(VIEWS[2], mask=right)
        maps = stereo_depth_maps(
            [*VIEWS[:2], third], [[1, 2], [0, 2], [0, 1]], [(MIN_DEPTH, MAX_DEPTH)] * 3, StereoOptions()
        )
        left = interior()
        left[:, 40:] = False
        known = left & (maps[0].depth > 0)
        assert known[left].float().mean() > 0.3
        assert share_within(maps[0].depth, DEPTHS[0], 0.03, known) > 0.93


class TestSpeckles:
    def test_small_pieces_are_removed(self) -> None:
        """A slanted wall with a box before it, and depths by chance around them."""
        generator = torch.Generator().manual_seed(0)
        depth = 4 + 0.01 * torch.arange(96.0).expand(80, 96)
        depth[40:, 60:] = 1 + 3 * torch.rand(40, 36, generator=generator)
        depth[10:20, 10:20] = 3.0
        depth[70:] = 0
        wanted = depth > 0
        wanted[40:, 60:] = False
        kept = in_large_pieces(VIEWS[0], depth)
        assert (kept & ~wanted).float().mean() < 0.02 and kept[wanted].all()
        assert in_large_pieces(VIEWS[0], torch.zeros(80, 96)).sum() == 0
        assert in_large_pieces(VIEWS[0], torch.full((80, 96), 3.0)).all()


class TestRims:
    def test_the_rim_of_a_surface_is_left_out(self) -> None:
        known = torch.zeros(80, 96, dtype=torch.bool)
        known[20:60, 30:] = True
        kept = without_rims(known)
        assert not (kept & ~known).any()
        assert not kept[:, 30].any() and not kept[[20, 59]].any()
        assert kept[21:59, 36:].all() and kept[26:54, 31:].all()  # corners lose more, the picture's border nothing

    def test_what_has_nothing_but_rims_stays(self) -> None:
        known = torch.zeros(80, 96, dtype=torch.bool)
        known[10:14, 20:24] = True
        known[:, 60] = True
        assert torch.equal(without_rims(known), known)
        assert not without_rims(torch.zeros_like(known)).any() and without_rims(torch.ones_like(known)).all()


class TestSourcesAndRanges:
    def test_sources_share_points_at_a_useful_angle(self) -> None:
        points = scene_points()
        turned = VIEWS[0].viewmat.clone()
        turned[:3] = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]], dtype=torch.float64) @ turned[:3]
        away = dataclasses.replace(VIEWS[0], viewmat=turned)
        same_place = VIEWS[0]
        chosen = choose_sources([*VIEWS, away, same_place], points, 4)
        assert sorted(chosen[0]) == [1, 2, 3, 4]
        assert chosen[5] == []
        assert choose_sources([*VIEWS, away], points, 2)[1][0] in (0, 2, 3, 4)

    def test_views_that_share_too_little_are_no_sources(self) -> None:
        points = scene_points()
        assert choose_sources(VIEWS, points[:5], 4) == [[]] * 5
        visible = torch.ones(5, len(points), dtype=torch.bool)
        visible[2] = False
        chosen = choose_sources(VIEWS, points, 4, visible)
        assert chosen[2] == [] and 2 not in chosen[0]

    def test_the_range_has_room_on_both_sides(self) -> None:
        found = depth_range(VIEWS[0], scene_points())
        assert found is not None
        assert 0.7 * float(DEPTHS[0].min()) < found[0] < float(DEPTHS[0].min())
        farthest = float(DEPTHS[0].max())
        assert float(DEPTHS[0].quantile(0.99)) < found[1] < 1.5 * farthest
        deep = depth_range(VIEWS[0], scene_points(), with_background=True)
        assert deep is not None and deep[0] == found[0]
        assert 5 * float(DEPTHS[0].quantile(0.99)) < deep[1] < 10 * farthest  # what is far behind has few points
        alone = dataclasses.replace(VIEWS[0], outline=torch.ones(VIEWS[0].size, dtype=torch.bool))
        assert depth_range(alone, scene_points(), with_background=True) == found
        assert depth_range(VIEWS[0], torch.zeros(100, 3) - 5) is None
        nobody = torch.zeros(len(scene_points()), dtype=torch.bool)
        assert depth_range(VIEWS[0], scene_points(), nobody) is None


@pytest.mark.usefixtures("annotations_unchecked")
def test_what_is_no_view_is_named() -> None:
    grey, K, viewmat = torch.zeros(4, 5, dtype=torch.uint8), torch.eye(3), torch.eye(4)
    with pytest.raises(ValueError, match=r"grey must be \[H, W\]"):
        StereoView(grey[0], K, viewmat)
    with pytest.raises(ValueError, match="mask must have the shape of grey"):
        StereoView(grey, K, viewmat, torch.ones(5, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="K and viewmat"):
        StereoView(grey, viewmat, viewmat)
