# SPDX-License-Identifier: Apache-2.0
"""Presets of `img3d-mvs` that trade time for quality."""

from __future__ import annotations

from dataclasses import dataclass, replace

from img3d_assets.meshing.texture_baking import MAX_TEXTURE, MIN_TEXTURE
from img3d_base.errors import InputError
from img3d_methods.training.presets import PresetName


@dataclass(frozen=True)
class MvsPreset:
    """Resolution of the depth maps, the surface and the texture."""

    image_size: int
    """Longest side in pixels of the photos that stereo compares."""
    num_sources: int
    """Maximum number of photos that each photo is compared with."""
    geometric_passes: int
    """Number of times that all depth maps are refined with each other's."""
    max_points: int
    """Maximum number of points that the surface is fitted to."""
    faces: int
    """Maximum number of triangles."""
    texture_size: int
    """Width and height of the texture in pixels."""


PRESETS: dict[PresetName, MvsPreset] = {
    "fast": MvsPreset(400, 6, 1, 300_000, 60_000, 2048),
    "balanced": MvsPreset(800, 8, 2, 1_000_000, 200_000, 4096),
    "best": MvsPreset(1600, 8, 2, 2_500_000, 500_000, 4096),
}

IMAGE_SIZES, FACES = range(64, 4001), range(4, 10_000_001)
"""Permitted values of the options. (The stereo kernel indexes pixels in single precision: views.MAX_PIXELS.)"""
TEXTURE_SIZES = range(MIN_TEXTURE, MAX_TEXTURE + 1)


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
