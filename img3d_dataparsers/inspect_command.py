# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-photos inspect DIR`: what img3d makes of a folder of photos, without training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table

from img3d_base.errors import exits_with_one_line, some_names
from img3d_dataparsers.upstream_warnings import silence_upstream_warnings
from img3d_dataparsers.videos import MAX_VIDEO_FRAMES

if TYPE_CHECKING:
    from img3d_dataparsers.posed_photos import PosedPhotos, SeedPoints
    from img3d_dataparsers.sfm.report import Report
    from img3d_dataparsers.usable_photos import UsablePhoto

app = tyro.extras.SubcommandApp()


@app.command(name="inspect")
def inspect(
    data: Annotated[Path, tyro.conf.Positional],
    cache_dir: Path | None = None,
    remove_background: bool = False,
    max_video_frames: int = MAX_VIDEO_FRAMES,
) -> None:
    """Prints what a folder of photos, or a video, is good for: photos used and left out, cameras, points, errors.

    Args:
        data: A folder of photos, with poses or without, or a video.
        cache_dir: Where to keep the poses; training finds them there. Default: .img3d in the folder.
        remove_background: Whether to mask the background of photos that have no mask.
        max_video_frames: How many frames of a video to take at most; training needs the same number to find them.
    """
    from img3d_dataparsers.formats.recognise import posed_photos_in
    from img3d_dataparsers.inputs import photo_folder, read_posed_photos
    from img3d_dataparsers.sfm.solve import solve

    posed = posed_photos_in(data, "train") if data.is_dir() else None
    if posed is not None or data.suffix.lower() == ".json":
        _print_posed(posed or read_posed_photos(data, "train"))
        return
    report = solve(photo_folder(data, cache_dir, max_video_frames), cache_dir, remove_background).report
    CONSOLE.print(_table(report))
    CONSOLE.print(report.advice, markup=False, highlight=False, soft_wrap=True)


def _table(report: Report) -> Table:
    total = report.registered + len(report.unregistered)
    table = Table(show_header=False)
    table.add_row("Photos found", f"{total + len(report.left_out)}")
    reasons = {**report.left_out, **report.unregistered}
    for why, count in Counter(reasons.values()).most_common():
        names = [name for name, reason in reasons.items() if reason == why]
        table.add_row("  not used", f"{count} ({some_names(names)}): {why}")
    table.add_row("Registered", f"{report.registered} of {total} ({report.registered / total:.0%})")
    table.add_row("Cameras", f"{report.cameras}")
    table.add_row("Points", f"{report.points:,}, each seen by {report.mean_track_length:.1f} photos on average")
    table.add_row("Mean reprojection error", f"{report.mean_reprojection_error:.2f} pixels of the full-size photos")
    table.add_row("Coverage", f"{report.coverage:.0%} of the photos' area shows points")
    return table


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
    CONSOLE.print(table)
    CONSOLE.print("The folder brings its poses; they are used as they are.")


def _said_of_points(posed: PosedPhotos, photos: Sequence[UsablePhoto], points: SeedPoints | None) -> str:
    """How many the data bring, and where seeds come from if they bring none."""
    if points is not None:
        return f"{len(points[0]):,}"
    if posed.is_normalised:
        return "none: training starts from random ones"
    from img3d_dataparsers.file_resolver import is_file

    num_depth_maps = sum(photo.depth_path is not None and is_file(photo.depth_path) for photo in photos)
    if num_depth_maps:
        return f"none: from the depth maps of {num_depth_maps} photos, before training"
    return "none: triangulated before training"


def main() -> None:
    """Entry point of `img3d-photos`."""
    silence_upstream_warnings()
    with exits_with_one_line("Interrupted; what is finished is kept, the same command goes on from there."):
        app.cli(prog="img3d-photos", description="Looks at photos before anything is trained on them.")


if __name__ == "__main__":
    main()
