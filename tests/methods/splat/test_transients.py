# SPDX-License-Identifier: Apache-2.0
"""What one photo shows and others do not is masked; what all photos show differently from the model is not."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from gaussian_scenes import looking_at, small_model
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from test_splat_model import Training

from img3d_kernels.losses import l1_ssim
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.splat.transients import CELLS, MARGIN, CellViews, TransientMasks

DEPTH = 10.0
STEP = 10 / CELLS
"""Distance of cameras by which a wall at `DEPTH` moves by a cell."""


def wall(*shifts: int, depth: float = DEPTH) -> CellViews:
    """A wall before cameras side by side, each that many cells to the right of the first."""
    K = torch.tensor([[CELLS, 0, CELLS / 2], [0, CELLS, CELLS / 2], [0, 0, 1.0]])
    poses = torch.eye(4).repeat(len(shifts), 1, 1)
    poses[:, 0, 3] = -STEP * torch.tensor(shifts)
    return CellViews(K.repeat(len(shifts), 1, 1), poses, torch.full((len(shifts), CELLS, CELLS), depth))


def residuals(num_photos: int, *large: tuple[int, int]) -> TransientMasks:
    """Small residuals, but for a square of each of these photos: ten cells from row 20 and that column."""
    masks = TransientMasks(num_photos)
    masks.residuals.fill_(0.02)
    for photo, column in large:
        masks.residuals[photo, 20:30, column : column + 10] = 0.4
    return masks


FOUR = wall(0, 3, 6, 9)


def test_what_differs_in_one_photo_only_is_masked_with_a_margin() -> None:
    masks = residuals(4, (1, 30))
    masks.update(FOUR)
    expected = torch.zeros(4, CELLS, CELLS, dtype=torch.bool)
    expected[1, 20 - MARGIN : 30 + MARGIN, 30 - MARGIN : 40 + MARGIN] = True
    assert torch.equal(masks.masks, expected)


def test_what_differs_at_the_same_place_of_all_photos_is_not_learnt_yet() -> None:
    masks = residuals(4, (0, 30), (1, 27), (2, 24), (3, 21))
    masks.update(FOUR)
    assert not masks.masks.any()


def test_several_photos_have_passers_by_of_their_own() -> None:
    masks = residuals(4, (0, 10), (1, 35), (3, 50))
    masks.update(FOUR)
    assert masks.masks.flatten(1).any(dim=1).tolist() == [True, True, False, True]


def test_what_only_one_other_photo_sees_is_kept() -> None:
    masks = residuals(3, (0, 30))
    masks.update(wall(0, 3, 1000))
    assert not masks.masks.any()


def test_photos_in_which_something_hides_the_place_are_not_asked() -> None:
    masks = residuals(4, (0, 30))
    masks.residuals[1] = 0.4  # the only one that sees the wall
    hidden = FOUR.depths.clone()
    hidden[2:] = 0.5 * DEPTH
    masks.update(CellViews(FOUR.Ks, FOUR.viewmats, hidden))
    assert not masks.masks[0].any()


def test_where_the_model_shows_nothing_nothing_is_known() -> None:
    masks = residuals(4, (1, 30))
    masks.update(wall(0, 3, 6, 9, depth=0.0))
    assert not masks.masks.any()


def test_edges_and_spots_are_no_persons() -> None:
    masks = residuals(4)
    masks.residuals[1, 5:60, 30:32] = 0.4
    masks.residuals[1, 10:12, 5:60] = 0.4
    masks.update(FOUR)
    assert not masks.masks.any()


def test_a_photo_unlike_all_others_is_used_as_it_is() -> None:
    masks = residuals(4)
    masks.residuals[1] = 0.4
    masks.update(FOUR)
    assert not masks.masks.any()


def test_masks_are_withdrawn_when_the_photo_agrees() -> None:
    masks = residuals(4, (1, 30))
    masks.update(FOUR)
    masks.residuals[1] = 0.02
    masks.update(FOUR)
    assert not masks.masks.any() and masks.within(None, 1, 40, 50) is None


def test_a_visit_notes_mean_differences_but_not_where_the_users_mask_is_black() -> None:
    masks = TransientMasks(2)
    assert masks.residuals.isnan().all()
    stripes = torch.zeros(2 * CELLS, 4 * CELLS, 3)
    stripes[:, ::2] = 0.5
    shown = torch.full_like(stripes, 0.25)
    shown[: 2 * CELLS // 4] += 0.3
    mask = torch.ones(2 * CELLS, 4 * CELLS, 1)
    mask[:, : 2 * CELLS] = 0
    masks.visit(1, shown, stripes, mask)
    assert masks.residuals[0].isnan().all() and masks.residuals[1, :, : CELLS // 2].isnan().all()
    right = masks.residuals[1, :, CELLS // 2 :]
    torch.testing.assert_close(right[: CELLS // 4], torch.full_like(right[: CELLS // 4], 0.3))
    torch.testing.assert_close(right[CELLS // 4 :], torch.zeros_like(right[CELLS // 4 :]))


def test_masked_pixels_have_no_gradient_others_have() -> None:
    masks = residuals(4, (1, 30))
    masks.update(FOUR)
    usable = masks.within(None, 1, CELLS, 2 * CELLS)
    assert usable is not None
    render = torch.rand(CELLS, 2 * CELLS, 3, requires_grad=True)
    l1_ssim(render, torch.rand(CELLS, 2 * CELLS, 3), 0.2, usable).backward()
    assert render.grad is not None
    assert torch.equal(render.grad.abs().sum(dim=-1) > 0, usable[..., 0] > 0)


@pytest.mark.parametrize(("num_photos", "max_steps"), [(3, 100), (24, 2000), (43, 2000), (300, 2000), (60, 10_000)])
def test_masks_are_made_a_few_times_in_a_run_and_not_before_photos_were_seen_twice(
    num_photos: int, max_steps: int
) -> None:
    masks = TransientMasks(num_photos)
    due = [step for step in range(max_steps) if masks.is_due(step, max_steps)]
    assert 2 <= len(due) <= 12 and due[0] >= 2 * num_photos
    assert num_photos * len(due) <= 0.5 * max_steps, "each time, every photo is rendered"


# ------------------------------------------------------------------------------------------------ with a model


def room(num_photos: int) -> tuple[Cameras, list[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Photos of a smoothly coloured wall (bytes) from several sides, and seed points on it."""
    poses = torch.stack(
        [looking_at((0.8 * i / num_photos - 0.4, -2.0, 0.3 * (i % 3) - 0.3)) for i in range(num_photos)]
    )
    cameras = Cameras(poses, 80.0, 80.0, 40.0, 32.0, 80, 64)
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    local = torch.stack([(columns - 40) / 80, (32 - rows) / 80, -torch.ones_like(rows)], dim=-1)
    photos = []
    for pose in poses:
        rays = local @ pose[:, :3].T
        points = pose[:, 3] - rays * (pose[1, 3] / rays[..., 1:2])
        photos.append((255 * _paint(points)).round().to(torch.uint8))
    seeds = torch.cartesian_prod(torch.linspace(-1.6, 1.6, 60), torch.zeros(1), torch.linspace(-1.4, 1.4, 52))
    return cameras, photos, (seeds, 255 * _paint(seeds))


