# SPDX-License-Identifier: Apache-2.0
"""Writes pictures as a video: H.264 in an MP4, or a GIF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from img3d_base import output_files
from img3d_base.errors import InputError
from img3d_base.output_files import written_whole

Picture = UInt8[np.ndarray, "H W 3"]

QUALITY = "18"
"""Constant rate factor of x264: visually almost lossless."""
BT709, LIMITED_RANGE = 1, 1
"""Colour space and range of HD video, as numbered in ITU-T H.273; if a file does not specify them, players guess."""
MAX_GIF_FPS = 50
"""Maximum frames per second of a GIF: browsers slow down faster ones."""


def check_output(path: Path, fps: int, force: bool) -> None:
    """Checks the output before any slow work.

    Raises:
        InputError: The file cannot be written.
    """
    output_files.check_output(path, (".mp4", ".gif"), "a video", force)
    if path.suffix.lower() == ".gif" and fps > MAX_GIF_FPS:
        raise InputError(f"--fps is {fps}: GIFs play at most {MAX_GIF_FPS} frames per second.")


def write_video(pictures: Iterable[Picture], num_pictures: int, path: Path, fps: int) -> None:
    """Writes the file, whole or not at all, in the format of its ending.

    Args:
        pictures: sRGB, all of one size, with even sides for an MP4.
        num_pictures: Their number, at least one.
        path: The output file; its folder is made.
        fps: Frames per second.

    Raises:
        InputError: The file cannot be written.
    """
    with written_whole(path) as temporary:
        if path.suffix.lower() == ".gif":
            _write_gif(pictures, num_pictures, temporary, fps)
        else:
            _write_mp4(pictures, temporary, fps)


def _write_mp4(pictures: Iterable[Picture], path: Path, fps: int) -> None:
    import av  # here, so that a broken installation does not break other subcommands
    from av.video.reformatter import ColorRange, Colorspace

    # With the index at the front, the video starts to play before it is completely loaded.
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=fps, options={"crf": QUALITY})
        stream.pix_fmt = "yuv420p"  # what hardware and browsers decode
        codec = stream.codec_context
        codec.color_primaries = codec.color_trc = codec.colorspace = BT709
        codec.color_range = LIMITED_RANGE
        for picture in pictures:
            if not codec.is_open:
                codec.height, codec.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _write_gif(pictures: Iterable[Picture], num_pictures: int, path: Path, fps: int) -> None:
    frames = _with_palettes(pictures)
    ends = np.round(100 * np.arange(1, num_pictures + 1) / fps).astype(int)  # the format counts hundredths of a second
    milliseconds = (10 * np.diff(ends, prepend=0)).tolist()
    next(frames).save(path, "GIF", save_all=True, append_images=frames, duration=milliseconds, loop=0, optimize=False)


def _with_palettes(pictures: Iterable[Picture]) -> Iterator[Image.Image]:
    """The pictures with 256 colours of their own each, dithered."""
    for picture in map(Image.fromarray, pictures):
        palette = picture.quantize(256, Image.Quantize.FASTOCTREE)
        yield picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
