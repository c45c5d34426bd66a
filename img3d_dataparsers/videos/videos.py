# SPDX-License-Identifier: Apache-2.0
"""Videos as data: their file name endings, and extracting their frames."""

from __future__ import annotations

from pathlib import Path

from img3d_base.errors import InputError

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm"})
"""File name endings of videos, in lower case."""
MAX_VIDEO_FRAMES = 150
"""Default for the largest number of frames taken from a video: as many photos as can be solved within minutes."""


def photos_of_video(video: Path, cache: Path, max_frames: int) -> Path:
    """Extracts a video's frames and returns their folder; see `video_frames.frames_of_video`.

    Raises:
        InputError: As there, or the package that decodes videos cannot be imported.
    """
    try:
        # Imported late: this module belongs to the entry points.
        from img3d_dataparsers.videos.video_frames import frames_of_video
    except ImportError as error:
        raise InputError(
            f"{video} is a video, and the package av (PyAV) that decodes it cannot be imported ({error}); run "
            "`pip install --force-reinstall av`, or give a folder of photos"
        ) from error
    return frames_of_video(video, cache, max_frames)
