# SPDX-License-Identifier: Apache-2.0
"""Pictures of what runs are made from: photos, or a video's frames; and a thumbnail of the first one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from img3d_base.atomic_files import cache_folders
from img3d_base.errors import InputError
from img3d_base.output_files import written_whole
from img3d_pictures.opening import IMAGE_SUFFIXES
from img3d_pictures.reading import read_upright
from img3d_studio.uploads import stored_files

SIDE = 320
"""Longest side of a thumbnail, in pixels."""


def pictures_of(folder: Path) -> list[Path]:
    """The pictures among a run's inputs; of a video, the frames that have been taken from it so far.

    Args:
        folder: The run's folder.
    """
    uploads = folder / "input"
    pictures = [file for file in stored_files(uploads) if file.suffix.lower() in IMAGE_SUFFIXES]
    return pictures or sorted(cache_folders(uploads, None)[0].glob("frames-*/frame_*.jpg"))


def thumbnail(folder: Path) -> Path | None:
    """The thumbnail of a run, made from its first picture that can be read; None if there is none.

    Args:
        folder: The run's folder.
    """
    path = folder / "picture.jpg"
    if path.is_file():
        return path
    for picture in pictures_of(folder):
        try:
            pixels = np.asarray(read_upright(picture, SIDE, alpha_color=(1.0, 1.0, 1.0)))
        except InputError:
            continue  # the run's commands report what is wrong with it
        with written_whole(path) as temporary:
            Image.fromarray(pixels[..., :3]).save(temporary, "JPEG", quality=85)
        return path
    return None
