# SPDX-License-Identifier: Apache-2.0
"""`img3d-export video`: renders a camera path as a video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from img3d_base.errors import InputError
from img3d_exporters.commands.sources import print_written
from img3d_methods.viewing.path_kinds import PathKind

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.models.base_model import Model

    from img3d_exporters.video_files import Picture

MAX_SIDE, MAX_GIF_SIDE, MAX_RAYS_SIDE = 1280, 640, 480
"""Default size of the larger side in pixels: of a video, of a GIF, and for models that march rays, which take a CPU
seconds per picture."""
MIN_SIZE, MAX_SIZE = 16, 4096
"""Limits of a side in pixels; hardware decoders of H.264 take no more."""
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
    """Writes a video of a run of any method: .mp4 (H.264, plays everywhere) or .gif.

    Args:
        output: The file to write; its ending determines the format.
        load_config: The run's config.yml.
        path: How the camera moves: one full turn around what the photos look at (turntable); around while rising and
            falling, or, for photos from one side, to and fro over that side (spiral); or from photo to photo
            (cameras). The first two are loops. Default: turntable if the photos are from all sides, otherwise
            spiral.
        seconds: Duration of the video.
        fps: Frames per second. Default: 30; 15 for a GIF.
        resolution: Width and height in pixels; rounded to even numbers for an .mp4. Default: the photos' aspect
            ratio, with a larger side of at most 1280 (640 for a GIF, 480 for a radiance field).
        force: Replace an existing file.
    """
    from img3d_exporters.load_run import load_run
    from img3d_exporters.video_files import check_output, write_video
    from img3d_methods.viewing.camera_paths import default_path, path_cameras

    fps = fps if fps is not None else 15 if output.suffix.lower() == ".gif" else 30
    num_frames = _num_frames(seconds, fps)
    if resolution is not None and not all(MIN_SIZE <= length <= MAX_SIZE for length in resolution):
        raise InputError(
            f"--resolution is {resolution[0]} {resolution[1]}: both have to be {MIN_SIZE} to {MAX_SIZE} pixels."
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
        raise InputError(f"--fps is {fps}: it has to be 1 to {MAX_FPS}.")
    if not 0 < seconds <= 3600:
        raise InputError(f"--seconds is {seconds}: it has to be above 0 and at most 3600.")
    return max(2, round(seconds * fps))


def _size(is_rasterised: bool, cameras: Cameras, output: Path) -> tuple[int, int]:
    from img3d_methods.viewing.camera_paths import picture_size

    largest = MAX_GIF_SIDE if output.suffix.lower() == ".gif" else MAX_SIDE
    return picture_size(cameras, largest if is_rasterised else min(largest, MAX_RAYS_SIDE))


def _rendered(model: Model, cameras: Cameras) -> Iterator[Picture]:
    """The rendered pictures, made one by one when they are needed, with a progress bar."""
    import torch

    from img3d_base.progress import with_progress

    for i in with_progress(range(len(cameras)), "Rendering", len(cameras)):
        with torch.no_grad():
            rgb = model.get_outputs_for_camera(cameras[i : i + 1].to(model.device))["rgb"]
        yield (rgb.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
