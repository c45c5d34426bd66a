# SPDX-License-Identifier: Apache-2.0
"""The commands that a job runs, in order. All are img3d's or Nerfstudio's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from img3d_base.errors import InputError
from img3d_studio.choices import Choice, Makes, choice_named
from img3d_studio.edits import Bounds, Edit, bounds_of
from img3d_studio.store import Job, Run
from img3d_studio.uploads import input_of, stored_files

SCENE, ORIGINAL, EDITED = "scene.ply", "original.ply", "edited.ply"


@dataclass(frozen=True)
class Command:
    """A command line."""

    title: str
    """What it does, for the user."""
    arguments: Callable[[], tuple[str, ...]]
    """Returns the program's name and its arguments; called when the commands before it have ended."""
    live: bool = False
    """Whether it trains, and shows the scene meanwhile at its `--viewer.websocket-port`."""


@dataclass(frozen=True)
class FileOffer:
    """A file that a run can be exported to."""

    name: str
    title: str
    subcommand: str
    """Of `img3d-export`."""
    options: tuple[str, ...] = ()
    needs_run: bool = False
    """Whether it can be made from an unedited run only, and not from a file."""
    of: tuple[Makes, ...] = ("splats", "mesh", "field")
    """The kinds of scenes that can be exported to it."""


OFFERS = (
    FileOffer(SCENE, "Splats, PLY", "splat", of=("splats",)),
    FileOffer("scene.spz", "Splats, SPZ (smallest)", "splat", of=("splats",)),
    FileOffer("scene.sog", "Splats, SOG", "splat", of=("splats",)),
    FileOffer("mesh.glb", "Mesh, GLB", "mesh"),
    FileOffer("print.stl", "Mesh for printing, STL", "mesh", ("--watertight",), of=("splats", "field")),
    FileOffer("page.html", "This view as one page", "viewer", ("--single-file",)),
    FileOffer("turn.mp4", "A turn around it, video", "video", needs_run=True),
    FileOffer("report.html", "A report with figures", "report", needs_run=True),
)


class RunFiles:
    """The paths of a run's files.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input = folder / "input"
        self.page = folder / "page"
        self.files = folder / "files"
        self.log = folder / "log.txt"
        self.outputs = folder / "outputs"

    @property
    def config(self) -> Path | None:
        """The config.yml of the trained run, if there is one."""
        return next(self.outputs.glob("scene/*/run/config.yml"), None)

    @property
    def checkpoints(self) -> Path | None:
        """The folder of the run's checkpoints, if it holds any."""
        folder = next(self.outputs.glob("scene/*/run/nerfstudio_models"), None)
        return folder if folder is not None and any(folder.glob("*.ckpt")) else None

    @property
    def edited(self) -> Path | None:
        """The edited splats, if the scene has been edited."""
        path = self.folder / EDITED
        return path if path.is_file() else None

    def path_of(self, name: str) -> Path:
        """The path of an exported file. A trained run has its splats without an export: the edited ones, or else the
        original ones."""
        if name == SCENE and self.config is not None:
            return self.edited or self.folder / ORIGINAL
        return self.files / "page" / "index.html" if name == "page.html" else self.files / name

    def source(self) -> tuple[str, ...]:
        """The options of `img3d-export` that name the scene: the edited splats, else the run, else the uploaded file.

        Raises:
            InputError: None of them exists.
        """
        if self.edited is not None:
            return "--input", str(self.edited)
        return self.original()

    def original(self) -> tuple[str, ...]:
        """`source` of the scene before it was edited.

        Raises:
            InputError: There is neither a run nor an uploaded file.
        """
        if self.config is not None:
            return "--load-config", str(self.config)
        _, file = input_of(stored_files(self.input))
        if file is None:
            raise InputError("There is no scene yet")
        return "--input", str(file)


