# SPDX-License-Identifier: Apache-2.0
"""What a training step of a radiance field costs: `img3d-nerf` against Nerfstudio's nerfacto, with as many rays of the
same photos, in turns.

Nerfacto runs as it does on a CPU: its own modules in torch (`implementation` "torch"), all else at its defaults. Its
data manager reads photos at full size, which rays do not notice, in processes of its own, which slow ours a little.

    python benchmarks/nerf_step.py --steps 5 --rounds 3
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from kernels import describe_machine
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer
from time_to_quality import SCENES

from img3d_methods.specs import img3d_nerf

RAYS = 1024
WARM_UP_STEPS = 300
"""Of `img3d-nerf`; nerfacto, whose steps take seconds, gets two."""


def trainer(config: Any, folder: Path, downscale_factor: float) -> Trainer:
    """A trainer of the method on fox, set up."""
    scene = SCENES["fox"]
    ours: Any = img3d_nerf.config
    config.pipeline.datamanager.dataparser = copy.deepcopy(ours.pipeline.datamanager.dataparser)
    config.pipeline.datamanager.dataparser.downscale_factor = downscale_factor
    config.pipeline.datamanager.train_num_rays_per_batch = RAYS
    config.data = config.pipeline.datamanager.data = scene.folder
    config.machine.device_type = "cpu"
    config.mixed_precision = False
    config.max_num_iterations = 1_000_000
    config.vis = "tensorboard"
    config.logging.local_writer.enable = False
    config.output_dir = folder
    config.set_timestamp()
    made = config.setup(local_rank=0, world_size=1)
    made.setup()
    return made


class Steps:
    """Takes a trainer's steps one by one."""

    def __init__(self, made: Trainer) -> None:
        self.trainer, self.step = made, 0

    def seconds(self, count: int) -> list[float]:
        """Of each of so many steps."""
        times = []
        for _ in range(count):
            began = time.perf_counter()
            for callback in self.trainer.callbacks:
                callback.run_callback_at_location(self.step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
            self.trainer.train_iteration(self.step)
            for callback in self.trainer.callbacks:
                callback.run_callback_at_location(self.step, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
            times.append(time.perf_counter() - began)
            self.step += 1
        return times


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="of nerfacto in a round; ours are 20 times as many")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    nerfacto: Any = copy.deepcopy(all_methods["nerfacto"])
    nerfacto.pipeline.model.implementation = "torch"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ours = Steps(trainer(copy.deepcopy(img3d_nerf.config), Path(folder), SCENES["fox"].downscale_factor))
        # Its metrics of held-out photos, which are not asked for, would fetch weights.
        with patch("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", torch.nn.Identity):
            theirs = Steps(trainer(nerfacto, Path(folder), 1.0))
        ours.seconds(WARM_UP_STEPS)
        theirs.seconds(2)
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(arguments.rounds):
            times[0].extend(ours.seconds(20 * arguments.steps))
            times[1].extend(theirs.seconds(arguments.steps))
    mine, other = (1000 * statistics.median(taken) for taken in times)
    print(f"{describe_machine()}. fox, 270x480, {RAYS:,} rays a step: medians.\n")
    print(f"| method | ms a step |\n|---|---:|\n| img3d-nerf | {mine:.1f} |\n| nerfacto | {other:.0f} |\n")
    print(f"Ratio: {other / mine:.0f}.")


if __name__ == "__main__":
    main()
