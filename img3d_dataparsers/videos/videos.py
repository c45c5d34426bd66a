# SPDX-License-Identifier: Apache-2.0
"""Videos among the data: what they are called, and their frames as photos where there is one."""

from __future__ import annotations

from pathlib import Path

from img3d_base.errors import InputError

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm"})
"""File name endings, in lower case, that are taken for a video."""
MAX_VIDEO_FRAMES = 150
"""Taken of a video where nothing else is asked for: as many photos as are solved in minutes."""


def photos_of_video(video: Path, cache: Path, max_frames: int) -> Path:
    """The folder with a video's chosen frames: see `video_frames.frames_of_video`.

    Raises:
        InputError: as there, or the package that decodes videos cannot be imported.
    """
    try:
        from img3d_dataparsers.videos.video_frames import (
            frames_of_video,  # late: this module belongs to the entry points
        )
    except ImportError as error:
        raise InputError(
            f"{video} is a video, which needs the package av (PyAV), and that cannot be imported ({error}); run "
            "`pip install --force-reinstall av`, or give a folder of photos"
        ) from error
    return frames_of_video(video, cache, max_frames)
