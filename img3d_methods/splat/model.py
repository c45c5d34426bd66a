# SPDX-License-Identifier: Apache-2.0
"""`img3d-splat`: splatfacto's Gaussian splatting on a CPU or a GPU, for cameras and for rays.

It is a subclass because `ns-export gaussian-splat` and the viewer ask for a `SplatfactoModel`. It overrides what
needs CUDA or the network in splatfacto, and adds resuming, a hard limit on the number of Gaussians, and rendering of
rays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from gsplat.strategy.ops import remove
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.model_components.lib_bilagrid import BilateralGrid, color_correct, total_variation_loss
from nerfstudio.models.base_model import Model
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from nerfstudio.utils.colors import get_color
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.gaussians import Gaussians
from img3d_base.console import print_line
from img3d_kernels import rasterization
from img3d_kernels.grad_stats import GradStats
from img3d_kernels.losses import l1_ssim
from img3d_kernels.mcmc import MCMCStrategy
from img3d_kernels.poses import viewmats
from img3d_methods.base_model import PlainBackgroundModel
from img3d_methods.compat import NoSignedDistanceField
from img3d_methods.representation import gaussians_of_model
from img3d_methods.splat.appearance import PhotoAppearance, differently_exposed, log_gains_of_photos
from img3d_methods.splat.budgeted_strategy import BudgetedDefaultStrategy
from img3d_methods.splat.floaters import LIMIT_SIZE_EVERY, USUAL_DECAY, FloaterLimits, clearing_steps
from img3d_methods.splat.free_space import FreeSpace
from img3d_methods.splat.guessed_points import guessed_points
from img3d_methods.splat.initial_gaussians import initial_gaussians
from img3d_methods.splat.ray_outputs import along_rays, composited
from img3d_methods.splat.schedule import TrainingSchedule
from img3d_methods.splat.sky import sky_points
from img3d_methods.splat.smaller_images import downscaled, screen_dilation
from img3d_methods.splat.stereo_prior import StereoPrior
from img3d_methods.splat.transients import CellViews, TransientMasks
from img3d_methods.training.image_metrics import ImageMetrics
from img3d_methods.training.presets import GROWTH_THRESHOLD, PresetName, growth_threshold, preset
from img3d_methods.viewing.browser_view import VIEWER_GREY
from img3d_methods.viewing.ray_bundles import FAR, pinhole_of_bundle
from img3d_methods.viewing.splat_view import LiveView

GAUSSIAN_PARAMETERS = ("means", "scales", "quats", "features_dc", "features_rest", "opacities")


@dataclass
class Img3dSplatModelConfig(NoSignedDistanceField, SplatfactoModelConfig):
    """Splatfacto's options and ours. Schedule options that are 0 follow the run's length (--max-num-iterations)."""

    _target: type = field(default_factory=lambda: Img3dSplatModel)
    preset: PresetName = "balanced"
    """How much time to spend: sets the run's length (--max-num-iterations) and the limit of Gaussians (max_gaussians)
    where these are 0; few photos get less of both. benchmarks/RESULTS.md lists the quality of each."""
    strategy: Literal["mcmc", "default"] = "default"
    """Densification: "default" is 3DGS's splitting and pruning, within the limit; "mcmc" moves idle Gaussians to
    where they are needed (arXiv 2404.09591). In benchmarks/RESULTS.md "default" was better on fox and chair, in less
    time; "mcmc" was better on a tiny scene of a dozen small photos."""
    max_gaussians: int = 0
    """Hard limit of the number of Gaussians; 0: the preset's. Time and memory of a step grow with it."""
    num_random: int = field(default_factory=lambda: 100_000 if torch.cuda.is_available() else 20_000)
    """Number of initial Gaussians if the data has no seed points; they are spread over what the cameras see."""
    init_opacity: float = 0.5
    """Initial opacity of Gaussians at seed points (MCMC's authors' value). With 3DGS's 0.1, fox lost half a decibel."""
    random_init_opacity: float = 0.01
    """Initial opacity of random Gaussians. Most are misplaced and must not hide the others: with 0.5, chair lost 4 dB.
    ("mcmc" moves them, and starts from `init_opacity`.)"""
    init_scale: float = 0.5
    """Initial width, relative to the mean distance to the nearest neighbours; 1 would overlap too much."""
    full_resolution_at: float = field(default_factory=lambda: 0.2 if torch.cuda.is_available() else 0.5)
    """Fraction of the run after which images have full size; small ones save time on a CPU. Splatfacto has 0.2."""
    resolution_schedule: int = 0
    """Steps between doublings of the resolution; 0: evenly until `full_resolution_at`."""
    sh_degree_interval: int = 0
    """Steps between increases of the degree of spherical harmonics; 0: a thirtieth of the run, as in splatfacto."""
    densify_grad_thresh: float = 0.0
    """Gradient of a Gaussian's place in the image above which "default" divides it; 0: splatfacto's 0.0008, and less,
    down to 0.0002, for photos that could support many more Gaussians than the limit."""
    warmup_length: int = 0
    """Steps before densification starts; 0: a thirtieth of the run, but at most 500, as in splatfacto."""
    stop_split_at: int = 0
    """Step at which densification stops; 0: five sixths of the run for "mcmc", half for "default"."""
    cull_alpha_thresh: float = 0.005
    """Opacity below which a Gaussian is moved (mcmc) or removed (default): the value of gsplat and 3DGS."""
    opacity_reg: float = 0.01
    """Weight of the mean opacity in the loss; "mcmc" needs it to find idle Gaussians (its authors' value)."""
    scale_reg: float = 0.01
    """Weight of the mean scale in the loss; "mcmc" needs it to keep idle Gaussians small (its authors' value)."""
    appearance: Literal["auto", "on", "off"] = "auto"
    """Colours of each photo's own (exposure, white balance), apart from the scene's: "auto" where the seed points'
    colours differ between the photos. Held-out photos have none; "cc_psnr" compares them with their colours fitted."""
    opacity_decay: float = USUAL_DECAY
    """How much each step lowers the logit of every opacity: photos hold up what they show, and fog fades. With few
    photos, which hold up fog as well, it is more: up to four times as much."""
    max_relative_size: float = 0.3
    """Largest standard deviation of a Gaussian, relative to its distance from the nearest camera; 0: any."""
    sky: bool = True
    """Photos that show sky get a shell of far Gaussians for it."""
    guess_depths: bool = True
    """What has no seed points in fewer than 24 photos starts as Gaussians at guessed depths, not as fog."""
    camera_clearance: float = 0.5
    """No Gaussian stays nearer to a camera, or to the way to the next one, than this share of the distance to the
    nearest seed points; 0: any may."""
    free_space: float = 0.6
    """Gaussians are removed that several photos, or with few photos those beside them, have nearer than this share of
    the distance to the seed points there; 0: none."""
    stereo_prior: float = 0.0
    """Weight of a loss that keeps surfaces where multi-view stereo of the training photos finds them, in depth and
    slope; 0: no stereo. It is computed once and kept beside the photos."""
    flatness: float = 0.0
    """Weight of the mean width of the Gaussians along their thinnest axis, in world units: flat ones, like those of
    2D Gaussian splatting, show where a surface is. 0: any shape."""
    transients: bool = True
    """Photos are not held to what only one of them shows, such as people who walk by, once the rest is learnt."""
    noise_lr: float = 5e5
    """Strength of the position noise of "mcmc" (its authors' value)."""


