# SPDX-License-Identifier: Apache-2.0
"""Photo sets as people take them: few, unevenly exposed, blurred, with passers-by; made from good ones.

Each is a folder with photos and a transforms.json that lists which photos train and which are held out. The held-out
photos of a set are every eighth, whatever was done to the others, and are never changed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from img3d_dataparsers.inputs import read_posed_photos
from img3d_dataparsers.posed_photos import Frame

HOLD_OUT_EVERY = 8
Picture = npt.NDArray[np.uint8]
SEED = 7


@dataclass(frozen=True)
class Photo:
    """A training photo to be made harder."""

    index: int
    """Among the training photos."""
    picture: Picture
    """`[H, W, 3]`, BGR as OpenCV reads it."""
    frame: Frame


Hardship = Callable[[Photo, np.random.Generator], Photo]


def exposures(photo: Photo, rng: np.random.Generator) -> Photo:
    """Up to a stop more or less light, and another white balance."""
    linear = (photo.picture / 255.0) ** 2.2
    gains = 2 ** rng.uniform(-1, 1) * np.exp(rng.normal(0, 0.1, 3))
    return replace(photo, picture=_bytes((linear * gains).clip(0, 1) ** (1 / 2.2)))


def passers_by(photo: Photo, rng: np.random.Generator) -> Photo:
    """A striped figure a third of the photo high stands in three of the photos."""
    return _with_figure(photo, rng) if photo.index in (2, 7, 12) else photo


def crowd(photo: Photo, rng: np.random.Generator) -> Photo:
    """Somebody, somebody else each time, stands in every third photo."""
    return _with_figure(photo, rng) if photo.index % 3 == 1 else photo


def _with_figure(photo: Photo, rng: np.random.Generator) -> Photo:
    """The photo with a striped figure somewhere in its middle half."""
    height, width = photo.picture.shape[:2]
    picture = photo.picture.copy()
    x, y, size = int(rng.uniform(0.25, 0.75) * width), int(0.45 * height), height // 3
    figure = np.zeros((height, width), np.uint8)
    cv2.ellipse(figure, (x, y), (size // 4, size // 2), 0, 0, 360, (255,), -1)
    cv2.circle(figure, (x, y - int(0.6 * size)), size // 7, (255,), -1)
    colors = rng.integers(0, 256, (2, 3))
    stripes = colors[(np.arange(height) * 20 // size) % 2]
    picture[figure > 0] = np.broadcast_to(stripes[:, None], picture.shape)[figure > 0]
    return replace(photo, picture=picture)


def blurred(photo: Photo, rng: np.random.Generator) -> Photo:
    """One photo in five is blurred by the camera's motion, by a fortieth of its width."""
    if photo.index % 5 != 2:
        return photo
    length = max(3, photo.picture.shape[1] // 40)
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = (length - 1) / 2 * np.array([np.cos(angle), np.sin(angle)])
    middle = (length - 1) / 2
    ends = [tuple(np.round(middle + sign * reach).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], (1.0,))
    return replace(photo, picture=cv2.filter2D(photo.picture, -1, kernel / kernel.sum()))


def wrong_poses(photo: Photo, rng: np.random.Generator) -> Photo:
    """Each camera is turned by 0.3 degrees about some axis, and its principal point is 3 pixels of 1000 off."""
    axis = rng.normal(size=3)
    pose = np.array(photo.frame.camera_to_world, dtype=np.float64)
    pose[:3, :3] = Rotation.from_rotvec(np.deg2rad(0.3) * axis / np.linalg.norm(axis)).as_matrix() @ pose[:3, :3]
    shift = 0.003 * photo.frame.intrinsics["w"] * _unit(rng.normal(size=2))
    intrinsics = dict(photo.frame.intrinsics)
    intrinsics["cx"], intrinsics["cy"] = intrinsics["cx"] + shift[0], intrinsics["cy"] + shift[1]
    return replace(photo, frame=replace(photo.frame, camera_to_world=pose, intrinsics=intrinsics))


def other_focal_length(photo: Photo, rng: np.random.Generator) -> Photo:
    """Every third photo was taken at 1.6 times the focal length."""
    if photo.index % 3 != 1:
        return photo
    zoom = 1.6
    height, width = photo.picture.shape[:2]
    matrix = np.array([[zoom, 0, (1 - zoom) * width / 2], [0, zoom, (1 - zoom) * height / 2]])
    picture = cv2.warpAffine(photo.picture, matrix, (width, height), flags=cv2.INTER_CUBIC)
    intrinsics = dict(photo.frame.intrinsics)
    scale = width / intrinsics["w"]
    for name in ("fl_x", "fl_y"):
        intrinsics[name] = intrinsics[name] * zoom
    for name, size in (("cx", width), ("cy", height)):
        intrinsics[name] = zoom * intrinsics[name] + (1 - zoom) * size / scale / 2
    return replace(photo, picture=picture, frame=replace(photo.frame, intrinsics=intrinsics))


@dataclass(frozen=True)
class CasualScene:
    """A set of photos that is hard on purpose."""

    source: str
    """A folder of IMG3D_DATA, "still_life" for the bundled one, or "sky" for rendered photos (sky_scene.py)."""
    num_train: int | None = None
    """Training photos, evenly spread; None: all that are not held out."""
    hardship: Hardship | None = None
    downscale_factor: float = 1.0
    """Photos are trained on at this part of their size."""


FOX, FLOWER, BRIGHTON, FOUNTAIN = 4.0, 1.5, 3.0, 4.0
SCENES = {
    **{f"fox-{n}": CasualScene("fox", n, downscale_factor=FOX) for n in (6, 12, 24)},
    **{f"still-{n}": CasualScene("still_life", n) for n in (6, 12, 24)},
    **{f"flower-{n}": CasualScene("llff_flower", n, downscale_factor=FLOWER) for n in (3, 6, 9, 21)},
    "still-24-passers-by": CasualScene("still_life", 24, passers_by),
    "still-24-crowd": CasualScene("still_life", 24, crowd),
    "fox-24-crowd": CasualScene("fox", 24, crowd, FOX),
    "brighton": CasualScene("brighton", downscale_factor=BRIGHTON),
    # A row of eleven photos; the first of them, which is held out, looks from beside all others.
    "fountain": CasualScene("fountain_p11", downscale_factor=FOUNTAIN),
    "sky": CasualScene("sky"),
    "sky-12": CasualScene("sky", 12),
    **{
        f"fox-{name}": CasualScene("fox", hardship=hardship, downscale_factor=FOX)
        for name, hardship in (
            ("exposures", exposures),
            ("passers-by", passers_by),
            ("blurred", blurred),
            ("poses", wrong_poses),
            ("focal-lengths", other_focal_length),
        )
    },
}


def source_frames(folder: Path, kept_in: Path) -> list[Frame]:
    """The posed photos of a folder in the order of their names; poses that it lacks are solved for once.

    Args:
        folder: is not written to.
        kept_in: where a copy of photos without poses and what solving gave stay.
    """
    if not (folder / "transforms.json").is_file():
        copy = kept_in / folder.name
        if not copy.is_dir():
            shutil.copytree(folder / "images", copy / "images")
        folder = copy
    frames = read_posed_photos(folder, "train").frames
    return sorted(frames, key=lambda frame: frame.image_path.name)


def make_scene(frames: list[Frame], scene: CasualScene, folder: Path) -> None:
    """Write the photos and cameras of a scene into a new folder."""
    (folder / "images").mkdir(parents=True)
    held_out = frames[::HOLD_OUT_EVERY]
    rest = [frame for i, frame in enumerate(frames) if i % HOLD_OUT_EVERY]
    if scene.num_train is not None:
        chosen = np.linspace(0, len(rest) - 1, scene.num_train).round().astype(int)
        rest = [rest[i] for i in chosen]
    rng = np.random.default_rng(SEED)
    train = [_made_harder(i, frame, scene.hardship, folder, rng) for i, frame in enumerate(rest)]
    for frame in held_out:
        shutil.copy2(frame.image_path, folder / "images" / frame.image_path.name)
    _write_transforms(folder, train + held_out, train, held_out)


def make_reference(frames: list[Frame], folder: Path) -> None:
    """Write all photos of a set into a new folder, the held-out ones among those to train on, too."""
    (folder / "images").mkdir(parents=True)
    for frame in frames:
        shutil.copy2(frame.image_path, folder / "images" / frame.image_path.name)
    _write_transforms(folder, frames, frames, frames[::HOLD_OUT_EVERY])


def _write_transforms(folder: Path, frames: list[Frame], train: list[Frame], held_out: list[Frame]) -> None:
    held_out_paths = [_path(frame) for frame in held_out]
    meta = {
        "frames": [_entry(frame) for frame in frames],
        "train_filenames": [_path(frame) for frame in train],
        "val_filenames": held_out_paths,
        "test_filenames": held_out_paths,
    }
    (folder / "transforms.json").write_text(json.dumps(meta))


def _made_harder(index: int, frame: Frame, hardship: Hardship | None, folder: Path, rng: np.random.Generator) -> Frame:
    target = folder / "images" / frame.image_path.name
    if hardship is None:
        shutil.copy2(frame.image_path, target)
        return frame
    picture = cv2.imread(str(frame.image_path), cv2.IMREAD_COLOR)
    assert picture is not None
    photo = hardship(Photo(index, picture.astype(np.uint8), frame), rng)
    cv2.imwrite(str(target), photo.picture, [cv2.IMWRITE_JPEG_QUALITY, 97])
    return photo.frame


def _path(frame: Frame) -> str:
    return f"images/{frame.image_path.name}"


def _entry(frame: Frame) -> dict[str, Any]:
    pose = np.array(frame.camera_to_world, dtype=np.float64)
    matrix = np.vstack([pose[:3], [0, 0, 0, 1]])
    return {**frame.intrinsics, "file_path": _path(frame), "transform_matrix": matrix.tolist()}


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def _bytes(picture: npt.NDArray[np.float64]) -> Picture:
    return np.round(picture * 255).astype(np.uint8)
