# SPDX-License-Identifier: Apache-2.0
"""Every figure of a reconstruction is called good or not, and what is not good comes with what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from img3d_dataparsers.sfm.advice import findings, next_steps, registration
from img3d_dataparsers.sfm.photo_set import Photo, PhotoSet
from img3d_dataparsers.sfm.report import BLURRED_OR_PLAIN, TOO_LITTLE_OVERLAP, Report
from img3d_dataparsers.sfm.viewpoints import Viewpoints, viewpoints_of

GOOD = Report(
    left_out={},
    unregistered={},
    gaps=[],
    registered=40,
    cameras=1,
    points=6000,
    mean_reprojection_error=0.4,
    mean_track_length=4.5,
    points_per_photo=700,
    parallax=14,
    longest_side=4000,
    weakest=[],
    viewpoints=Viewpoints(gap=20, before="39.jpg", after="0.jpg", lowest=5, highest=50),
    coverage=0.8,
    mapper="global",
    seconds={"features": 1.0},
)


def test_good_photos_need_nothing() -> None:
    assert {finding.grade for finding in findings(GOOD)} == {"good"}
    assert next_steps(GOOD) == []


@pytest.mark.parametrize(
    ("change", "name", "grade", "advice"),
    [
        ({"registered": 10}, "Photos found", "fair", "Take more photos: 10 are few"),
        ({"points_per_photo": 40.0}, "Points", "poor", "something with a pattern"),
        ({"weakest": ["7.jpg"]}, "Points", "fair", "7.jpg: few points;"),
        ({"mean_track_length": 2.2}, "Overlap", "poor", "two thirds"),
        ({"parallax": 4.0}, "Parallax", "fair", "further to the side"),
        ({"mean_reprojection_error": 3.5}, "Reprojection error", "poor", "let nothing move"),
        ({"mean_reprojection_error": 1.0, "longest_side": 1000}, "Reprojection error", "fair", "zoom fixed"),
        ({"coverage": 0.5}, "Coverage", "fair", "50% of the photos' area is too plain"),
        ({"viewpoints": Viewpoints(200, "1.jpg", "9.jpg", 5, 50)}, "Around the subject", "fair", "1.jpg and 9.jpg"),
        ({"viewpoints": Viewpoints(20, "1.jpg", "9.jpg", 28, 32)}, "From above", "fair", "higher up"),
    ],
)
def test_what_is_not_good_comes_with_what_to_do(change: dict[str, Any], name: str, grade: str, advice: str) -> None:
    report = replace(GOOD, **change)
    (finding,) = [finding for finding in findings(report) if finding.grade != "good"]
    assert (finding.name, finding.grade) == (name, grade)
    assert advice in finding.advice and next_steps(report) == [finding.advice]


def test_the_worst_comes_first() -> None:
    steps = next_steps(replace(GOOD, parallax=4.0, coverage=0.1))
    assert "too plain" in steps[0] and "further to the side" in steps[1]


def test_photos_without_a_pose() -> None:
    report = replace(
        GOOD,
        registered=38,
        unregistered={"5.jpg": TOO_LITTLE_OVERLAP, "6.jpg": BLURRED_OR_PLAIN},
        gaps=["4.jpg"],
    )
    finding = registration(report)
    assert finding.grade == "fair" and finding.value == "38 of 40 (95%), by 1 camera"
    assert "5.jpg shares too little with the rest: add photos between it and the others near 4.jpg." in finding.advice
    assert "6.jpg is blurred, without detail or masked: take it again." in finding.advice
    assert registration(replace(report, registered=8)).grade == "poor"


@pytest.mark.parametrize("report", [GOOD, replace(GOOD, viewpoints=None)])
def test_reports_are_kept_as_text(tmp_path: Path, report: Report) -> None:
    photos = [
        Photo(tmp_path / f"{i}.jpg", f"{i}.jpg", None, (4000, 3000), 1, "", None, "")
        for i in range(report.registered + len(report.unregistered))
    ]
    (tmp_path / "report.json").write_text(report.to_json())
    assert Report.read(tmp_path / "report.json", PhotoSet(tmp_path, photos, report.left_out)) == report


def looking(azimuths: np.ndarray, elevation: float, inwards: bool = True) -> np.ndarray:
    """Poses on a circle around (5, 5, 1), which look at its middle or away from it."""
    poses = []
    for azimuth in np.radians(azimuths):
        aside, up = np.cos(np.radians(elevation)), np.sin(np.radians(elevation))
        out = np.array([aside * np.cos(azimuth), aside * np.sin(azimuth), up])
        back = out if inwards else -out
        right = np.cross([0, 0, 1.0], back)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3] = np.stack([right, np.cross(back, right), back, 2 * out + [5, 5, 1]], axis=1)
        poses.append(pose)
    return np.array(poses)


def test_viewpoints_around_a_subject() -> None:
    azimuths = np.arange(-60, 61, 20)
    poses = np.concatenate([looking(azimuths, 10), looking(azimuths, 40)])
    views = viewpoints_of([f"{azimuth}" for azimuth in azimuths] * 2, poses)
    assert views is not None
    assert views.gap == pytest.approx(240) and (views.before, views.after) == ("60", "-60")
    assert (views.lowest, views.highest) == pytest.approx((10, 40))


def test_photos_of_a_room_are_of_no_one_thing() -> None:
    assert viewpoints_of(["photo"] * 12, looking(np.arange(0, 360, 30), 0, inwards=False)) is None


def test_photos_that_look_the_same_way() -> None:
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = np.arange(5)
    views = viewpoints_of(list("abcde"), poses)
    assert views is None
