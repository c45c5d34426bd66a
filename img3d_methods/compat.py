# SPDX-License-Identifier: Apache-2.0
"""Workarounds for Nerfstudio 1.1.5, each with its reason and the condition for removing it. Upstream code imports
nothing from here.

Where a subclass is enough, the reason is documented there instead: CUDA-only calls in splat/model.py, LPIPS in
training/image_metrics.py, numpy floats in checkpoints in training/schedulers.py, resuming, Ctrl-C and unsafe saving
in training/trainer.py, relative paths in config.yml and 250 printed lines of configuration in
training/run_config.py. Upstream's warnings are hidden in img3d_dataparsers/upstream_warnings.py, which commands
without a method use too.

In Nerfstudio's commands `import torch` imports this module (commands/nerfstudio_commands.py), so nothing here may
import torch at module level.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import stat
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from img3d_base.atomic_files import user_cache
from img3d_base.errors import warn
from img3d_base.wrong_options import line_about, wrong_options_in_one_line
from img3d_dataparsers.upstream_warnings import silence_upstream_warnings
from img3d_methods.commands.nerfstudio_commands import COMMANDS, command_name
from img3d_methods.commands.startup import watch_interrupts

if TYPE_CHECKING:
    from collections.abc import Generator

    from nerfstudio.cameras.camera_optimizers import CameraOptimizer
    from nerfstudio.configs.base_config import ViewerConfig
    from nerfstudio.viewer.control_panel import ControlPanel
    from nerfstudio.viewer.viewer import Viewer
    from viser import GuiTabHandle, ViserServer

LOCALHOST = "127.0.0.1"

_until_exit = contextlib.ExitStack()


# --------------------------------------------------------------------------------------------- what commands print


def prepare_command() -> None:
    """Keeps Nerfstudio's commands from starting with warnings and from ending in tracebacks.

    Called by `import torch`, and again when methods are loaded, in case TORCH_DEVICE_BACKEND_AUTOLOAD=0 disables
    that. Remove when Nerfstudio's modules emit no warnings with current versions of torch and its scripts report
    errors.
    """
    if command_name() in COMMANDS:
        silence_upstream_warnings()
        watch_interrupts()
        _report_in_one_line()
        check_load_config()


def _report_in_one_line() -> None:
    """Ends a command with one line where Nerfstudio would end it with a traceback for a user's mistake.

    Its scripts catch nothing, and a wrong --load-config is a common mistake. Errors that commands/command_errors.py
    does not know keep their traceback, and so do all errors under `python -X dev`. Remove when scripts/*.py report
    errors to users.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        from img3d_methods.commands.command_errors import line_about

        line = None if sys.flags.dev_mode else line_about(error, option_value("load-config"))
        if line is None:
            previous(kind, error, traceback)
        else:
            _print_line(line, "red")

    hook.reports_in_one_line = True  # pyright: ignore[reportFunctionMemberAccess]
    hook.reports_interrupts = True  # pyright: ignore[reportFunctionMemberAccess]
    if not hasattr(previous, "reports_in_one_line"):
        sys.excepthook = hook


def check_load_config() -> None:
    """Ends the program if --load-config names no file, before seconds of imports.

    Later, scripts/*.py would raise an error that does not mention the option. Remove when they report errors.
    """
    from img3d_methods.commands.command_errors import why_no_config

    path = option_value("load-config")
    if path is not None and (reason := why_no_config(Path(path))):
        fail(reason)


def explain_wrong_options() -> None:
    """Makes Nerfstudio's commands report wrong options, and ns-train a mistyped method, in one line instead of 8 to
    115.

    tyro's hook for this is private (img3d_base/wrong_options.py). Remove when tyro suggests subcommands in fewer
    lines.
    """
    if command_name() in COMMANDS:
        _until_exit.enter_context(wrong_options_in_one_line(about_rejected))


def about_rejected(event: Any) -> str | None:
    """The line for one of tyro's events; None if tyro explains it better, such as options of methods that are not
    ours."""
    kind = type(event).__name__
    if command_name() == "ns-train" and kind == "MissingSubcommand":
        return "ns-train needs a method, such as img3d-splat: `ns-train --help` lists all"
    if command_name() != "ns-train" or kind != "UnrecognizedArgs":
        return line_about(event)
    from nerfstudio.configs.dataparser_configs import all_dataparsers
    from nerfstudio.configs.method_configs import all_methods

    from img3d_methods.commands.command_line_mistakes import about_unknown

    own = [name for name in all_methods if name.startswith("img3d-")]
    return about_unknown(event.tokens, sys.argv[1:], all_methods, all_dataparsers, own)


@contextlib.contextmanager
def silent_console() -> Generator[None, None, None]:
    """Hides what Nerfstudio prints meanwhile: "Mixed precision is disabled" and where it saves, long before it looks
    at the data (engine/trainer.py). Remove when that can be switched off."""
    from img3d_base.console import CONSOLE

    quiet, CONSOLE.quiet = CONSOLE.quiet, True
    try:
        yield
    finally:
        CONSOLE.quiet = quiet


# --------------------------------------------------------------------------------------------------------- starting


def name_callers_only() -> None:
    """Lets Nerfstudio's commands start seconds earlier.

    Each of its 26 dummies for methods that are not installed asks `inspect.stack()` who creates it
    (configs/external_methods.py), which looks for the source of every frame among all imported modules. They need
    only the function's name. Remove when they no longer ask for the stack.
    """
    from nerfstudio.configs import external_methods

    def stack() -> list[SimpleNamespace]:
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_filename != external_methods.__file__:
            frame = frame.f_back  # this function itself
        found = []
        while frame is not None:
            found.append(SimpleNamespace(function=frame.f_code.co_name))
            frame = frame.f_back
        return found

    external_methods.inspect = SimpleNamespace(stack=stack)  # pyright: ignore[reportAttributeAccessIssue]


# ----------------------------------------------------------------------------------------------- the command line


def option_value(option: str) -> str | None:
    """The value that the user gave to `--option`, in either of tyro's spellings; None if the option is absent."""
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--") and name[2:].replace("_", "-") == option:
            return value if equals else next(arguments, None)
    return None


def loaded_run() -> Path | None:
    """The folder of the config.yml that this command loads.

    Nerfstudio looks for a run where config.yml says it was made (configs/experiment_config.py), not where config.yml
    is. None for ns-train and without --load-config. Remove when eval_setup looks beside the file.
    """
    path = option_value("load-config")
    if path is None or command_name() == "ns-train":
        return None
    return Path(path).absolute().parent


# -------------------------------------------------------------------------------------------------------- rendering


def provide_ffmpeg() -> None:
    """Lets `ns-render` find the ffmpeg of the `imageio-ffmpeg` package if the system has none.

    scripts/render.py exits without an `ffmpeg` on PATH, even if it only writes images, and checks this before it
    builds anything of ours; hence this runs at import, in that command only. The package's binary has another name,
    so a folder with a link to it is appended to PATH. It has to be a folder of the user's own, because whoever may
    write to it decides what is run. Remove when the check moves to where ffmpeg is used.
    """
    if Path(sys.argv[0]).stem != "ns-render" or shutil.which("ffmpeg") or find_spec("imageio_ffmpeg") is None:
        return
    try:
        import imageio_ffmpeg

        binary = Path(imageio_ffmpeg.get_ffmpeg_exe())
        folder = _private_folder(user_cache() / "ffmpeg")
        link = folder / ("ffmpeg.exe" if os.name == "nt" else "ffmpeg")
        if not link.exists() or not link.samefile(binary):
            link.unlink(missing_ok=True)
            link.symlink_to(binary)
    except (ImportError, OSError, RuntimeError) as error:
        warn(f"The ffmpeg of the package imageio-ffmpeg cannot be used: {error}")
        return  # ns-render then says that ffmpeg is missing
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), str(folder)])


def _private_folder(folder: Path) -> Path:
    """Returns a folder that nobody else can write to, and makes it if necessary.

    Raises:
        OSError: The folder cannot be made, belongs to somebody else, or others may write to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.lstat()
    ours = not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o022)
    if not (ours and stat.S_ISDIR(state.st_mode)):
        raise OSError(f"others may write to {folder}: remove it, or set XDG_CACHE_HOME to a folder of your own")
    return folder


def turn_for_spiral(datamanager: Any) -> None:
    """Makes `ns-render spiral` accept our runs and move around what the photos look at.

    Its `main` asserts one of three classes of data managers, none of them for whole images. Its path is unusable as
    well: a circle around the camera of one photo, rolled by the wrong vector (cameras/camera_paths.py takes the
    camera's backward axis in world coordinates for "up" in camera coordinates). Both are replaced by name in
    scripts/render.py, which only that command imports. Remove when upstream's path is upright and its assertion
    allows FullImageDatamanager.
    """
    render: Any = sys.modules.get("nerfstudio.scripts.render")
    if render is None or sys.argv[1:2] != ["spiral"]:
        return
    from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader

    from img3d_methods.viewing.camera_paths import path_cameras, picture_size

    if option_value("radius") is not None:
        warn("--radius is ignored: the path follows where the photos were taken.")
    photos = datamanager.train_dataset.cameras
    size = picture_size(photos, int(max(photos.width.max(), photos.height.max())))
    render.VanillaDataManager = (render.VanillaDataManager, type(datamanager))
    render.get_spiral_path = lambda camera, steps, radius: path_cameras(photos, "spiral", steps, size)
    datamanager.eval_dataloader = FixedIndicesEvalDataloader(datamanager.train_dataset, device=datamanager.device)


def check_poses_to_interpolate(datamanager: Any) -> None:
    """Ends `ns-render interpolate` with one line if there is only one held-out photo, from which it cannot go anywhere:
    upstream stacks an empty list. Nothing is replaced. Remove when upstream says it."""
    interpolates = "nerfstudio.scripts.render" in sys.modules and sys.argv[1:2] == ["interpolate"]
    if interpolates and option_value("pose-source") in (None, "eval") and len(datamanager.eval_dataset) < 2:
        fail("there is one held-out photo, and interpolate goes from one to the next: add --pose-source train")


# -------------------------------------------------------------------------------------------------------- exporting

COLORS_OF_VERTICES = {"tsdf": "tsdf", "poisson": "point_cloud"}
"""The --texture-method with which each of `ns-export`'s meshes gets vertex colours instead of a rendered texture."""


def colors_for_texture() -> None:
    """Makes `ns-export tsdf` and `poisson` colour vertices, for our runs without a GPU unless another method is
    given.

    By default they render a texture texel by texel, and search all faces for each of four million texels
    (exporter/texture_utils.py). On a CPU an export of seconds then takes many minutes, and a model can do nothing
    about it. The default is a field of classes in scripts/exporter.py that are created after plugins are loaded, so
    only the command line can be changed before it is parsed. Remove when the search goes over the faces.
    """
    import torch

    command = sys.argv[1] if command_name() == "ns-export" and len(sys.argv) > 1 else None
    if command not in COLORS_OF_VERTICES or option_value("texture-method") is not None or torch.cuda.is_available():
        return
    config = option_value("load-config")
    if config is None or not _is_ours(Path(config)):
        return
    method = COLORS_OF_VERTICES[command]
    sys.argv += ["--texture-method", method]
    _print_line(
        f"The mesh gets colours at its vertices (--texture-method {method}): a texture (nerf) takes many minutes "
        "without a GPU. `img3d-export mesh` makes a texture faster.",
        "yellow",
    )


def scene_box_for_volume() -> None:
    """Makes `ns-export tsdf` of our runs fuse depth in the run's own box, unless a box is given.

    By default it fuses the cube from -1 to 1, whatever the scene (scripts/exporter.py). Voxels that no camera looks
    into count as solid (exporter/tsdf_utils.py), so that an object gets walls far around it; and larger scenes are
    cut. Remove when the default is the scene's box.
    """
    if command_name() != "ns-export" or sys.argv[1:2] != ["tsdf"]:
        return
    if any(option_value(name) is not None for name in ("use-bounding-box", "bounding-box-min", "bounding-box-max")):
        return
    config = option_value("load-config")
    if config is not None and _is_ours(Path(config)):
        sys.argv += ["--use-bounding-box", "False"]


def _is_ours(config: Path) -> bool:
    """Whether one of our methods wrote this config.yml. The file is read as text, not loaded."""
    try:
        return "\nmethod_name: img3d-" in config.read_text("utf8")
    except (OSError, UnicodeDecodeError):
        return False  # reported when it is loaded


# -------------------------------------------------------------------------------------------------------- the viewer


def local_unless_asked(viewer: ViewerConfig) -> None:
    """Binds the viewer to this machine only, unless the user asked for another host.

    `ns-viewer` replaces the run's viewer configuration by its own, whose host is 0.0.0.0: open to the network
    (configs/base_config.py). Remove when upstream's default is localhost.
    """
    if viewer.websocket_host == "0.0.0.0" and option_value("viewer.websocket-host") is None:
        viewer.websocket_host = LOCALHOST


def taken_port_message(viewer: ViewerConfig) -> str | None:
    """An error message if the user chose a port for the viewer that is in use; otherwise None.

    viser would use the next free port, while Nerfstudio prints the address with the chosen one, which belongs to
    another server (viewer/viewer.py). Remove when either of them reports it.
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
    """Prints one red line and exits with status 1."""
    _print_line(f"Error: {message}", "red")
    raise SystemExit(1)


def _print_line(line: str, color: str) -> None:
    from img3d_base.console import print_line

    print_line(line, f"bold {color}")


def offer_no_depth_buffer(control: ControlPanel) -> None:
    """Removes the depth buffer that the page uses for occlusion from the menus of outputs.

    For splats its size differs from that of the pictures, yet "Split Screen" shows it first: concatenating the two
    ends the page's render thread. Remove when render_state_machine.py keeps it out of its outputs.
    """
    update = control.update_output_options
    control.update_output_options = lambda new_options: update(
        [option for option in new_options if option != "gl_z_buf_depth"]
    )


def folder_of_camera_paths() -> Path | None:
    """For `ns-viewer`, the folder of the run that it shows; None in other commands.

    ns-viewer lets its viewer save camera paths in the data's folder, which may be somebody else's or read-only
    (scripts/viewer/run_viewer.py); ns-train uses the run's folder. Remove when both use the run's.
    """
    path = option_value("load-config")
    return None if path is None or command_name() != "ns-viewer" else Path(path).absolute().parent


RENDER_COMMAND = re.compile(
    "^(ns-render camera-path --load-config )(.*)( --camera-path-filename )(.*)( --output-path )(.*)$", re.MULTILINE
)


def quote_render_command(client: Any) -> None:
    """Makes the command that "Generate Command" shows one page work in a shell if a path in it has a space.

    Nerfstudio writes paths and the name of the render as they are (viewer/render_panel.py). Remove when it quotes
    them.
    """
    add_markdown = client.gui.add_markdown

    def add_quoted(content: str, *args: Any, **kwargs: Any) -> Any:
        return add_markdown(RENDER_COMMAND.sub(_quoted_paths, content), *args, **kwargs)

    client.gui.add_markdown = add_quoted


def _quoted_paths(command: re.Match[str]) -> str:
    return "".join(part if i % 2 == 0 else shlex.quote(part) for i, part in enumerate(command.groups()))


def tab_of_page(server: ViserServer, label: str) -> GuiTabHandle:
    """Finds a tab of a viser page by its label.

    Nerfstudio's viewer keeps no handles of its tabs, and viser lists them only in a private table (renamed in 1.0).
    Remove when viewer.py keeps them.

    Raises:
        LookupError: There is no tab of that label.
    """
    import viser

    gui: Any = server.gui
    containers = gui._container_handle_from_uuid if hasattr(gui, "_container_handle_from_uuid") else None
    for tab in list((containers or gui._container_handle_from_id).values()):
        if isinstance(tab, viser.GuiTabHandle):
            group: Any = tab._parent
            labels, tabs = (
                (group._labels, group._tabs) if hasattr(group, "_tabs") else (group._tab_labels, group._tab_handles)
            )
            if labels[tabs.index(tab)] == label:
                return tab
    raise LookupError(label)


class RenderThreads(dict[int, Any]):
    """The viewer's render threads by page; for a page that has just closed, a thread that does nothing.

    If a page closes while a move of its camera is being handled, Nerfstudio looks up a thread that is gone. It does
    so within viser's `atomic()`, and the KeyError leaves viser 0.2.7's lock acquired forever: no page gets any more
    messages, and everything that waits for the lock hangs (training did). Remove when viewer.py checks whether the
    page is still open.
    """

    def __missing__(self, client_id: int) -> Any:
        return SimpleNamespace(running=False, start=lambda: None, action=lambda _: None)


def leave_fixed_poses_alone(viewer: Viewer, camera_optimizer: CameraOptimizer) -> None:
    """Keeps the viewer from sending the poses of all photos to every page each 30 steps if they are fixed.

    According to its own comment this takes 5 % of the training time, and it checks only whether there is a pose
    optimizer, not whether it is off. Remove when viewer.py's `update_camera_poses` checks that.
    """
    if camera_optimizer.config.mode == "off":
        viewer.update_camera_poses = lambda: None


class NoSignedDistanceField:
    """Mixin of model configurations that lets `ns-export marching-cubes` refuse in one sentence.

    The command asks `hasattr(config, "sdf_field")` and otherwise fails an assertion with a traceback
    (scripts/exporter.py). Remove when exporters report errors to users.
    """

    @property
    def sdf_field(self) -> NoReturn:
        fail(
            "marching-cubes needs a signed distance field, which this model does not have: "
            "use `ns-export tsdf` or `ns-export poisson` for a mesh."
        )
