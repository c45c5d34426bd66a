# SPDX-License-Identifier: Apache-2.0
"""What generators take: one object, cut out, in the middle of a square picture of the size that they know."""

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
"""Height and width in pixels of what Zero123++ is given."""
LONGEST_SIDE = 2048
"""What larger photos are reduced to at once: objects of a quarter of their width are still large enough then."""
MIN_SIDE = 16
"""Pixels that a picture, and the object in it, must have."""
OPAQUE = 250
"""Alpha, of 255, from which on pixels count as opaque: a picture that has no other ones has nothing cut out."""
VISIBLE = 25
"""Alpha, of 255, from which on pixels belong to the object when it is framed; what rembg leaves elsewhere does not."""

OpenSession = Callable[[], Session]
RGBA = npt.NDArray[np.uint8]
"""`[H, W, 4]`, not premultiplied."""


def single_images(path: Path) -> list[Path]:
    """The image files that a path names: itself, or those in a folder, sorted as people number them.

    Raises:
        InputError: there is nothing, or no image.
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
    """Reads an image, cuts its object out and puts that in the middle of a square.

    Args:
        path: any image file; one with transparency says itself what the object is. Otherwise a plain background is
            recognised, and before another the object is looked for.
        border_ratio: share of the square's width that stays free, half of it on each side.
        size: height and width of the square in pixels.
        open_session: gives what finds the object before backgrounds that are not plain.

    Returns:
        RGBA in [0, 1], not premultiplied.

    Raises:
        InputError: it is no image, too small, or has nothing in it.
    """
    pixels = recentred(cut_out(path, open_session), border_ratio, size, path)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def cut_out(path: Path, open_session: OpenSession = open_object_finder) -> RGBA:
    """An image, upright and not too large, with the object's coverage of each pixel as its alpha.

    Raises:
        InputError: as `prepared_image`.
    """
    pixels = read_upright(path, LONGEST_SIDE)
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
            "makes sure"
        )
        return cut_by_grabcut(rgb)
    mask = session.predict(Image.fromarray(rgb))[0].convert("L").resize((width, height))
    return np.concatenate([rgb, np.asarray(mask)[..., None]], axis=-1)


def recentred(pixels: RGBA, border_ratio: float, size: int, name: Path) -> RGBA:
    """The object in the middle of a square, as large as the border permits, as LGM and Zero123++ frame it.

    Specks far from it, which removing a background often leaves, do not count.

    Args:
        pixels: an image with alpha.
        border_ratio: share of the square's width that stays free.
        size: height and width of the square.
        name: of the image, for messages.

    Raises:
        InputError: nothing is visible, or almost nothing.
    """
    is_object = without_specks(pixels[..., 3] >= VISIBLE)
    rows, columns = (np.flatnonzero(is_object.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        raise InputError(f"{name} shows nothing: all of it is transparent, or no object was found in it")
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    longest = max(bottom - top, right - left)
    if longest < MIN_SIDE:
        raise InputError(f"the object in {name} is only {longest} pixels large; give a picture closer to it")
    scale = size * (1 - border_ratio) / longest
    width, height = max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top)))
    cropped = Image.fromarray(pixels[top:bottom, left:right])
    square = Image.new("RGBA", (size, size))
    resized = cropped.resize((width, height), Image.Resampling.BICUBIC)  # premultiplies: edges keep their colour
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return np.array(square)


def to_pil(image: Float[Tensor, "4 S S"]) -> Image.Image:
    """A prepared image as Pillow has it."""
    return Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy())


def matted(views: PosedViews, background: int, session: Session) -> PosedViews:
    """Views painted on grey, on white instead, and with their alpha.

    Args:
        views: as Zero123++ paints them.
        background: the grey value, of 255; it is known, so that mixtures with it at the edges can be undone.
        session: finds the object.
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
