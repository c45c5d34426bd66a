# SPDX-License-Identifier: Apache-2.0
"""Grading the figures of a reconstruction, and advice on what to photograph next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from img3d_base.errors import counted, some_names
from img3d_dataparsers.sfm.matching import FEATURE_SIZE
from img3d_dataparsers.sfm.report import BLURRED_OR_PLAIN, Report

Grade = Literal["good", "fair", "poor"]

PHOTOS = (20, 8)
POINTS = (100, 50)
PHOTOS_OF_POINT = (3.0, 2.5)
PARALLAX = (5.0, 3.0)
COVERAGE = (0.6, 0.3)
"""For each figure, the thresholds of "good" and "fair". Data sets that train well had at least 200 points per photo,
3.4 photos per point, a parallax of 12 degrees (a flower from the front: 4), and a coverage of 50 %."""
ERROR = (0.8, 1.2)
"""Largest reprojection errors in pixels (at `FEATURE_SIZE`) that are "good" and "fair"."""
REGISTERED = 0.9
"""Share of registered photos from which on registration is "fair"."""
GAP = 60.0
"""Smallest gap in degrees around a subject that is reported."""
HEIGHTS = 10.0
"""Smallest difference in degrees between the lowest and the highest photos that counts as different heights."""


@dataclass(frozen=True)
class Finding:
    """A figure with its grade and advice."""

    name: str
    value: str
    grade: Grade | None
    """None if the figure is not graded."""
    advice: str = ""
    """What to do about it, as a sentence; empty if nothing."""


def findings(report: Report) -> list[Finding]:
    """All figures of a reconstruction with their grades, in the order of presentation."""
    return [
        _photos(report),
        registration(report),
        _points(report),
        _overlap(report),
        _parallax(report),
        _error(report),
        _coverage(report),
        *_sides(report),
    ]


def next_steps(report: Report) -> list[str]:
    """Advice, the most important first; empty if all figures are good."""
    grades: list[Grade | None] = ["poor", "fair", "good", None]
    by_importance = sorted(findings(report), key=lambda finding: grades.index(finding.grade))
    return [finding.advice for finding in by_importance if finding.advice]


def _grade(value: float, good: float, fair: float) -> Grade:
    return "good" if value >= good else "fair" if value >= fair else "poor"


def _advised(name: str, value: str, grade: Grade, advice: str) -> Finding:
    """A finding that gives its advice unless the grade is "good"."""
    return Finding(name, value, grade, "" if grade == "good" else advice)


def _photos(report: Report) -> Finding:
    total = report.registered + len(report.unregistered)
    grade = _grade(total, *PHOTOS)
    advice = "" if grade == "good" else f"Take more photos: {total} are few; {PHOTOS[0]} or more are better."
    found = total + len(report.left_out)
    value = f"{found}, {total} of them usable" if report.left_out else f"{found}"
    return Finding("Photos found", value, grade, advice)


def registration(report: Report) -> Finding:
    """The finding about photos with and without a pose."""
    total = report.registered + len(report.unregistered)
    share = report.registered / total
    value = f"{report.registered} of {total} ({share:.0%}), by {counted(report.cameras, 'camera')}"
    if not report.unregistered:
        return Finding("Registered", value, "good")
    blurred = [name for name, why in report.unregistered.items() if why == BLURRED_OR_PLAIN]
    lonely = [name for name in report.unregistered if name not in blurred]
    sentences = []
    if lonely:
        between = f" near {some_names(report.gaps)}" if report.gaps else ""
        verb = "shares" if len(lonely) == 1 else "share"
        sentences.append(
            f"{some_names(lonely)} {verb} too little with the rest: add photos between {_them(lonely)} and the "
            f"others{between}."
        )
    if blurred:
        are = "is" if len(blurred) == 1 else "are"
        sentences.append(f"{some_names(blurred)} {are} blurred, without detail or masked: take {_them(blurred)} again.")
    return Finding("Registered", value, "fair" if share >= REGISTERED else "poor", " ".join(sentences))


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _points(report: Report) -> Finding:
    grade = _grade(report.points_per_photo, *POINTS)
    advice = (
        "The photos show little recognisable detail: take sharp photos in good light, and put something with a "
        "pattern (a newspaper) beside a plain subject."
    )
    value = f"{report.points:,}; {report.points_per_photo:.0f} in a photo (median)"
    if report.weakest and grade == "good":
        return Finding("Points", value, "fair", f"{some_names(report.weakest)}: few points; take more photos nearby.")
    return _advised("Points", value, grade, advice)


def _overlap(report: Report) -> Finding:
    grade = _grade(report.mean_track_length, *PHOTOS_OF_POINT)
    advice = "Take the photos closer together: each should keep two thirds of what the one before shows."
    value = f"a point is in {report.mean_track_length:.1f} photos (mean)"
    return _advised("Overlap", value, grade, advice)


def _parallax(report: Report) -> Finding:
    grade = _grade(report.parallax, *PARALLAX)
    advice = "Depth is uncertain: move further to the side from photo to photo, or closer to the subject."
    value = f"a point is seen from directions {report.parallax:.0f} degrees apart (median)"
    return _advised("Parallax", value, grade, advice)


def _error(report: Report) -> Finding:
    pixels = report.mean_reprojection_error
    judged = pixels * min(1.0, FEATURE_SIZE / report.longest_side)
    grade: Grade = "good" if judged <= ERROR[0] else "fair" if judged <= ERROR[1] else "poor"
    advice = "The photos contradict each other: keep the zoom fixed, hold the camera still, and let nothing move."
    return _advised("Reprojection error", f"{pixels:.2f} pixels (mean)", grade, advice)


def _coverage(report: Report) -> Finding:
    grade = _grade(report.coverage, *COVERAGE)
    advice = (
        f"{1 - report.coverage:.0%} of the photos' area is too plain for points: harmless around the subject (sky, "
        "walls, a plain table), but if it is the subject, go closer and light it from the side."
    )
    value = f"{report.coverage:.0%} of the photos' area has points nearby"
    return _advised("Coverage", value, grade, advice)


def _sides(report: Report) -> list[Finding]:
    views = report.viewpoints
    if views is None:
        return []
    value = f"widest gap {views.gap:.0f} degrees, between {views.before} and {views.after}"
    gap = Finding("Around the subject", value, "good")
    if views.gap >= GAP:
        advice = (
            f"There is no photo from between {views.before} and {views.after} ({views.gap:.0f} degrees): what is "
            "visible only from there stays unknown; if you can walk there, take photos there too."
        )
        gap = Finding(gap.name, value, "fair", advice)
    value = f"{views.lowest:.0f} to {views.highest:.0f} degrees"
    height = Finding("From above", value, "good")
    if views.highest - views.lowest < HEIGHTS:
        advice = "All photos are from about the same height: add a round from higher up, and one from lower down."
        height = Finding(height.name, value, "fair", advice)
    return [gap, height]
