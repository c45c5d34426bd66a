# SPDX-License-Identifier: Apache-2.0
"""Finds the photos in a folder, and the mask of each photo."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from img3d_base.console import print_line
from img3d_base.errors import counted, some_names, warn
from img3d_pictures.file_resolver import PHOTO_FOLDER, FileResolver, Kind, Listing, folders_below, key, listing
from img3d_pictures.opening import IMAGE_SUFFIXES
from img3d_pictures.orientation import Size, shape_difference
from img3d_pictures.reading import check_photos, is_turned

PHOTOS = Kind("photos", IMAGE_SUFFIXES, are_photos=True)
MASKS = Kind("masks", IMAGE_SUFFIXES)
IMAGES = re.compile(rf"{PHOTO_FOLDER}(_[0-9]+)?")
MASK_FOLDERS = ("masks", "mask")
BESIDE = ("_mask", ".mask")
"""Endings, after a photo's name with or without its suffix, of the name of a mask in the photo's folder."""
ASPECT_TOLERANCE = 0.02
"""Relative difference between the ratios of the sides of a mask and of its photo up to which the mask is used; up to
twice that for small masks, whose sides are rounded."""


def image_files(folder: Path) -> list[Path]:
    """The photos in `folder` and its sub-folders, in natural order (2 before 10), without masks.

    If there are none, the photos of the largest reduced copies: `images_2`, `images_4`, ….
    """
    photos = _photos_below(folder)
    if not photos:
        reduced = FileResolver(folder).folder(PHOTO_FOLDER, PHOTOS)
        photos = [] if reduced is None else _photos_below(reduced)
    return sorted(photos, key=lambda path: _natural(path.relative_to(folder).as_posix()))


def _photos_below(folder: Path) -> list[Path]:
    return [
        path / name
        for path, contents, _ in folders_below(folder)
        for names in contents.files.values()
        for name in names
        if _is_picture(name) and not name.startswith(".") and not _is_mask_beside(name, contents)
    ]


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _is_mask_beside(name: str, contents: Listing) -> bool:
    """Whether a picture is, by its name, the mask of another picture in the same folder."""
    stem = key(PurePosixPath(name).stem)
    for ending in ("", *BESIDE):
        if stem.endswith(ending):
            of = stem.removesuffix(ending)
            others = contents.files.get(of, []) + (contents.stems.get(of, []) if ending else [])
            if any(map(_is_picture, others)):
                return True
    return False


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def masks_of(photos: Sequence[Path], folder: Path, others: Sequence[Path] = ()) -> list[Path | None]:
    """The mask of each photo, found by its name and place; None for photos without one.

    Masks are in a folder `masks` beside, inside or above the photos' folder (then with the same sub-folders), or beside
    the photos. In a `masks` folder, the mask of `1.jpg` is `1.jpg.png` (COLMAP) or `1.png` (Nerfstudio), with any
    picture suffix; there and beside the photo it may also be `1_mask.png` (Metashape), `1.jpg.mask.png` (RealityScan)
    or `1.mask.png`. Letter case is ignored. A mask that could belong to photos in two folders is not used.

    Args:
        photos: The photos whose mask is not known.
        folder: The data set's folder.
        others: Further photos of the data set, which are not masks either.
    """
    are_photos = {*photos, *others}
    listed = cache(listing)
    masks: list[Path | None] = []
    beside = []
    for photo in photos:
        found = next((mask for mask in _masks_that_fit(photo, folder, listed) if mask not in are_photos), None)
        masks.append(found)
        if found is not None and found.parent == photo.parent:
            beside.append(found.name)
    owners: dict[Path, set[Path]] = {}
    for photo, mask in zip(photos, masks, strict=True):
        if mask is not None:
            owners.setdefault(mask, set()).add(photo.parent)
    unclear = {mask for mask, folders in owners.items() if len(folders) > 1}
    if unclear:
        names = some_names(sorted(str(mask) for mask in unclear))
        warn(f"{counted(len(unclear), 'mask')} could belong to photos in several folders ({names}): not used")
    if beside:
        print_line(f"Masks: {len(beside)} are beside their photos ({some_names(beside)})")
    return [None if mask in unclear else mask for mask in masks]


def whole_masks(
    masks: Sequence[Path | None], photos: Sequence[Path], sizes: Sequence[Size], names: Sequence[str]
) -> list[Path | None]:
    """Replaces masks that are missing, damaged or of another shape than their photos by None, with a warning.

    Args:
        masks: The mask of each photo, or None. It may be smaller or larger than the photo.
        photos: The photos, whole.
        sizes: Their width and height as they are stored.
        names: The names of the photos.
    """
    named = [mask for mask in masks if mask is not None]
    found = dict(zip(named, check_photos(named), strict=True))
    used: list[Path | None] = []
    bad: list[str] = []
    unlike: list[str] = []
    for mask, photo, size, name in zip(masks, photos, sizes, names, strict=True):
        stored = size if mask is None else found[mask]
        if isinstance(stored, str):
            bad.append(name)
            used.append(None)
        elif mask is not None and not _fits(mask, stored, photo, size):
            unlike.append(name)
            used.append(None)
        else:
            used.append(mask)
    used_whole = "photos without a mask are used whole"
    if bad:
        warn(f"{counted(len(bad), 'missing or damaged mask')} ({some_names(bad)}): {used_whole}")
    if unlike:
        warn(f"{counted(len(unlike), 'mask')} of another shape than the photo ({some_names(unlike)}): {used_whole}")
    return used


def _fits(mask: Path, mask_size: Size, photo: Path, photo_size: Size) -> bool:
    """Whether a mask has its photo's shape, but for rounding, as they are stored or by a quarter turn that the
    orientation tag of one of them tells."""
    if _have_one_shape(mask_size, photo_size):
        return True
    width, height = mask_size
    return _have_one_shape((height, width), photo_size) and any(
        is_turned(picture, *photo_size, upright=True) for picture in (photo, mask)
    )


def _have_one_shape(mask: Size, photo: Size) -> bool:
    return shape_difference(mask, photo) <= ASPECT_TOLERANCE + min(ASPECT_TOLERANCE, 1 / min(*mask, *photo))


def _masks_that_fit(photo: Path, folder: Path, listed: Callable[[Path], Listing]) -> Iterator[Path]:
    """Candidate masks of a photo by name and place, the best match first."""
    stem = photo.stem
    endings = [photo.name + ending for ending in BESIDE] + [stem + ending for ending in BESIDE]
    in_folder = [photo.name, stem, *(stem + suffix for suffix in IMAGE_SUFFIXES), *endings]
    for place in _mask_folders(photo, folder, listed):
        yield from _pictures_of_stems(place, in_folder, listed)
    yield from _pictures_of_stems(photo.parent, [photo.name, *endings], listed)


def _pictures_of_stems(folder: Path, stems: Sequence[str], listed: Callable[[Path], Listing]) -> Iterator[Path]:
    contents = listed(folder)
    for stem in stems:
        names = [name for name in contents.stems.get(key(stem), []) if _is_picture(name)]
        order = {suffix: i for i, suffix in enumerate(IMAGE_SUFFIXES)}
        for name in sorted(names, key=lambda name: order[PurePosixPath(name).suffix.lower()]):
            yield folder / name


def _mask_folders(photo: Path, folder: Path, listed: Callable[[Path], Listing]) -> Iterator[Path]:
    """Folders that may contain the mask of a photo, the best first."""
    if not photo.is_relative_to(folder):
        folder = photo.parent.parent
    elif IMAGES.fullmatch(key(folder.name)):
        folder = folder.parent
    parts = photo.parent.relative_to(folder).parts
    for i in range(len(parts) + 1):
        above = folder.joinpath(*parts[:i])
        names = [name for wanted in MASK_FOLDERS for name in listed(above).folders.get(wanted, [])]
        for name in names:
            yield above.joinpath(name, *parts[i:])
            # The masks' folder may replace the photos' folder: the first component, whatever its name.
            if i < len(parts) and (i == 0 or IMAGES.fullmatch(key(parts[i]))):
                yield above.joinpath(name, *parts[i + 1 :])
