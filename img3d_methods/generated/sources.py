# SPDX-License-Identifier: Apache-2.0
"""What a generator starts from: an image file, or a text; and the key under which its results are cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from img3d_base.console import print_line
from img3d_base.errors import InputError
from img3d_generators.posed_views import PosedViews
from img3d_generators.registry import row, rows
from img3d_generators.weights.checkpoints import checkpoint
from img3d_methods.generated.generated_views import is_views_folder, read_given_views

Source = str | PosedViews | list[str]
"""What a generator takes: the path of an image, a text, views, or the paths of several images of one object."""
ALL = -1
"""The index that stands for all images of a folder."""


def image_of(data: Path, index: int) -> Path:
    """The image file that the user means.

    Args:
        data: An image, or a folder of images.
        index: Which one of a folder, in the order of their names.

    Raises:
        InputError: There is no such image.
    """
    from img3d_generators.image_preparation import single_images

    images = single_images(data)
    if not 0 <= index < len(images):
        raise InputError(f"--index is {index}, but {data} has images 0 to {len(images) - 1}")
    if len(images) > 1:
        print_line(f"{images[index].name} is taken, one of {len(images)} images in {data}: --index chooses")
    return images[index]


def images_of_one_object(data: Path, generator: str) -> list[Path]:
    """All image files of a folder, in the order of their names.

    Raises:
        InputError: There are none, or the generator takes only one.
    """
    from img3d_generators.image_preparation import single_images

    if not row(generator).takes_several:
        several = ", ".join(name for name, one in rows().items() if one.takes_several)
        raise InputError(f"--index -1 is for generators that take several images of one object: {several}")
    return single_images(data)


def needed_prompt(prompt: str) -> str:
    """The text without surrounding blanks.

    Raises:
        InputError: It is empty.
    """
    if not prompt.strip():
        raise InputError('this generator takes a text: say what to make with --pipeline.prompt "a red chair"')
    return prompt.strip()


def source_of(
    data: Path, index: int, generator: str, network: str, prompt: str
) -> tuple[str, Source, Path | str, Path]:
    """The generator, what it takes, a file or text that identifies that, and the folder beside which to cache.

    Args:
        data: An image, a folder of images, or a folder of posed views.
        index: Which image of a folder; -1: all of them.
        generator: The name of the generator's row.
        network: The row that takes views, if the generator does not.
        prompt: The text, for a generator that takes one.

    Raises:
        InputError: There is nothing of that kind.
    """
    if is_views_folder(data):
        views = read_given_views(data)[0]
        digest = hashlib.sha256(views.images.numpy().tobytes())
        digest.update(repr((views.camera_to_worlds.tolist(), views.fov)).encode())
        return generator if row(generator).takes == "views" else network, views, digest.hexdigest(), data
    if row(generator).takes == "text":
        text = needed_prompt(prompt)
        return generator, text, text, data
    if index == ALL:
        images = images_of_one_object(data, generator)
        digest = hashlib.sha256(b"".join(hashlib.sha256(image.read_bytes()).digest() for image in images))
        return generator, [str(image) for image in images], digest.hexdigest(), images[0].parent
    image = image_of(data, index)
    return generator, str(image), image, image.parent


def key_of(source: Path | str, generators: Sequence[str], settings: object) -> str:
    """Hexadecimal digits that differ for other sources, generators with other weights, and settings.

    Args:
        source: An image file, or a text.
        generators: Names of the rows that take part.
        settings: Anything else that the result depends on.

    Raises:
        InputError: The image cannot be read.
    """
    from img3d_pictures.background import rembg_is_installed

    try:
        digest = hashlib.sha256(source.read_bytes() if isinstance(source, Path) else source.encode())
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
    files = [checkpoint(name).files for generator in generators for name in row(generator).checkpoints]
    digest.update(repr((rembg_is_installed(), files, settings)).encode())
    return digest.hexdigest()[:16]
