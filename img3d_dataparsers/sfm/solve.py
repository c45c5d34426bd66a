# SPDX-License-Identifier: Apache-2.0
"""Solving for the poses of a folder of photos: results are cached, and interrupted runs are resumed."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from img3d_base.atomic_files import cache_folders, check_disk, is_own, mark_as_own, remove, writable_cache
from img3d_base.console import CONSOLE, print_line
from img3d_base.errors import InputError, counted, some_names, warn
from img3d_base.progress import ProgressLines
from img3d_dataparsers.posed_photos import PosedPhotos
from img3d_dataparsers.sfm.advice import registration
from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.sfm.matching import (
    MAX_RATIO,
    Pairs,
    features_of,
    match_photos,
    pairs_in,
    verification_options,
    write_photos,
)
from img3d_dataparsers.sfm.photo_lens import CameraType
from img3d_dataparsers.sfm.photo_set import PhotoSet, find_photos
from img3d_dataparsers.sfm.placed_photos import placed_photos
from img3d_dataparsers.sfm.report import Report, make_report
from img3d_dataparsers.sfm.sift import Features
from img3d_dataparsers.sfm.solved_model import SolvedModel, read_model
from img3d_dataparsers.sfm.support import MIN_PHOTOS, NO_SUPPORT, support_of, why_refused
from img3d_dataparsers.sfm.viewpoints import viewpoints_of
from img3d_dataparsers.sfm.wide_lenses import with_fisheye_focal_lengths

RECIPE = 3
"""Version number: increase it with every change that affects the result, to invalidate cached ones."""
MAPPING = [sys.executable, "-m", "img3d_dataparsers.sfm.mapping"]
"""The command that solves for cameras."""
MIN_FEATURES = 100
"""Fewest features of a photo with enough detail."""
SECOND_PLACE = 0.5
"""Smallest ratio of unconnected to registered photos at which the former count as a second place."""


@dataclass(frozen=True)
class Solution:
    """Poses for the photos of a folder."""

    photo_set: PhotoSet
    model: SolvedModel
    report: Report
    folder: Path
    """The folder in which it is stored, as a COLMAP model."""


def solve(
    folder: Path, cache_dir: Path | None, remove_background: bool = False, camera_type: CameraType = "auto"
) -> Solution:
    """Solves for poses, intrinsics and points of the photos of a folder.

    Args:
        folder: The folder of photos; masks in its `masks/` are used.
        cache_dir: Where to store the result and intermediate files; None for `folder/.img3d`, or the user's cache if
            that is not writable.
        remove_background: Whether to mask the background in photos that have no mask.
        camera_type: The lens of all photos; "auto": their tags and pixels decide.

    Raises:
        InputError: The photos cannot be reconstructed, or there is no space to work in.
    """
    photo_set = find_photos(folder, camera_type)
    _check(photo_set)
    if remove_background:
        photo_set = _with_object_masks(photo_set, writable_cache(folder, cache_dir))
    places = cache_folders(folder, cache_dir)
    name = f"sfm-{_key(photo_set)}"
    for place in places:
        kept = kept_solution(photo_set, place / name)
        if kept is not None:
            return _reported(kept, "from the cache")
    place = writable_cache(folder, cache_dir)
    try:
        with alone(place / f"{name}.lock"):
            # Another process may have finished it in the meantime.
            kept = kept_solution(photo_set, place / name, quiet=True)
            if kept is None:
                kept = _solve(photo_set, place / name)
    except OSError as error:
        full = error.errno == errno.ENOSPC or "full" in str(error)
        raise InputError(
            f"the disk of {place} is full: free some space or choose another place with --cache-dir DIR; finished "
            "stages are kept"
            if full
            else f"{place}: {error.strerror or error}; --cache-dir DIR chooses another place"
        ) from error
    return _reported(kept, "kept in")


@contextmanager
def alone(lock_path: Path) -> Generator[None, None, None]:
    """Waits until no other process is solving for the same poses.

    The lock file is not removed: otherwise a waiting process and a later one could lock different files.
    """
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print_line(f"Another process is solving for these poses; waiting for it ({lock_path})")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _with_object_masks(photo_set: PhotoSet, cache: Path) -> PhotoSet:
    from img3d_pictures.background import remove_backgrounds

    whole = [photo.path for photo in photo_set.photos if photo.mask_path is None]
    masks = dict(zip(whole, remove_backgrounds(whole, cache), strict=True))
    photos = [
        replace(photo, mask_path=masks[photo.path], digest=f"{photo.digest}-object") if photo.path in masks else photo
        for photo in photo_set.photos
    ]
    return replace(photo_set, photos=photos)


def _check(photo_set: PhotoSet) -> None:
    if photo_set.left_out and len(photo_set.photos) < MIN_PHOTOS:
        reasons = [f"{name} is {why}" for name, why in photo_set.left_out.items()]
        raise InputError(
            f"{photo_set.folder}: {counted(len(photo_set.photos), 'usable photo')}, at least {MIN_PHOTOS} are needed: "
            f"{some_names(reasons)}; take photos of the subject from many places"
        )
    if len(photo_set.photos) < MIN_PHOTOS:
        count = counted(len(photo_set.photos), "photo")
        raise InputError(
            f"{photo_set.folder} holds {count}, at least {MIN_PHOTOS} are needed, and 20 or more are better: take them "
            "from many places, each sharing most of its view with the next"
        )
    for why in sorted(set(photo_set.left_out.values())):
        names = [name for name, reason in photo_set.left_out.items() if reason == why]
        total = len(photo_set.photos) + len(photo_set.left_out)
        warn(f"{len(names)} of {total} photos left out ({some_names(names)}): {why}")


def _key(photo_set: PhotoSet) -> str:
    """A hash of the photos' names and contents, and of `RECIPE`."""
    said = [RECIPE, *((photo.name, photo.digest) for photo in photo_set.photos)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _solve(photo_set: PhotoSet, result: Path) -> Solution:
    work = result.with_suffix(".work")
    if is_own(work):
        print_line(f"Resuming the solving for poses that an earlier run began in {work}")
    else:
        if work.is_symlink() or work.exists():
            warn(f"{work} is from another computer, or was copied; solving for poses starts from the beginning")
            remove(work)
        work.mkdir(parents=True)
        mark_as_own(work)
    count = len(photo_set.photos)
    print_line(f"Solving for the poses of {count} photos (once: they are kept in {result})")
    seconds: dict[str, float] = {}
    start = time.monotonic()
    features = features_of(photo_set, work / "features")
    seconds["features"] = time.monotonic() - start
    counts = np.array([len(of_photo.xy) for of_photo in features])
    if (counts >= MIN_FEATURES).sum() < MIN_PHOTOS:
        shutil.rmtree(work)
        raise InputError(
            f"{count} photos show too little detail to find where they were taken from (plain walls, blur or "
            "darkness?): take sharp photos of something with texture"
        )
    start = time.monotonic()
    database_path = work / "database.db"
    with_focal_lengths = with_fisheye_focal_lengths(photo_set, features, MAX_RATIO, verification_options())
    write_photos(database_path, with_focal_lengths, features)
    match_photos(database_path, with_focal_lengths, features)
    seconds["matches"] = time.monotonic() - start
    start = time.monotonic()
    _map(work)
    seconds["mapping"] = time.monotonic() - start
    pairs = pairs_in(database_path)
    model = pycolmap.Reconstruction(work / "model") if (work / "model").is_dir() else None
    support = NO_SUPPORT if model is None else support_of(model)
    reason = None
    if model is not None and support.supported >= MIN_PHOTOS:
        reason = _second_place(photo_set, model, pairs)
    reason = reason or why_refused(
        support, count, int(pairs.related.sum()), int(pairs.is_homography[pairs.related].sum())
    )
    if reason is not None or model is None:
        shutil.rmtree(work)
        raise InputError(f"{photo_set.folder}: {reason}")
    _colour(model, features)
    model.write_binary(work / "model")
    solved = read_model(work / "model", photo_set)
    frames = placed_photos(photo_set, solved, result).frames
    views = None
    if not any(photo.lens == "equirectangular" for photo in photo_set.photos):  # panoramas look to all sides
        views = viewpoints_of([frame.name for frame in frames], np.stack([frame.camera_to_world for frame in frames]))
    mapper = (work / "model" / "mapper").read_text()
    report = make_report(photo_set, model, support, counts, pairs, views, mapper, seconds)
    (work / "model" / "report.json").write_text(report.to_json())
    remove(result)  # an incomplete or damaged one
    (work / "model").replace(result)
    shutil.rmtree(work)
    return Solution(photo_set, solved, report, result)


def _map(work: Path) -> None:
    """Runs the mapping in a separate process, and shows its stage."""
    shutil.rmtree(work / "model", ignore_errors=True)
    with (work / "mapping.log").open("w") as log:
        process = subprocess.Popen(
            [*MAPPING, str(work)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            with CONSOLE.status("Solving for cameras") as status:
                assert process.stdout is not None  # it is a pipe
                lines, stage = ProgressLines(), ""
                for said in process.stdout:
                    is_new, stage = said.partition(":")[0] != stage, said.partition(":")[0]
                    status.update(f"Solving for cameras: {said.strip()}")
                    lines.say(f"Solving for cameras: {said.strip()}", always=is_new)
            failed = process.wait() != 0
        except BaseException:
            process.kill()
            process.wait()
            raise
    if failed:
        lines = (work / "mapping.log").read_text().splitlines()
        # The global mapper looks for the photos to colour its points, and reports each as missing.
        last = next((line for line in reversed(lines) if line.strip() and "Could not read image" not in line), "")
        check_disk(work)
        raise InputError(f"solving for cameras failed: {last.strip()} (the whole log: {work / 'mapping.log'})")


def _second_place(photo_set: PhotoSet, model: pycolmap.Reconstruction, pairs: Pairs) -> str | None:
    """A message if many of the photos show another place, which the reconstruction would lack; else None."""
    count = len(photo_set.photos)
    registered = np.zeros(count, dtype=np.bool_)
    registered[[image_id - 1 for image_id in model.reg_image_ids()]] = True
    related = pairs.photos[pairs.related]
    rest = related[~registered[related].any(axis=1)]
    graph = coo_matrix((np.ones(len(rest)), rest.T), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    sizes = np.bincount(labels[~registered], minlength=1)
    if sizes.max() < max(MIN_PHOTOS, SECOND_PLACE * registered.sum()):
        return None
    others = [
        photo.name
        for photo, label, is_registered in zip(photo_set.photos, labels, registered, strict=True)
        if label == sizes.argmax() and not is_registered
    ]
    return (
        f"the photos show two places: {len(others)} of {count} ({some_names(others)}) share nothing with the other "
        f"{int(registered.sum())}. Put each place in a folder of its own, or add photos that lead from one to the other"
    )


def _colour(model: pycolmap.Reconstruction, features: Sequence[Features]) -> None:
    """Sets each point's colour to the mean of its features'."""
    for point in model.points3D.values():
        colours = [features[element.image_id - 1].rgb[element.point2D_idx] for element in point.track.elements]
        point.color = np.mean(colours, axis=0).round().astype(np.uint8)


def kept_solution(photo_set: PhotoSet, folder: Path, quiet: bool = False) -> Solution | None:
    """Reads a stored solution. None if there is none or, with a warning unless `quiet`, if it cannot be used."""
    path = folder / "report.json"
    if not path.is_symlink() and not path.exists():
        return None
    try:
        report = Report.read(path, photo_set)
        model = read_model(folder, photo_set)
        if (report.registered, report.points) != (len(model.photos), len(model.xyz)) or report.registered < MIN_PHOTOS:
            raise InputError(f"{folder} does not have the number of photos and points in its report")
    except InputError as error:
        if not quiet:
            warn(f"{str(error).partition(';')[0]}; the poses are solved for again")
        return None
    return Solution(photo_set, model, report, folder)


def _reported(solution: Solution, origin: str) -> Solution:
    print_line(f"Poses: {solution.report.summary}, {origin} {solution.folder}")
    if solution.report.unregistered:
        warn(registration(solution.report).advice)
    return solution


def posed_photos(solution: Solution) -> PosedPhotos:
    """The registered photos and their points; see `placed_photos`."""
    return placed_photos(solution.photo_set, solution.model, solution.folder)
