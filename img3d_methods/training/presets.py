# SPDX-License-Identifier: Apache-2.0
"""Presets in three sizes that trade time for quality: length of the run and limit of the number of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from img3d_methods.training.few_photos import by_photos

PresetName = Literal["fast", "balanced", "best"]

STEPS_PER_PHOTO = 200
"""Steps for each photo beyond which photos are learnt by heart, and held-out photos get worse."""
MIN_STEPS = 2_000
"""Steps that few photos get, with any preset: with 12 photos of a still life, 2,400 steps end 0.5 dB lower."""
PIXELS_PER_GAUSSIAN = 50
"""Pixels of the photos for each Gaussian below which held-out photos get worse, too."""
MIN_GAUSSIANS = 50_000
"""Gaussians that small photos may get nevertheless, and few photos with any preset, for which more were not seen to
help."""
GROWTH_THRESHOLD, MAX_EAGERNESS = 0.0008, 4.0
"""Gradient of a Gaussian's place in the image above which it is divided (splatfacto's), and its largest divisor: photos
that could support many more Gaussians than there may be are not learnt by heart."""


@dataclass(frozen=True)
class Preset:
    """The values of options that are 0. All schedules stretch to the length of the run."""

    max_num_iterations: int
    max_gaussians: int

    def steps_for(self, num_photos: int) -> int:
        """The number of steps for this many photos: lower for few."""
        return min(self.max_num_iterations, round(by_photos(num_photos, MIN_STEPS, STEPS_PER_PHOTO * num_photos)))

    def max_gaussians_for(self, num_photos: int, num_pixels: int) -> int:
        """The limit of the number of Gaussians for photos of `num_pixels` together: lower for few or small ones."""
        supported = max(MIN_GAUSSIANS, num_pixels // PIXELS_PER_GAUSSIAN)
        return min(self.max_gaussians, round(by_photos(num_photos, MIN_GAUSSIANS, supported)))


ON_CPU: dict[PresetName, Preset] = {
    "fast": Preset(max_num_iterations=2_000, max_gaussians=50_000),
    "balanced": Preset(max_num_iterations=5_000, max_gaussians=100_000),
    "best": Preset(max_num_iterations=15_000, max_gaussians=200_000),
}
ON_CUDA: dict[PresetName, Preset] = {
    "fast": Preset(max_num_iterations=7_000, max_gaussians=500_000),
    "balanced": Preset(max_num_iterations=30_000, max_gaussians=1_000_000),
    "best": Preset(max_num_iterations=30_000, max_gaussians=3_000_000),
}


@dataclass(frozen=True)
class NerfPreset:
    """The values of a radiance field's options that are 0."""

    max_num_iterations: int
    samples_per_step: int
    """Of a bounded field."""
    log2_table_size: int
    """Of a bounded field, on any device: a GPU's runs load without one. Larger tables pay in long runs only."""


NERF_ON_CPU: dict[PresetName, NerfPreset] = {
    "fast": NerfPreset(max_num_iterations=4_000, samples_per_step=1 << 14, log2_table_size=17),
    "balanced": NerfPreset(max_num_iterations=12_000, samples_per_step=1 << 14, log2_table_size=18),
    "best": NerfPreset(max_num_iterations=40_000, samples_per_step=1 << 15, log2_table_size=19),
}
NERF_ON_CUDA: dict[PresetName, NerfPreset] = {
    "fast": NerfPreset(max_num_iterations=5_000, samples_per_step=1 << 17, log2_table_size=17),
    "balanced": NerfPreset(max_num_iterations=15_000, samples_per_step=1 << 17, log2_table_size=18),
    "best": NerfPreset(max_num_iterations=30_000, samples_per_step=1 << 17, log2_table_size=19),
}


def preset(name: PresetName) -> Preset:
    """The preset of splats for the device on which this machine trains."""
    return (ON_CUDA if torch.cuda.is_available() else ON_CPU)[name]


def nerf_preset(name: PresetName) -> NerfPreset:
    """The preset of radiance fields for the device on which this machine trains."""
    return (NERF_ON_CUDA if torch.cuda.is_available() else NERF_ON_CPU)[name]


def growth_threshold(num_pixels: int, max_gaussians: int) -> float:
    """The gradient above which Gaussians are divided, for photos of `num_pixels` together and a limit of Gaussians: the
    lower, the more Gaussians the photos could support.

    Measured with preset fast at a quarter of the threshold: +0.8 dB on chair, whose 100 photos could support six times
    the limit, but -1.1 dB on 24 photos that could support only as many (benchmarks/NOTES.md).
    """
    eagerness = num_pixels / PIXELS_PER_GAUSSIAN / max_gaussians
    return GROWTH_THRESHOLD / min(max(eagerness, 1.0), MAX_EAGERNESS)
