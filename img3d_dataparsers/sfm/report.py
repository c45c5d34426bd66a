# SPDX-License-Identifier: Apache-2.0
"""The figures of a reconstruction."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from img3d_base.errors import InputError
from img3d_base.foreign_files import parse_json, read_bytes
from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.sfm.mapping import MAPPERS
from img3d_dataparsers.sfm.matching import Pairs
from img3d_dataparsers.sfm.photo_set import PhotoSet
from img3d_dataparsers.sfm.support import Support
from img3d_dataparsers.sfm.viewpoints import Viewpoints

BLURRED = 0.2
"""A photo with fewer features than this share of the median counts as blurred or without detail."""
BLURRED_OR_PLAIN = "blurred or without detail"
TOO_LITTLE_OVERLAP = "shares too little with the others"
MAX_BYTES = 1 << 26
"""Largest report file, which contains names of photos."""
MAX_NUMBER = 1e9
"""Largest plausible value of its numbers."""
MEANS = ("mean_reprojection_error", "mean_track_length", "points_per_photo", "parallax", "coverage")


@dataclass
class Report:
    """The outcome for the photos of a folder."""

    left_out: dict[str, str]
    """Names of files that were not used, and the reasons."""
    unregistered: dict[str, str]
    """Names of photos that could not be registered, and the reasons."""
    gaps: list[str]
    """For each unregistered photo that has one, the registered photo with the most matches."""
    registered: int
    """Number of photos with a pose."""
    cameras: int
    """Number of different cameras, lenses and zooms."""
    points: int
    """Number of 3D points."""
    mean_reprojection_error: float
    """In pixels of the photos at full size."""
    mean_track_length: float
    """Mean number of photos that see a point."""
    points_per_photo: float
    """Median number of points that a registered photo sees."""
    parallax: float
    """Median over the points of the largest angle between two rays, in degrees."""
    longest_side: int
    """Pixels of the photos at full size."""
    weakest: list[str]
    """Names of photos that see far fewer points than others."""
    viewpoints: Viewpoints | None
    """The directions from which the photos look, if they show a single subject."""
    coverage: float
    """Mean share of a photo's area with points nearby: of its 8 x 8 cells, those that contain a point."""
    mapper: str
    """The mapper whose result was the best, of `MAPPERS`."""
    seconds: dict[str, float]
    """Wall time in seconds of each stage of the run that finished it."""

    @classmethod
    def read(cls, path: Path, photo_set: PhotoSet) -> Report:
        """Reads a report that `to_json` wrote for these photos. The file is untrusted: it may come with the photos.

        Raises:
            InputError: The file is damaged, or does not match these photos.
        """
        fields = parse_json(read_bytes(path, MAX_BYTES), str(path))
        names = {photo.name for photo in photo_set.photos}
        try:
            views = fields.pop("viewpoints")
            report = cls(viewpoints=None if views is None else Viewpoints(**views), **fields)
            report.left_out = photo_set.left_out  # may have changed since
            numbers = [getattr(report, name) for name in ("registered", "cameras", "points", "longest_side", *MEANS)]
            named = [*report.unregistered, *report.gaps, *report.weakest]
            if report.viewpoints is not None:
                named += [report.viewpoints.before, report.viewpoints.after]
                numbers += [report.viewpoints.gap, report.viewpoints.lowest, report.viewpoints.highest]
            is_right = (
                all(type(number) in (int, float) and abs(number) < MAX_NUMBER for number in numbers)
                and min(report.registered, report.cameras, report.points, report.longest_side) > 0
                and report.registered + len(report.unregistered) == len(names)
                and names.issuperset(named)
                and {BLURRED_OR_PLAIN, TOO_LITTLE_OVERLAP}.issuperset(report.unregistered.values())
                and report.mapper in MAPPERS
            )
        except (AttributeError, KeyError, OverflowError, TypeError) as error:
            raise InputError(f"{path} is not a report of solved poses") from error
        if not is_right:
            raise InputError(f"{path} is damaged, or of other photos")
        return report

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self), indent=2)

    @property
    def summary(self) -> str:
        """Number of registered photos and points, and the reprojection error, as a line."""
        total = self.registered + len(self.unregistered)
        return (
            f"{self.registered} of {total} photos registered, {self.points:,} points, "
            f"{self.mean_reprojection_error:.2f} px mean reprojection error"
        )


def make_report(
    photo_set: PhotoSet,
    model: pycolmap.Reconstruction,
    support: Support,
    counts: npt.NDArray[np.int64],
    pairs: Pairs,
    viewpoints: Viewpoints | None,
    mapper: str,
    seconds: dict[str, float],
) -> Report:
    """Summarises a reconstruction.

    Args:
        photo_set: The photos; photo `i` is image `i + 1` of the model.
        model: The reconstruction.
        support: The support of its cameras.
        counts: Number of features of each photo, `[N]`.
        pairs: The matched pairs.
        viewpoints: The directions from which the photos look.
        mapper: The name of the mapper.
        seconds: Wall time of each stage.
    """
    unregistered: dict[str, str] = {}
    gaps: list[str] = []
    registered = {image_id - 1 for image_id in model.reg_image_ids()}
    for i, photo in enumerate(photo_set.photos):
        if i in registered:
            continue
        is_blurred = counts[i] < BLURRED * np.median(counts)
        unregistered[photo.name] = BLURRED_OR_PLAIN if is_blurred else TOO_LITTLE_OVERLAP
        neighbours = [
            (int(n), int(j if k == i else k))
            for (j, k), n in zip(pairs.photos.tolist(), pairs.shared.tolist(), strict=True)
            if i in (j, k) and (j if k == i else k) in registered
        ]
        if neighbours and max(neighbours)[0] > 0:
            gaps.append(photo_set.photos[max(neighbours)[1]].name)
    return Report(
        left_out=photo_set.left_out,
        unregistered=unregistered,
        gaps=sorted(set(gaps)),
        registered=len(registered),
        cameras=len(model.cameras),
        points=model.num_points3D(),
        mean_reprojection_error=model.compute_mean_reprojection_error(),
        mean_track_length=model.compute_mean_track_length(),
        points_per_photo=float(np.median(list(support.points_per_photo.values()))),
        parallax=support.parallax,
        longest_side=max(max(photo.size) for photo in photo_set.photos),
        weakest=[photo_set.photos[image_id - 1].name for image_id in support.weakest],
        viewpoints=viewpoints,
        coverage=_coverage(model),
        mapper=mapper,
        seconds=seconds,
    )


def _coverage(model: pycolmap.Reconstruction) -> float:
    fields = 8
    shares = []
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        camera = model.cameras[image.camera_id]
        xy = np.array([point.xy for point in image.points2D if point.has_point3D()]).reshape(-1, 2)
        cells = np.unique((xy * fields / [camera.width, camera.height]).astype(np.int64).clip(0, fields - 1), axis=0)
        shares.append(len(cells) / fields**2)
    return float(np.mean(shares))
