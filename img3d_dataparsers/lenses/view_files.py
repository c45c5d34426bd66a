# SPDX-License-Identifier: Apache-2.0
"""The perspective views of a data set's photos as files in its cache, written once for each photo."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
from nerfstudio.cameras.cameras import CameraType
from PIL import Image

from img3d_base.atomic_files import cache_folders, remove_left_behind, writable_cache, write_atomically
from img3d_base.console import print_line
from img3d_base.errors import InputError, counted
from img3d_base.text_links import followed
from img3d_base.threaded import in_threads
from img3d_dataparsers.intrinsics import Intrinsics
from img3d_dataparsers.lenses.image_circle import with_image_circles
from img3d_dataparsers.lenses.lens import EQUIRECTANGULAR, Lens
from img3d_dataparsers.lenses.views import Resampling, View, replacing_views
from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.usable_photos import UsablePhoto
from img3d_pictures.reading import read_mask, read_photo

RECIPE = 1
"""Part of the cache key. Increment it with every change that alters the views, so that cached views are made again."""
FOLDER = "views"
"""The folder in the cache."""
JPEG_QUALITY = 95
OPENGL = np.diag([1.0, -1.0, -1.0])
"""From OpenCV's camera axes to OpenGL's, and back."""


@dataclass(frozen=True)
class ViewOfPhoto:
    """A perspective view of one of several photos; the photo itself if it needs no views."""

    photo: UsablePhoto
    """The view as a photo, with its pose."""
    source: int
    """Index of the original photo."""
    rotation: FloatArray
    """`[3, 3]`, from the view's axes to the photo's, both OpenGL's."""


def perspective_views(photos: Sequence[UsablePhoto], folder: Path, cache_dir: Path | None) -> list[ViewOfPhoto]:
    """Replaces photos by perspective views if their lens needs it. Views that are not in the cache are written there.

    Args:
        photos: The photos.
        folder: The data set's folder.
        cache_dir: Where to keep the views; None for the usual places.

    Returns:
        The views in the photos' order.

    Raises:
        InputError: A photo cannot be read, or a view cannot be written.
    """
    lenses = with_image_circles(photos)
    views = [replacing_views(lens) for lens in lenses]
    if not any(views):
        return [ViewOfPhoto(photo, i, np.eye(3)) for i, photo in enumerate(photos)]
    places = [place / FOLDER for place in cache_folders(folder, cache_dir)]
    names = [_name(photo, lens, folder) for photo, lens in zip(photos, lenses, strict=True)]
    kept = [next((place / name for place in places if (place / name).is_dir()), None) for name in names]
    todo = [i for i in range(len(photos)) if views[i] and kept[i] is None]
    if todo:
        place = writable_cache(folder, cache_dir) / FOLDER
        remove_left_behind(place, "*.tmp")
        one_at_a_time = Lock()

        @lru_cache(maxsize=2)
        def resamplings(lens: Lens) -> list[tuple[View, Resampling]]:
            return [(view, Resampling.of(lens, view)) for view in replacing_views(lens)]

        def write(i: int) -> None:
            lens = lenses[i]
            assert lens is not None  # it has views
            with one_at_a_time:
                of_lens = resamplings(lens)
            _write(photos[i], place / names[i], of_lens)

        in_threads(write, todo, "Making perspective views")
        for i in todo:
            kept[i] = place / names[i]
    result: list[ViewOfPhoto] = []
    for i, photo in enumerate(photos):
        where = kept[i]
        if where is None or not views[i]:
            result.append(ViewOfPhoto(photo, i, np.eye(3)))
        else:
            found = [(view, _picture(where, view)) for view in views[i]]
            result += [_view_of(photo, i, view, picture) for view, picture in found if picture is not None]
    _say(lenses, views, result, kept, len(todo))
    return result


def _say(
    lenses: Sequence[Lens | None],
    views: Sequence[tuple[View, ...]],
    result: Sequence[ViewOfPhoto],
    kept: Sequence[Path | None],
    num_made: int,
) -> None:
    replaced = [i for i, of_photo in enumerate(views) if of_photo]
    panoramas = sum(lens.model == EQUIRECTANGULAR for i in replaced if (lens := lenses[i]) is not None)
    kinds = [(panoramas, "panorama"), (len(replaced) - panoramas, "wide-angle photo")]
    of = " and ".join(counted(number, kind) for number, kind in kinds if number)
    count = sum(bool(views[view.source]) for view in result)
    where = next(path.parent for i in replaced if (path := kept[i]) is not None)
    made = "kept in" if num_made else "from the cache"
    print_line(f"Perspective views: {count} of {of}, {made} {where}")


def _name(photo: UsablePhoto, lens: Lens | None, folder: Path) -> str:
    """The name of the folder with a photo's views, which depends on everything that they are made from."""
    paths = [followed(path) for path in (photo.image_path, photo.mask_path) if path is not None]
    stats = [(os.path.relpath(path, folder), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    said = repr((RECIPE, stats, lens, photo.upright))
    return f"{photo.image_path.stem}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _write(photo: UsablePhoto, folder: Path, resamplings: Sequence[tuple[View, Resampling]]) -> None:
    size = photo.intrinsics.width, photo.intrinsics.height
    image = read_photo(photo.image_path, *size, upright=photo.upright)
    mask = None
    if photo.mask_path is not None:
        mask = read_mask(photo.mask_path, *size, photo.upright, photo.image_path)
    try:
        with write_atomically(folder) as temporary:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            for view, resampling in resamplings:
                seen = resampling.mask(mask)
                if seen is not None and not seen.any():
                    continue  # all of it is masked
                _save(resampling.photo(image), temporary / view.name)
                if seen is not None:
                    Image.fromarray(seen).save(_mask(temporary, view))
    except OSError as error:
        raise InputError(
            f"the views of {photo.image_path} cannot be kept in {folder.parent}: {error.strerror or error}; free some "
            "space there, or give another folder with --cache-dir"
        ) from None


def _save(image: npt.NDArray[np.uint8], stem: Path) -> None:
    picture = Image.fromarray(image)
    if picture.mode == "RGBA":  # JPEG has no alpha
        picture.save(stem.with_suffix(".png"))
    else:
        picture.save(stem.with_suffix(".jpg"), quality=JPEG_QUALITY, subsampling=0)


def _picture(folder: Path, view: View) -> Path | None:
    """The file of a view; None if all of it is masked."""
    return next((path for path in (folder / f"{view.name}.jpg", folder / f"{view.name}.png") if path.is_file()), None)


def _mask(folder: Path, view: View) -> Path:
    return folder / f"{view.name}_mask.png"


def _view_of(photo: UsablePhoto, source: int, view: View, picture: Path) -> ViewOfPhoto:
    rotation = OPENGL @ view.rotation @ OPENGL
    camera_to_world = photo.camera_to_world.copy()
    camera_to_world[:3, :3] = camera_to_world[:3, :3] @ rotation
    intrinsics = Intrinsics(
        fx=view.fx,
        fy=view.fy,
        cx=view.cx,
        cy=view.cy,
        width=view.width,
        height=view.height,
        distortion=(0.0,) * 6,
        camera_type=CameraType.PERSPECTIVE,
    )
    mask = _mask(picture.parent, view)
    return ViewOfPhoto(
        UsablePhoto(picture, mask if mask.is_file() else None, camera_to_world, intrinsics), source, rotation
    )
