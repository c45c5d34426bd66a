# SPDX-License-Identifier: Apache-2.0
"""The model renders, learns, honours masks and alpha, keeps its budget and survives saving and loading."""

from __future__ import annotations

import copy
import io
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gaussian_scenes import looking_at, pinhole_camera, small_model
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.scene_box import OrientedBox, SceneBox
from nerfstudio.engine.callbacks import TrainingCallbackAttributes

from img3d_kernels.poses import viewmats
from img3d_methods.splat.model import FAR, Img3dSplatModel, Img3dSplatModelConfig


def photo_of(model: Img3dSplatModel, camera: Cameras) -> torch.Tensor:
    with torch.no_grad():
        return model.get_outputs(camera)["rgb"]


class Training:
    """The part of Nerfstudio's loop that a model sees."""

    def __init__(self, model: Img3dSplatModel, steps: int, lr: float = 0.01) -> None:
        self.model = model.train()
        self.optimizers = {
            name: torch.optim.Adam(params, lr=lr, eps=1e-15) for name, params in model.get_param_groups().items()
        }
        trainer: Any = SimpleNamespace(config=SimpleNamespace(max_num_iterations=steps))
        optimizers: Any = SimpleNamespace(optimizers=self.optimizers)
        model.get_training_callbacks(TrainingCallbackAttributes(optimizers, None, None, trainer))
        self.optimizers_holder = optimizers

    def step(self, step: int, camera: Cameras, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        self.model.step_cb(self.optimizers_holder, step=step)
        losses = self.model.get_loss_dict(self.model(camera), batch)
        sum(losses.values(), torch.tensor(0.0)).backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.model.step_post_backward(step=step)
        return {name: value.detach() for name, value in losses.items()}


class TestRendering:
    def test_outputs_of_a_camera(self) -> None:
        outputs = small_model().get_outputs(pinhole_camera(width=30, height=20))
        shapes = {name: tuple(value.shape) for name, value in outputs.items()}
        assert shapes == {
            "rgb": (20, 30, 3),
            "depth": (20, 30, 1),
            "accumulation": (20, 30, 1),
            "background": (20, 30, 3),
        }
        assert 0 <= float(outputs["rgb"].detach().min()) and float(outputs["rgb"].detach().max()) <= 1

    def test_depth_is_along_the_cameras_axis(self) -> None:
        model = small_model(num_points=1)
        model.means.data = torch.zeros(1, 3)
        model.scales.data = torch.full((1, 3), -3.0)
        origin = (2.0, 1.0, 0.7)
        outputs = model.get_outputs(pinhole_camera(origin))
        seen = outputs["accumulation"] > 0.1
        torch.testing.assert_close(outputs["depth"][seen], torch.tensor(origin).norm().expand(int(seen.sum())))

    def test_pixel_rays_show_the_same_image_with_distances(self) -> None:
        model, camera = small_model(), pinhole_camera()
        image = model.get_outputs(camera)
        bundle = camera.generate_rays(camera_indices=0, keep_shape=True)
        rays = model.get_outputs_for_camera_ray_bundle(bundle)
        torch.testing.assert_close(rays["rgb"], image["rgb"], atol=2e-3, rtol=0)
        solid = image["accumulation"] >= 0.51
        distance = image["depth"] * bundle.metadata["directions_norm"]
        torch.testing.assert_close(rays["depth"][solid], distance[solid], atol=1e-2, rtol=1e-2)
        empty = image["accumulation"] < 0.49
        assert torch.all(rays["depth"][empty] == FAR)
        assert 0 <= float(rays["normals"].detach().min()) and float(rays["normals"].detach().max()) <= 1

    def test_rgba_takes_the_background_out_again(self) -> None:
        images = []
        for color in ("black", "white"):
            model = small_model(background_color=color)
            images.append(model.get_rgba_image(model.get_outputs(pinhole_camera())))
        solid = images[0][..., 3] > 0.2
        torch.testing.assert_close(images[0][solid], images[1][solid], atol=1e-3, rtol=0)

    def test_the_viewers_crop_box_hides_what_is_outside(self) -> None:
        model, camera = small_model(), pinhole_camera()
        everything = model.get_outputs_for_camera(camera)["accumulation"].sum()
        box = OrientedBox.from_params((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
        inside = model.get_outputs_for_camera(camera, obb_box=box)["accumulation"].sum()
        nothing = OrientedBox.from_params((9.0, 9.0, 9.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
        empty = model.get_outputs_for_camera(camera, obb_box=nothing)
        assert 0 < float(inside) < 0.8 * float(everything)
        assert float(empty["accumulation"].sum()) == 0
        torch.testing.assert_close(empty["rgb"], empty["background"])

    def test_a_panorama_is_rendered_ray_by_ray(self) -> None:
        pose = looking_at((0.0, 0.0, 0.0), (1.0, 0.0, 0.0))[None]
        panorama = Cameras(pose, 16.0, 16.0, 16.0, 8.0, 32, 16, camera_type=CameraType.EQUIRECTANGULAR)
        outputs = small_model().get_outputs_for_camera(panorama)
        assert outputs["rgb"].shape == (16, 32, 3)
        assert float(outputs["accumulation"].mean()) > 0.1

    def test_world_to_camera_is_the_inverse_in_opencvs_axes(self) -> None:
        pose = looking_at((1.0, -2.0, 0.5))
        homogeneous = torch.eye(4)
        homogeneous[:3] = pose @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
        torch.testing.assert_close(viewmats(pose[None])[0], torch.inverse(homogeneous), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("sh_degree", [0, 3])
    def test_trained_degrees_do_not_depend_on_the_step(self, sh_degree: int) -> None:
        model, camera = small_model(sh_degree=sh_degree), pinhole_camera()
        first = model.get_outputs(camera)["rgb"]
        model.step = 30_000
        torch.testing.assert_close(model.get_outputs(camera)["rgb"], first)


class TestLearning:
    @pytest.mark.parametrize("strategy", ["mcmc", "default"])
    def test_a_view_is_learned_within_the_budget(self, strategy: str) -> None:
        target = photo_of(small_model(seed=1), pinhole_camera())
        model = small_model(
            num_points=150,
            strategy=strategy,
            max_gaussians=170,
            background_color="black",
            refine_every=10,
            warmup_length=5,
            densify_grad_thresh=1e-6,
            num_downscales=1,
        )
        before = float(model.image_metrics.psnr(photo_of(model, pinhole_camera()), target))
        training = Training(model, steps=80)
        for step in range(80):
            camera = pinhole_camera()
            camera.metadata = {"cam_idx": 0}
            training.step(step, camera, {"image": target})
            assert model.num_points <= 170
        assert model.num_points > 150
        after = float(model.image_metrics.psnr(photo_of(model.eval(), pinhole_camera()), target))
        assert after > before + 5

    def test_resolution_follows_the_schedule(self) -> None:
        model = small_model(num_downscales=2, full_resolution_at=0.5)
        training = Training(model, steps=100)
        sizes = []
        for step in (0, 30, 60):
            training.step(step, pinhole_camera(width=50, height=42), {"image": torch.rand(42, 50, 3)})
            sizes.append((model.info["height"], model.info["width"]))
        assert sizes == [(10, 12), (21, 25), (42, 50)]

    def test_what_a_mask_hides_does_not_matter(self) -> None:
        mask = torch.zeros(40, 48, 1, dtype=torch.bool)
        mask[:, :24] = True
        image = photo_of(small_model(seed=1), pinhole_camera())
        other = torch.where(mask, image, torch.rand_like(image))
        losses = []
        for photo in (image, other):
            model = small_model(num_downscales=0, background_color="black")
            training = Training(model, steps=10)
            losses.append(training.step(0, pinhole_camera(), {"image": photo, "mask": mask})["main_loss"])
        torch.testing.assert_close(losses[0], losses[1])

    def test_a_photos_alpha_lets_the_background_through(self) -> None:
        model = small_model(background_color="white")
        transparent = torch.cat([torch.rand(40, 48, 3), torch.zeros(40, 48, 1)], dim=-1)
        target = model.composite_with_background(model.get_gt_img((transparent * 255).byte()), torch.ones(3))
        torch.testing.assert_close(target, torch.ones(40, 48, 3))

    def test_pose_optimisation_finds_a_shifted_camera(self) -> None:
        model = small_model(
            num_points=60, num_photos=1, background_color="black", num_downscales=0,
            strategy="mcmc",  # gsplat's splitting resets all opacities at step 0, and nothing here brings them back
            camera_optimizer=CameraOptimizerConfig(mode="SO3xR3", trans_l2_penalty=0, rot_l2_penalty=0),
        )  # fmt: skip
        model.scales.data += 0.7
        shift = torch.tensor([0.02, -0.03, 0.01])
        target = photo_of(model, pinhole_camera())
        training = Training(model, steps=100, lr=0.0)
        for group in training.optimizers["camera_opt"].param_groups:
            group["lr"] = 2e-3
        for step in range(60):
            camera = pinhole_camera()
            camera.camera_to_worlds = camera.camera_to_worlds + torch.cat([torch.zeros(3, 3), shift[:, None]], dim=1)
            camera.metadata = {"cam_idx": 0}
            training.step(step, camera, {"image": target})
        error = model.camera_optimizer.pose_adjustment.detach()[0, :3] + shift
        assert float(error.norm()) < 0.5 * float(shift.norm())

    def test_a_bilateral_grid_takes_up_a_photos_exposure(self) -> None:
        model = small_model(
            num_photos=2, use_bilateral_grid=True, grid_shape=(4, 4, 4), num_downscales=0, background_color="black"
        )
        dark = 0.5 * photo_of(model, pinhole_camera())
        training = Training(model, steps=100, lr=0.0)
        training.optimizers["bilateral_grid"].param_groups[0]["lr"] = 0.02
        losses = []
        for step in range(30):
            camera = pinhole_camera()
            camera.metadata = {"cam_idx": 1}
            losses.append(float(training.step(step, camera, {"image": dark})["main_loss"]))
        assert losses[-1] < 0.5 * losses[0]
        grids = model.bil_grids.grids.detach()
        assert not torch.equal(grids[1], small_model(use_bilateral_grid=True, grid_shape=(4, 4, 4)).bil_grids.grids[1])


class TestCheckpoints:
    def test_loading_keeps_the_parameters_the_optimizers_hold(self) -> None:
        saved, model = small_model(num_points=321), small_model(num_points=50)
        held = {name: params[0] for name, params in model.get_param_groups().items()}
        model.load_state_dict(saved.state_dict())
        assert model.num_points == 321
        for name, param in held.items():
            assert model.gauss_params[name] is param
            torch.testing.assert_close(param.detach(), saved.gauss_params[name].detach())

    @pytest.mark.parametrize("strategy", ["mcmc", "default"])
    def test_the_strategys_statistics_survive_the_safe_loader(self, strategy: str) -> None:
        model = small_model(strategy=strategy, num_downscales=0)
        training = Training(model, steps=100)
        for step in range(3):
            training.step(step, pinhole_camera(), {"image": torch.rand(40, 48, 3)})
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        again = small_model(strategy=strategy)
        again.load_state_dict(torch.load(file, weights_only=True))
        assert set(again.strategy_state) == set(model.strategy_state)
        for name, value in model.strategy_state.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(again.strategy_state[name], value)
        if strategy == "default":
            assert float(again.strategy_state["count"].sum()) > 0

    def test_changing_the_strategy_starts_its_statistics_anew(self) -> None:
        model = small_model(strategy="default")
        model.load_state_dict(small_model(strategy="mcmc").state_dict())
        assert "grad2d" in model.strategy_state and "binoms" not in model.strategy_state

    def test_nothing_but_the_scene_is_saved(self) -> None:
        names = {name.split(".")[0] for name in small_model().state_dict()}
        assert names == {"gauss_params", "appearance", "device_indicator_param", "_extra_state"}

    def test_the_step_of_a_checkpoint_is_kept(self) -> None:
        model = small_model()
        model.update_to_step(1234)
        model.load_state_dict(copy.deepcopy(model.state_dict()))
        assert model.step == 1234


class TestMetrics:
    def test_lpips_is_left_out_without_a_look_at_the_network(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("opened a connection"))
        model, camera = small_model(), pinhole_camera()
        outputs = model.get_outputs(camera)
        for _ in range(2):
            metrics, images = model.get_image_metrics_and_images(outputs, {"image": torch.rand(40, 48, 3)})
        assert set(metrics) == {"psnr", "ssim"}
        assert images["img"].shape == (40, 96, 3)
        assert capsys.readouterr().out.count("LPIPS is not computed: its weights are not on disk") == 1

    def test_a_perfect_render_has_perfect_metrics(self) -> None:
        model, camera = small_model(), pinhole_camera()
        outputs = model.get_outputs(camera)
        metrics, _ = model.get_image_metrics_and_images(outputs, {"image": outputs["rgb"].detach()})
        assert metrics["psnr"] > 100 and metrics["ssim"] == pytest.approx(1)

    def test_colour_correction_is_measured_on_request(self) -> None:
        model, camera = small_model(color_corrected_metrics=True), pinhole_camera()
        outputs = model.get_outputs(camera)
        batch = {"image": 0.5 * outputs["rgb"].detach()}
        metrics, _ = model.get_image_metrics_and_images(outputs, batch)
        assert metrics["cc_psnr"] > metrics["psnr"] + 5


def test_without_seed_points_a_model_can_be_placed_in_the_scene() -> None:
    model = Img3dSplatModelConfig(num_random=40).setup(
        scene_box=SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=1, seed_points=None
    )
    assert model.num_points == 40
    model.place_random_points(torch.rand(25, 3))
    assert model.num_points == 25
    torch.testing.assert_close(model.opacities.sigmoid(), torch.full((25, 1), model.config.random_init_opacity))


@pytest.mark.cuda
def test_a_view_is_learned_on_a_gpu() -> None:
    camera = pinhole_camera()
    target = photo_of(small_model(seed=1), camera).cuda()
    model = small_model(num_points=150, background_color="black", num_downscales=0).cuda()
    before = float(model.image_metrics.psnr(photo_of(model, camera.to("cuda")), target))
    training = Training(model, steps=80)
    for step in range(80):
        training.step(step, pinhole_camera().to("cuda"), {"image": target})
    assert float(model.image_metrics.psnr(photo_of(model.eval(), camera.to("cuda")), target)) > before + 5
