# SPDX-License-Identifier: Apache-2.0
"""What runs of objects that a guidance shapes have in common: pictures of every stage, and views of the result."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.optimizers import Optimizers
from PIL import Image
from torch import Tensor

from img3d_base.atomic_files import write_atomically
from img3d_base.console import print_line
from img3d_base.errors import InputError, warn
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.guidance.rows import guidance_row
from img3d_kernels.poses import focal_length
from img3d_methods.cached_views import square_cameras
from img3d_methods.compat import fail
from img3d_methods.distilled.guided_pipeline import GuidedPipeline
from img3d_methods.distilled.options import camera_of
from img3d_methods.distilled.views import directions_of_result, write_result
from img3d_methods.generated.trainer import NamedAfterText
from img3d_methods.training.trainer import Img3dTrainer

if TYPE_CHECKING:
    from img3d_methods.training.trainer import Img3dTrainerConfig as Mixin
else:
    Mixin = object

PICTURED_AZIMUTHS = (0.0, 90.0, 180.0, 270.0)
PICTURED_ELEVATION = 10.0
PICTURE_SIZE = 256


@dataclass
class GuidedRunConfig(NamedAfterText, Mixin):
    """Mixin for the configuration of a run whose pipeline is a `GuidedPipelineConfig`.

    Its only fields are these two: it inherits none, which would replace those of the class that it is mixed into.
    """

    steps_per_eval_image: int = 0
    """Never: there is nothing to compare with."""
    steps_per_eval_all_images: int = 0
    """Never: there is nothing to compare with."""

    def print_to_terminal(self) -> None:
        """Checks the options, and chooses a guidance, before config.yml is written and anything slow begins."""
        super().print_to_terminal()
        pipeline: Any = self.pipeline
        try:
            row = pipeline.prepare(f"{self.experiment_name}-{self.timestamp}")
        except InputError as error:
            fail(f"{self.method_name}: {error}")
        print_line(f"Guidance: {row.name}, {row.title}.", "yellow")


class PicturingTrainer(Img3dTrainer):
    """Writes pictures of the object while a guidance shapes it. Its pipeline's configuration is a `DenoiserOptions`."""

    def setup_optimizers(self) -> Optimizers:
        self._length_is_presets = False  # presets depend on the photos; here there are none
        pipeline: Any = self.pipeline
        pipeline.num_steps = self.config.max_num_iterations
        return super().setup_optimizers()

    def _step(self, step: int, clock: Any) -> None:
        super()._step(step, clock)
        every = self.config.pipeline.picture_every  # pyright: ignore[reportAttributeAccessIssue]
        if every > 0 and (step % every == 0 or step == self.config.max_num_iterations - 1):
            with self.train_lock:
                self._save_picture(step)

    def _save_picture(self, step: int) -> None:
        """Writes what the object looks like now, from four sides; a run is complete without it."""
        rgb, _ = self._rendered(
            torch.tensor(PICTURED_AZIMUTHS), torch.full((len(PICTURED_AZIMUTHS),), PICTURED_ELEVATION), PICTURE_SIZE
        )
        pixels = (255 * torch.cat(list(rgb.permute(0, 2, 3, 1)), dim=1)).round().byte().cpu().numpy()
        file = self.base_dir / "pictures" / f"step-{step:06d}.png"
        try:
            save_picture(pixels, file)
        except OSError as error:
            warn(f"Could not save {file}: {error.strerror or error}; training goes on.")

    @torch.no_grad()
    def _rendered(
        self, azimuths: Float[Tensor, "V"], elevations: Float[Tensor, "V"], size: int
    ) -> tuple[Float[Tensor, "V 3 S S"], Float[Tensor, "V 1 S S"]]:
        """The object on white from given angles in degrees, and its opacity."""
        cameras = self._cameras(azimuths, elevations, size)
        model = self.pipeline.model
        was_training = model.training
        model.eval()
        outputs: list[Any] = [model.get_outputs(cameras[i : i + 1]) for i in range(len(azimuths))]
        model.train(was_training)
        rgb, alpha = (torch.stack([one[name] for one in outputs]).cpu() for name in ("rgb", "accumulation"))
        return rgb.permute(0, 3, 1, 2).clamp(0, 1), alpha.permute(0, 3, 1, 2).clamp(0, 1)

    @abstractmethod
    def _cameras(self, azimuths: Float[Tensor, "V"], elevations: Float[Tensor, "V"], size: int) -> Cameras:
        """The guidance's cameras in the training world.

        Args:
            azimuths: In degrees.
            elevations: In degrees.
            size: Width and height of a picture.
        """


class GuidedTrainer(PicturingTrainer):
    """Shapes the model of a `GuidedPipeline`."""

    pipeline: GuidedPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _cameras(self, azimuths: Float[Tensor, "V"], elevations: Float[Tensor, "V"], size: int) -> Cameras:
        outputs = self.pipeline.datamanager.train_dataparser_outputs
        camera = camera_of(self.pipeline.config.guidance)
        poses = orbit_camera_to_worlds(azimuths, elevations, camera.radius)
        to_world = outputs.dataparser_transform[:, :3]
        poses = to_world @ poses
        poses[:, :, 3] *= outputs.dataparser_scale
        return square_cameras(poses, focal_length(camera.fov, size), size).to(self.device)

    def _after_train(self) -> None:
        """Also writes views of a result that no image belongs to, which are the run's data set."""
        self._write_views()
        super()._after_train()

    def _write_views(self) -> None:
        if guidance_row(self.pipeline.config.guidance).shows == "image":
            return
        from img3d_generators.posed_views import PosedViews

        camera = camera_of(self.pipeline.config.guidance)
        folder = Path(self.pipeline.datamanager.train_dataset.metadata["views_folder"])
        azimuths, elevations = (torch.tensor(angles) for angles in directions_of_result())
        size = int(self.pipeline.datamanager.train_cameras.width[0])
        rgb, alpha = self._rendered(azimuths, elevations, size)
        poses = orbit_camera_to_worlds(azimuths, elevations, camera.radius)
        try:
            write_result(PosedViews(rgb, poses, camera.fov, alpha), folder)
        except InputError as error:
            warn(f"{error}; the run itself is complete.")

    def _evaluated(self) -> tuple[str, bool]:
        if guidance_row(self.pipeline.config.guidance).shows == "image":
            return "The given image, trained on", False
        return f"{len(self.pipeline.datamanager.eval_dataset.image_filenames)} views of the result", False

    def _guess_message(self) -> str | None:
        if guidance_row(self.pipeline.config.guidance).shows == "image":
            return "one image does not show the object's other sides: check these yourself"
        return "the views are renders of this result, so the metrics do not say how good it is"


def save_picture(pixels: np.ndarray, file: Path) -> None:
    """Writes a picture, whole or not at all.

    Args:
        pixels: uint8 `[H, W, 3]`.
        file: A PNG.

    Raises:
        OSError: It cannot be written.
    """
    file.parent.mkdir(exist_ok=True)
    with write_atomically(file) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
