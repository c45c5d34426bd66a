# SPDX-License-Identifier: Apache-2.0
"""The model of `img3d-ngp` and `img3d-nerf` as Nerfstudio uses it: rays of any shape, losses, checkpoints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gaussian_scenes import pinhole_camera
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.scripts.exporter import validate_pipeline
from small_nerf import small_nerf

from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_kernels.fields.guided_sampling import WeightGrid
from img3d_kernels.fields.occupancy_grid import OccupancyGrid
from img3d_kernels.poses import viewmats
from img3d_kernels.projection import in_picture
from img3d_methods.cached_views import square_cameras
from img3d_methods.field.model import MAX_RAYS, UPDATED_EVERY, WARM_UP, Img3dNerfModel
from img3d_methods.field.object_box import object_box

IN_A_BOX = {"metadata": {"alpha_color": torch.ones(3)}, "bounds": "auto"}
"""Of an object that is cut out of its photos."""


def some_rays(*shape: int, seed: int = 0, spread: float = 1.0) -> RayBundle:
    """From around the origin in all directions."""
    generator = torch.Generator().manual_seed(seed)
    origins, directions = (torch.randn(*shape, 3, generator=generator) for _ in range(2))
    return RayBundle(
        origins=spread * origins,
        directions=torch.nn.functional.normalize(directions, dim=-1),
        pixel_area=torch.ones(*shape, 1),
        camera_indices=torch.zeros(*shape, 1, dtype=torch.long),
    )


def empty(model: Img3dNerfModel) -> None:
    """Nothing is anywhere: the logarithm of all densities is -20."""
    model.table.data.fill_(1)
    model.networks.data.zero_()
    features = 2 * model.config.num_levels
    model.networks.data[:features] = 1 / features
    model.networks.data[features] = -20 / 64


def train_step(model: Img3dNerfModel, rays: RayBundle, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Losses, whose gradients the parameters have."""
    losses = model.get_loss_dict(model(rays), batch)
    torch.stack(list(losses.values())).sum().backward()
    return losses


def callbacks_run(model: Img3dNerfModel, steps: range) -> None:
    attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=None, trainer=None)  # pyright: ignore
    for step in steps:
        for callback in model.get_training_callbacks(attributes):
            callback.run_callback_at_location(step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)


@pytest.mark.parametrize("kind", [{}, IN_A_BOX], ids=["unbounded", "box"])
class TestRendering:
    @pytest.mark.parametrize("shape", [(7,), (1,), (3, 5)], ids=str)
    def test_outputs_have_the_shape_of_the_rays(self, kind: dict[str, Any], shape: tuple[int, ...]) -> None:
        outputs = small_nerf(**kind)(some_rays(*shape))
        assert {name: tuple(value.shape) for name, value in outputs.items()} == {
            "rgb": (*shape, 3),
            "accumulation": (*shape, 1),
            "depth": (*shape, 1),
            "normals": (*shape, 3),
        }
        assert all(value.isfinite().all() for value in outputs.values())

    def test_a_ray_looks_the_same_whatever_it_is_rendered_with(self, kind: dict[str, Any]) -> None:
        model, rays = small_nerf(**kind), some_rays(3, 5)
        together, alone = model(rays), model(rays[1:2, 2:3])
        for name, value in alone.items():
            assert torch.allclose(together[name][1, 2], value[0, 0], atol=1e-5)

    def test_rays_of_many_cameras_do_not_share_samples(self, kind: dict[str, Any]) -> None:
        """The viewer's point cloud renders single rays of all photos as one column."""
        model, rays = small_nerf(**kind), some_rays(40, 1)
        column, alone = model.get_outputs_for_camera_ray_bundle(rays), model(rays)
        assert all(torch.allclose(column[name], value, atol=1e-5) for name, value in alone.items())

    def test_a_camera_gives_a_picture(self, kind: dict[str, Any]) -> None:
        model = small_nerf(**kind, eval_num_rays_per_chunk=100)
        outputs = model.get_outputs_for_camera(pinhole_camera())
        assert outputs["rgb"].shape == (40, 48, 3)
        assert outputs["rgb"].std() > 0.01
        assert (outputs["rgb"] >= 0).all() and (outputs["rgb"] <= 1).all()

    def test_ns_export_has_the_normals_that_it_asks_for(self, kind: dict[str, Any]) -> None:
        model = small_nerf(**kind)
        pipeline: Any = SimpleNamespace(model=model, device=model.device)
        validate_pipeline("model_output", "normals", pipeline)  # exits where they are missing
        outputs = model(some_rays(200))
        lengths = (2 * outputs["normals"] - 1).norm(dim=-1)
        assert torch.allclose(lengths, (outputs["accumulation"][:, 0] > 0.5).float(), atol=1e-4)

    def test_a_crop_box_crops(self, kind: dict[str, Any]) -> None:
        model = small_nerf(**kind)
        whole = model.get_outputs_for_camera(pinhole_camera())
        box = OrientedBox(torch.eye(3), torch.zeros(3), torch.full((3,), 0.5))
        cropped = model.get_outputs_for_camera(pinhole_camera(), obb_box=box)
        assert cropped["accumulation"].mean() < 0.7 * whole["accumulation"].mean()

    def test_the_colour_behind_objects_is_the_datas(self, kind: dict[str, Any]) -> None:
        model = small_nerf(**{**kind, "metadata": {"alpha_color": torch.tensor([0.2, 1.0, 0.4])}})
        empty(model)
        rgb = model(some_rays(4))["rgb"]
        assert torch.allclose(rgb, torch.tensor([0.2, 1.0, 0.4]).expand(4, 3), atol=1e-3)


