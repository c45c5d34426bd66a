# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-weights`: manages the weights of published generators, which are fetched only on request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from img3d_base.console import CONSOLE, print_line
from img3d_base.errors import InputError, exits_with_one_line, some_names
from img3d_generators.pairing import title_of
from img3d_generators.registry import Generator, rows
from img3d_generators.weights.checkpoints import Checkpoint, checkpoint, checkpoints
from img3d_generators.weights.weight_files import (
    available,
    fetch,
    folder_of,
    missing_files,
    problems_of,
    register,
    weights_folder,
)

app = tyro.extras.SubcommandApp()

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]


@app.command(name="list")
def list_command() -> None:
    """Lists the weights of all generators, with size, licence, and whether they are installed."""
    lines = [(known.name, known.size, known.licence, _state(known), known.title) for known in checkpoints().values()]
    lines += [(row.name, "", "", "needs no weights", title_of(row)) for row in rows().values() if _needs_none(row)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for *cells, state, title in lines:
        print_line("  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), state]))
        print_line(f"    {title}")
    if any(known.is_non_commercial for known in checkpoints().values()):
        print_line("Licences with NC (non-commercial) forbid commercial use of the weights.")
    print_line(f"Folder: {weights_folder()} (the environment variable IMG3D_WEIGHTS names another)")


@app.command(name="fetch")
def fetch_command(name: Name, yes: bool = False) -> None:
    """Downloads a checkpoint from the Hugging Face hub, after showing its size and licence and asking for
    confirmation.

    Args:
        name: The checkpoint; `img3d-weights list` shows all.
        yes: Do not ask for confirmation.
    """
    known = checkpoint(name)
    if available(name) is not None:
        print_line(f"{name} is already installed: {folder_of(known)}")
        return
    _describe(known)
    if not yes and not _agreed():
        print_line("Nothing was downloaded.")
        return
    print_line(f"{name} is installed: {fetch(name)}")
    if known.without_checksum:
        print_line(
            f"No checksum of {some_names(known.without_checksum)} was published: the hub's was checked, and is "
            "recorded and checked from now on."
        )


@app.command(name="path")
def path_command(name: Name, file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]) -> None:
    """Registers weights that are already on this machine: verifies them and remembers where they are.

    Args:
        name: The checkpoint to which they belong; `img3d-weights list` shows all.
        file: One of its files, or a folder with all of them, such as a clone of its repository.
    """
    with CONSOLE.status("Verifying"):
        found = register(name, file)
    known = checkpoint(name)
    for taken in found:
        unverified = "no checksum was published; this file's is recorded, and checked from now on"
        print_line(f"{taken.path}: {'verified' if taken.sha256 else unverified}")
    missing = missing_files(known)
    if missing:
        print_line(f"{name} still lacks {', '.join(entry.path for entry in missing)}")
    else:
        print_line(f"{name} is complete.")
    if known.is_non_commercial:
        print_line(_licence(known))


@app.command(name="verify")
def verify_command(name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None) -> None:
    """Checks sizes and checksums of installed weights; exits with status 1 if something is wrong.

    Args:
        name: The checkpoint; default: all that are installed.
    """
    if name is not None and available(name) is None:
        lacking = ", ".join(file.path for file in missing_files(checkpoint(name)))
        raise InputError(f"{name} is not installed, or not complete: {lacking}")
    here = [known for known in checkpoints().values() if name in (None, known.name) and available(known.name)]
    wrong = 0
    for known in here:
        with CONSOLE.status(f"Verifying {known.name}"):
            problems = problems_of(known)
        print_line(f"{known.name}: {'ok' if not problems else 'damaged'}")
        for problem in problems:
            print_line(f"  {problem}")
        wrong += len(problems)
    if not here:
        print_line("No weights are installed; img3d-weights list shows what is available.")
    if wrong:
        raise InputError(f"{wrong} files are wrong: remove them, then run img3d-weights fetch")


def _state(known: Checkpoint) -> str:
    if known.comes_with is not None:
        return f"comes with {known.comes_with}" if not missing_files(known) else "damaged: install its package again"
    if available(known.name) is not None:
        return f"installed: {_origin(folder_of(known) / known.files[-1].path)}"
    missing = len(missing_files(known))
    return "not installed" if missing == len(known.files) else f"{missing} of {len(known.files)} files are missing"


def _needs_none(row: Generator) -> bool:
    return bool(row.load) and not row.checkpoints


def _origin(path: Path) -> str:
    """Describes where the file behind a link comes from."""
    from huggingface_hub.constants import HF_HUB_CACHE

    where = path.readlink() if path.is_symlink() else path
    return "fetched from the hub" if where.is_relative_to(HF_HUB_CACHE) else str(where.parent)


def _describe(known: Checkpoint) -> None:
    repositories = dict.fromkeys([known.repository, *(file.repository for file in known.files if file.repository)])
    print_line(f"{known.name}: {known.title}")
    print_line(f"From:    {', '.join(f'huggingface.co/{repository}' for repository in repositories)}")
    print_line(f"Size:    {known.size}")
    print_line(_licence(known))


def _licence(known: Checkpoint) -> str:
    parts = [known.licence, known.licence_url, known.licence_note]
    if known.is_non_commercial:
        parts.insert(1, "not for commercial purposes")
    return f"Licence: {'; '.join(filter(None, parts))}"


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("Cannot ask for confirmation without a terminal: give --yes to agree to the download.")
    try:
        return CONSOLE.input("Download it? \\[y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def main() -> None:
    """Entry point of `img3d-weights`."""
    with exits_with_one_line("Interrupted; what was downloaded is kept, and the next fetch resumes."):
        app.cli(prog="img3d-weights", description="Weights of published generators, fetched only when asked for.")


if __name__ == "__main__":
    main()
