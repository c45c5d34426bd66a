# SPDX-License-Identifier: Apache-2.0
"""Prepares the input of generators: an object, cut out and centred in a square picture of the required size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from img3d_base.errors import InputError, warn
from img3d_base.text_links import followed
from img3d_generators.posed_views import PosedViews
from img3d_pictures.background import Session, open_object_finder
from img3d_pictures.object_by_colour import (
    ObjectByColour,
    cut_by_grabcut,
    cut_from_plain,
    without_specks,
)
from img3d_pictures.opening import IMAGE_SUFFIXES
from img3d_pictures.photo_folders import image_files
from img3d_pictures.reading import read_upright

PREPARED_SIZE = 512
"""Height and width in pixels of the input of Zero123++."""
MAX_SIDE = 2048
"""Larger photos are reduced to this longer side at once; objects of a quarter of their width are still large enough
then."""
MIN_SIDE = 16
"""Minimum size in pixels of a picture, and of the object in it."""
OPAQUE = 250
"""Pixels with at least this alpha, out of 255, count as opaque; a picture with only such pixels has no cut-out."""
VISIBLE = 25
"""Pixels with at least this alpha, out of 255, belong to the object when it is framed; this excludes the haze that
rembg leaves."""

OpenSession = Callable[[], Session]
RGBA = npt.NDArray[np.uint8]
"""`[H, W, 4]`, straight alpha."""


def single_images(path: Path) -> list[Path]:
    """The image files at a path: the file itself, or those in a folder in natural order.

    Raises:
        InputError: There is nothing at the path, or no image.
    """
    if path.is_dir():
        images = image_files(path)
        if not images:
            raise InputError(f"{path} holds no images ({', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)})")
        return list(map(followed, images))
    if not path.exists():
        raise InputError(f"There is no {path}")
    return [followed(path)]


def prepared_image(
    path: Path, border_ratio: float = 0.2, size: int = PREPARED_SIZE, open_session: OpenSession = open_object_finder
) -> Float[Tensor, "4 S S"]:
    """Reads an image, cuts out its object and centres it in a square.

    Args:
        path: An image file. Its transparency, if any, defines the object; otherwise a plain background is
            recognised, and in front of any other background the object is segmented.
        border_ratio: Fraction of the square's width that stays free, half of it on each side.
        size: Height and width of the square in pixels.
        open_session: Returns the segmentation model for backgrounds that are not plain.

    Returns:
        RGBA in [0, 1], straight alpha.

    Raises:
        InputError: The file is not an image, is too small, or shows nothing.
    """
    pixels = recentred(cut_out(path, open_session), border_ratio, size, path)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def cut_out(path: Path, open_session: OpenSession = open_object_finder) -> RGBA:
    """Reads an image, upright and limited in size, with the object's coverage of each pixel as alpha.

    Raises:
        InputError: As in `prepared_image`.
    """
    pixels = read_upright(path, MAX_SIDE)
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{path} is only {width} x {height} pixels; give one of at least {MIN_SIDE}, better 512")
    if pixels.shape[2] == 4 and pixels[..., 3].min() < OPAQUE:
        return pixels
    rgb = pixels[..., :3]
    cut = cut_from_plain(rgb)
    if cut is not None:
        return cut
    session = open_session()
    if isinstance(session, ObjectByColour):
        warn(
            f"{path} has no transparent or plain background: its object is guessed from its colours (GrabCut). Look at "
            "input.png beside the views; a PNG with a transparent background, or pip install 'img3d[background]', "
            "is more reliable"
        )
        return cut_by_grabcut(rgb)
    mask = session.predict(Image.fromarray(rgb))[0].convert("L").resize((width, height))
    return np.concatenate([rgb, np.asarray(mask)[..., None]], axis=-1)


def recentred(pixels: RGBA, border_ratio: float, size: int, name: Path) -> RGBA:
    """Centres the object in a square, as large as the border permits, in the framing of LGM and Zero123++.

    Distant specks, which removing a background often leaves, are ignored.

    Args:
        pixels: The image, with alpha.
        border_ratio: Fraction of the square's width that stays free.
        size: Height and width of the square in pixels.
        name: The image's name, for messages.

    Raises:
        InputError: Nothing, or almost nothing, is visible.
    """
    is_object = without_specks(pixels[..., 3] >= VISIBLE)
    rows, columns = (np.flatnonzero(is_object.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        raise InputError(f"{name} shows nothing: all of it is transparent, or no object was found in it")
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    longest = max(bottom - top, right - left)
    if longest < MIN_SIDE:
        raise InputError(f"the object in {name} has only {longest} pixels; give a larger picture of it")
    scale = size * (1 - border_ratio) / longest
    width, height = max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top)))
    cropped = Image.fromarray(pixels[top:bottom, left:right])
    square = Image.new("RGBA", (size, size))
    resized = cropped.resize((width, height), Image.Resampling.BICUBIC)  # on premultiplied colours: clean edges
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return np.array(square)


def to_pil(image: Float[Tensor, "4 S S"]) -> Image.Image:
    """A prepared image as a Pillow image."""
    return Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy())


def matted(views: PosedViews, background: int, session: Session) -> PosedViews:
    """Replaces the grey background of views by white, and adds their alpha.

    Args:
        views: Views generated by Zero123++.
        background: The grey value, out of 255. Since it is known, it can be subtracted from mixed pixels at edges.
        session: The segmentation model.
    """
    grey = background / 255
    alphas = []
    for image in views.images:
        picture = Image.fromarray((255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy())
        mask = session.predict(picture)[0].convert("L").resize(picture.size)
        alphas.append(torch.from_numpy(np.array(mask)).to(image)[None] / 255)
    alpha = torch.stack(alphas)
    object_only = (views.images - (1 - alpha) * grey).clamp_min(0).minimum(alpha)
    return replace(views, images=object_only + 1 - alpha, alphas=alpha)
