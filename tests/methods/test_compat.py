# SPDX-License-Identifier: Apache-2.0
"""Each workaround does what it is for, and nothing where it is not needed."""

from __future__ import annotations

import inspect
import os
import shlex
import shutil
import socket
import stat
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.configs.base_config import ViewerConfig

from img3d_methods import compat
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.splat.trainer import Img3dSplatTrainerConfig


def command_line(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", list(arguments))


def test_interpolating_from_one_photo_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nerfstudio.scripts.render", SimpleNamespace())
    one, two = (SimpleNamespace(eval_dataset=range(count)) for count in (1, 2))
    command_line(monkeypatch, "ns-render", "interpolate", "--load-config", "config.yml")
    compat.check_poses_to_interpolate(two)
    with pytest.raises(SystemExit):
        compat.check_poses_to_interpolate(one)
    assert "add --pose-source train" in capsys.readouterr().out
    for arguments in (("interpolate", "--pose-source", "train"), ("dataset",)):
        command_line(monkeypatch, "ns-render", *arguments)
        compat.check_poses_to_interpolate(one)


class TestFfmpeg:
    @pytest.fixture
    def no_ffmpeg(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "bin").mkdir()
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path

    def test_ns_render_finds_the_packages_binary(self, no_ffmpeg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("imageio_ffmpeg")
        command_line(monkeypatch, "/somewhere/ns-render", "dataset")
        for _ in range(2):  # the second time the link is there
            compat.provide_ffmpeg()
            found = shutil.which("ffmpeg")
            assert found is not None and os.access(found, os.X_OK)
            monkeypatch.setenv("PATH", str(no_ffmpeg / "bin"))

    def test_a_link_whose_target_has_gone_is_renewed(self, no_ffmpeg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("imageio_ffmpeg")
        command_line(monkeypatch, "ns-render")
        compat.provide_ffmpeg()
        (link,) = no_ffmpeg.glob("cache/img3d/ffmpeg/ffmpeg*")
        binary = link.resolve()
        other = no_ffmpeg / "other"
        other.touch()
        for target in (no_ffmpeg / "gone", other):
            link.unlink()
            link.symlink_to(target)
            monkeypatch.setenv("PATH", str(no_ffmpeg / "bin"))
            compat.provide_ffmpeg()
            found = shutil.which("ffmpeg")
            assert found is not None and Path(found).resolve() == binary

    @pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes are those of POSIX")
    @pytest.mark.parametrize("kind", ["writable by others", "somebody else's", "a link elsewhere", "a file"])
    def test_a_folder_that_others_can_write_to_is_not_put_on_path(
        self, no_ffmpeg: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
    ) -> None:
        pytest.importorskip("imageio_ffmpeg")
        folder = no_ffmpeg / "cache" / "img3d" / "ffmpeg"
        folder.mkdir(parents=True)
        if kind == "writable by others":
            folder.chmod(0o777)
        elif kind == "somebody else's":
            monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
        else:
            folder.rmdir()
            folder.touch() if kind == "a file" else folder.symlink_to(no_ffmpeg)
        command_line(monkeypatch, "ns-render")
        before = os.environ["PATH"]
        compat.provide_ffmpeg()
        assert os.environ["PATH"] == before
        line = " ".join(capsys.readouterr().out.split())
        assert line.startswith("Warning: The ffmpeg of the package imageio-ffmpeg cannot be used: ")
        assert "cache/img3d/ffmpeg" in line

    def test_other_commands_and_other_ffmpegs_are_left_alone(
        self, no_ffmpeg: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = os.environ["PATH"]
        command_line(monkeypatch, "ns-train")
        compat.provide_ffmpeg()
        own = no_ffmpeg / "bin" / "ffmpeg"
        own.write_text("#!/bin/sh\n")
        own.chmod(own.stat().st_mode | stat.S_IXUSR)
        command_line(monkeypatch, "ns-render")
        compat.provide_ffmpeg()
        assert os.environ["PATH"] == before


class TestViewer:
    def test_the_network_is_shut_out_unless_asked_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        command_line(monkeypatch, "ns-viewer", "--load-config", "config.yml")
        config = Img3dSplatTrainerConfig()
        assert config.viewer.websocket_host == "127.0.0.1"
        config.viewer = ViewerConfig()  # what ns-viewer does
        assert config.viewer.websocket_host == "127.0.0.1"

    @pytest.mark.parametrize("asked", [["--viewer.websocket-host", "0.0.0.0"], ["--viewer.websocket_host=0.0.0.0"]])
    def test_the_users_choice_of_host_is_kept(self, monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
        command_line(monkeypatch, "ns-viewer", *asked)
        config = Img3dSplatTrainerConfig()
        config.viewer = ViewerConfig(websocket_host="0.0.0.0")
        assert config.viewer.websocket_host == "0.0.0.0"

    def test_a_port_in_use_is_reported_and_a_free_one_is_not(self) -> None:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            viewer = ViewerConfig(websocket_host="127.0.0.1", websocket_port=server.getsockname()[1])
            message = compat.taken_port_message(viewer)
            assert message is not None and str(viewer.websocket_port) in message and "\n" not in message
        assert compat.taken_port_message(viewer) is None
        assert compat.taken_port_message(ViewerConfig()) is None


@pytest.mark.parametrize(("mode", "sent"), [("off", False), ("SO3xR3", True)])
def test_poses_are_sent_where_they_are_optimised(mode: Any, sent: bool) -> None:
    updates: list[str] = []
    viewer: Any = SimpleNamespace(update_camera_poses=lambda: updates.append("all poses"))
    optimizer = CameraOptimizerConfig(mode=mode).setup(num_cameras=2, device="cpu")
    compat.leave_fixed_poses_alone(viewer, optimizer)
    viewer.update_camera_poses()
    assert bool(updates) == sent


def test_methods_that_are_not_installed_are_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from nerfstudio.configs import external_methods

    assert "inspect.stack()[2].function" in inspect.getsource(external_methods), "the workaround can go"
    monkeypatch.setattr(external_methods, "inspect", None)
    compat.name_callers_only()
    configs, _ = external_methods.get_external_methods()
    assert len(configs) > 20
    monkeypatch.setattr(external_methods.Confirm, "ask", lambda *_, **__: False)
    with pytest.raises(SystemExit):  # created by the command line, one offers to install it
        replace(configs["lerf"])


def test_marching_cubes_is_told_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        hasattr(Img3dSplatModelConfig(), "sdf_field")
    assert caught.value.code == 1
    assert "ns-export tsdf" in capsys.readouterr().out


def test_failing_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compat.fail("no such folder [bold]/a/b " + "c" * 300)
    assert capsys.readouterr().out == "Error: no such folder [bold]/a/b " + "c" * 300 + "\n"


class TestCameraPaths:
    def test_ns_viewer_keeps_them_with_the_run_that_it_shows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        command_line(monkeypatch, "/bin/ns-viewer", "--load-config", "run/config.yml")
        assert compat.folder_of_camera_paths() == tmp_path / "run"

    @pytest.mark.parametrize("arguments", [("ns-train", "--load-config", "run/config.yml"), ("python",)])
    def test_other_commands_have_their_own_place(
        self, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command_line(monkeypatch, *arguments)
        assert compat.folder_of_camera_paths() is None


def test_the_command_that_the_viewer_shows_can_be_pasted_into_a_shell() -> None:
    shown: list[str] = []
    page = SimpleNamespace(gui=SimpleNamespace(add_markdown=shown.append))
    compat.quote_render_command(page)
    page.gui.add_markdown("Press a key.")
    page.gui.add_markdown(
        "Run:\n\n```\nns-render camera-path --load-config /my toys/run/config.yml "
        "--camera-path-filename /my toys/run/camera_paths/a turn.json --output-path renders/run/a turn.mp4\n```"
    )
    assert shown[0] == "Press a key."
    assert shlex.split(shown[1].split("\n")[3]) == [
        *("ns-render", "camera-path", "--load-config", "/my toys/run/config.yml"),
        *("--camera-path-filename", "/my toys/run/camera_paths/a turn.json"),
        *("--output-path", "renders/run/a turn.mp4"),
    ]


class TestMeshes:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        (tmp_path / "config.yml").write_text("a: 1\nmethod_name: img3d-splat\n")
        return tmp_path / "config.yml"

    def asked(self, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[str]:
        """What is left of a command line."""
        command_line(monkeypatch, *map(str, arguments))
        compat.colors_for_texture()
        return sys.argv[len(arguments) :]

    @pytest.mark.parametrize(("command", "method"), [("tsdf", "tsdf"), ("poisson", "point_cloud")])
    def test_vertices_are_coloured(
        self,
        run: Path,
        command: str,
        method: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        added = self.asked(monkeypatch, "/bin/ns-export", command, "--load-config", run)
        assert added == ["--texture-method", method]
        (line,) = capsys.readouterr().out.splitlines()
        assert f"--texture-method {method}" in line

    def test_what_is_asked_for_and_others_runs_and_commands_are_left_alone(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "other.yml").write_text("a: 1\nmethod_name: nerfacto\n")
        ours, theirs = ("--load-config", run), ("--load-config", tmp_path / "other.yml")
        assert not self.asked(monkeypatch, "ns-export", "tsdf", *ours, "--texture_method=nerf")
        assert not self.asked(monkeypatch, "ns-export", "tsdf", *theirs)
        assert not self.asked(monkeypatch, "ns-export", "tsdf", "--load-config", tmp_path / "none.yml")
        assert not self.asked(monkeypatch, "ns-export", "pointcloud", *ours)
        assert not self.asked(monkeypatch, "ns-export")
        assert not self.asked(monkeypatch, "ns-render", "tsdf", *ours)
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        assert not self.asked(monkeypatch, "ns-export", "tsdf", *ours)

    def test_depth_is_fused_in_the_scenes_box_unless_another_is_given(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "other.yml").write_text("a: 1\nmethod_name: nerfacto\n")

        def added(*arguments: object) -> list[str]:
            command_line(monkeypatch, "/bin/ns-export", *map(str, arguments))
            compat.scene_box_for_volume()
            return sys.argv[len(arguments) + 1 :]

        assert added("tsdf", "--load-config", run) == ["--use-bounding-box", "False"]
        assert not added("tsdf", "--load-config", run, "--bounding-box-min", -1, -1, -1)
        assert not added("tsdf", "--load-config", run, "--use_bounding_box=True")
        assert not added("tsdf", "--load-config", tmp_path / "other.yml")
        assert not added("poisson", "--load-config", run)
        assert not added("tsdf")
