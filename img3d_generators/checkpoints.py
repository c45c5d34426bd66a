# SPDX-License-Identifier: Apache-2.0
"""The checkpoints that are known: what they are, where they come from, under which licence. One YAML file for each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import reason
from img3d_generators.registry import rows

PACKAGE = Path(__file__).parent
Described = TypeVar("Described")


@dataclass(frozen=True)
class CheckpointFile:
    """One of a checkpoint's files."""

    path: str
    """Where it lies in the checkpoint's folder."""
    size: int | None = None
    """Bytes, where they are known exactly."""
    sha256: str = ""
    """Checksum in hexadecimal digits: as many of the first ones as are known."""
    repository: str | None = None
    """On the Hugging Face hub, if not the checkpoint's own."""
    revision: str | None = None
    """Its commit there."""
    source: str | None = None
    """Where it lies in that repository, if not at `path`."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network that can be fetched, or comes with this package."""

    name: str
    """As users call it; the YAML file's name."""
    kind: str
    """Which network it is for: zero123plus, lgm, …"""
    title: str
    """What it does, in one line."""
    licence: str
    """Of the weights, as an SPDX identifier."""
    files: tuple[CheckpointFile, ...]
    """All that belongs to it."""
    repository: str | None = None
    """On the Hugging Face hub; None if the files come with this package, where their paths start at its folder."""
    revision: str | None = None
    """The commit in the repository; None for the newest."""
    licence_url: str = ""
    """Where the licence can be read."""
    licence_note: str = ""
    """What else is to be known about it."""
    gigabytes: float | None = None
    """Size of all files, if not each one's is known."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """The network's numbers, by the names of its configuration class."""
    input: dict[str, Any] = field(default_factory=dict)
    """What its pictures must be like: background, framing, cameras."""
    training: dict[str, Any] = field(default_factory=dict)
    """Of our own ones: how they were trained, on what, and how good they became."""
    home: Path | None = None
    """The folder that its files' paths start at if they come with another package; None: with this one. Not in YAML."""

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC" in self.licence

    @property
    def comes_with(self) -> str | None:
        """The package that brings its files; None if they have to be fetched."""
        if self.repository is not None:
            return None
        return "img3d" if self.home is None else self.home.name

    @property
    def size(self) -> str:
        """Of all files together, for people."""
        size = sum(file.size or 0 for file in self.files) if self.gigabytes is None else 1e9 * self.gigabytes
        return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def configs_folder() -> Path:
    """The folder of YAML files: inside the package where that is installed, beside it in a checkout."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


@cache
def checkpoints() -> dict[str, Checkpoint]:
    """All checkpoints by name, sorted: ours, and those of packages that add generators.

    Files in a folder that are about something else have no `kind`. Other packages' files that make no sense are left
    out, with a line each.
    """
    found = {path.stem: read_checkpoint(path) for path in configs_folder().glob("*.yaml") if "kind" in _content(path)}
    for folder in dict.fromkeys(row.configs for row in rows().values() if row.configs is not None):
        for path in sorted(folder.glob("*.yaml")):
            try:
                if "kind" in _content(path):
                    found.setdefault(path.stem, read_checkpoint(path, home=folder.parent))
            except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
                warn(f"the checkpoint {path} is left out: {reason(error)}")
    return {name: found[name] for name in sorted(found)}


def checkpoint(name: str) -> Checkpoint:
    """The checkpoint of this name.

    Raises:
        InputError: there is none.
    """
    known = checkpoints()
    if name not in known:
        raise InputError(f"There is no checkpoint {name}; there are: {', '.join(known)}")
    return known[name]


def read_checkpoint(path: Path, home: Path | None = None) -> Checkpoint:
    """Reads one YAML file. What it doesn't say is taken from the file beside it that it is `like`, if it names one.

    Args:
        path: The file.
        home: The folder that the files of a checkpoint without a repository lie in; None: this package's.

    Raises:
        ValueError: it does not describe a checkpoint.
    """
    content = _content(path)
    try:
        files = tuple(_made(CheckpointFile, file) for file in content.pop("files"))
        described = _made(Checkpoint, {**content, "files": files, "home": home})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a checkpoint: {error}") from error
    wrong = [
        f"its name is {described.name}" if described.name != path.stem else "",
        "it has no files" if not files else "",
        *(
            f"the sha256 of {file.path} is not text of hexadecimal digits"
            for file in files
            if not isinstance(file.sha256, str) or set(file.sha256) - set("0123456789abcdef")
        ),
        *(f"{file.path} leaves its folder" for file in files if Path(file.path).is_absolute() or ".." in file.path),
    ]
    if any(wrong):
        raise ValueError(f"{path}: {', '.join(filter(None, wrong))}")
    return described


def _tuples(value: Any) -> Any:
    """Lists in a configuration as tuples, which classes of configurations have."""
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


def _content(path: Path) -> dict[str, Any]:
    content = _tuples(yaml.safe_load(path.read_text()))
    like = content.pop("like", None)
    return content if like is None else {**_content(path.with_name(f"{like}.yaml")), **content}


def _made(kind: type[Described], content: dict[str, Any]) -> Described:
    """What a part of a YAML file describes.

    Raises:
        TypeError: it names other fields than `kind` has, or lacks one.
    """
    unknown = content.keys() - {known.name for known in fields(kind)}  # pyright: ignore[reportArgumentType]
    if unknown:
        raise TypeError(f"nobody knows what {', '.join(sorted(map(str, unknown)))} means")
    return kind(**content)
