# SPDX-License-Identifier: Apache-2.0
"""Extracting photos from a video: one per step of camera motion, each the sharpest of the frames around its position.

Motion is followed as Lucas-Kanade tracks of Shi-Tomasi corners (Bouguet, "Pyramidal Implementation of the Lucas Kanade
Feature Tracker", 2000) on a small grey copy; sharpness is the variance of the Laplacian (Pech-Pacheco et al., "Diatom
autofocusing in brightfield microscopy", ICPR 2000).
"""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.codec.context import ThreadType
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from PIL import Image

from img3d_base.atomic_files import remove_left_behind, write_atomically
from img3d_base.console import print_line
from img3d_base.errors import InputError, counted, warn
from img3d_base.progress import with_progress
from img3d_pictures.encodings import SRGB, Encoding

SMALL_SIZE = 640
"""Longer side in pixels of the grey copy on which sharpness is measured; half of that for tracking.

At 640, motion blur of 4 pixels in a photo of 1920 takes a third off the variance of the Laplacian; at 320, a tenth.
"""
STEP = 0.02
"""Median image motion from one chosen frame to the next, as a share of the picture's longer side.

Walking around an object on a floor moves the picture by about 0.3 % per degree (measured on a rendered scene): that
gives a frame every 6 to 7 degrees, 55 per round. Neighbours then share more than 90 % of their view.
"""
SLACK = 0.25
"""Largest distance of a chosen frame from its nominal position, as a share of STEP."""
AS_SHARP = 0.9
"""Frames with at least this share of the best sharpness count as equally sharp; the one nearest to the nominal position
is chosen."""
MAX_CANDIDATES = 30
"""Largest number of candidates, about a second; bounds the memory while the camera stands still."""
MIN_TRACKS = 12
"""Fewest corners for measuring motion: with fewer, the picture is blank or out of focus."""
LOST_SHARE = 0.4
"""If less than this share of the corners can be tracked, the view has changed completely."""
LOST_FRAMES = 3
"""Number of consecutive frames without the old view that make a new one: fewer are a flash or a blurred frame."""
MIN_CORNER = 2e-4
"""Smaller eigenvalue of the gradients' covariance (values in [0, 1]) below which a corner is sensor noise."""
MIN_FRAMES = 3
"""Fewest photos that can be reconstructed."""
JPEG_QUALITY = 95
EXIF_IFD, FOCAL_LENGTH_IN_35MM = 0x8769, 0xA405
RECIPE = (
    2,
    *(SMALL_SIZE, STEP, SLACK, AS_SHARP, MAX_CANDIDATES),
    *(MIN_TRACKS, LOST_SHARE, LOST_FRAMES, MIN_CORNER, JPEG_QUALITY),
)
"""Everything besides the video that the choice depends on; the first number is the version of the algorithm."""

Grey = npt.NDArray[np.uint8]
T = TypeVar("T")


def frames_of_video(video: Path, cache: Path, max_frames: int) -> Path:
    """Extracts frames `frame_00001.jpg` and so on, upright and in sRGB (HDR is tone-mapped); returns their folder.

    Reads the video twice: first to follow the camera on small grey copies, then to write the chosen frames. A cached
    folder is reused if the video's content and all settings are the same.

    Args:
        video: The file.
        cache: The folder in which the frames' folder is created.
        max_frames: If more frames are chosen, they are thinned evenly along the camera's motion.

    Raises:
        InputError: It is not a video, too little of it can be decoded, the camera stood still, `cache` cannot be
            written to, or `max_frames` is too small.
    """
    if max_frames < MIN_FRAMES:
        raise InputError(f"--max-video-frames is {max_frames}, but at least {MIN_FRAMES} are needed")
    folder = cache / f"frames-{_fingerprint(video, max_frames)}"
    num_kept = len(list(folder.glob("frame_*.jpg")))
    if num_kept >= MIN_FRAMES:
        print_line(f"Video frames: {num_kept} from the cache {folder}")
        return folder
    reader = VideoReader(video)
    with _written_whole(folder, video) as temporary:
        picker = _watched(reader)
        if reader.num_damaged:
            reader.in_one_thread = True
            picker = _watched(reader)
        num_frames = picker.num_frames
        _report_damage(reader, num_frames)
        found = picker.finish()
        picks = thinned(found, max_frames)
        if len(picks) < MIN_FRAMES:
            raise InputError(
                f"{video} has {counted(len(picks), 'different view')} in {num_frames} frames, but {MIN_FRAMES} are "
                "needed: the camera stood still, or saw no detail; film while you walk around the scene"
            )
        _save_frames(reader, {pick.index for pick in picks}, temporary)
    if reader.encoding.is_hdr:
        print_line(f"{video} is HDR video ({reader.encoding.transfer.upper()}): its frames are tone-mapped to sRGB")
    why = f"the sharpest for each image motion of {STEP:.0%}; the others show nearly the same"
    if len(picks) < len(found):
        why = f"{len(found)} show something new, but --max-video-frames is {max_frames}"
    print_line(f"Video frames: {len(picks)} picked out of {num_frames:,} ({why}), kept in {folder}")
    return folder


