# SPDX-License-Identifier: Apache-2.0
"""Reading posed photos from whatever the user gives: a folder of photos with or without poses, or a video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from img3d_base.atomic_files import writable_cache
from img3d_base.errors import InputError, counted, some_names, warn
from img3d_base.foreign_files import legible
from img3d_base.text_links import followed, said_of_links
from img3d_dataparsers.formats.nerf_synthetic import read_nerf_synthetic
from img3d_dataparsers.formats.recognise import posed_photos_in
from img3d_dataparsers.formats.transforms_json import read_transforms
from img3d_dataparsers.posed_photos import PosedPhotos
from img3d_dataparsers.sfm.photo_lens import CameraType
from img3d_dataparsers.videos.videos import MAX_VIDEO_FRAMES, VIDEO_SUFFIXES, photos_of_video
from img3d_pictures.file_resolver import NOT_PHOTOS, folders_below, is_file
from img3d_pictures.opening import OTHER_PICTURES
from img3d_pictures.photo_folders import image_files, masks_of


def read_posed_photos(
    data: Path,
    split: str,
    cache_dir: Path | None = None,
    remove_background: bool = False,
    max_video_frames: int = MAX_VIDEO_FRAMES,
    camera_type: CameraType = "auto",
) -> PosedPhotos:
    """Recognises a data set by its contents and reads its poses, or solves for them if it has none.

    Args:
        data: A folder, a transforms file or a video.
        split: "train", "val" or "test", for formats with a file for each.
        cache_dir: Where to cache results; None for `.img3d` beside the data.
        remove_background: Whether to mask the background in photos that have no mask.
        max_video_frames: Largest number of frames taken from a video.
        camera_type: The lens of photos without poses; "auto": their tags and pixels decide.

    Raises:
        InputError: There is nothing usable; the message says what to do.
    """
    data = where_data_are(data)
    if data.is_file() and data.suffix.lower() == ".json":
        if data.name == "transforms_train.json":
            return read_nerf_synthetic(data.parent, split)
        return read_transforms(data)
    posed = posed_photos_in(data, split) if data.is_dir() else None
    if posed is not None:
        return _with_object_masks(posed, cache_dir) if remove_background else posed
    # Imported late: not needed for data sets with poses.
    from img3d_dataparsers.sfm.solve import posed_photos, solve

    folder = photo_folder(data, cache_dir, max_video_frames)
    return posed_photos(solve(folder, cache_dir, remove_background, camera_type))


def where_data_are(data: Path) -> Path:
    """The path that the user gives; if it is a text link, its target, with a warning."""
    for line in said_of_links([data], "the data"):
        warn(line)
    return followed(data)


def _with_object_masks(posed: PosedPhotos, cache_dir: Path | None) -> PosedPhotos:
    from img3d_pictures.background import remove_backgrounds

    unnamed = [frame.image_path for frame in posed.frames if frame.mask_path is None]
    beside = masks_of(unnamed, posed.folder, [frame.image_path for frame in posed.frames])
    whole = [photo for photo, mask in zip(unnamed, beside, strict=True) if mask is None and is_file(photo)]
    masks = dict(zip(whole, remove_backgrounds(whole, writable_cache(posed.folder, cache_dir)), strict=True))
    frames = [replace(frame, mask_path=masks.get(frame.image_path, frame.mask_path)) for frame in posed.frames]
    return replace(posed, frames=frames)


def photo_folder(data: Path, cache_dir: Path | None, max_video_frames: int = MAX_VIDEO_FRAMES) -> Path:
    """The folder of photos that `data` is, or that the frames of its video are extracted to.

    Args:
        data: A folder of photos, a folder with a video, or a video.
        cache_dir: Where to keep the frames of a video.
        max_video_frames: Largest number of frames taken.

    Raises:
        InputError: There are no photos and no video.
    """
    if data.is_file():
        if data.suffix.lower() not in VIDEO_SUFFIXES:
            raise InputError(f"{data} is neither a video nor a transforms.json: give a folder of photos")
        return photos_of_video(data, writable_cache(data.parent, cache_dir), max_video_frames)
    if not data.exists():
        raise InputError(f"there is no folder or file {data.absolute()}")
    if not data.is_dir():
        raise InputError(f"{data} is a pipe, socket or device: give a folder of photos, or a video")
    try:
        photos = image_files(data)
        videos = sorted(path for path in data.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
        if photos:
            if NOT_PHOTOS.fullmatch(photos[0].relative_to(data).parts[0]):
                warn(f"there are only reduced copies of photos; those in {photos[0].parent} are used")
            if videos:
                names = some_names([legible(video.name) for video in videos])
                warn(f"{counted(len(videos), 'video')} beside the photos ({names}) left out: give a video by itself")
            return data
    except OSError as error:
        raise InputError(f"{error.filename or data} cannot be read: {error.strerror or error}") from error
    if len(videos) > 1:
        raise InputError(f"{data} holds {len(videos)} videos; choose one, such as {videos[0]}")
    if not videos:
        names = [name for _, contents, _ in folders_below(data) for names in contents.files.values() for name in names]
        others = [legible(name) for name in names if PurePosixPath(name).suffix.lower() in OTHER_PICTURES]
        if others:
            raise InputError(
                f"{data.absolute()} has pictures of formats that are not read ({some_names(others)}): "
                "convert them to JPEG, PNG or TIFF"
            )
        raise InputError(f"there are no photos in {data.absolute()}: give a folder of photos, or a video")
    return photos_of_video(videos[0], writable_cache(data, cache_dir), max_video_frames)
