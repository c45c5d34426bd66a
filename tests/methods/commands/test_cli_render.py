# SPDX-License-Identifier: Apache-2.0
"""`ns-render` and `ns-viewer`, as typed, on a trained splat run."""

from __future__ import annotations

import io
import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import viser.transforms
from command_lines import COMMANDS, CommandLine, TrainedRun, free_port
from hang_limit import HANG_SECONDS
from PIL import Image

from img3d_dataparsers.photos import Img3dPhotosDataParserConfig

pytestmark = pytest.mark.slow


def psnr(a: Path, b: Path) -> float:
    images = [np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) / 255 for path in (a, b)]
    return float(-10 * np.log10(np.mean((images[0] - images[1]) ** 2)))


def test_the_dataset_is_rendered(trained_run: TrainedRun, tmp_path: Path) -> None:
    trained_run.cli.succeed(
        *("ns-render", "dataset", "--load-config", trained_run.config, "--output-path", tmp_path),
        *("--rendered-output-names", "rgb", "gt-rgb", "depth", "--image-format", "png", "--split", "train+test"),
    )
    renders = sorted((tmp_path / "train" / "rgb").iterdir())
    assert len(renders) == 14
    assert len(list((tmp_path / "test" / "depth").iterdir())) == 2
    values = [psnr(path, tmp_path / "train" / "gt-rgb" / path.name) for path in renders]
    assert np.mean(values) > 22


def camera_path(run: TrainedRun) -> dict[str, object]:
    """Two frames of the viewer's format: a training camera, and it moved."""
    transform = json.loads((run.folder / "dataparser_transforms.json").read_text())
    matrix, scale = np.array(transform["transform"]), transform["scale"]
    frame = json.loads((run.data / "transforms.json").read_text())["frames"][1]
    pose = np.concatenate([matrix, [[0, 0, 0, 1]]]) @ np.array(frame["transform_matrix"])
    pose[:3, 3] *= scale
    moved = pose.copy()
    moved[2, 3] += 0.1
    fov = float(np.rad2deg(2 * np.arctan(24 / 60)))
    frames = [{"camera_to_world": p.flatten().tolist(), "fov": fov, "aspect": 64 / 48} for p in (pose, moved)]
    return {"camera_type": "perspective", "render_height": 48, "render_width": 64, "seconds": 1, "camera_path": frames}


def test_a_camera_path_is_rendered_without_the_systems_ffmpeg(trained_run: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "path.json").write_text(json.dumps(camera_path(trained_run)))
    cli = CommandLine(tmp_path)
    without_ffmpeg = [
        folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "ffmpeg").exists()
    ]
    cli.env["PATH"] = os.pathsep.join([str(COMMANDS), *without_ffmpeg])
    cli.succeed(
        *("ns-render", "camera-path", "--load-config", trained_run.config, "--output-path", tmp_path / "out.mp4"),
        *("--camera-path-filename", tmp_path / "path.json", "--output-format", "images", "--image-format", "png"),
    )
    frames = sorted((tmp_path / "out").iterdir())
    assert len(frames) == 2
    assert psnr(frames[0], trained_run.data / "images" / "001.png") > 20
    assert psnr(frames[0], frames[1]) < 30


@pytest.mark.long
def test_a_spiral_goes_around_what_the_photos_look_at(trained_run: TrainedRun, tmp_path: Path) -> None:
    trained_run.cli.succeed(
        *("ns-render", "spiral", "--load-config", trained_run.config, "--output-path", tmp_path / "out.mp4"),
        *("--seconds", 1, "--frame-rate", 8, "--output-format", "images", "--image-format", "png"),
    )
    frames = sorted((tmp_path / "out").iterdir())
    assert len(frames) == 8
    photos = sorted((trained_run.data / "images").iterdir())
    for i, frame in enumerate(frames):  # the ring has 16 photos; 000 is held out
        nearest = max(range(len(photos)), key=lambda k: psnr(frame, photos[k]))
        assert nearest == (2 * i + 1) % 16


def listening_on(port: int) -> set[str]:
    """Addresses that something listens on at this port."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        address, state = line.split()[1], line.split()[3]
        host, number = address.split(":")
        if int(number, 16) == port and state == "0A":
            found.add(".".join(str(byte) for byte in bytes.fromhex(host)[::-1]))
    return found


def first_view(client: Any, run: TrainedRun) -> np.ndarray:
    """Look from a training camera, as the page in a browser does; the picture that comes back."""
    cameras = Img3dPhotosDataParserConfig(data=run.data).setup().get_dataparser_outputs("train").cameras
    pose = cameras.camera_to_worlds[0].double().numpy() * [1, -1, -1, 1]  # viser's cameras are OpenCV's
    position = 10 * pose[:, 3]  # VISER_NERFSTUDIO_SCALE_RATIO
    message = {
        "type": "ViewerCameraMessage",
        "wxyz": viser.transforms.SO3.from_matrix(pose[:, :3]).wxyz.tolist(),
        "position": position.tolist(),
        "fov": float(2 * np.arctan(24 / 60)),
        "aspect": 64 / 48,
        "look_at": (position + pose[:, 2]).tolist(),
        "up_direction": [0.0, 0.0, 1.0],
    }
    client.send(msgspec.msgpack.encode(message))
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        received = msgspec.msgpack.decode(client.recv(timeout=HANG_SECONDS))
        for part in received if isinstance(received, list) else [received]:
            if part["type"] == "BackgroundImageMessage":
                return np.asarray(Image.open(io.BytesIO(part["rgb_bytes"])))
    raise AssertionError("no picture came")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads the sockets from Linux's /proc")
def test_ns_viewer_serves_this_machine_only(trained_run: TrainedRun, tmp_path: Path) -> None:
    from websockets.sync.client import connect

    cli, port = CommandLine(tmp_path), free_port()
    running = cli.start("ns-viewer", "--load-config", trained_run.config, "--viewer.websocket-port", port)
    try:
        running.wait_for(rf"http://127\.0\.0\.1:{port}|:{port}\b")
        deadline = time.monotonic() + HANG_SECONDS
        while not listening_on(port):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert listening_on(port) == {"127.0.0.1"}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=HANG_SECONDS) as page:
            assert page.status == 200 and b"<html" in page.read().lower()
        with connect(f"ws://127.0.0.1:{port}", max_size=None, open_timeout=HANG_SECONDS) as client:
            image = first_view(client, trained_run)
        Image.fromarray(image).resize((64, 48)).save(tmp_path / "view.png")
        assert psnr(tmp_path / "view.png", trained_run.data / "images" / "001.png") > 17  # 000 is held out
        assert running.process.poll() is None

        second = cli.run("ns-viewer", "--load-config", trained_run.config, "--viewer.websocket-port", port)
        assert second.code == 1 and "Traceback" not in second.output
        assert f"cannot use port {port}" in second.last_line
    finally:
        running.stop()
    assert listening_on(port) == set()
    assert not cli.network_log.exists()