class Img3dSplatModel(PlainBackgroundModel, SplatfactoModel):
    """Gaussian splatting through `img3d_kernels.rasterization`.

    Args:
        config: Options of the method.
        seed_points: World coordinates `[N, 3]` and colours `[N, 3]` in [0, 255] of the initial Gaussians.
    """

    config: Img3dSplatModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    live_view: LiveView
    depth_along: Literal["axis", "ray"] = "axis"
    is_rasterised = True

    def populate_modules(self) -> None:
        config = self.config
        self.max_gaussians = config.max_gaussians or preset(config.preset).max_gaussians
        self._growth_threshold = GROWTH_THRESHOLD
        if self.seed_points is not None and not config.random_init and len(self.seed_points[0]) > 0:
            points, colors = self.seed_points[0], self.seed_points[1].float() / 255
        else:
            # Replaced by `place_random_points` as soon as the pipeline knows the cameras.
            points = (torch.rand(config.num_random, 3) - 0.5) * config.random_scale
            colors = torch.full_like(points, 0.5)
        initial = self._initial_gaussians(points, colors, config.init_opacity)
        self.gauss_params = torch.nn.ParameterDict({name: torch.nn.Parameter(value) for name, value in initial.items()})
        self.camera_optimizer = config.camera_optimizer.setup(num_cameras=self.num_train_data, device="cpu")
        if config.use_bilateral_grid:
            grid_x, grid_y, grid_w = config.grid_shape
            self.bil_grids = BilateralGrid(num=self.num_train_data, grid_X=grid_x, grid_Y=grid_y, grid_W=grid_w)

        self.appearance = PhotoAppearance(self.num_train_data)
        self.firmness = 1.0
        self.floater_limits: FloaterLimits | None = None
        self.free_space: FreeSpace | None = None
        self.stereo_prior: StereoPrior | None = None
        self.transients: TransientMasks | None = None
        self._photo_cameras: Cameras | None = None
        self.has_sky = False
        self.image_metrics = ImageMetrics()
        self.live_view = LiveView(self)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.step = 0
        self.crop_box = None
        if config.background_color == "random":
            self.background_color = torch.tensor(VIEWER_GREY)  # splatfacto's, too, for views of such a model
        else:
            self.background_color = get_color(config.background_color)
        self._prepare_schedule(max_steps=30_000)
        if isinstance(self.strategy, MCMCStrategy):
            self.strategy_state = self.strategy.initialize_state()
        else:
            self.strategy_state = self.strategy.initialize_state(scene_scale=1.0)

    def _initial_gaussians(self, points: Tensor, colors: Tensor, opacity: float) -> dict[str, Tensor]:
        config = self.config
        return initial_gaussians(points, colors, config.sh_degree, opacity, config.init_scale, self.max_gaussians)

    def place_random_points(self, points: Float[Tensor, "N 3"]) -> None:
        """Replaces the initial Gaussians by grey ones at these points (world coordinates). Before training only."""
        config = self.config
        opacity = config.init_opacity if config.strategy == "mcmc" else config.random_init_opacity
        self.place_gaussians(self._initial_gaussians(points, torch.full_like(points, 0.5), opacity))

    def place_gaussians(self, params: dict[str, Tensor]) -> None:
        """Replaces the initial Gaussians by these parameters (as `initial_gaussians` returns them). Before training
        only."""
        for name, value in params.items():
            self.gauss_params[name].data = value.to(self.device)

    def know_photos(
        self, images: Sequence[Tensor], cameras: Cameras, masks: Sequence[Tensor | None] | None = None
    ) -> None:
        """Decide, before training, what photos (`[H, W, 3 or 4]` bytes each, masks `[H, W, 1]`) ask for: how many
        Gaussians at most and how readily they divide, how fast they fade, where none may be, and whether each photo
        has its own colours."""
        config = self.config
        num_pixels = sum(image[..., 0].numel() for image in images)
        if config.max_gaussians == 0:
            self.max_gaussians = preset(config.preset).max_gaussians_for(len(images), num_pixels)
        self._growth_threshold = growth_threshold(num_pixels, self.max_gaussians)
        points = None if self.seed_points is None or config.random_init else self.seed_points[0]
        sky = sky_points(images, cameras, points) if config.sky and points is not None else None
        if sky is not None:
            self.has_sky = True
            self._add_gaussians(sky.points, sky.colors, "Sky: {} on a far shell where the photos show sky")
        if points is not None and config.guess_depths:
            guessed = guessed_points(images, cameras, points, masks, sky)
            if guessed is not None:
                self._add_gaussians(*guessed, "Added {} at guessed depths where the photos have no seed points")
        if config.strategy == "default":  # "mcmc" has regularisation of its own
            self.floater_limits = FloaterLimits.around(
                cameras.camera_to_worlds[:, :, 3],
                points,
                config.camera_clearance,
                config.max_relative_size,
                config.opacity_decay,
            )
            self.firmness = self.floater_limits.firmness
        if points is not None and config.free_space > 0:
            self.free_space = FreeSpace.in_front_of(points, cameras, config.free_space, sky)
        if config.transients:
            self.transients, self._photo_cameras = TransientMasks(len(cameras), self.device), cameras
        if config.appearance == "off":
            return
        log_gains = torch.zeros(len(images), 3)
        if self.seed_points is not None:
            log_gains = log_gains_of_photos(images, cameras, *self.seed_points, masks)
        if config.appearance == "on" or differently_exposed(log_gains):
            self.appearance.start_from(log_gains)

    def _add_gaussians(self, points: Tensor, colors: Tensor, message: str) -> None:
        """Adds initial Gaussians."""
        added = self._initial_gaussians(points, colors, self.config.init_opacity)
        both = {name: torch.cat([param.data, added[name].to(param)]) for name, param in self.gauss_params.items()}
        self.place_gaussians(both)
        print_line(message.format(f"{len(points):,} Gaussians"))

    def _prepare_schedule(self, max_steps: int) -> None:
        """Adapts the schedule and the densification strategy to a run of `max_steps`."""
        config = self.config
        self.schedule = schedule = TrainingSchedule.for_run(config, max_steps)
        limits: dict[str, Any] = {
            "cap_max": self.max_gaussians,
            "refine_start_iter": schedule.refine_start,
            "refine_stop_iter": schedule.refine_stop,
            "refine_every": schedule.refine_every,
        }
        if config.strategy == "mcmc":
            self.strategy = MCMCStrategy(noise_lr=config.noise_lr, min_opacity=config.cull_alpha_thresh, **limits)
        else:
            self.strategy = BudgetedDefaultStrategy(
                **limits,
                prune_opa=config.cull_alpha_thresh,
                grow_grad2d=config.densify_grad_thresh or self._growth_threshold,
                grow_scale3d=config.densify_size_thresh,
                grow_scale2d=config.split_screen_size,
                # The sky's Gaussians are wider than the scene; `FloaterLimits` keeps all others small.
                prune_scale3d=math.inf if self.has_sky else config.cull_scale_thresh,
                prune_scale2d=config.cull_screen_size,
                refine_scale2d_stop_iter=config.stop_screen_size_at,
                reset_every=config.reset_alpha_every * config.refine_every,
                pause_refine_after_reset=self.num_train_data + config.refine_every,
                absgrad=config.use_absgrad,
            )

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        trainer = training_callback_attributes.trainer
        callbacks = super().get_training_callbacks(training_callback_attributes)
        if trainer is not None:
            self._prepare_schedule(trainer.config.max_num_iterations)
            callbacks += self.live_view.training_callbacks()
        return callbacks

    def step_post_backward(self, step: int) -> None:
        """Densifies after the optimizers' step."""
        if self.transients is not None and self.transients.is_due(step, self.schedule.max_steps):
            assert self._photo_cameras is not None
            scales, opacities = self.scales.exp(), self.opacities[:, 0].sigmoid()
            self.transients.update(CellViews.of(self._photo_cameras, self.means, self.quats, scales, opacities))
        is_mcmc = isinstance(self.strategy, MCMCStrategy)
        own: dict[str, Any] = {"lr": self.optimizers["means"].param_groups[0]["lr"]} if is_mcmc else {"packed": False}
        self.strategy.step_post_backward(
            params=self.gauss_params,
            optimizers=self.optimizers,
            state=self.strategy_state,
            step=step,
            info=self.info,
            **own,
        )
        if self.floater_limits is not None:
            self._keep_clear(self.floater_limits, step)

    @torch.no_grad()
    def _keep_clear(self, limits: FloaterLimits, step: int) -> None:
        """Keeps fog away from the cameras."""
        self.gauss_params["opacities"].sub_(limits.decay)
        if step >= self.schedule.refine_stop and step % self.schedule.refine_every == 0:
            # The strategy no longer does this, and opacities still fall: with few photos over half of the Gaussians go.
            self._remove(self.opacities[:, 0].sigmoid() < self.config.cull_alpha_thresh)
        if step % LIMIT_SIZE_EVERY == 0:
            limits.limit_size(self.means, self.gauss_params["scales"])
        if step in clearing_steps(self.schedule.max_steps):
            self._remove(limits.too_close(self.means))
        if self.free_space is not None and self.free_space.is_due(step, self.schedule.max_steps):
            self._remove(self.free_space.holds(self.means))

    def _remove(self, unwanted: Bool[Tensor, "N"]) -> None:
        """Removes Gaussians in training; keeps all if none would be left."""
        if unwanted.any() and not unwanted.all():
            remove(self.gauss_params, self.optimizers, self.strategy_state, unwanted.to(self.device))

    def get_param_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """Parameters by the names of their optimizers."""
        groups = super().get_param_groups()
        if self.appearance.is_active:
            groups["appearance"] = list(self.appearance.parameters())
        return groups

    # ---------------------------------------------------------------------------------------------- checkpoints

    def get_extra_state(self) -> dict[str, Any]:
        """The strategy's state, learnt masks and firmness: a resumed run goes on as an uninterrupted one."""
        transients = None if self.transients is None else self.transients.state()
        return {
            "strategy": self.config.strategy,
            "strategy_state": self.strategy_state,
            "transients": transients,
            "firmness": self.firmness,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        if state["strategy"] == self.config.strategy:
            self.strategy_state = {
                name: value.to(self.device) if isinstance(value, Tensor) else value
                for name, value in state["strategy_state"].items()
            }
        self.firmness = state.get("firmness", 1.0)  # older checkpoints have none
        learnt = state.get("transients")  # nor this
        if self.transients is not None and learnt is not None:
            self.transients.load_state(learnt)

    def load_state_dict(self, state_dict: dict[str, Any], **kwargs: Any) -> Any:  # pyright: ignore
        """Loads a checkpoint, whatever its number of Gaussians.

        The parameters are resized in place: splatfacto creates new ones, while the optimizers, created before, keep
        training the old ones (nerfstudio #3554).
        """
        num_gaussians = len(state_dict["gauss_params.means"])
        for param in self.gauss_params.values():
            param.data = param.data.new_zeros(num_gaussians, *param.shape[1:])
        return Model.load_state_dict(self, state_dict, **kwargs)

    # ---------------------------------------------------------------------------------- see representation.py

    def asset(self) -> Gaussians:
        """All Gaussians, including invisible ones."""
        return gaussians_of_model(self)

    def background(self) -> Float[Tensor, "3"]:
        """The background colour, in [0, 1]."""
        return self._get_background_color()

    @property
    def preset_steps(self) -> int:
        """The length of a run for which the user gave none."""
        return preset(self.config.preset).steps_for(self.num_train_data)

    def resolution_doublings(self, max_steps: int) -> list[int]:
        """Steps from which the training images have twice the size, in a run of `max_steps` steps (0: the preset's
        length)."""
        max_steps = max_steps or self.preset_steps
        return TrainingSchedule.for_run(self.config, max_steps).doublings

    # ------------------------------------------------------------------------------------------------ rendering

    def _get_background_color(self) -> Float[Tensor, "3"]:
        """The data set's background colour if it has one, otherwise that of the option.

        With a random background, transparent parts would have to be covered by Gaussians of the data set's colour.
        """
        behind_objects = self.data_background()
        return super()._get_background_color() if behind_objects is None else behind_objects.to(self.device)

    def _get_downscale_factor(self) -> int:
        return self.schedule.downscale_factor(self.step) if self.training else 1

    def _downscale_if_required(self, image: Float[Tensor, "H W C"]) -> Float[Tensor, "h w C"]:
        factor = self._get_downscale_factor()
        return image if factor == 1 else downscaled(image.float(), factor)

    def get_outputs(self, camera: Cameras | RayBundle) -> dict[str, Tensor]:  # pyright: ignore
        """Renders a camera or rays.

        Args:
            camera: One camera (shape [1] or []), or rays of any shape.

        Returns:
            rgb `[H, W, 3]`, accumulation `[H, W, 1]`, background (`[3]` in training, otherwise `[H, W, 3]`), and,
            except in training without `output_depth_during_training`, depth `[H, W, 1]`: the expected depth along
            the z axis for a camera, the distance along the ray for rays. For rays also normals.
        """
        if isinstance(camera, RayBundle):
            return self._outputs_for_rays(camera)
        if camera.shape != (1,):
            camera = camera.reshape((1,))
        if not self.training and int(camera.camera_type[0, 0]) != CameraType.PERSPECTIVE.value:
            return self._outputs_for_rays(camera.generate_rays(camera_indices=0, keep_shape=True))
        if self.training:
            camera_to_worlds = self.camera_optimizer.apply_to_camera(camera)
        else:
            camera_to_worlds = camera.camera_to_worlds
        downscale = self._get_downscale_factor()
        width, height = int(camera.width[0, 0]) // downscale, int(camera.height[0, 0]) // downscale
        fx, fy, cx, cy = (float(v[0, 0]) / downscale for v in (camera.fx, camera.fy, camera.cx, camera.cy))
        K = torch.tensor([[[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]])
        outputs = self._rasterize(camera_to_worlds, K, width, height)
        photo = (camera.metadata or {}).get("cam_idx")
        if self.training and photo is not None:
            outputs["rgb"] = self.appearance(outputs["rgb"], photo)
        if self.config.use_bilateral_grid and self.training and photo is not None:
            outputs["rgb"] = self._apply_bilateral_grid(outputs["rgb"][None].clamp(0, 1), photo, height, width)[0]
        return outputs

    def _rasterize(
        self, camera_to_worlds: Float[Tensor, "1 3 4"], K: Float[Tensor, "1 3 3"], width: int, height: int
    ) -> dict[str, Tensor]:
        """Renders a pinhole camera (Nerfstudio's OpenGL pose); returns the outputs of `get_outputs`."""
        config = self.config
        params = {name: self.gauss_params[name] for name in GAUSSIAN_PARAMETERS}
        params = self.live_view.without_cleaned(params)
        if self.crop_box is not None and not self.training:
            inside = self.crop_box.within(params["means"].detach())
            params = {name: value[inside] for name, value in params.items()}
        params = self.live_view.shown(params)

        background = self._get_background_color()
        with_depth = config.output_depth_during_training or not self.training or self.stereo_prior is not None
        if config.sh_degree > 0:
            colors = (params["features_dc"][:, None], params["features_rest"])
            # Coefficients of degrees that are not trained yet are 0, so a trained model is rendered with all of them.
            sh_degree = self.schedule.sh_degree(self.step, config.sh_degree) if self.training else config.sh_degree
        else:
            colors, sh_degree = torch.sigmoid(params["features_dc"]), None
        scales, opacities = torch.exp(params["scales"]), torch.sigmoid(params["opacities"][:, 0])
        render, alpha, info = rasterization(
            means=params["means"],
            quats=params["quats"],
            scales=scales,
            opacities=opacities,
            colors=colors,
            viewmats=viewmats(camera_to_worlds).to(self.device),
            Ks=K.to(self.device),
            width=width,
            height=height,
            backgrounds=background[None],
            render_mode="RGB+ED" if with_depth else "RGB",
            sh_degree=sh_degree,
            absgrad=self.training and self._densifies_by_absgrad(),
            grad_stats=self._grad_stats(),
            rasterize_mode=config.rasterize_mode,
            eps2d=screen_dilation(self._get_downscale_factor()),
        )
        render, alpha = render.squeeze(0), alpha.squeeze(0)  # the gradient of render[0] would be another image
        outputs = {"rgb": render[..., :3], "accumulation": alpha}
        if with_depth:
            depth = render[..., 3:4]
            outputs["depth"] = torch.where(alpha > 0, depth, depth.detach().max())
        if self.training:
            self.info = info
            self._activated = (scales, opacities)
            self.strategy.step_pre_backward(
                self.gauss_params, self.optimizers, self.strategy_state, self.step, self.info
            )
            outputs["background"] = background
        else:
            outputs["rgb"] = outputs["rgb"].clamp(0, 1)
            outputs["background"] = background.expand(height, width, 3)
        return outputs

    def _grad_stats(self) -> GradStats | None:
        """The statistics for densification that the backward pass accumulates."""
        if not self.training or not isinstance(self.strategy, BudgetedDefaultStrategy):
            return None
        return self.strategy.grad_stats(self.means, self.strategy_state, self.step)

    def _densifies_by_absgrad(self) -> bool:
        strategy = self.strategy
        return (
            isinstance(strategy, BudgetedDefaultStrategy) and strategy.absgrad and self.step < strategy.refine_stop_iter
        )

    @torch.no_grad()
    def _outputs_for_rays(self, bundle: RayBundle) -> dict[str, Tensor]:
        """Renders rays; uses the rasteriser if they are the pixels of a pinhole camera."""
        bundle = bundle.to(self.device)
        pinhole = pinhole_of_bundle(bundle)
        if pinhole is None:
            outputs = composited(bundle, self._activated_gaussians(), self._get_background_color())
        else:
            camera_to_world, K, width, height = pinhole
            outputs = along_rays(bundle, self._rasterize(camera_to_world[None], K[None], width, height))
        outputs["depth"] = torch.where(outputs["accumulation"] >= 0.5, outputs["depth"], FAR)
        return outputs

    def _activated_gaussians(self) -> ActivatedGaussians:
        """All Gaussians, after the activation functions."""
        if self.config.sh_degree > 0:
            colors, sh_degree = torch.cat([self.features_dc[:, None], self.features_rest], dim=1), self.config.sh_degree
        else:
            colors, sh_degree = torch.sigmoid(self.features_dc), None
        return ActivatedGaussians(
            self.means, self.quats, self.scales.exp(), self.opacities[:, 0].sigmoid(), colors, sh_degree
        )

    @torch.no_grad()
    def get_outputs_for_camera_ray_bundle(self, camera_ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Renders rays of any shape; the outputs have the rays' shape. Depth is the distance along the ray."""
        return self.get_outputs(camera_ray_bundle)

    # -------------------------------------------------------------------------------------- losses and metrics

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """L1 and SSIM where the mask allows, and the active regularisation losses."""
        config = self.config
        image = batch["image"]
        is_plain = image.dtype == torch.uint8 and image.shape == outputs["rgb"].shape
        target = image.to(self.device) if is_plain else self._photo_over(outputs["background"], batch)
        mask = self._mask(outputs, target, batch)
        losses = {"main_loss": l1_ssim(outputs["rgb"], target, config.ssim_lambda, mask)}
        if not self.training:
            return losses
        scales, opacities = self._activated
        if config.strategy == "mcmc":
            losses["opacity_reg"] = config.opacity_reg * opacities.mean()
            losses["scale_reg"] = config.scale_reg * scales.mean()
        if config.flatness > 0:
            losses["flatness"] = config.flatness * scales.amin(dim=-1).mean()
        if self.stereo_prior is not None:
            prior = self.stereo_prior.loss(batch["image_idx"], outputs["depth"], outputs["accumulation"])
            losses["stereo_prior"] = config.stereo_prior * prior
        if config.use_scale_regularization and self.step % 10 == 0:
            ratio = scales.amax(dim=-1) / scales.amin(dim=-1)
            losses["ratio_reg"] = 0.1 * (ratio.clamp_min(config.max_gauss_ratio) - config.max_gauss_ratio).mean()
        self.camera_optimizer.get_loss_dict(losses)
        if config.use_bilateral_grid:
            losses["tv_loss"] = 10 * total_variation_loss(self.bil_grids.grids)
        return losses

    def _mask(self, outputs: dict[str, Tensor], target: Tensor, batch: dict[str, Any]) -> Float[Tensor, "H W 1"] | None:
        """0 for pixels that the user's mask or the transients' leaves out of the loss; None without both."""
        mask, photo = None, batch.get("image_idx")
        if "mask" in batch:
            mask = self._downscale_if_required(batch["mask"].float()).to(self.device)
        if not self.training or self.transients is None or photo is None:
            return mask
        if self.transients.is_visit(self.step, self.schedule.max_steps):
            self.transients.visit(photo, outputs["rgb"], target, mask)
        return self.transients.within(mask, photo, *outputs["rgb"].shape[:2])

    def _photo_over(self, background: Tensor, batch: dict[str, Any]) -> Float[Tensor, "H W 3"]:
        """A photo at the size of this step's render, over a background `[3]` if it has alpha."""
        return self.composite_with_background(self.get_gt_img(batch["image"]), background)

    @torch.no_grad()
    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Any]:
        """PSNR of a training view, the number of Gaussians, and the mean change of poses."""
        target = self._photo_over(outputs["background"], batch)
        rgb = outputs["rgb"].clamp(0, 1)
        metrics: dict[str, Any] = {"psnr": self.image_metrics.psnr(rgb, target), "gaussian_count": self.num_points}
        if self.config.color_corrected_metrics:
            metrics["cc_psnr"] = self.image_metrics.psnr(color_correct(rgb, target), target)
        self.camera_optimizer.get_metrics_dict(metrics)
        return metrics

    @torch.no_grad()
    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of a held-out view, and the photo and render side by side."""
        target = self._photo_over(outputs["background"], batch)
        rgb = outputs["rgb"]
        return self.view_metrics(rgb, target), {"img": torch.cat([target, rgb], dim=1)}

    def photos_have_own_colors(self) -> bool:
        """By maps of colours, or as the options say."""
        return self.config.color_corrected_metrics or self.appearance.is_active
