# SPDX-License-Identifier: Apache-2.0
"""The photos of a folder that structure from motion can use, their cameras, and why others are left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import ExifTags, Image

from img3d_base.console import print_line
from img3d_base.errors import warn
from img3d_base.text_links import followed, said_of_links
from img3d_base.threaded import in_threads
from img3d_dataparsers.sfm.photo_lens import CameraType, PhotoLens, is_twice_as_wide, lens_of_photo
from img3d_dataparsers.sfm.photo_sensors import GeoPosition, UpVector, position_of, sensed_up
from img3d_pictures.opening import DAMAGED_EXIF, open_picture
from img3d_pictures.orientation import MIRRORED, SWAPPED, Size, orientation
from img3d_pictures.photo_folders import image_files, masks_of, whole_masks
from img3d_pictures.reading import check_photos

MIN_SIDE = 96
"""Smallest side of a photo in pixels: below it, SIFT finds hardly anything."""
FULL_FRAME_DIAGONAL = 43.27
"""Diagonal in millimetres of 36 x 24, to which EXIF's FocalLengthIn35mmFilm refers (CIPA DCG-001)."""
QUARTER_TURNS = {6: 1, 3: 2, 8: 3}
"""Number of clockwise quarter turns that bring a photo upright, by EXIF orientation."""
MIN_FOCAL_LENGTH, MAX_FOCAL_LENGTH = 0.2, 20.0
"""Shortest and longest plausible focal lengths, in diagonals of the photo."""


@dataclass(frozen=True)
class Photo:
    """A photo and the orientation of its sensor.

    The sensor's picture is the stored one, so that photos of one camera share their intrinsics however it was held. For
    a photo that is stored mirrored, it is the upright one, since no camera sees a mirrored world; for a panorama too,
    whose projection has no other orientation.
    """

    path: Path
    name: str
    """Relative to the folder, with forward slashes."""
    mask_path: Path | None
    size: Size
    """Width and height of the stored pixels."""
    orientation: int
    """EXIF orientation, 1 to 8: how the stored pixels must be rotated or mirrored to be upright."""
    camera: str
    """Camera, lens and zoom by EXIF, and the size: photos with the same value share their intrinsics."""
    focal_length: float | None
    """In pixels, from EXIF; None if unknown."""
    digest: str
    """Hash of the contents of the file and its mask."""
    position: GeoPosition | None = None
    """GPS position; None if unknown."""
    sensed_up: UpVector | None = None
    """Up in the sensor's axes; None if unknown."""
    lens: PhotoLens = "perspective"

    @property
    def upright_size(self) -> Size:
        """Width and height of the upright photo."""
        return (self.size[1], self.size[0]) if self.orientation in SWAPPED else self.size

    @property
    def sensor_size(self) -> Size:
        """Width and height of the sensor's picture."""
        return self.upright_size if self._is_sensor_upright else self.size

    @property
    def quarter_turns(self) -> int:
        """Number of clockwise quarter turns that bring the sensor's picture upright."""
        return 0 if self._is_sensor_upright else QUARTER_TURNS.get(self.orientation, 0)

    @property
    def _is_sensor_upright(self) -> bool:
        return self.orientation in MIRRORED or self.lens == "equirectangular"


@dataclass(frozen=True)
class PhotoSet:
    """The photos of a folder."""

    folder: Path
    photos: list[Photo]
    """Sorted by name."""
    left_out: dict[str, str]
    """Names of files that cannot be used, and the reasons."""


def find_photos(folder: Path, camera_type: CameraType = "auto") -> PhotoSet:
    """Finds and checks the photos of a folder, and says which are taken for panorama or fisheye photos.

    Args:
        folder: The folder, with photos in it, in `images/` or in other sub-folders; masks are in `masks/`.
        camera_type: The lens of all photos; "auto": their tags and pixels decide.
    """
    paths = image_files(folder)
    for line in said_of_links(paths, "photos"):
        warn(line)
    names = [path.relative_to(folder).as_posix() for path in paths]
    sizes = check_photos(paths)
    left_out: dict[str, str] = {}
    whole = []
    for path, name, size in zip(paths, names, sizes, strict=True):
        if isinstance(size, str):
            left_out[name] = "empty" if followed(path).stat().st_size == 0 else size
        elif min(size) < MIN_SIDE:
            left_out[name] = f"smaller than {MIN_SIDE} pixels"
        else:
            whole.append((path, name, size))
    found = masks_of([path for path, _, _ in whole], folder)
    usable, names, stored = ([item[i] for item in whole] for i in range(3))
    masks = whole_masks(found, usable, stored, names)
    photos: list[Photo] = []
    first_with: dict[str, str] = {}
    read = in_threads(
        lambda item: _photo(*item[0], mask_path=item[1], camera_type=camera_type),
        list(zip(whole, masks, strict=True)),
        "Reading photos",
    )
    for photo in read:
        if photo.lens == "equirectangular" and not is_twice_as_wide(photo.upright_size):
            left_out[photo.name] = "not twice as wide as high, as --camera-type equirectangular requires"
        elif photo.digest in first_with:
            left_out[photo.name] = f"a copy of {first_with[photo.digest]}"
        else:
            first_with[photo.digest] = photo.name
            photos.append(photo)
    if camera_type == "auto":
        photos = _with_one_lens_a_camera(photos)
        _say_lenses(photos)
    return PhotoSet(folder, photos, left_out)