def _watched(reader: VideoReader) -> FramePicker:
    """A picker to which all frames have been added."""
    picker = FramePicker()
    for frame in with_progress(reader.frames(), "Choosing video frames", reader.num_frames):
        picker.add(_small_grey(frame, reader.reformatter))
    return picker


class VideoReader:
    """Decodes a video's frames in any number of passes; damaged frames are skipped.

    Raises:
        InputError: The file cannot be read, is not a video, or has only sound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reformatter = VideoReformatter()
        self.in_one_thread = False
        """Slower, but reproducible: FFmpeg's threads conceal damaged frames with whatever has been decoded by then."""
        self.num_damaged = 0
        """Number of packets and frames that could not be decoded in the last pass."""
        self.seconds_decoded = 0.0
        try:
            with av.open(str(path)) as container:
                stream = container.streams.best("video")
                if not isinstance(stream, av.VideoStream) or stream.disposition & Disposition.attached_pic:
                    raise InputError(f"{path} has only sound, no pictures; give a video or a folder of photos")
                rate = stream.average_rate or stream.guessed_rate
                duration = stream.duration and stream.time_base and float(stream.duration * stream.time_base)
                self.seconds = duration or (container.duration or 0) / av.time_base
                """Duration that the file claims; 0 if unknown."""
                self.num_frames = stream.frames or round(self.seconds * float(rate or 0)) or None
                """Number of frames that the file claims, for the progress bar; None if unknown."""
                self.pixel_aspect = float(stream.sample_aspect_ratio or 1)
                codec = stream.codec_context
                self.encoding = Encoding.of_codes(int(codec.color_primaries), int(codec.color_trc))
                """The colour encoding of its pixels."""
                self.focal_length_35mm = _focal_length_35mm(container.metadata | stream.metadata)
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or type(error).__name__
            advice = "if it came from a camera or a phone, copy it again: it may be cut off"
            raise InputError(f"{path} cannot be read as a video: {reason}; {advice}") from None

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decodes the video from its beginning; yields frames as stored, without rotation."""
        self.num_damaged, first, last = 0, None, None
        with av.open(str(self.path)) as container:
            stream = container.streams.best("video")
            assert isinstance(stream, av.VideoStream)  # checked in __init__
            if self.in_one_thread:
                stream.codec_context.thread_count = 1
            else:
                stream.thread_type = ThreadType.AUTO
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                except av.FFmpegError:  # the container is cut off
                    self.num_damaged += 1
                    packet = None
                if packet is None:
                    break
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    self.num_damaged += 1
                    continue
                for frame in frames:
                    if frame.is_corrupt:
                        self.num_damaged += 1
                        continue
                    if frame.time is not None:
                        first = frame.time if first is None else first
                        last = frame.time
                        self.seconds_decoded = last - first
                    yield frame


def _focal_length_35mm(metadata: dict[str, str]) -> int | None:
    """The focal length that phones write (com.apple.quicktime.camera.focal_length.35mm_equivalent); None if absent."""
    for key, value in metadata.items():
        if "focal_length" in key.lower() and "35mm" in key.lower():
            try:
                return round(float(value)) or None
            except ValueError:
                return None
    return None


def _report_damage(reader: VideoReader, num_frames: int) -> None:
    """Warns of missing parts of the video.

    Raises:
        InputError: Too few frames are left.
    """
    if num_frames < MIN_FRAMES:
        raise InputError(
            f"{reader.path} has only {num_frames} frames that can be decoded; copy it again or film longer"
        )
    if reader.seconds - reader.seconds_decoded > max(1.0, 0.05 * reader.seconds):
        warn(
            f"{reader.path} is cut off: only {reader.seconds_decoded:.0f} s of its {reader.seconds:.0f} s can be read; "
            "using these"
        )
    elif reader.num_damaged:
        warn(
            f"{reader.path} is damaged: {counted(reader.num_damaged, 'part')} could not be decoded; using "
            f"the {num_frames} whole frames"
        )


def _small_grey(frame: av.VideoFrame, reformatter: VideoReformatter) -> Grey:
    scale = min(1.0, SMALL_SIZE / max(frame.width, frame.height))
    width, height = (max(1, round(scale * size)) for size in (frame.width, frame.height))
    return cast(Grey, reformatter.reformat(frame, width, height, "gray", interpolation="AREA").to_ndarray())


@dataclass(frozen=True)
class Pick:
    """A chosen frame."""

    index: int
    """Its index in the video."""
    motion: float
    """Image motion since the previous pick, as a share of the picture's longer side."""


