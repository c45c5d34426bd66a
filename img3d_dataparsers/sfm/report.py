# SPDX-License-Identifier: Apache-2.0
"""What structure from motion made of a folder, in figures."""

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
"""Share of the median number of features below which a photo counts as blurred or plain."""
BLURRED_OR_PLAIN = "blurred or without detail"
TOO_LITTLE_OVERLAP = "shares too little with the others"
MAX_BYTES = 1 << 26
"""Of a report, which names photos."""
FARTHEST = 1e9
"""Of any of its numbers."""
MEANS = ("mean_reprojection_error", "mean_track_length", "points_per_photo", "parallax", "coverage")


@dataclass
class Report:
    """What became of the photos of a folder."""

    left_out: dict[str, str]
    """Names of files that were not tried, and why."""
    unregistered: dict[str, str]
    """Names of photos that were tried in vain, and why."""
    gaps: list[str]
    """For each unregistered photo with any, the registered photo that shares most with it."""
    registered: int
    """Photos with a pose."""
    cameras: int
    """Different cameras, lenses and zooms."""
    points: int
    """Points that the photos share."""
    mean_reprojection_error: float
    """Pixels of the photos at full size."""
    mean_track_length: float
    """Photos that see a point."""
    points_per_photo: float
    """Points that a photo sees; median of the registered photos."""
    parallax: float
    """Degrees between the two rays of a point that differ most; median of all points."""
    longest_side: int
    """Pixels of the photos at full size."""
    weakest: list[str]
    """Names of photos that see far fewer points than the others."""
    viewpoints: Viewpoints | None
    """From which sides the photos look, if they are of one thing."""
    coverage: float
    """Share of the photos' area that lies near a point: of 8 x 8 fields, those that hold one; mean of all photos."""
    mapper: str
    """Which of COLMAP's mappers won."""
    seconds: dict[str, float]
    """Wall time of each stage of the run that finished it."""

    @classmethod
    def read(cls, path: Path, photo_set: PhotoSet) -> Report:
        """What `to_json` made of these photos.

        Raises:
            InputError: the file is damaged, or says what cannot be of these photos; it may be somebody else's.
        """
        fields = parse_json(read_bytes(path, MAX_BYTES), str(path))
        names = {photo.name for photo in photo_set.photos}
        try:
            views = fields.pop("viewpoints")
            report = cls(viewpoints=None if views is None else Viewpoints(**views), **fields)
            report.left_out = photo_set.left_out  # which may be others than when it was solved
            numbers = [getattr(report, name) for name in ("registered", "cameras", "points", "longest_side", *MEANS)]
            named = [*report.unregistered, *report.gaps, *report.weakest]
            if report.viewpoints is not None:
                named += [report.viewpoints.before, report.viewpoints.after]
                numbers += [report.viewpoints.gap, report.viewpoints.lowest, report.viewpoints.highest]
            is_right = (
                all(type(number) in (int, float) and abs(number) < FARTHEST for number in numbers)
                and min(report.registered, report.cameras, report.points, report.longest_side) > 0
                and report.registered + len(report.unregistered) == len(names)
                and names.issuperset(named)
                and {BLURRED_OR_PLAIN, TOO_LITTLE_OVERLAP}.issuperset(report.unregistered.values())
                and report.mapper in MAPPERS
            )
        except (AttributeError, KeyError, OverflowError, TypeError) as error:
            raise InputError(f"{path} is no report of solved poses") from error
        if not is_right:
            raise InputError(f"{path} is damaged, or of other photos")
        return report

    def to_json(self) -> str:
        """The report as text."""
        return json.dumps(asdict(self), indent=2)

    @property
    def summary(self) -> str:
        """How many photos got a pose, and how well it fits."""
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
    """Sums a reconstruction up.

    Args:
        photo_set: the photos; photo `i` is image `i + 1` of the model.
        model: the reconstruction.
        support: what it rests on.
        counts: features of each photo, `[N]`.
        pairs: what the photos share.
        viewpoints: from which sides the photos look.
        mapper: which mapper made it.
        seconds: wall time of each stage.
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
