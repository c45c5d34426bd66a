# SPDX-License-Identifier: Apache-2.0
"""Presets of `img3d-mvs` that trade time for quality."""

from __future__ import annotations

from dataclasses import dataclass, replace

from img3d_base.errors import InputError
from img3d_methods.training.presets import PresetName


@dataclass(frozen=True)
class MvsPreset:
    """How fine depth maps, surface and texture are."""

    image_size: int
    """Longest side in pixels of the photos that stereo compares."""
    num_sources: int
    """Number of photos that each photo is compared with."""
    geometric_passes: int
    """Number of times that all depth maps are refined with each other's."""
    max_points: int
    """Number of points that the surface is fitted to, at most."""
    faces: int
    """Number of triangles, at most."""
    texture_size: int
    """Width and height of the texture in pixels."""


PRESETS: dict[PresetName, MvsPreset] = {
    "fast": MvsPreset(400, 6, 1, 300_000, 60_000, 2048),
    "balanced": MvsPreset(800, 8, 2, 1_000_000, 200_000, 4096),
    "best": MvsPreset(1600, 8, 2, 2_500_000, 500_000, 4096),
}

IMAGE_SIZES, FACES, TEXTURE_SIZES = range(64, 4001), range(4, 10_000_001), range(64, 8193)
"""What the options may be. Stereo counts a photo's pixels in single precision: 4000 x 4000 is what it can."""


def with_options(preset: MvsPreset, image_size: int, faces: int, texture_size: int) -> MvsPreset:
    """The preset with these values, where they are not 0.

    Raises:
        InputError: A value is out of range.
    """
    for option, value, possible in (
        ("image-size", image_size, IMAGE_SIZES),
        ("faces", faces, FACES),
        ("texture-size", texture_size, TEXTURE_SIZES),
    ):
        if value != 0 and value not in possible:
            raise InputError(
                f"--pipeline.{option} is {value}: it has to be {possible.start} to {possible.stop - 1}, or 0 for the "
                "preset's"
            )
    return replace(
        preset,
        image_size=image_size or preset.image_size,
        faces=faces or preset.faces,
        texture_size=texture_size or preset.texture_size,
    )