def _with_one_lens_a_camera(photos: list[Photo]) -> list[Photo]:
    """Takes all photos of a camera for panoramas if most of them are: a stitched edge does not always match."""
    panorama = " equirectangular"
    closed = Counter(photo.camera.removesuffix(panorama) for photo in photos if photo.lens == "equirectangular")
    others = Counter(photo.camera for photo in photos if photo.lens == "perspective")
    return [
        replace(
            photo,
            lens="equirectangular",
            camera=photo.camera + panorama,
            digest=f"{photo.digest}-equirectangular",
            sensed_up=None,
        )
        if photo.lens == "perspective" and closed[photo.camera] > others[photo.camera]
        else photo
        for photo in photos
    ]


def _say_lenses(photos: Sequence[Photo]) -> None:
    panoramas, fisheyes = (sum(photo.lens == lens for photo in photos) for lens in ("equirectangular", "fisheye"))
    for number, kind, why in (
        (panoramas, "360° panoramas", "twice as wide as high, with tags that say so or edges that match"),
        (fisheyes, "fisheye photos", "their tags say so"),
    ):
        if number:
            print_line(
                f"{number} of {len(photos)} photos are taken for {kind}: {why} (--camera-type perspective if not)"
            )


def _photo(path: Path, name: str, size: Size, mask_path: Path | None, camera_type: CameraType) -> Photo:
    digest = hashlib.blake2b(followed(path).read_bytes(), digest_size=16)
    if mask_path is not None:
        digest.update(followed(mask_path).read_bytes())
    with open_picture(path) as image:
        turned, tags = orientation(image), _exif(image)
        position, up = position_of(image), sensed_up(image)
        lens = lens_of_photo(image, (size[1], size[0]) if turned in SWAPPED else size, tags, camera_type)
    make = [str(tags.get(tag, "")).strip("\0 ") for tag in _CAMERA_TAGS]
    # The sensor's picture of a mirrored photo also depends on how it was rotated.
    mirrored = [f"mirrored {turned in SWAPPED}"] if turned in MIRRORED else []
    # Caches of perspective photos are older than the other lenses.
    of_lens = [] if lens == "perspective" else [lens]
    return Photo(
        path=path,
        name=name,
        mask_path=mask_path,
        size=size,
        orientation=turned,
        camera=" ".join([*make, f"{size[0]}x{size[1]}", *mirrored, *of_lens]).strip(),
        focal_length=_focal_length(tags, size),
        digest="-".join([digest.hexdigest(), *of_lens]),
        position=position,
        sensed_up=None if turned in MIRRORED or lens == "equirectangular" else up,
        lens=lens,
    )


_CAMERA_TAGS = (
    *(ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.LensModel),
    *(ExifTags.Base.FocalLength, ExifTags.Base.FocalLengthIn35mmFilm, ExifTags.Base.DigitalZoomRatio),
)


def _exif(image: Image.Image) -> dict[int, object]:
    try:
        exif = image.getexif()
        return {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except DAMAGED_EXIF:
        return {}


def _focal_length(tags: dict[int, object], size: Size) -> float | None:
    try:
        millimetres = float(tags[ExifTags.Base.FocalLengthIn35mmFilm])  # pyright: ignore[reportArgumentType]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    diagonals = millimetres / FULL_FRAME_DIAGONAL
    return diagonals * (size[0] ** 2 + size[1] ** 2) ** 0.5 if MIN_FOCAL_LENGTH < diagonals < MAX_FOCAL_LENGTH else None