@dataclass(frozen=True)
class _Frame:
    """The data of a frame that is kept until the next pick."""

    index: int
    grey: Grey
    """For tracking."""
    sharpness: float


class FramePicker:
    """Chooses frames from a stream, holding at most a second of small grey copies.

    The corners of a reference (the last pick) are tracked in each frame. Their median displacement opens a window
    slightly before STEP and closes it slightly after; the sharpest frame in it is the next pick, with which the frames
    after it are compared again. Unlike sums of frame-to-frame motion, displacements from one reference do not grow with
    the shaking of a hand.
    """

    def __init__(self) -> None:
        self.num_frames = 0
        self._picks: list[Pick] = []
        self._tracks: _Tracks | None = None
        self._starting = True
        """Whether the reference is not a pick, but the first frame of a new view."""
        self._window: list[_Frame] = []
        self._motions: list[float] = []
        """Motion of each frame in the window since the reference; NaN if it cannot be picked."""
        self._num_lost = 0

    def add(self, grey: Grey) -> None:
        """Adds the next frame.

        Args:
            grey: Small grey copy `[h, w]`.
        """
        sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
        half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        self._take_all([_Frame(self.num_frames, half, sharpness)])
        self.num_frames += 1

    def finish(self) -> list[Pick]:
        """All picks; no frames may be added afterwards."""
        while self._window:
            self._take_all(self._close_window())
        return self._picks

    def _take_all(self, frames: Sequence[_Frame]) -> None:
        waiting = deque(frames)
        while waiting:
            waiting.extendleft(reversed(self._take(waiting.popleft())))

    def _take(self, frame: _Frame) -> list[_Frame]:
        """Processes one frame; returns the frames that must be processed again because the reference changed."""
        if self._tracks is None:
            tracks = _Tracks(frame.grey)
            if tracks.num_corners >= MIN_TRACKS:
                self._tracks, self._starting = tracks, True
                self._window, self._motions = [frame], [0.0]
            return []
        motion = self._tracks.motion_to(frame.grey)
        low, high = (0.0, SLACK * STEP) if self._starting else ((1 - SLACK) * STEP, (1 + SLACK) * STEP)
        self._num_lost = self._num_lost + 1 if np.isnan(motion) else 0
        has_candidate = bool(np.isfinite(self._motions).any())
        if motion < low and not has_candidate:
            self._window, self._motions = [], []
            return []
        fits = motion >= low and (motion <= high or not has_candidate)
        self._window.append(frame)
        self._motions.append(motion if fits else np.nan)
        if motion > high or len(self._window) >= MAX_CANDIDATES or self._num_lost == LOST_FRAMES:
            return self._close_window()
        return []

    def _close_window(self) -> list[_Frame]:
        """Picks the best candidate; without one, a new view begins. Returns the frames to process again."""
        window, motions = self._window, np.array(self._motions)
        self._window, self._motions, self._num_lost = [], [], 0
        if np.isnan(motions).all():
            self._tracks = None
            return window
        sharpness = np.array(
            [0.0 if np.isnan(m) else frame.sharpness for frame, m in zip(window, motions, strict=True)]
        )
        off_place = np.abs(motions - (0.0 if self._starting else STEP))
        best = int(np.nanargmin(np.where(sharpness >= AS_SHARP * sharpness.max(), off_place, np.nan)))
        motion = (
            (1 + SLACK) * STEP if self._starting else float(motions[best])
        )  # across a cut: unknown, assumed to be large
        self._picks.append(Pick(window[best].index, motion))
        self._tracks, self._starting = _Tracks(window[best].grey), False
        return window[best + 1 :]


