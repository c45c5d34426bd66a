# SPDX-License-Identifier: Apache-2.0
"""Generated views of one object as an ordinary posed data set (transforms.json and PNGs), on which any method can
train."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from img3d_assets.color_values import without_white
from img3d_base.atomic_files import write_atomically
from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import inside, read_json
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.posed_views import PosedViews
from img3d_pictures.opening import open_picture

TRANSFORMS = "transforms.json"
INPUT = "input.png"
"""The image from which the views were made: square, RGBA, with the object centred."""
READ_ERRORS = (InputError, OSError, ValueError, KeyError, TypeError)
"""What reading a damaged folder of views raises."""


def write_views(views: PosedViews, image: Tensor, generator: str, folder: Path) -> None:
    """Writes the data set, whole or not at all. Nerfstudio's world has z up, so +x points towards the viewer of the
    image.

    Args:
        views: The generated views.
        image: The RGBA image `[4, S, S]` in [0, 1] from which they were generated.
        generator: The name of the generator; it is kept in transforms.json.
        folder: The folder of the data set; must not exist.

    Raises:
        OSError: The data set cannot be written.
    """
    size = views.images.shape[-1]
    poses = torch.eye(4).repeat(len(views), 1, 1).double()
    poses[:, :3] = torch.from_numpy(Y_UP_TO_Z_UP[:, :3]) @ views.camera_to_worlds.double()
    names = [f"images/view_{i}.png" for i in range(len(views))]
    meta = {
        "camera_model": "OPENCV",
        **{"fl_x": views.focal, "fl_y": views.focal, "cx": size / 2, "cy": size / 2, "w": size, "h": size},
        "applied_transform": Y_UP_TO_Z_UP.tolist(),
        "orientation_override": "none",
        "generator": generator,
        "frames": [
            {"file_path": name, "transform_matrix": pose.tolist()} for name, pose in zip(names, poses, strict=True)
        ],
    }
    with write_atomically(folder) as temporary:
        (temporary / "images").mkdir(parents=True)
        for name, picture in zip(names, _pictures(views), strict=True):
            _save(picture, temporary / name)
        _save(image, temporary / INPUT)
        (temporary / TRANSFORMS).write_text(json.dumps(meta, indent=2))


def is_views_folder(data: Path) -> bool:
    """Whether a path given as data is a folder of posed views rather than an image or a folder of images."""
    return (data / TRANSFORMS).is_file()


def are_kept(folder: Path) -> bool:
    """Whether a folder of the cache holds views. A damaged one is removed, with a warning: its views are to be made
    anew."""
    if not folder.is_dir():
        return False
    try:
        read_views(folder)
    except READ_ERRORS as error:
        warn(f"{folder} is damaged ({error or type(error).__name__}); its views are made anew")
        shutil.rmtree(folder)
        return False
    return True


def read_given_views(folder: Path) -> tuple[PosedViews, Tensor | None, str]:
    """`read_views` of a folder that the user names.

    Raises:
        InputError: It is not such a folder.
    """
    try:
        return read_views(folder)
    except READ_ERRORS as error:
        reason = f"has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise InputError(
            f"{folder} is not a folder of square views with one camera, as img3d keeps them in .img3d/views-…: {reason}"
        ) from error


def read_views(folder: Path) -> tuple[PosedViews, Tensor | None, str]:
    """Reads a data set as `write_views` writes it.

    Returns:
        The views, with 8 bits per channel; the input image `[4, S, S]`, None if there is none; and the name of their
        generator, "" if it is not known.

    Raises:
        InputError, OSError, ValueError, KeyError, TypeError: The data set is damaged.
    """
    meta = read_json(folder / TRANSFORMS)
    files = _files(folder, meta)
    if not files:
        raise ValueError("it has no views")
    pictures = torch.stack([_load(file) for file in files])
    if pictures.shape[-1] != pictures.shape[-2]:
        raise ValueError(f"its pictures are not square, but {pictures.shape[-1]} x {pictures.shape[-2]}")
    poses = torch.tensor([frame["transform_matrix"] for frame in meta["frames"]], dtype=torch.float64)[:, :3]
    alphas = pictures[:, 3:] if pictures.shape[1] == 4 else None
    views = PosedViews(
        images=pictures[:, :3] if alphas is None else pictures[:, :3] * alphas + 1 - alphas,
        camera_to_worlds=(torch.from_numpy(Y_UP_TO_Z_UP[:, :3]).T @ poses).float(),
        fov=float(np.degrees(2 * np.arctan(meta["w"] / 2 / meta["fl_x"]))),
        alphas=alphas,
    )
    image = _load(folder / INPUT) if (folder / INPUT).exists() else None
    return views, image, meta.get("generator", "")


def _pictures(views: PosedViews) -> Tensor:
    """Pictures `[V, 3 or 4, S, S]`; with alpha, colours are straight, without the white background, as PNG expects."""
    if views.alphas is None:
        return views.images
    return torch.cat([without_white(views.images, views.alphas), views.alphas], dim=1)


def _save(picture: Tensor, path: Path) -> None:
    pixels = (255 * picture.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(path)


def view_files(folder: Path) -> list[Path]:
    """The pictures of a data set that `read_views` can read."""
    return _files(folder, read_json(folder / TRANSFORMS))


def _files(folder: Path, meta: dict[str, Any]) -> list[Path]:
    return [inside(folder / TRANSFORMS, frame["file_path"]) for frame in meta["frames"]]


def _load(path: Path) -> Tensor:
    with open_picture(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
