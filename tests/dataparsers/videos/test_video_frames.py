# SPDX-License-Identifier: Apache-2.0
"""Frames of a video: chosen by motion and sharpness, upright, kept whole or not at all."""

from __future__ import annotations

import os
import re
import sys
import wave
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interruptions import INTERRUPTIONS
from PIL import Image

from img3d_base.errors import InputError
from img3d_dataparsers.inputs import photo_folder
from img3d_dataparsers.videos import video_frames
from img3d_dataparsers.videos.video_frames import SLACK, STEP, FramePicker, Pick, thinned
from img3d_dataparsers.videos.videos import MAX_VIDEO_FRAMES
from img3d_pictures.encodings import Encoding, TransferName, linear_light, to_bt709

WIDTH, HEIGHT = 320, 180
DUE = STEP * WIDTH
"""Pixels of motion after which a frame is due."""

LOSS = 12
"""Mean difference, of 255, that MPEG-4 and then JPEG may make: twice the 5 to 6 of one build of FFmpeg. A shift by
three pixels makes 22, a wrong turn 50."""

Picture = npt.NDArray[np.uint8]


def make_wall() -> Picture:
    """A wide wall with detail at several scales, `[240, 2000, 3]`."""
    rng = np.random.default_rng(0)
    wall = np.full((240, 2000, 3), 127.0)
    for size, contrast in ((3, 20), (9, 40), (32, 40)):
        coarse = rng.standard_normal((240 // size + 2, 2000 // size + 2, 3))
        wall += contrast * cv2.resize(coarse, (2000, 240), interpolation=cv2.INTER_CUBIC)
    return wall.clip(0, 255).astype(np.uint8)


WALL = make_wall()


def chosen_frames(video: Path, cache: Path, max_frames: int = MAX_VIDEO_FRAMES) -> Path:
    """Their folder."""
    return video_frames.frames_of_video(video, cache, max_frames)


def view(x: float, y: float = 20.0) -> Picture:
    """What a camera sees whose left upper corner is at (x, y) on the wall."""
    return np.asarray(cv2.getRectSubPix(WALL, (WIDTH, HEIGHT), (x + WIDTH / 2, y + HEIGHT / 2)), np.uint8)


def smeared(picture: Picture, pixels: int = 7) -> Picture:
    return np.asarray(cv2.blur(picture, (pixels, 1)), np.uint8)


def noisy(picture: Picture, seed: int) -> Picture:
    noise = np.random.default_rng(seed).normal(0, 2, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


def picked(pictures: Iterable[Picture]) -> list[int]:
    picker = FramePicker()
    for picture in pictures:
        picker.add(np.asarray(cv2.cvtColor(cv2.resize(picture, None, fx=2, fy=2), cv2.COLOR_RGB2GRAY), np.uint8))
    return [pick.index for pick in picker.finish()]


class TestChoice:
    def test_spacing_follows_motion_not_the_clock(self) -> None:
        speeds = np.repeat([0.4, 1.6, 0.0, 0.8], [100, 60, 80, 60])
        places = np.cumsum(speeds)
        gaps = np.diff(places[picked(view(x) for x in places)])
        assert len(gaps) == pytest.approx(places[-1] / DUE, abs=2)
        assert (gaps[:-1] > (1 - SLACK) * DUE - 0.5).all() and (gaps < (1 + SLACK) * DUE + 0.5).all()

    def test_camera_that_stands_gives_one_frame(self) -> None:
        assert len(picked(noisy(view(100), seed) for seed in range(80))) == 1

    def test_trembling_does_not_add_up(self) -> None:
        places = [(100 + 1.5 * np.sin(i / 3), 20 + 1.5 * np.cos(i / 5)) for i in range(150)]
        assert len(picked(view(x, y) for x, y in places)) == 1

    def test_a_stop_between_two_picks_gives_no_extra_frames(self) -> None:
        places = [*np.linspace(0, 0.85 * DUE, 8), *[0.85 * DUE] * 100]
        assert len(picked(view(x) for x in places)) == 2

    @pytest.mark.parametrize("sharp", [0, 1])
    def test_smeared_frames_are_avoided(self, sharp: int) -> None:
        frames = [view(i) if i % 2 == sharp else smeared(view(i)) for i in range(80)]
        picks = picked(frames)
        assert len(picks) >= 10 and all(i % 2 == sharp for i in picks)

    def test_of_equally_sharp_frames_the_one_nearest_to_its_due_place_is_taken(self) -> None:
        gaps = np.diff(picked(view(DUE * i / 10) for i in range(101)))
        assert gaps[:-1].tolist() == [10] * (len(gaps) - 1)

    def test_near_and_far_moving_apart_is_motion(self) -> None:
        """As on a walk around an object: the mean motion is zero, yet the view changes."""
        frames = [np.concatenate([view(100 + i)[:90], view(500 - i)[90:]]) for i in range(60)]
        assert len(picked(frames)) == pytest.approx(60 / DUE, abs=2)

    def test_moving_forwards_is_motion(self) -> None:
        frames = [
            cv2.getRectSubPix(cv2.resize(WALL, None, fx=s, fy=s), (WIDTH, HEIGHT), (600 * s, 120 * s))
            for s in np.linspace(1, 1.5, 60)
        ]
        assert 6 <= len(picked(np.asarray(frame, np.uint8) for frame in frames)) <= 20

    def test_cut_starts_a_new_view(self) -> None:
        assert [i // 20 for i in picked([view(100)] * 20 + [view(900)] * 20 + [view(1500)] * 20)] == [0, 1, 2]

    def test_flash_does_not(self) -> None:
        frames = [view(100)] * 20 + [np.full_like(view(0), 255)] + [view(100)] * 20
        assert len(picked(frames)) == 1

    def test_pan_too_fast_to_follow_gives_a_chain_of_frames(self) -> None:
        assert np.diff(picked(view(70 * i) for i in range(20))).max() <= 2

    def test_blank_frames_are_no_views(self) -> None:
        grey = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
        assert picked(noisy(grey, seed) for seed in range(40)) == []
        assert [i >= 40 for i in picked([grey] * 40 + [view(0)] * 20)] == [True]


class TestThinning:
    @given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=80), st.integers(2, 40))
    def test_keeps_as_many_as_allowed_with_both_ends(self, motions: list[float], max_frames: int) -> None:
        picks = [Pick(3 * i, motion) for i, motion in enumerate(motions)]
        indices = [pick.index for pick in thinned(picks, max_frames)]
        assert len(indices) == min(len(picks), max_frames)
        assert indices == sorted(set(indices))
        assert indices[0] == 0 and indices[-1] == picks[-1].index

    def test_is_even_along_the_motion(self) -> None:
        motions = [0.01] * 60 + [0.03] * 60
        way = np.cumsum(motions)
        kept = [pick.index for pick in thinned([Pick(i, motion) for i, motion in enumerate(motions)], 25)]
        np.testing.assert_allclose(np.diff(way[kept]), (way[-1] - way[0]) / 24, atol=0.031)


def write_video(path: Path, pictures: Sequence[Picture], **settings: object) -> Path:
    """Writes a video at 30 frames a second.

    Args:
        path: its ending tells the container.
        pictures: uint8 RGB, all of one size.
        settings: `rotation` in degrees counter-clockwise, then `mirrored`, `pixel_aspect`, `focal_length`.
    """
    with av.open(
        str(path), "w", options={"movflags": "use_metadata_tags"} if path.suffix == ".mov" else {}
    ) as container:
        stream = container.add_stream("mpeg4", rate=30, options={"qscale": "2", "flags": "+qscale", "g": "10"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.bit_rate = 8_000_000
        if "rotation" in settings:
            stream.set_display_rotation(settings["rotation"], hflip=settings.get("mirrored", False))
        if "pixel_aspect" in settings:
            stream.codec_context.sample_aspect_ratio = settings["pixel_aspect"]
        if "focal_length" in settings:
            container.metadata["com.apple.quicktime.camera.focal_length.35mm_equivalent"] = str(
                settings["focal_length"]
            )
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def signal_of(picture: Picture, encoding: Encoding) -> npt.NDArray[np.uint16]:
    """An sRGB picture `[H, W, 3]` as 10 bits of another encoding."""
    light = linear_light(picture / 255, "srgb") @ np.linalg.inv(to_bt709(encoding.primaries)).T
    levels = linear_light(np.linspace(0, 1, 1024), encoding.transfer)
    return np.searchsorted(levels, light.clip(0, levels[-1])).astype(np.uint16)


def write_encoded(path: Path, signals: Sequence[npt.NDArray[np.uint16]], transfer: int) -> Path:
    """Writes a lossless video of 10 bits with BT.2020's primaries and this code of a transfer function."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width = signals[0].shape[:2]
        stream.pix_fmt = "gbrp10le"
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, transfer
        for signal in signals:
            frame = av.VideoFrame.from_ndarray((signal << 6) | (signal >> 4), "rgb48le").reformat(format="gbrp10le")
            frame.color_primaries, frame.color_trc = 9, transfer
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def origin(photo: Path, pictures: Sequence[Picture]) -> int:
    """Which of the pictures a written frame shows."""
    pixels = read(photo).astype(float)
    return int(np.argmin([np.abs(pixels - picture).mean() for picture in pictures]))


def read(photo: Path) -> Picture:
    with Image.open(photo) as image:
        return np.asarray(image)


def photos_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


PANNED = [view(1.0 * i) for i in range(60)]


@pytest.fixture(scope="module")
def panned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "wall.mp4", PANNED)


class TestFrames:
    def test_are_the_video_s_at_full_size(self, panned: Path, tmp_path: Path) -> None:
        folder = chosen_frames(panned, tmp_path)
        assert folder.parent == tmp_path
        photos = photos_in(folder)
        assert [photo.name for photo in photos] == [f"frame_{i + 1:05d}.jpg" for i in range(len(photos))]
        assert len(photos) == pytest.approx(60 / DUE, abs=2)
        origins = [origin(photo, PANNED) for photo in photos]
        assert origins == sorted(set(origins))
        for photo, i in zip(photos, origins, strict=True):
            assert np.abs(read(photo).astype(float) - PANNED[i]).mean() < LOSS
            with Image.open(photo) as image:
                assert image.getexif().get(0x0112) is None

    def test_smeared_ones_are_left_out(self, tmp_path: Path) -> None:
        pictures = [picture if i % 2 else smeared(picture) for i, picture in enumerate(PANNED)]
        photos = photos_in(chosen_frames(write_video(tmp_path / "a.mp4", pictures), tmp_path))
        assert len(photos) >= 8
        assert all(origin(photo, pictures) % 2 for photo in photos)

    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize("quarters", [0, 1, 2, 3])
    def test_are_upright(self, tmp_path: Path, quarters: int, mirrored: bool) -> None:
        path = write_video(tmp_path / "a.mp4", PANNED[:40], rotation=90 * quarters, mirrored=mirrored)
        (photo, *_) = photos_in(chosen_frames(path, tmp_path))
        shown = read(photo).astype(float)
        expected = np.rot90(PANNED[0], quarters)
        if mirrored:
            expected = expected[:, ::-1]
        assert shown.shape == expected.shape
        assert np.abs(shown - expected).mean() < LOSS

    def test_have_square_pixels(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mp4", PANNED, pixel_aspect=Fraction(4, 3))
        (photo, *_) = photos_in(chosen_frames(path, tmp_path))
        assert read(photo).shape == (HEIGHT, round(WIDTH * 4 / 3), 3)

    def test_carry_the_phone_s_focal_length(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mov", PANNED, focal_length=26)
        (photo, *_) = photos_in(chosen_frames(path, tmp_path))
        with Image.open(photo) as image:
            assert image.getexif().get_ifd(0x8769)[0xA405] == 26

    def test_are_thinned_to_what_is_allowed(self, panned: Path, tmp_path: Path) -> None:
        photos = photos_in(chosen_frames(panned, tmp_path, max_frames=4))
        gaps = np.diff([origin(photo, PANNED) for photo in photos])
        assert len(gaps) == 3 and gaps.max() - gaps.min() <= 1.5 * DUE

    def test_that_are_thinned_name_the_option(
        self, panned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        chosen_frames(panned, tmp_path, max_frames=4)
        output = capsys.readouterr().out
        assert re.search(r"4 picked out of 60 \(1\d show something new, but --max-video-frames is 4\)", output)
        with pytest.raises(InputError, match="--max-video-frames is 2, but at least 3 are needed"):
            chosen_frames(panned, tmp_path, max_frames=2)

    @pytest.mark.parametrize(("transfer", "code"), [("hlg", 18), ("srgb", 1)])
    def test_of_hdr_and_wide_gamut_are_in_srgb(
        self, tmp_path: Path, transfer: TransferName, code: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """iPhones film HLG in BT.2020 unless told otherwise."""
        encoding = Encoding("bt2020", transfer)
        pictures = [picture // 2 + 40 for picture in PANNED[:30]]  # darker than where tone mapping begins
        path = write_encoded(tmp_path / "a.mkv", [signal_of(picture, encoding) for picture in pictures], code)
        (photo, *_) = photos_in(chosen_frames(path, tmp_path))
        # The video is lossless in 10 bits: what differs is one rounding of each conversion, and JPEG.
        assert np.abs(read(photo).astype(float) - pictures[0]).mean() < LOSS / 2
        said = f"a.mkv is HDR video ({transfer.upper()}): its frames are tone-mapped to sRGB"
        assert (said in capsys.readouterr().out) == (transfer != "srgb")

    def test_are_the_same_every_time(self, panned: Path, tmp_path: Path) -> None:
        one, two = (chosen_frames(panned, tmp_path / name) for name in ("one", "two"))
        assert one.name == two.name
        assert [photo.read_bytes() for photo in photos_in(one)] == [photo.read_bytes() for photo in photos_in(two)]


class TestCache:
    def test_is_reused(self, panned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = chosen_frames(panned, tmp_path)
        times = [photo.stat().st_mtime_ns for photo in photos_in(folder)]
        output = capsys.readouterr().out
        why = "the sharpest for each image motion of 2%; the others show nearly the same"
        assert f"{len(times)} picked out of 60 ({why}), kept in {folder}" in output
        copy = tmp_path / "renamed.mp4"
        copy.write_bytes(panned.read_bytes())
        assert chosen_frames(copy, tmp_path) == folder
        assert [photo.stat().st_mtime_ns for photo in photos_in(folder)] == times
        assert f"Video frames: {len(times)} from the cache {folder}" in capsys.readouterr().out

    def test_is_not_taken_for_another_video_or_other_settings(self, panned: Path, tmp_path: Path) -> None:
        other = write_video(tmp_path / "other.mp4", PANNED[:40])
        folders = {
            chosen_frames(panned, tmp_path),
            chosen_frames(panned, tmp_path, max_frames=4),
            chosen_frames(other, tmp_path),
        }
        assert len(folders) == 3

    def test_what_a_killed_run_left_is_not_taken_for_finished(self, panned: Path, tmp_path: Path) -> None:
        name = chosen_frames(panned, tmp_path / "elsewhere").name
        dead_process = 2**22 + 1  # above the largest that Linux gives
        left = tmp_path / f"{name}.{dead_process}.tmp"
        running = tmp_path / f"frames-0123456789abcdef.{os.getppid()}.tmp"
        for folder in (left, running):
            folder.mkdir()
            for i in range(5):
                (folder / f"frame_{i + 1:05d}.jpg").write_bytes(b"half")
        folder = chosen_frames(panned, tmp_path)
        assert all(Image.open(photo).size == (WIDTH, HEIGHT) for photo in photos_in(folder))
        assert not left.exists() and running.exists()

    @INTERRUPTIONS
    def test_interrupted_writing_leaves_nothing(
        self,
        panned: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        interruption: BaseException,
        raised: type[BaseException],
        message: str,
    ) -> None:
        upright = video_frames.upright
        calls: list[int] = []

        def interrupted(*args: object) -> Picture:
            calls.append(1)
            if len(calls) == 3:
                raise interruption
            return upright(*args)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(video_frames, "upright", interrupted)
            with pytest.raises(raised, match=message):
                chosen_frames(panned, tmp_path / "cache")
        assert photos_in(tmp_path / "cache") == []
        assert len(photos_in(chosen_frames(panned, tmp_path / "cache"))) > 3

    def test_a_place_where_nothing_can_be_written(self, panned: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="Not a directory.*--cache-dir"):
            chosen_frames(panned, tmp_path / "file" / "cache")


def error_of(video: Path) -> str:
    cache = video.parent / "cache"
    with pytest.raises(InputError) as caught:
        chosen_frames(video, cache)
    assert not cache.exists() or photos_in(cache) == []
    assert "\n" not in str(caught.value) and str(video) in str(caught.value)
    return str(caught.value)


class TestBadInput:
    def test_without_pyav_only_videos_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.mp4").touch()
        monkeypatch.delitem(sys.modules, "img3d_dataparsers.videos.video_frames")
        monkeypatch.setitem(sys.modules, "av", None)  # importing it fails
        with pytest.raises(InputError, match=r"a\.mp4 is a video, and the package av \(PyAV\) that decodes it"):
            photo_folder(tmp_path, None)
        Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg")
        assert photo_folder(tmp_path, None) == tmp_path

    def test_a_video_beside_photos_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "walk.mp4").touch()
        Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg")
        assert photo_folder(tmp_path, None) == tmp_path
        assert "1 video beside the photos (walk.mp4) left out" in " ".join(capsys.readouterr().out.split())

    @pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 40])
    def test_not_a_video(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a b é.mp4").write_bytes(content)
        assert "cannot be read as a video: Invalid data" in error_of(tmp_path / "a b é.mp4")

    def test_missing(self, tmp_path: Path) -> None:
        assert "cannot be read: No such file" in error_of(tmp_path / "a.mp4")

    def test_sound_only(self, tmp_path: Path) -> None:
        with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(bytes(16000))
        (tmp_path / "a.wav").rename(tmp_path / "a.avi")
        assert "only sound" in error_of(tmp_path / "a.avi")

    def test_mp4_cut_off_before_its_index(self, panned: Path, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_bytes(panned.read_bytes()[:-3000])
        assert "copy it again: it may be cut off" in error_of(tmp_path / "a.mp4")

    def test_cut_off_video_is_used_as_far_as_it_goes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_video(tmp_path / "a.mkv", [view(1.0 * i) for i in range(120)])
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        photos = photos_in(chosen_frames(path, tmp_path / "cache"))
        assert 5 <= len(photos) <= 12
        assert "is cut off: only 2 s of its 4 s can be read" in capsys.readouterr().out

    def test_damage_in_the_middle_costs_only_the_frames_there(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pictures = [view(1.0 * i) for i in range(120)]
        path = write_video(tmp_path / "a.avi", pictures)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 20_000] = bytes(20_000)
        path.write_bytes(content)
        photos = photos_in(chosen_frames(path, tmp_path / "cache"))
        origins = [origin(photo, pictures) for photo in photos]
        assert min(origins) < 20 and max(origins) > 100
        assert "damaged" in capsys.readouterr().out
        again = photos_in(chosen_frames(path, tmp_path / "again"))
        assert [photo.read_bytes() for photo in again] == [photo.read_bytes() for photo in photos]

    def test_camera_that_stood_still(self, tmp_path: Path) -> None:
        message = error_of(write_video(tmp_path / "a.mp4", [view(100)] * 30))
        assert "has 1 different view in 30 frames, but 3 are needed: the camera stood still" in message

    def test_too_short(self, tmp_path: Path) -> None:
        assert "only 2 frames" in error_of(write_video(tmp_path / "a.mp4", PANNED[:2]))