def scene_bounds(files: RunFiles) -> Bounds:
    """The bounds of the splats before any edit.

    Raises:
        InputError: They cannot be read, or there are none yet.
    """
    if files.config is not None:
        return bounds_of(files.folder / ORIGINAL, files.folder)
    return bounds_of(Path(files.original()[1]), files.folder)


def offers_for(choice: Choice, files: RunFiles) -> list[FileOffer]:
    """The files that a run can be exported to."""
    has_run = files.config is not None and files.edited is None
    return [offer for offer in OFFERS if choice.makes in offer.of and (has_run or not offer.needs_run)]


def commands_of(job: Job, run: Run, files: RunFiles) -> list[Command]:
    """The commands of a job.

    Raises:
        InputError: This run does not allow the job.
    """
    choice = choice_named(run.choice)
    if job.kind == "make":
        commands = [_page(files)]
        if choice.method:
            commands.insert(0, Command("Making the scene", lambda: _training(choice, run, files), live=True))
            if choice.makes == "splats":
                commands.insert(1, Command("Writing the splats", lambda: _original(files)))
        return commands
    if job.kind == "file":
        offer = next((offer for offer in offers_for(choice, files) if offer.name == job.argument), None)
        if offer is None:
            raise InputError(f"{job.argument} cannot be made from this run")
        return [Command(f"Writing {offer.name}", lambda: _export(offer, files))]
    if choice.makes != "splats":
        raise InputError("Only splats can be cut and cleaned here")
    edit = Edit.read(job.argument)
    if not edit.changes:
        files.folder.joinpath(EDITED).unlink(missing_ok=True)
        return [_page(files)]
    return [Command("Cleaning and cutting", lambda: _edit(edit, files)), _page(files, edit)]


def _training(choice: Choice, run: Run, files: RunFiles) -> tuple[str, ...]:
    kind, file = input_of(stored_files(files.input), run.text)
    data = ("--pipeline.prompt", run.text) if kind == "text" else ("--data", str(file or files.input))
    resumed = () if files.checkpoints is None else ("--load-dir", str(files.checkpoints))
    return (
        *("ns-train", choice.method, *data, "--output-dir", str(files.outputs)),
        *("--experiment-name", "scene", "--timestamp", "run", "--vis", "viewer"),
        *("--viewer.quit-on-train-completion", "True", *choice.options, *resumed),
    )


def _original(files: RunFiles) -> tuple[str, ...]:
    output = files.folder / ORIGINAL
    return ("img3d-export", "splat", *files.original(), "--output", str(output), "--force")


def _page(files: RunFiles, edit: Edit | None = None) -> Command:
    """Makes the page. That of a run begins with a photo's view, which edited splats lack: the edit is therefore applied
    to the run again."""

    def arguments() -> tuple[str, ...]:
        of_run = files.config is not None
        source = files.original() if of_run else files.source()
        options = _edit_options(edit, files) if of_run and edit is not None else ()
        return ("img3d-export", "viewer", *source, "--output-dir", str(files.page), *options)

    return Command("Preparing the view", arguments)


def _export(offer: FileOffer, files: RunFiles) -> tuple[str, ...]:
    if offer.subcommand == "viewer":
        output = ("--output-dir", str(files.path_of(offer.name).parent))
    else:
        output = ("--output", str(files.path_of(offer.name)), "--force")
    return ("img3d-export", offer.subcommand, *files.source(), *output, *offer.options)


def _edit(edit: Edit, files: RunFiles) -> tuple[str, ...]:
    output = files.folder / EDITED
    options = _edit_options(edit, files)
    return ("img3d-export", "splat", *files.original(), "--output", str(output), "--force", *options)


def _edit_options(edit: Edit, files: RunFiles) -> tuple[str, ...]:
    options = ("--clean",) if edit.clean else ()
    if edit.box is not None:
        up = "z" if files.config is not None else scene_bounds(files).up
        for name, corner in zip(("--crop-min", "--crop-max"), edit.box.in_axes(up), strict=True):
            options += (name, *(f"{value:.6f}" for value in corner))
    return options
