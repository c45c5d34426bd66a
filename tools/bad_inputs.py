# SPDX-License-Identifier: Apache-2.0
"""What img3d says to bad input: makes it, runs the commands on it, and writes docs/bad-input.md.

    python tools/bad_inputs.py            # shows where commands say something else than the page
    python tools/bad_inputs.py --write    # writes the page

Each input has to cost one line, without a traceback, and an exit status other than 0. The commands run in this process,
one after the other (tests/methods/commands/test_bad_inputs.py does the same).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from unittest import mock

from bad_input_cases import SECTIONS, Case

from img3d_dataparsers.upstream_warnings import silence_upstream_warnings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bad-input.md"
HOME = "/home/you"
"""What the page has for the folder that the inputs lie in."""
ENTRY_POINTS = {
    "img3d-export": "img3d_exporters.export_command:main",
    "img3d-photos": "img3d_dataparsers.inspect_command:main",
    "img3d-weights": "img3d_generators.weights.command:main",
    "ns-eval": "nerfstudio.scripts.eval:entrypoint",
    "ns-export": "nerfstudio.scripts.exporter:entrypoint",
    "ns-render": "nerfstudio.scripts.render:entrypoint",
    "ns-train": "nerfstudio.scripts.train:entrypoint",
    "ns-viewer": "nerfstudio.scripts.viewer.run_viewer:entrypoint",
}
INTRODUCTION = """# Bad input

What img3d's commands, and Nerfstudio's with a method of img3d, say to input that cannot be used. Each ends with an exit
status other than 0 and leaves nothing half written. `tools/bad_inputs.py --write` makes these inputs, runs the commands
and writes this page; the tests compare it with what the commands say.

Input that can be used in part (some photos missing, points without colours) costs a line that begins with "Warning:"
instead.
"""
TABLE_HEAD = ["| input | command | what it says | status |", "|---|---|---|---|"]
SIGNALS = [
    ("Ctrl-C before training", "ns-train …", "Interrupted before training began.", "130"),
    (
        *("Ctrl-C while training", "ns-train …"),
        *("Interrupted: saved after step 120 of 5000. To continue, repeat the command with --load-dir …", "130"),
    ),
    ("Ctrl-C twice", "ns-train …", "Interrupted again: stopped without saving.", "130"),
    ("Ctrl-C", "ns-viewer …", "Interrupted.", "130"),
    ("Ctrl-C", "img3d-export …", "Interrupted; nothing was written.", "130"),
    (
        *("Ctrl-C", "img3d-photos inspect …"),
        *("Interrupted; what is finished is kept, the same command goes on from there.", "130"),
    ),
    ("SIGTERM", "ns-train …, img3d-export …, img3d-photos …", "The same.", "143"),
    ("SIGTERM", "ns-eval …, ns-render …, ns-export …, ns-viewer …", "Interrupted.", "143"),
    ("Ctrl-C while a command still loads", "ns-…, img3d-…", "Interrupted.", "130"),
    (
        *("a disk that fills while training", "ns-train …"),
        "Warning: Could not save the checkpoint of step 1000 in …: No space left on device; training goes on and tries "
        "again at the next save.",
        "",
    ),
    (
        *("a disk that is full in the end", "ns-train …"),
        "Error: Could not save the checkpoint of step 4999 in …: No space left on device; the checkpoint of step 3999 "
        "is kept.",
        "1",
    ),
]
"""Not run here: tests/methods/commands/test_cli_train.py and test_cli_bad_input.py send signals and fill disks."""


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    status: object
    lines: list[str]
    """All that it printed, but for empty lines."""

    @property
    def line(self) -> str:
        """The one that says what is wrong."""
        return self.lines[-1] if self.lines else ""

    @property
    def is_one_line(self) -> bool:
        """Whether it says what is wrong as it should; where a run was loaded before, after what that prints."""
        errors = [line for line in self.lines if line.startswith(("Error: ", "Traceback"))]
        return errors == [self.line] and self.status not in (0, None)


def outcome(case: Case, folder: Path) -> Outcome:
    """What the command does in an empty folder, in this process."""
    case.make(folder)
    name, *arguments = shlex.split(case.command)
    module, function = ENTRY_POINTS[name].split(":")
    entry = getattr(import_module(module), function)
    output = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [f"/usr/bin/{name}", *arguments]),
        mock.patch.object(sys, "excepthook", sys.__excepthook__),
        _in_folder(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
        _threads_kept(),
    ):
        try:
            with case.around():
                _run(name, entry)
            status: object = 0
        except SystemExit as end:
            status = end.code
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            status = 1
    lines = [line.rstrip().replace(str(folder.resolve()), HOME) for line in output.getvalue().splitlines()]
    return Outcome(status, [line for line in lines if line])


def _run(name: str, entry: Callable[[], object]) -> None:
    from img3d_base.wrong_options import wrong_options_in_one_line
    from img3d_methods.compat import about_rejected, prepare_command

    if not name.startswith("ns-"):
        entry()
        return
    prepare_command()  # which `import torch` does in a process of the command's own
    with wrong_options_in_one_line(about_rejected):  # which the methods' import does
        entry()


@contextlib.contextmanager
def _in_folder(folder: Path) -> Generator[None, None, None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _threads_kept() -> Generator[None, None, None]:
    """Commands take torch's threads for themselves."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ----------------------------------------------------------------------------------------------------------- the page


def row(case: Case, line: str, status: object) -> str:
    """A row of a table."""
    return f"| {case.what} | `{_cell(case.command)}` | {_cell(line)} | {status} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def page(outcomes: dict[str, list[tuple[Case, Outcome]]]) -> str:
    """All of it, by the title of its sections."""
    parts = [INTRODUCTION]
    for title, rows in outcomes.items():
        parts += ["", f"## {title}", "", *TABLE_HEAD]
        parts += [row(case, said.line, said.status) for case, said in rows]
    parts += ["", "## Signals, and disks that fill", "", *TABLE_HEAD]
    parts += [f"| {what} | `{command}` | {line} | {status} |" for what, command, line, status in SIGNALS]
    return "\n".join(parts) + "\n"


def rows_of_page() -> set[str]:
    """What the page has."""
    return {line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| .* \|$", line)}


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--only", default="", help="sections whose title begins so")
    options = parser.parse_args()
    silence_upstream_warnings()
    outcomes: dict[str, list[tuple[Case, Outcome]]] = {}
    wrong = 0
    for title, cases in SECTIONS.items():
        if not title.startswith(options.only):
            continue
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder).chmod(0o755)
                said = outcome(case, Path(folder))
            outcomes.setdefault(title, []).append((case, said))
            if not said.is_one_line:
                wrong += 1
            print(f"{'    ' if said.is_one_line else 'BAD '}{case.what}: {case.command}", flush=True)
            for line in said.lines[-1:] if said.is_one_line else said.lines[-30:]:
                print(f"        {line}", flush=True)
    if options.write and not wrong and not options.only:
        PAGE.write_text(page(outcomes), encoding="utf-8")
    elif not options.only:
        known = rows_of_page()
        for case, said in (pair for pairs in outcomes.values() for pair in pairs):
            if row(case, said.line, said.status) not in known:
                print(f"Not as on the page: {case.what}: {said.lines}")
                wrong += 1
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
