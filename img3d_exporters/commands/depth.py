# SPDX-License-Identifier: Apache-2.0
"""`img3d-export depth`: exports depth and normal maps of the training photos."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from img3d_base.console import print_line
from img3d_base.errors import InputError
from img3d_exporters.commands.sources import renderer_of


def depth(
    load_config: Path,
    output_dir: Path,
    format: Literal["png", "exr", "npy", "colmap"] = "png",
    png_scale: float | None = None,
    original_frame: bool = False,
    force: bool = False,
) -> None:
    """Writes depth and normal maps of the training photos: from stereo for a run of img3d-mvs, else as rendered.

    Args:
        load_config: The run's config.yml.
        output_dir: The folder for depth/, normals/ and cameras.json.
        format: png has 16 bits of depth and 8 bits of normals; exr and npy have floats; colmap is a dense workspace
            with photos, cameras and .bin maps, with which COLMAP goes on.
        png_scale: Values of a PNG per unit of depth. Default: 1000 (millimetres, if the unit is a metre) if that
            suits the depths, otherwise the largest power of ten that fits. cameras.json states it.
        original_frame: Use the axes and units of the photos' own poses instead of the normalised ones of training.
        force: Replace an existing folder.
    """
    from img3d_base.atomic_files import remove, write_atomically
    from img3d_exporters.depth.depth_files import write_depth_maps
    from img3d_exporters.depth.photo_depth import depth_of_photos
    from img3d_exporters.load_run import load_run

    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir} is not a folder: choose another --output-dir.")
    filled = output_dir.is_dir() and any(output_dir.iterdir())
    if filled and not force:
        raise InputError(f"{output_dir} already exists: choose another folder, or give --force.")
    run = load_run(load_config)
    photos = list(depth_of_photos(run, partial(renderer_of, run, load_config), original_frame))
    try:
        with write_atomically(output_dir) as folder:
            folder.mkdir(parents=True)
            written = write_depth_maps(photos, folder, format, png_scale)
            if filled:
                remove(output_dir)
    except OSError as error:
        raise InputError(f"{output_dir} cannot be written: {error.strerror or error}.") from error
    print_line(f"{written}: {output_dir}")