class _Tracks:
    """Tracks the corners of a reference frame in later frames."""

    def __init__(self, reference: Grey) -> None:
        self._reference = reference
        is_corner = cv2.cornerMinEigenVal(reference, blockSize=5) > MIN_CORNER
        corners = cv2.goodFeaturesToTrack(
            reference, maxCorners=200, qualityLevel=0.01, minDistance=7, blockSize=5, mask=is_corner.astype(np.uint8)
        )
        self._corners = np.zeros((0, 1, 2), np.float32) if corners is None else corners
        self._last_seen = self._corners.copy()

    @property
    def num_corners(self) -> int:
        return len(self._corners)

    def motion_to(self, grey: Grey) -> float:
        """Median displacement of the corners as a share of the longer side; NaN if too few of them are tracked."""
        if self.num_corners < MIN_TRACKS:
            return np.nan
        # Tracked from the reference, so that errors do not accumulate; initialised where each corner was last seen.
        found, status, _ = cv2.calcOpticalFlowPyrLK(
            self._reference,
            grey,
            self._corners,
            self._last_seen.copy(),
            winSize=(15, 15),
            maxLevel=3,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        back, back_status, _ = cv2.calcOpticalFlowPyrLK(
            grey,
            self._reference,
            found,
            self._corners.copy(),
            winSize=(15, 15),
            maxLevel=3,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        returns = np.linalg.norm(back - self._corners, axis=-1)[:, 0] < 1.0
        seen = returns & (status[:, 0] > 0) & (back_status[:, 0] > 0)
        if seen.sum() < LOST_SHARE * self.num_corners:
            return np.nan
        self._last_seen[seen] = found[seen]
        displacements = np.linalg.norm((found - self._corners)[seen], axis=-1)
        return float(np.median(displacements)) / max(grey.shape)


def thinned(picks: list[Pick], max_frames: int) -> list[Pick]:
    """At most `max_frames` of the picks, evenly spaced along the camera's motion, including the first and the last."""
    if len(picks) <= max_frames:
        return picks
    way = np.cumsum([pick.motion for pick in picks])
    targets = np.linspace(way[0], way[-1], max_frames)
    right = np.searchsorted(way, targets).clip(1, len(way) - 1)
    chosen = right - (targets - way[right - 1] < way[right] - targets)
    order = np.arange(max_frames)
    chosen = np.maximum.accumulate(chosen - order) + order  # if two targets share a pick, the next one is used
    chosen = np.minimum(chosen, len(picks) - max_frames + order)
    return [picks[i] for i in chosen]


def _save_frames(reader: VideoReader, indices: set[int], folder: Path) -> None:
    exif = Image.Exif()
    if reader.focal_length_35mm is not None:
        exif.get_ifd(EXIF_IFD)[FOCAL_LENGTH_IN_35MM] = reader.focal_length_35mm
    last = max(indices)
    number = 0
    for index, frame in enumerate(with_progress(reader.frames(), "Writing video frames", last + 1)):
        if index in indices:
            number += 1
            picture = Image.fromarray(upright(frame, reader.pixel_aspect, reader.encoding))
            picture.save(folder / f"frame_{number:05d}.jpg", quality=JPEG_QUALITY, exif=exif)
        if index == last:
            break


def upright(frame: av.VideoFrame, pixel_aspect: float = 1.0, encoding: Encoding = SRGB) -> npt.NDArray[np.uint8]:
    """Converts a frame to square pixels, upright by the video's display matrix.

    Args:
        frame: The decoded frame.
        pixel_aspect: Width of a stored pixel divided by its height.
        encoding: The video's colour encoding.

    Returns:
        uint8 sRGB `[height, width, 3]`.
    """
    width = round(frame.width * pixel_aspect)
    if encoding.is_srgb:
        pixels = cast(npt.NDArray[np.uint8], frame.to_ndarray(format="rgb24", width=width))
    else:
        pixels = encoding.to_srgb(cast(npt.NDArray[np.uint16], frame.to_ndarray(format="rgb48le", width=width)))
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return pixels
    # FFmpeg's display matrix: the row vector (x, y) times its first two rows gives the displayed position.
    (a, b), (c, d) = np.sign(np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2])
    if a and d:
        pixels = pixels[::d, ::a]
    elif b and c:
        pixels = pixels.swapaxes(0, 1)[::b, ::c]
    return np.ascontiguousarray(pixels)


def _fingerprint(video: Path, max_frames: int) -> str:
    """A hash of a video's content and of the settings.

    Raises:
        InputError: The file cannot be read.
    """
    digest = hashlib.blake2b(repr((RECIPE, max_frames)).encode(), digest_size=8)
    try:
        with video.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{video} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


@contextmanager
def _written_whole(folder: Path, video: Path) -> Generator[Path, None, None]:
    """Yields a temporary folder that is renamed to `folder` on success and removed on failure.

    Raises:
        InputError: It cannot be written.
    """
    remove_left_behind(folder.parent, "frames-*.tmp")
    try:
        with write_atomically(folder) as temporary:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
            shutil.rmtree(folder, ignore_errors=True)  # an incomplete one
    except OSError as error:
        raise InputError(
            f"the frames of {video} cannot be kept in {folder.parent}: {error.strerror or error}; free some space "
            "there, or give another folder with --cache-dir"
        ) from None