def _paint(points: torch.Tensor) -> torch.Tensor:
    x, z = points[..., 0], points[..., 2]
    return torch.stack(
        [0.5 + 0.3 * torch.sin(4 * x), 0.5 + 0.3 * torch.cos(3 * z), 0.5 + 0.2 * torch.sin(3 * x + z)], -1
    )


def with_squares(photos: Sequence[torch.Tensor], standing_in: Sequence[int]) -> list[torch.Tensor]:
    """Copies in which some photos have a dark square, each elsewhere."""
    changed = [photo.clone() for photo in photos]
    for i in standing_in:
        changed[i][20:44, _square(i)] = torch.tensor([15, 10, 60], dtype=torch.uint8)
    return changed


def _square(photo: int) -> slice:
    left = 12 + 9 * (photo % 5)
    return slice(left, left + 18)


def trained_room(standing_in: Sequence[int], steps: int, **options: Any) -> tuple[Any, list[torch.Tensor], Cameras]:
    """A model that was trained on photos with squares, and the photos without."""
    torch.manual_seed(0)
    cameras, photos, seeds = room(8)
    options["opacity_decay"] = 0.0003  # a tenth, as the learning rate of opacities is below
    model = Img3dSplatModelConfig(num_downscales=0, background_color="black", **options).setup(
        scene_box=SceneBox(aabb=torch.tensor([[-2.0] * 3, [2.0] * 3])), num_train_data=len(photos), seed_points=seeds
    )
    changed = with_squares(photos, standing_in)
    model.know_photos(changed, cameras)
    training = Training(model, steps=steps, lr=0.005)
    for step in range(steps):
        photo = 3 * step % 8
        camera = cameras[photo : photo + 1]
        camera.metadata = {"cam_idx": photo}
        training.step(step, camera, {"image": changed[photo], "image_idx": photo})
    return model.eval(), photos, cameras


def error_behind_squares(model: Any, photos: list[torch.Tensor], cameras: Cameras, standing_in: Sequence[int]) -> float:
    """Mean difference between the render and the wall behind the squares."""
    errors = []
    for i in standing_in:
        with torch.no_grad():
            shown = model.get_outputs(cameras[i : i + 1])["rgb"]
        errors.append((shown - photos[i] / 255)[20:44, _square(i)].abs().mean())
    return float(torch.stack(errors).mean())


@pytest.mark.slow
def test_the_wall_behind_passers_by_is_shown_and_their_masks_are_where_they_stand() -> None:
    standing_in = (1, 4, 6)
    model, photos, cameras = trained_room(standing_in, 300)
    kept, *_ = trained_room(standing_in, 300, transients=False)
    masked = model.transients.masks.flatten(1).float().mean(dim=1)
    square = 24 / 64 * 18 / 80
    for i in range(8):
        expected = square if i in standing_in else 0
        assert abs(float(masked[i]) - expected) < 0.5 * square, f"photo {i}"
    error = error_behind_squares(model, photos, cameras, standing_in)
    assert error < 0.03 and error < 0.65 * error_behind_squares(kept, photos, cameras, standing_in)


@pytest.mark.slow
def test_without_passers_by_nothing_is_masked() -> None:
    model, *_ = trained_room((), 300)
    assert not model.transients.masks.any()


def test_they_come_back_from_a_checkpoint() -> None:
    cameras, photos, _ = room(4)
    saved, loaded = small_model(4), small_model(4)
    for model in (saved, loaded):
        model.know_photos(photos, cameras)
    assert saved.transients is not None and loaded.transients is not None
    saved.transients.masks[2, 10:20, 10:20] = True
    saved.transients.residuals[2] = 0.3
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(loaded.transients.masks, saved.transients.masks)
    torch.testing.assert_close(loaded.transients.residuals, saved.transients.residuals, equal_nan=True)


@pytest.mark.parametrize("has_masks", [True, False])
def test_checkpoints_go_on_with_and_without_masks(has_masks: bool) -> None:
    cameras, photos, _ = room(4)
    saved, loaded = small_model(4, transients=has_masks), small_model(4, transients=not has_masks)
    for model in (saved, loaded):
        model.know_photos(photos, cameras)
    loaded.load_state_dict(saved.state_dict())
    assert (loaded.transients is None) == has_masks
