# SPDX-License-Identifier: Apache-2.0
"""`img3d-nerf`'s model as Nerfstudio uses it: rays of any shape, its losses, backgrounds, checkpoints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gaussian_scenes import pinhole_camera
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation
from small_nerf import small_nerf

from img3d_methods.field.model import ANNEALED, PROPOSAL_INTERVAL, Img3dNerfModel


def some_rays(*shape: int, seed: int = 0) -> RayBundle:
    """From around the origin in all directions."""
    generator = torch.Generator().manual_seed(seed)
    origins, directions = (torch.randn(*shape, 3, generator=generator) for _ in range(2))
    return RayBundle(
        origins=origins,
        directions=torch.nn.functional.normalize(directions, dim=-1),
        pixel_area=torch.ones(*shape, 1),
        camera_indices=torch.zeros(*shape, 1, dtype=torch.long),
    )


class TestRendering:
    @pytest.mark.parametrize("shape", [(7,), (1,), (3, 5)], ids=str)
    def test_outputs_have_the_shape_of_the_rays(self, shape: tuple[int, ...]) -> None:
        outputs = small_nerf()(some_rays(*shape))
        assert {name: tuple(value.shape) for name, value in outputs.items()} == {
            "rgb": (*shape, 3),
            "accumulation": (*shape, 1),
            "depth": (*shape, 1),
        }
        assert all(value.isfinite().all() for value in outputs.values())

    def test_a_ray_looks_the_same_whatever_it_is_rendered_with(self) -> None:
        model, rays = small_nerf(), some_rays(3, 5)
        together, alone = model(rays), model(rays[1:2, 2:3])
        for name, value in alone.items():
            assert torch.allclose(together[name][1, 2], value[0, 0], atol=1e-5)

    def test_a_camera_gives_a_picture(self) -> None:
        model = small_nerf(eval_num_rays_per_chunk=100)
        outputs = model.get_outputs_for_camera(pinhole_camera())
        assert outputs["rgb"].shape == (40, 48, 3)
        assert outputs["rgb"].std() > 0.01
        assert (outputs["rgb"] >= 0).all() and (outputs["rgb"] <= 1).all()

    def test_a_crop_box_crops(self) -> None:
        model = small_nerf()
        whole = model.get_outputs_for_camera(pinhole_camera())
        box = OrientedBox(torch.eye(3), torch.zeros(3), torch.full((3,), 0.5))
        cropped = model.get_outputs_for_camera(pinhole_camera(), obb_box=box)
        assert cropped["accumulation"].mean() < 0.7 * whole["accumulation"].mean()

    def test_the_colour_behind_objects_is_the_datas(self) -> None:
        model = small_nerf(metadata={"alpha_color": torch.tensor([0.2, 1.0, 0.4])})
        model.field.geometry[-1].bias.data[0] = -30  # pyright: ignore[reportIndexIssue]
        for table in model.get_param_groups()["tables"]:
            table.data.zero_()
        rgb = model(some_rays(4))["rgb"]
        assert torch.allclose(rgb, torch.tensor([0.2, 1.0, 0.4]).expand(4, 3), atol=1e-3)


class TestTraining:
    def batch(self, count: int = 64, channels: int = 3) -> dict[str, Any]:
        return {"image": torch.rand(count, channels, generator=torch.Generator().manual_seed(1))}

    def test_every_parameter_is_trained_by_one_group(self) -> None:
        model = small_nerf().train()
        groups = model.get_param_groups()
        assert set(groups) == {"tables", "networks"}
        grouped = [id(parameter) for group in groups.values() for parameter in group]
        own = [p for name, p in model.named_parameters() if name != "device_indicator_param"]
        assert sorted(grouped) == sorted(map(id, own))
        outputs = model(some_rays(64))
        sum(model.get_loss_dict(outputs, self.batch()).values()).backward()  # pyright: ignore
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in own)

    def test_training_fits_the_colours_of_rays(self) -> None:
        model, rays, batch = small_nerf().train(), some_rays(64), self.batch()
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

    def test_transparent_pixels_show_the_background(self) -> None:
        model = small_nerf(metadata={"alpha_color": torch.ones(3)})
        image = torch.tensor([[0.5, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5, 1.0]])
        assert torch.allclose(model._target({"image": image}), torch.tensor([[1.0] * 3, [0.5] * 3]))

    def test_whole_photos_may_be_bytes(self) -> None:
        photo = torch.full((2, 2, 3), 255, dtype=torch.uint8)
        metrics, images = small_nerf().get_image_metrics_and_images(
            {"rgb": torch.ones(12, 12, 3)}, {"image": photo.repeat(6, 6, 1)}
        )
        assert metrics["psnr"] > 100 and metrics["ssim"] > 0.999
        assert images["img"].shape == (12, 24, 3)

    def test_schedules_stretch_to_the_run(self) -> None:
        model = small_nerf().train()
        trainer: Any = SimpleNamespace(config=SimpleNamespace(max_num_iterations=600))
        attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=None, trainer=trainer)  # pyright: ignore
        callbacks = model.get_training_callbacks(attributes)
        anneals, intervals = [], []
        for step in range(600):
            for callback in callbacks:
                callback.run_callback_at_location(step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
            anneals.append(model.sampler._anneal)
            intervals.append(model._proposal_interval(step))
        assert anneals[0] == 0 and anneals[int(ANNEALED * 600)] == 1 and anneals == sorted(anneals)
        assert intervals[0] == 1 and intervals[-1] == PROPOSAL_INTERVAL and intervals == sorted(intervals)
        assert model.step == 599


def test_a_checkpoint_holds_all_of_it() -> None:
    model, other = small_nerf(seed=0), small_nerf(seed=1)
    rays = some_rays(9)
    assert not torch.allclose(model(rays)["rgb"], other(rays)["rgb"], atol=1e-3)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(rays)["rgb"], other(rays)["rgb"])
    assert isinstance(other, Img3dNerfModel)
    assert not any("lpips" in name for name in model.state_dict())
