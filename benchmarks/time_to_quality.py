# SPDX-License-Identifier: Apache-2.0
"""How good a method is after how long: PSNR and SSIM of the held-out photos along one training run.

What runs is the trainer that `ns-train` runs, with the method's defaults; its clock stands still while the
held-out photos are measured.
Schedules follow the number of steps, so a shorter run is not the beginning of a longer one.

    python benchmarks/time_to_quality.py fox --preset fast
    python benchmarks/time_to_quality.py chair --steps 3000 --max-gaussians 50000
    python benchmarks/time_to_quality.py fox --preset fast --seed-points dense
    python benchmarks/time_to_quality.py fox --method img3d-nerf --preset fast
    python benchmarks/time_to_quality.py chair --method img3d-ngp --preset fast
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from nerfstudio.engine.trainer import TrainerConfig

from img3d_methods.field.trainer import Img3dNerfTrainer
from img3d_methods.specs import img3d_nerf, img3d_ngp, img3d_splat
from img3d_methods.splat.trainer import Img3dSplatTrainer
from img3d_methods.training.clock import TrainingClock
from img3d_methods.training.presets import PresetName, nerf_preset, preset
from img3d_methods.training.trainer import Img3dTrainer
from img3d_methods.viewing.point_cloud_view import PointCloudView
from img3d_methods.viewing.render_pace import RenderPace

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("IMG3D_DATA", REPOSITORY.parent / "shared" / "data"))


@dataclass(frozen=True)
class Scene:
    """A data set and the size it is trained at."""

    folder: Path
    downscale_factor: float


SCENES = {
    "fox": Scene(DATA / "fox", 4.0),  # 270x480
    "fox-540x960": Scene(DATA / "fox", 2.0),
    "chair": Scene(DATA / "chair", 2.0),  # 400x400
    "chair-800x800": Scene(DATA / "chair", 1.0),
    "sample": Scene(REPOSITORY / "sample" / "still_life", 1.0),  # 400x300
}
METHODS = {spec.config.method_name: spec for spec in (img3d_splat, img3d_nerf, img3d_ngp)}


class Measuring(Img3dTrainer):
    """Measures the held-out photos at the given steps, off the clock."""

    measure_at: frozenset[int]
    training_seconds = 0.0
    rows: list[str]

    def _step(self, step: int, clock: TrainingClock) -> None:
        began = time.perf_counter()
        super()._step(step, clock)
        self.training_seconds += time.perf_counter() - began
        if step + 1 in self.measure_at:
            metrics = self.pipeline.get_average_eval_image_metrics(step=step)
            self.rows.append(
                f"| {step + 1} | {self.training_seconds:.1f} | {self._num_gaussians():,} | {metrics['psnr']:.2f} | "
                f"{metrics['ssim']:.4f} |"
            )


class MeasuringSplatTrainer(Measuring, Img3dSplatTrainer):
    """Of splats."""


class MeasuringNerfTrainer(Measuring, Img3dNerfTrainer):
    """Of a radiance field."""


def seconds_of_a_picture(trainer: Img3dTrainer) -> float:
    """The median of five renderings of the first held-out photo's view, with all that a model renders."""
    trainer.pipeline.eval()
    camera = trainer.pipeline.datamanager.eval_dataset.cameras[0:1].to(trainer.device)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        trainer.pipeline.model.get_outputs_for_camera(camera)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def moving_camera(trainer: Img3dTrainer, frames: int = 40) -> str:
    """What a viewer gets while its camera moves: the held-out views in turns, at the size that the viewer chooses."""
    trainer.pipeline.eval()
    cameras, model = trainer.pipeline.datamanager.eval_dataset.cameras, trainer.pipeline.model
    pace, times = RenderPace(PointCloudView.frames_per_second), []
    camera = cameras[0:1]
    for frame in range(frames):
        index = frame % len(cameras)
        camera = copy.deepcopy(cameras[index : index + 1]).to(trainer.device)
        pace.resize(camera, float(camera.width / camera.height), max_size=1024)
        began = time.perf_counter()
        model.get_outputs_for_camera(camera)
        times.append(time.perf_counter() - began)
        pace.record(int(camera.width * camera.height), times[-1])
    rate = 1 / statistics.median(times[frames // 2 :])
    return f"While the camera moves, {rate:.1f} frames a second of {int(camera.width)}x{int(camera.height)}."


def main() -> None:
    """Train on one scene and print the curve as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--method", choices=METHODS, default="img3d-splat")
    parser.add_argument("--preset", choices=get_args(PresetName), default="balanced")
    parser.add_argument("--steps", type=int, help="length of the run, if not the preset's")
    parser.add_argument("--points", type=int, default=8, help="rows of the curve")
    parser.add_argument("--strategy", choices=("mcmc", "default"), help="densification, if not the method's default")
    parser.add_argument("--max-gaussians", type=int, help="the budget of splats, if not the preset's")
    parser.add_argument(
        "--seed-points", choices=("triangulated", "dense"), help="made anew, and how long that takes is printed"
    )
    arguments = parser.parse_args()
    scene = SCENES[arguments.scene]
    if not scene.folder.is_dir():
        sys.exit(f"No data at {scene.folder}: set IMG3D_DATA to the folder that holds it.")

    is_nerf = arguments.method != "img3d-splat"
    config: TrainerConfig = copy.deepcopy(METHODS[arguments.method].config)
    config._target = MeasuringNerfTrainer if is_nerf else MeasuringSplatTrainer
    preset_steps = (nerf_preset if is_nerf else preset)(arguments.preset).max_num_iterations
    steps = arguments.steps or preset_steps
    config.max_num_iterations = steps
    config.vis = "viewer"  # ns-train's default; no page is open
    config.viewer.quit_on_train_completion = True
    config.logging.local_writer.enable = False
    config.steps_per_eval_image = config.steps_per_eval_all_images = steps + 1
    config.data = config.pipeline.datamanager.data = scene.folder
    config.pipeline.datamanager.dataparser.downscale_factor = scene.downscale_factor  # pyright: ignore
    for name in ("preset", "strategy", "max_gaussians"):
        if (value := getattr(arguments, name)) is not None:
            setattr(config.pipeline.model, name, value)
    with tempfile.TemporaryDirectory() as folder:
        config.output_dir = Path(folder)
        config.set_timestamp()
        config.get_base_dir().mkdir(parents=True)  # ns-train does
        if arguments.seed_points is not None:
            datamanager: Any = config.pipeline.datamanager
            datamanager.dataparser.seed_points = arguments.seed_points
            datamanager.dataparser.cache_dir = Path(folder) / "cache"
        torch.manual_seed(config.machine.seed)
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.measure_at = frozenset(
            round(steps * point / arguments.points) for point in range(1, arguments.points + 1)
        )
        trainer.rows = ["| step | training seconds | Gaussians | PSNR dB | SSIM |", "|---|---|---|---|---|"]
        began = time.perf_counter()
        trainer.setup()
        if arguments.seed_points is not None:
            print(
                f"{arguments.seed_points} seed points and all else before training: {time.perf_counter() - began:.0f} s"
            )
        cameras = trainer.pipeline.datamanager.train_dataset.cameras
        print(
            f"{arguments.scene}, {int(cameras.width[0])}x{int(cameras.height[0])}, {len(cameras)} training photos, "
            f"{len(trainer.pipeline.datamanager.eval_dataset)} held out; {os.cpu_count()} cores "
            f"({platform.machine()}), device {trainer.device}\n"
        )
        trainer.train()
        print("\n".join(trainer.rows))
        print(f"\nA held-out picture takes {seconds_of_a_picture(trainer):.2f} s.")
        if is_nerf:
            print(moving_camera(trainer))


if __name__ == "__main__":
    main()
