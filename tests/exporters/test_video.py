# SPDX-License-Identifier: Apache-2.0
"""`img3d-export video`: the file is what players take, shows what was rendered, and is there whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from export_commands import failing_export, run_export
from full_disk import files_limited_to
from nerfstudio.cameras.cameras import Cameras
from PIL import Image

from img3d_base.errors import InputError
from img3d_exporters import load_run
from img3d_exporters.video_files import Picture, write_video
from img3d_methods.representation import representation_of

RED, GREEN, BLUE = (200, 40, 30), (20, 160, 60), (30, 60, 190)


def plain(color: tuple[int, int, int], height: int = 48, width: int = 64) -> Picture:
    return np.full((height, width, 3), color, np.uint8)


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in file.decode(video=0)]


class Globe:
    """Stands for a model: what it renders says where the camera is."""

    device = "cpu"

    def get_outputs_for_camera(self, camera: Cameras) -> dict[str, torch.Tensor]:
        x, y, z = camera.camera_to_worlds[0, :, 3]
        azimuth = math.atan2(y, x) % (2 * math.pi)
        value = torch.tensor([azimuth / (2 * math.pi), 0.5, 0.25 + 0.1 * float(z)])
        return {"rgb": value.expand(int(camera.height), int(camera.width), 3)}


@pytest.fixture
def globe(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config.yml that stands for a run of a `Globe`, with photos of 90 x 60 pixels all around."""
    azimuths = torch.arange(12) * 2 * math.pi / 12
    zeros = torch.zeros(12)
    back = torch.stack([azimuths.cos(), azimuths.sin(), zeros], dim=1)
    right = torch.stack([-azimuths.sin(), azimuths.cos(), zeros], dim=1)
    up = torch.tensor([0.0, 0.0, 1.0]).expand(12, 3)
    poses = torch.stack([right, up, back, 2 * back], dim=2)
    cameras = Cameras(poses, fx=80.0, fy=80.0, cx=45.0, cy=30.0, width=90, height=60)
    model: Any = Globe()
    run = SimpleNamespace(model=model, representation=representation_of(model), cameras=cameras)
    monkeypatch.setattr(load_run, "load_run", lambda path: run)
    return Path("config.yml")


class TestMp4:
    def test_it_is_what_every_player_takes(self, tmp_path: Path) -> None:
        write_video([plain(RED), plain(GREEN), plain(BLUE)], 3, tmp_path / "new" / "a.mp4", 30)
        with av.open(str(tmp_path / "new" / "a.mp4")) as file:
            (stream,) = file.streams
            assert isinstance(stream, av.VideoStream)
            assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
            assert stream.average_rate == 30 and stream.frames == 3
            assert (stream.width, stream.height) == (64, 48)
        contents = (tmp_path / "new" / "a.mp4").read_bytes()
        assert contents.index(b"moov") < contents.index(b"mdat"), "plays before it is all there"

    def test_colours_are_those_of_the_pictures(self, tmp_path: Path) -> None:
        write_video([plain(RED), plain(GREEN), plain(BLUE)], 3, tmp_path / "a.mp4", 10)
        with av.open(str(tmp_path / "a.mp4")) as file:
            codec = file.streams.video[0].codec_context
            assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)
            frames = [frame.reformat(src_colorspace="ITU709", format="rgb24") for frame in file.decode(video=0)]
        # Half a level of Y' and of a colour difference, as written and as coded, is 1.6 levels each; and half a level.
        for frame, color in zip(frames, (RED, GREEN, BLUE), strict=True):
            assert np.abs(frame.to_ndarray().astype(int) - color).max() <= 4


class TestGif:
    def test_it_repeats_and_keeps_time(self, tmp_path: Path) -> None:
        moving = [np.roll(plain(RED) * np.linspace(0, 1, 64)[None, :, None], 5 * i, axis=1) for i in range(15)]
        write_video([picture.astype(np.uint8) for picture in moving], 15, tmp_path / "a.gif", 15)
        image = Image.open(tmp_path / "a.gif")
        assert image.info["loop"] == 0 and image.n_frames == 15
        durations = []
        for i, picture in enumerate(moving):
            image.seek(i)
            durations.append(image.info["duration"])
            assert np.abs(np.asarray(image.convert("RGB")).astype(float) - picture).mean() < 4
        assert sum(durations) == 1000

    def test_sides_may_be_odd(self, tmp_path: Path) -> None:
        write_video([plain(RED, 47, 63), plain(BLUE, 47, 63)], 2, tmp_path / "a.gif", 10)
        assert Image.open(tmp_path / "a.gif").size == (63, 47)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_what_breaks_off_leaves_nothing(tmp_path: Path, name: str) -> None:
    def broken() -> Iterator[Picture]:
        yield plain(RED)
        yield plain(GREEN)
        raise KeyboardInterrupt

    (tmp_path / name).write_bytes(b"an older one")
    with pytest.raises(KeyboardInterrupt):
        write_video(broken(), 3, tmp_path / name, 10)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"an older one"


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_full_disk_is_one_line(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), np.uint8)
    with files_limited_to(20_000), pytest.raises(InputError, match=f"{name} cannot be written"):
        write_video(noise, len(noise), tmp_path / name, 10)
    assert list(tmp_path.iterdir()) == []


class TestCommand:
    def test_a_turn(
        self, globe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = run_export(
            *("video", "--output", tmp_path / "a.mp4", "--load-config", globe, "--seconds", "0.8", "--fps", "10"),
            monkeypatch=monkeypatch,
            capsys=capsys,
        )
        assert "8 pictures of 90 x 60 pixels, 0.8 s" in said and "a.mp4" in said
        frames = frames_of(tmp_path / "a.mp4")
        azimuths = [frame[..., 0].mean() / 255 for frame in frames]
        assert np.allclose(azimuths, np.arange(8) / 8, atol=0.04)

    @pytest.mark.parametrize("path", ["spiral", "cameras"])
    def test_other_paths_and_sizes(
        self,
        globe: Path,
        path: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        options: tuple[Any, ...] = ("--path", path, "--resolution", 101, 51, "--seconds", 1, "--fps", 5)
        for ending, size in (("mp4", (100, 50)), ("gif", (101, 51))):
            output = tmp_path / f"a.{ending}"
            run_export(
                *("video", "--output", output, "--load-config", globe, *options), monkeypatch=monkeypatch, capsys=capsys
            )
            assert frames_of(output)[0].shape[:2] == size[::-1]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("--output", "a.avi"), "has to end in one of .mp4, .gif"),
            (("--output", "a.mp4", "--seconds", "0"), "--seconds is 0.0"),
            (("--output", "a.mp4", "--seconds", "nan"), "--seconds is nan"),
            (("--output", "a.mp4", "--fps", "0"), "--fps is 0"),
            (("--output", "a.gif", "--fps", "60"), "at most 50"),
            (("--output", "a.mp4", "--resolution", "0", "100"), "--resolution is 0 100"),
            (("--output", "a.mp4", "--resolution", "8000", "100"), "16 to 4096"),
            (("--output", "there.mp4"), "already exists"),
            (("--output", "a.mp4"), "no run at"),
        ],
    )
    def test_bad_input_is_one_line(
        self,
        options: tuple[str, ...],
        reason: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("there.mp4").touch()
        line = failing_export(
            "video", *options, "--load-config", "none/config.yml", monkeypatch=monkeypatch, capsys=capsys
        )
        assert reason in line
        assert [path.name for path in tmp_path.iterdir()] == ["there.mp4"]
