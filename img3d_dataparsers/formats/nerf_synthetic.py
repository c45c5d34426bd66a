# SPDX-License-Identifier: Apache-2.0
"""Reads the NeRF-synthetic ("Blender") format: one transforms file per split, transparent PNGs, a world that stays."""

from __future__ import annotations

from pathlib import Path

from img3d_base.errors import InputError
from img3d_dataparsers.formats.meta_frames import frames_of_meta
from img3d_dataparsers.formats.transforms_json import load_meta
from img3d_dataparsers.photo_files import is_file
from img3d_dataparsers.posed_photos import PosedPhotos

WHITE = (1.0, 1.0, 1.0)


def is_nerf_synthetic(folder: Path) -> bool:
    """Whether a folder has the format's training file."""
    return (folder / "transforms_train.json").is_file()


def read_nerf_synthetic(folder: Path, split: str) -> PosedPhotos:
    """Reads one split; "val" and "test" stand in for each other where one of them has no photos.

    Frames keep the file's order, and the world is left alone: both as Nerfstudio's Blender parser does, so that
    figures compare with published ones.

    Raises:
        InputError: the split's file is missing or unreadable.
    """
    splits = {"train": ["train"], "val": ["val", "test"], "test": ["test", "val"]}[split]
    found = []
    for name in splits:
        path = folder / f"transforms_{name}.json"
        if not path.is_file():
            continue
        frames = frames_of_meta(load_meta(path), folder)
        found.append(
            PosedPhotos(source=path, folder=folder, frames=frames, is_normalised=True, alpha_color=WHITE),
        )
        if any(is_file(frame.image_path) for frame in frames):
            return found[-1]
    if not found:
        raise InputError(
            f"{folder} has transforms_train.json but neither transforms_val.json nor transforms_test.json: "
            "rename transforms_train.json to transforms.json to hold out every 8th photo of it"
        )
    return found[0]
