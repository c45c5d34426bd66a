# SPDX-License-Identifier: Apache-2.0
"""Workarounds for Nerfstudio 1.1.5, each with its reason and when it can go. Nothing here is imported by upstream code.

Where subclassing was enough, the reason stands at the subclass instead: CUDA-only calls, LPIPS and resuming in
splat_model.py, numpy floats in checkpoints in schedulers.py, Ctrl-C and unsafe saving in splat_trainer.py. Upstream's
warnings are hidden in img3d_dataparsers/upstream_warnings.py, for commands without a method as well.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from nerfstudio.cameras.camera_optimizers import CameraOptimizer
    from nerfstudio.configs.base_config import ViewerConfig
    from nerfstudio.viewer.viewer import Viewer

LOCALHOST = "127.0.0.1"


def provide_ffmpeg() -> None:
    """Let `ns-render` find the ffmpeg of the `imageio-ffmpeg` package where the system has none.

    scripts/render.py exits without an `ffmpeg` on PATH, even to write single images, and checks it before it builds
    anything of ours: hence at import, and only in that command. That package's binary has another name, so a
    directory with a link to it goes to the end of PATH. Can go when the check moves to where ffmpeg is used.
    """
    if Path(sys.argv[0]).stem != "ns-render" or shutil.which("ffmpeg") or find_spec("imageio_ffmpeg") is None:
        return
    import imageio_ffmpeg

    try:
        binary = imageio_ffmpeg.get_ffmpeg_exe()
        folder = Path(tempfile.gettempdir()) / f"img3d-ffmpeg-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        folder.mkdir(mode=0o700, exist_ok=True)
        link = folder / ("ffmpeg.exe" if os.name == "nt" else "ffmpeg")
        if not link.exists():
            link.unlink(missing_ok=True)  # a link whose target has gone
            link.symlink_to(binary)
    except (OSError, RuntimeError):
        return  # ns-render then says that ffmpeg is missing, which is true
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), str(folder)])


def asked_on_command_line(option: str) -> bool:
    """Whether the user gave `--option` to this command, in either of tyro's spellings."""
    spellings = {option, option.replace("-", "_")}
    return any(argument.split("=")[0].lstrip("-") in spellings for argument in sys.argv[1:])


def local_unless_asked(viewer: ViewerConfig) -> None:
    """Bind the viewer to this machine only, unless the user asked for another host.

    `ns-viewer` replaces the run's viewer configuration by its own, whose host is 0.0.0.0: open to the network
    (configs/base_config.py). Can go when upstream's default is localhost.
    """
    if viewer.websocket_host == "0.0.0.0" and not asked_on_command_line("viewer.websocket-host"):
        viewer.websocket_host = LOCALHOST


def taken_port_message(viewer: ViewerConfig) -> str | None:
    """What to tell the user if the viewer's port was chosen and is in use; None if it is free or not chosen.

    viser then serves on the next free port, and Nerfstudio prints the address of the one that was asked for, which is
    somebody else's server (viewer/viewer.py). Can go when either reports it.
    """
    port = viewer.websocket_port
    if port is None:
        return None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((viewer.websocket_host, port))
        except OSError as error:
            return (
                f"The viewer cannot use port {port} on {viewer.websocket_host} ({error.strerror}): choose another with "
                "--viewer.websocket-port, or leave that option out to get a free one."
            )
    return None


def fail(message: str) -> NoReturn:
    """One red line, exit status 1."""
    from nerfstudio.utils.rich_utils import CONSOLE

    CONSOLE.print(f"Error: {message}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(1)


class RenderThreads(dict[int, Any]):
    """The viewer's render threads by page; for a page that has just closed, one that does nothing.

    A camera's move that is still being handled when its page closes looks up a thread that is gone. Nerfstudio does so
    within viser's `atomic()`, and the KeyError leaves viser 0.2.7's lock taken for good: no page gets a message any
    more, and who waits for that lock (training did) stands still. Can go when viewer.py asks whether the page is there.
    """

    def __missing__(self, client_id: int) -> Any:
        return SimpleNamespace(running=False, start=lambda: None, action=lambda _: None)


def leave_fixed_poses_alone(viewer: Viewer, camera_optimizer: CameraOptimizer) -> None:
    """Keep the viewer from sending the poses of all photos to every page each 30 steps where they do not move.

    Its own comment says that this takes 5 % of the training time; it asks only whether there is an optimizer of poses,
    not whether it is off. Can go when viewer.py's `update_camera_poses` does.
    """
    if camera_optimizer.config.mode == "off":
        viewer.update_camera_poses = lambda: None


class NoSignedDistanceField:
    """For a model's configuration: lets `ns-export marching-cubes` refuse in one sentence.

    It asks `hasattr(config, "sdf_field")` and otherwise fails an assertion, with a traceback (scripts/exporter.py).
    Can go when exporters report errors to users.
    """

    @property
    def sdf_field(self) -> NoReturn:
        fail(
            "marching-cubes needs a signed distance field, which this model does not have: "
            "use `ns-export tsdf` or `ns-export poisson` for a mesh."
        )
