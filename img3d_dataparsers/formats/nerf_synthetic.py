# SPDX-License-Identifier: Apache-2.0
"""Reading the NeRF-synthetic ("Blender") format: one transforms file per split, transparent PNGs, a fixed world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from img3d_dataparsers.formats.meta_frames import frames_of_meta
from img3d_dataparsers.formats.transforms_json import load_meta
from img3d_dataparsers.posed_photos import PosedPhotos
from img3d_pictures.file_resolver import FileResolver, is_file

WHITE = (1.0, 1.0, 1.0)
HELD_OUT_INTERVAL = 8
"""Interval of held-out training photos if no others are held out: Nerfstudio's default for other formats."""


def is_nerf_synthetic(folder: Path) -> bool:
    """Whether a folder has the format's training file."""
    return FileResolver(folder).named("transforms_train.json").is_file()


def read_nerf_synthetic(folder: Path, split: str) -> PosedPhotos:
    """Reads one split; "val" and "test" replace each other if one of them has no photos.

    If neither has photos (BlenderNeRF writes the poses of a test path without rendering it), every 8th training photo
    is held out. As in Nerfstudio's Blender parser, frames keep the file's order and the world is not normalised, so
    that results are comparable with published ones.

    Raises:
        InputError: A file cannot be read.
    """
    names = ("test", "val") if split == "test" else ("val", "test")
    held_out = next(filter(None, (_with_photos(folder, name) for name in names)), None)
    if held_out is not None and split != "train":
        return held_out
    training = _read(folder, "train")
    if held_out is not None:
        return training
    listed = [frame.image_path for frame in training.frames if is_file(frame.image_path)]
    line = "neither transforms_val.json nor transforms_test.json has photos that exist"
    return replace(
        training,
        assumptions=[*training.assumptions, f"{line}: every {HELD_OUT_INTERVAL}th training photo is held out instead"],
        splits={"val": set(listed[::HELD_OUT_INTERVAL])},
    )


def _with_photos(folder: Path, split: str) -> PosedPhotos | None:
    posed = _read(folder, split) if FileResolver(folder).named(f"transforms_{split}.json").is_file() else None
    return posed if posed is not None and any(is_file(frame.image_path) for frame in posed.frames) else None


def _read(folder: Path, split: str) -> PosedPhotos:
    files = FileResolver(folder)
    path = files.named(f"transforms_{split}.json")
    frames = frames_of_meta(load_meta(path), files)
    return PosedPhotos(
        source=path,
        folder=folder,
        frames=frames,
        assumptions=files.assumptions,
        is_normalised=True,
        alpha_color=WHITE,
    )
