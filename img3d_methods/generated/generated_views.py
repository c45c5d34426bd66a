# SPDX-License-Identifier: Apache-2.0
"""Generated views of one object as an ordinary posed data set (transforms.json and PNGs), on which any method can
train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from img3d_assets.color_values import without_white
from img3d_base.atomic_files import write_atomically
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.posed_views import PosedViews

INPUT = "input.png"
"""The image from which the views were made: square, RGBA, with the object centred."""


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
        (temporary / "transforms.json").write_text(json.dumps(meta, indent=2))


def read_views(folder: Path) -> tuple[PosedViews, Tensor, str]:
    """Reads what `write_views` wrote: the views, with 8 bits per channel, the input image, and the name of the
    generator.

    Raises:
        OSError, ValueError, KeyError: The data set is damaged.
    """
    meta = json.loads((folder / "transforms.json").read_text())
    pictures = torch.stack([_load(folder / frame["file_path"]) for frame in meta["frames"]])
    poses = torch.tensor([frame["transform_matrix"] for frame in meta["frames"]], dtype=torch.float64)[:, :3]
    alphas = pictures[:, 3:] if pictures.shape[1] == 4 else None
    views = PosedViews(
        images=pictures[:, :3] if alphas is None else pictures[:, :3] * alphas + 1 - alphas,
        camera_to_worlds=(torch.from_numpy(Y_UP_TO_Z_UP[:, :3]).T @ poses).float(),
        fov=float(np.degrees(2 * np.arctan(meta["w"] / 2 / meta["fl_x"]))),
        alphas=alphas,
    )
    return views, _load(folder / INPUT), meta["generator"]


def _pictures(views: PosedViews) -> Tensor:
    """Pictures `[V, 3 or 4, S, S]`; with alpha, colours are straight, without the white background, as PNG expects."""
    if views.alphas is None:
        return views.images
    return torch.cat([without_white(views.images, views.alphas), views.alphas], dim=1)


def _save(picture: Tensor, path: Path) -> None:
    pixels = (255 * picture.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(path)


def _load(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
