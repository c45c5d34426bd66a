# SPDX-License-Identifier: Apache-2.0
"""`img3d-export video`: a flight around what a run shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from img3d_base.errors import InputError
from img3d_exporters.commands.sources import print_written
from img3d_methods.viewing.camera_paths import PathKind

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.models.base_model import Model

    from img3d_exporters.video_files import Picture

LARGEST, MAX_GIF, MAX_OF_RAYS = 1280, 640, 480
"""Pixels of the larger side where none are asked for: of a video, of a GIF, and of a model that follows rays, for which
a CPU takes seconds a picture."""
MIN_SIZE, MAX_SIZE = 16, 4096
"""Pixels of a side; H.264 decoders in hardware take no more."""
MAX_FPS = 120


def video(
    output: Path,
    load_config: Path,
    path: PathKind | None = None,
    seconds: float = 8.0,
    fps: int | None = None,
    resolution: tuple[int, int] | None = None,
    force: bool = False,
) -> None:
    """Writes a video of a run, whatever its method: .mp4 (H.264, plays everywhere) or .gif.

    Args:
        output: The file to write; its ending says the format.
        load_config: The run's config.yml.
        path: How the camera moves: one full turn around what the photos look at (turntable); around and up and down,
            or, where the photos are from one side, over that side and back (spiral); or from photo to photo (cameras).
            The first two are loops. Default: turntable where the photos are from all sides, else spiral.
        seconds: How long.
        fps: Pictures per second. Default: 30; of a GIF 15.
        resolution: Width and height in pixels; those of an .mp4 are made even. Default: the photos' shape, its larger
            side at most 1280 (of a GIF 640, of a radiance field 480).
        force: Replace the file if it is there.
    """
    from img3d_exporters.load_run import load_run
    from img3d_exporters.video_files import check_output, write_video
    from img3d_methods.viewing.camera_paths import default_path, path_cameras

    fps = fps if fps is not None else 15 if output.suffix.lower() == ".gif" else 30
    num_frames = _num_frames(seconds, fps)
    if resolution is not None and not all(MIN_SIZE <= length <= MAX_SIZE for length in resolution):
        raise InputError(
            f"--resolution is {resolution[0]} {resolution[1]}: both can be {MIN_SIZE} to {MAX_SIZE} pixels."
        )
    check_output(output, fps, force)
    run = load_run(load_config)
    size = _size(run.representation.is_rasterised, run.cameras, output) if resolution is None else resolution
    if output.suffix.lower() == ".mp4":
        size = size[0] // 2 * 2, size[1] // 2 * 2
    cameras = path_cameras(run.cameras, path or default_path(run.cameras), num_frames, size)
    write_video(_rendered(run.model, cameras), num_frames, output, fps)
    print_written(f"{num_frames:,} pictures of {size[0]} x {size[1]} pixels, {num_frames / fps:.1f} s", output)


def _num_frames(seconds: float, fps: int) -> int:
    if not 1 <= fps <= MAX_FPS:
        raise InputError(f"--fps is {fps}: it can be 1 to {MAX_FPS}.")
    if not 0 < seconds <= 3600:
        raise InputError(f"--seconds is {seconds}: it must be above 0, and an hour at most.")
    return max(2, round(seconds * fps))


def _size(is_rasterised: bool, cameras: Cameras, output: Path) -> tuple[int, int]:
    from img3d_methods.viewing.camera_paths import picture_size

    largest = MAX_GIF if output.suffix.lower() == ".gif" else LARGEST
    return picture_size(cameras, largest if is_rasterised else min(largest, MAX_OF_RAYS))


def _rendered(model: Model, cameras: Cameras) -> Iterator[Picture]:
    """The pictures, with a progress bar; each is made when it is asked for."""
    import torch

    from img3d_base.progress import with_progress

    for i in with_progress(range(len(cameras)), "Rendering", len(cameras)):
        with torch.no_grad():
            rgb = model.get_outputs_for_camera(cameras[i : i + 1].to(model.device))["rgb"]
        yield (rgb.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