class TestTraining:
    def batch(self, count: int = 64, channels: int = 3) -> dict[str, Any]:
        return {"image": torch.rand(count, channels, generator=torch.Generator().manual_seed(1))}

    def test_every_parameter_is_trained_by_one_group(self) -> None:
        model = small_nerf(appearance=True, camera_optimizer=CameraOptimizerConfig(mode="SO3xR3")).train()
        groups = model.get_param_groups()
        assert set(groups) == {"tables", "networks", "camera_opt"}
        grouped = [id(parameter) for group in groups.values() for parameter in group]
        own = [p for name, p in model.named_parameters() if name != "device_indicator_param"]
        assert sorted(grouped) == sorted(map(id, own))
        train_step(model, some_rays(64), self.batch())
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in own)

    @pytest.mark.parametrize("kind", [{}, IN_A_BOX], ids=["unbounded", "box"])
    def test_training_fits_the_colours_of_rays(self, kind: dict[str, Any]) -> None:
        model, rays, batch = small_nerf(**kind).train(), some_rays(64, spread=0.3), self.batch()
        parameters = [p for group in model.get_param_groups().values() for p in group]
        optimizer = torch.optim.Adam(parameters, lr=1e-2)
        psnrs = []
        for _ in range(80):
            outputs = model(rays)
            psnrs.append(float(model.get_metrics_dict(outputs, batch)["psnr"]))
            optimizer.zero_grad()
            sum(model.get_loss_dict(outputs, batch).values()).backward()  # pyright: ignore
            optimizer.step()
        assert psnrs[-1] > psnrs[0] + 6

    def test_transparent_pixels_train_the_field_to_let_any_background_through(self) -> None:
        model, rays = small_nerf(**IN_A_BOX).train(), some_rays(64, spread=0.3)
        transparent = {"image": torch.cat([torch.rand(64, 3), torch.zeros(64, 1)], dim=1)}
        optimizer = torch.optim.Adam([model.table, model.networks], lr=1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            train_step(model, rays, transparent)
            optimizer.step()
        before, after = (small.eval()(rays)["accumulation"].mean() for small in (small_nerf(**IN_A_BOX), model))
        assert after < 0.2 * before

    def test_embeddings_stay_small(self) -> None:
        """Their penalty pulls them to 0, so that the mean photo is not far from any."""
        model = small_nerf(appearance=True).train()
        assert model.appearance is not None
        model.appearance.data.normal_()
        penalty = model.get_loss_dict(model(some_rays(4)), self.batch(4))["appearance_regularizer"]
        pull = torch.autograd.grad(penalty, [model.appearance])[0]
        torch.testing.assert_close(pull, pull.sum() / model.appearance.sum() * model.appearance)
        assert (pull * model.appearance > 0).all()

    def test_a_photos_embedding_changes_its_colours_only(self) -> None:
        model = small_nerf(appearance=True).train()
        assert model.appearance is not None
        rays = some_rays(64)
        seen = [model._compared(model(rays), self.batch())["rgb"]]
        for photo in (1, 0):
            model.appearance.data[photo] = 0.5 * torch.randn(64, generator=torch.Generator().manual_seed(photo))
            torch.manual_seed(0)
            seen.append(model._compared(model(rays), self.batch())["rgb"])
        assert not torch.allclose(seen[2], seen[1], atol=1e-2)  # the rays are those of photo 0

    def test_whole_photos_may_be_bytes(self) -> None:
        photo = torch.full((2, 2, 3), 255, dtype=torch.uint8)
        metrics, images = small_nerf().get_image_metrics_and_images(
            {"rgb": torch.ones(12, 12, 3)}, {"image": photo.repeat(6, 6, 1)}
        )
        assert metrics["psnr"] > 100 and metrics["ssim"] > 0.999
        assert images["img"].shape == (12, 24, 3)

    def test_weights_are_noted_and_fade(self) -> None:
        model = small_nerf().train()
        assert isinstance(model.grid, WeightGrid) and not model.grid.weights.any()
        train_step(model, some_rays(64), self.batch())
        noted = model.grid.weights.clone()
        assert 0 < noted.max() <= 1
        callbacks_run(model, range(1, UPDATED_EVERY))
        assert torch.equal(model.grid.weights, noted)
        callbacks_run(model, range(UPDATED_EVERY, UPDATED_EVERY + 1))
        assert (model.grid.weights[noted > 0] < noted[noted > 0]).all()

    def test_an_empty_box_needs_no_samples_and_gets_many_rays(self) -> None:
        model, rays = small_nerf(**IN_A_BOX).train(), some_rays(200)
        assert isinstance(model.grid, OccupancyGrid)
        in_a_full_box = model(rays)["samples"].counts.sum()
        empty(model)
        callbacks_run(model, range(1, WARM_UP + 1))
        in_an_empty_box = model(rays)["samples"].counts.sum()
        assert in_a_full_box > 1000 and in_an_empty_box == 0
        for _ in range(100):
            model(rays)
        assert model.rays_per_step() == MAX_RAYS


class TestFromPhotos:
    """What a model in a box takes from its photos: here of a ball of radius 0.4, from all sides."""

    CENTER = torch.tensor([0.1, -0.2, 0.05])

    def photos(self, size: int = 48) -> tuple[Cameras, list[dict[str, torch.Tensor]]]:
        poses = orbit_camera_to_worlds([45 * index for index in range(16)], [-40, 10, 60, 0] * 4, 2.0)
        poses[:, :, 3] += self.CENTER
        cameras = square_cameras(poses, 50.0, size)
        photos = []
        for index in range(len(poses)):
            rays = cameras.generate_rays(index)
            along = ((self.CENTER - rays.origins) * rays.directions).sum(dim=-1, keepdim=True)
            nearest = (rays.origins + along * rays.directions - self.CENTER).norm(dim=-1)
            alpha = ((nearest < 0.4) * 255).to(torch.uint8)[..., None]
            photos.append({"image": torch.cat([alpha.expand(-1, -1, 3), alpha], dim=-1)})
        return cameras, photos

    def test_the_box_is_that_of_the_object(self) -> None:
        low, high = object_box(*self.photos())
        assert ((low < self.CENTER - 0.4) & (low > self.CENTER - 0.7)).all()
        assert ((high > self.CENTER + 0.4) & (high < self.CENTER + 0.7)).all()

    def test_the_box_holds_parts_that_are_thinner_than_what_is_tested(self) -> None:
        """A chair lost its feet, and had fog in their place."""
        cameras, photos = self.photos(200)
        stick = self.CENTER - torch.linspace(0.4, 0.9, 500)[:, None] * torch.tensor([0.0, 0.0, 1.0])
        for K, view, photo in zip(
            cameras.get_intrinsics_matrices(), viewmats(cameras.camera_to_worlds), photos, strict=True
        ):
            in_view, pixels, _ = in_picture(stick, K, view, 200, 200)
            column, row = pixels[in_view].long().T
            photo["image"][row, column] = 255
        low, high = object_box(cameras, photos)
        end = self.CENTER[2] - 0.9
        assert end - 0.15 < low[2] < end
        assert ((low[:2] < self.CENTER[:2] - 0.4) & (low[:2] > self.CENTER[:2] - 0.6)).all()
        assert ((high > self.CENTER + 0.4) & (high < self.CENTER + 0.6)).all()

    def test_without_an_object_it_is_where_the_cameras_are(self) -> None:
        cameras, photos = self.photos()
        for photo in photos:
            photo["image"].zero_()
        low, high = object_box(cameras, photos)
        positions = cameras.camera_to_worlds[:, :, 3]
        assert (low <= positions.amin(dim=0) + 0.5).all() and (high >= positions.amax(dim=0) - 0.5).all()


@pytest.mark.parametrize("kind", [{}, IN_A_BOX], ids=["unbounded", "box"])
def test_a_checkpoint_holds_all_of_it(kind: dict[str, Any]) -> None:
    model, other = small_nerf(seed=0, **kind), small_nerf(seed=1, **kind)
    rays = some_rays(9)
    model.box.mul_(0.9)
    train_step(model.train(), rays, {"image": torch.rand(9, 3)})
    model.eval()
    assert not torch.allclose(model(rays)["rgb"], other(rays)["rgb"], atol=1e-3)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(rays)["rgb"], other(rays)["rgb"])
    assert isinstance(other, Img3dNerfModel)
    assert not any("lpips" in name for name in model.state_dict())
