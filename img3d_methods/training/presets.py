# SPDX-License-Identifier: Apache-2.0
"""How long a run is, and how many Gaussians it may grow to: what trades time for quality, in three sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

PresetName = Literal["fast", "balanced", "best"]


@dataclass(frozen=True)
class Preset:
    """What an option at 0 stands for. All schedules stretch to the run's length."""

    max_num_iterations: int
    max_gaussians: int


ON_CPU: dict[PresetName, Preset] = {
    "fast": Preset(max_num_iterations=2_000, max_gaussians=50_000),
    "balanced": Preset(max_num_iterations=5_000, max_gaussians=100_000),
    "best": Preset(max_num_iterations=10_000, max_gaussians=200_000),
}
ON_CUDA: dict[PresetName, Preset] = {
    "fast": Preset(max_num_iterations=7_000, max_gaussians=500_000),
    "balanced": Preset(max_num_iterations=30_000, max_gaussians=1_000_000),
    "best": Preset(max_num_iterations=30_000, max_gaussians=3_000_000),
}


NERF_STEPS_ON_CPU: dict[PresetName, int] = {"fast": 2_000, "balanced": 5_000, "best": 15_000}
NERF_STEPS_ON_CUDA: dict[PresetName, int] = {"fast": 5_000, "balanced": 15_000, "best": 30_000}


def preset(name: PresetName) -> Preset:
    """The preset of splats for the device that this machine trains on."""
    return (ON_CUDA if torch.cuda.is_available() else ON_CPU)[name]


def nerf_steps(name: PresetName) -> int:
    """The length of a radiance field's run, for the device that this machine trains on."""
    return (NERF_STEPS_ON_CUDA if torch.cuda.is_available() else NERF_STEPS_ON_CPU)[name]
