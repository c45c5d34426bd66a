# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-photos inspect DIR`: assesses a folder of photos without training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table
from rich.text import Text

from img3d_base.console import CONSOLE, print_line
from img3d_base.errors import counted, exits_with_one_line, some_names
from img3d_dataparsers.sfm.photo_lens import CameraType
from img3d_dataparsers.upstream_warnings import silence_upstream_warnings
from img3d_dataparsers.videos.videos import MAX_VIDEO_FRAMES

if TYPE_CHECKING:
    from img3d_dataparsers.posed_photos import PosedPhotos, SeedPoints
    from img3d_dataparsers.sfm.report import Report
    from img3d_dataparsers.usable_photos import UsablePhoto

UNKNOWN_SCALE = "unknown; to set it, end the ns-train command with img3d-photos --camera-distance A.jpg B.jpg METRES"

app = tyro.extras.SubcommandApp()


@app.command(name="inspect")
def inspect(
    data: Annotated[Path, tyro.conf.Positional],
    cache_dir: Path | None = None,
    remove_background: bool = False,
    max_video_frames: int = MAX_VIDEO_FRAMES,
    camera_type: CameraType = "auto",
) -> None:
    """Prints how well a folder of photos, or a video, can be reconstructed, and what to photograph next.

    Args:
        data: A folder of photos, with poses or without, or a video.
        cache_dir: Where to keep the poses, for training to find them. Default: .img3d in the folder.
        remove_background: Whether to mask the background of photos that have no mask.
        max_video_frames: Largest number of frames taken from a video; use the same number for training.
        camera_type: The lens of photos without poses, as for training; "auto" finds it out.
    """
    from img3d_dataparsers.formats.recognise import posed_photos_in
    from img3d_dataparsers.inputs import photo_folder, read_posed_photos, where_data_are
    from img3d_dataparsers.sfm.solve import posed_photos, solve

    data = where_data_are(data)
    posed = posed_photos_in(data, "train") if data.is_dir() else None
    if posed is not None or data.suffix.lower() == ".json":
        _print_posed(posed or read_posed_photos(data, "train"))
        return
    solution = solve(photo_folder(data, cache_dir, max_video_frames), cache_dir, remove_background, camera_type)
    _print_solved(solution.report, posed_photos(solution))


def _print_solved(report: Report, posed: PosedPhotos) -> None:
    from img3d_dataparsers.sfm.advice import findings, next_steps

    table = Table(show_header=False)
    for finding in findings(report):
        colour = {"good": "green", "fair": "yellow", "poor": "red"}.get(finding.grade or "", "")
        table.add_row(finding.name, Text(finding.value), Text(finding.grade or "", style=colour))
    reasons = {**report.left_out, **report.unregistered}
    for why, count in Counter(reasons.values()).most_common():
        names = [name for name, reason in reasons.items() if reason == why]
        table.add_row("Not used", Text(f"{count} ({some_names(names)}): {why}"), "")
    table.add_row("Upright", Text(f"by {posed.up_source}"), "")
    table.add_row("Scale", Text(_said_of_scale(posed)), "")
    CONSOLE.print(table)
    steps = next_steps(report)
    total = report.registered + len(report.unregistered)
    print_line("What to do next, most important first:" if steps else f"All {total} photos registered: train on them.")
    for step in steps:
        print_line(f"- {step}")


def _print_posed(posed: PosedPhotos) -> None:
    from img3d_dataparsers.usable_photos import usable_photos

    photos = usable_photos(posed, at_least=1)
    points = posed.read_seed_points()
    table = Table(show_header=False)
    table.add_row("Poses", f"{posed.source}")
    table.add_row("Photos listed", f"{len(posed.frames)}")
    table.add_row("Usable", f"{len(photos)}")
    table.add_row("Cameras", f"{len({photo.intrinsics for photo in photos})}")
    table.add_row("Points", _said_of_points(posed, photos, points))
    table.add_row("Scale", Text(_said_of_scale(posed)))
    CONSOLE.print(table)
    print_line("The folder has poses: they are used as they are.")


def _said_of_scale(posed: PosedPhotos) -> str:
    return UNKNOWN_SCALE if posed.scale_source is None else f"metres, by {posed.scale_source}"


def _said_of_points(posed: PosedPhotos, photos: Sequence[UsablePhoto], points: SeedPoints | None) -> str:
    """The number of points in the data, or where seed points come from if there are none."""
    if points is not None:
        return f"{len(points[0]):,}"
    if posed.is_normalised:
        return "none: training starts from random points"
    from img3d_pictures.file_resolver import is_file

    num_depth_maps = sum(photo.depth_path is not None and is_file(photo.depth_path) for photo in photos)
    if num_depth_maps:
        return f"none: from the depth maps of {counted(num_depth_maps, 'photo')}, before training"
    return "none: triangulated before training"


def main() -> None:
    """Entry point of `img3d-photos`."""
    silence_upstream_warnings()
    with exits_with_one_line("Interrupted; what is finished is kept, the same command goes on from there."):
        app.cli(prog="img3d-photos", description="Assesses photos before training.")


if __name__ == "__main__":
    main()
