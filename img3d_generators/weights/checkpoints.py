# SPDX-License-Identifier: Apache-2.0
"""The known checkpoints: what they are, where they come from, and their licences. Each has a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import reason
from img3d_generators.registry import rows

PACKAGE = Path(__file__).parents[1]
Described = TypeVar("Described")


@dataclass(frozen=True)
class CheckpointFile:
    """One of a checkpoint's files."""

    path: str
    """Path in the checkpoint's folder."""
    size: int | None = None
    """Size in bytes, if known exactly."""
    sha256: str = ""
    """SHA-256 in hexadecimal digits, or as many of the first ones as are known."""
    repository: str | None = None
    """Repository on the Hugging Face hub, if not the checkpoint's own."""
    revision: str | None = None
    """The commit in that repository."""
    source: str | None = None
    """Path in that repository, if it differs from `path`."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network that can be fetched or comes with a package."""

    name: str
    """The name for users, and of the YAML file."""
    kind: str
    """The kind of network: zero123plus, lgm, …"""
    title: str
    """What it does, in one line."""
    licence: str
    """Licence of the weights, as an SPDX identifier."""
    files: tuple[CheckpointFile, ...]
    """All files of the checkpoint."""
    repository: str | None = None
    """Repository on the Hugging Face hub; None if the files come with this package; paths then start at its folder."""
    revision: str | None = None
    """The commit in the repository; None for the newest."""
    licence_url: str = ""
    """URL of the text of the licence."""
    licence_note: str = ""
    """Remarks on the licence."""
    gigabytes: float | None = None
    """Size of all files together, if the sizes of the single files are not known."""
    architecture: dict[str, Any] = field(default_factory=dict[str, Any])
    """Sizes of the network, by the field names of its configuration class."""
    input: dict[str, Any] = field(default_factory=dict[str, Any])
    """Requirements on its input pictures: background, framing, cameras."""
    training: dict[str, Any] = field(default_factory=dict[str, Any])
    """For our own networks: how and on what they were trained, and their quality."""
    home: Path | None = None
    """For a checkpoint that comes with another package, the folder at which its files' paths start; None: this
    package's. Not in YAML."""

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC" in self.licence

    @property
    def comes_with(self) -> str | None:
        """The package that contains its files; None if they have to be fetched."""
        if self.repository is not None:
            return None
        return "img3d" if self.home is None else self.home.name

    @property
    def without_checksum(self) -> list[str]:
        """The paths of files of which no checksum was published."""
        return [file.path for file in self.files if not file.sha256]

    @property
    def size(self) -> str:
        """The size of all files together, with its unit."""
        size = sum(file.size or 0 for file in self.files) if self.gigabytes is None else 1e9 * self.gigabytes
        return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@cache
def checkpoints() -> dict[str, Checkpoint]:
    """All checkpoints by name, sorted: ours, and those of packages that add generators.

    YAML files without `kind` are about something else and are skipped. Invalid files of other packages are skipped
    with a warning.
    """
    found = {
        path.stem: read_checkpoint(path) for path in (PACKAGE / "configs").glob("*.yaml") if "kind" in _content(path)
    }
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
        InputError: There is none.
    """
    known = checkpoints()
    if name not in known:
        raise InputError(f"There is no checkpoint {name}; there are: {', '.join(known)}")
    return known[name]


def read_checkpoint(path: Path, home: Path | None = None) -> Checkpoint:
    """Reads a YAML file. Fields that it lacks are taken from the file beside it that its field `like` names, if any.

    Args:
        path: The file.
        home: The folder of the files of a checkpoint without a repository; None: this package's.

    Raises:
        ValueError: The file does not describe a checkpoint.
    """
    content = _content(path)
    try:
        entries: list[dict[str, Any]] = content.pop("files")
        files = tuple(_made(CheckpointFile, entry) for entry in entries)
        described = _made(Checkpoint, {**content, "files": files, "home": home})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a checkpoint: {error}") from error
    wrong = [
        f"its name is {described.name}, unlike the file's" if described.name != path.stem else "",
        "it has no files" if not files else "",
        *(
            f"the sha256 of {entry['path']} is not text of hexadecimal digits"
            for entry in entries
            if not isinstance(entry.get("sha256", ""), str) or set(entry.get("sha256", "")) - set("0123456789abcdef")
        ),
        *(f"{file.path} leaves its folder" for file in files if Path(file.path).is_absolute() or ".." in file.path),
    ]
    if any(wrong):
        raise ValueError(f"{path}: {', '.join(filter(None, wrong))}")
    return described


def _tuples(value: Any) -> Any:
    """Converts lists in a configuration to tuples, as configuration classes have them."""
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in cast(dict[str, Any], value).items()}
    return tuple(map(_tuples, cast(list[Any], value))) if isinstance(value, list) else value


def _content(path: Path) -> dict[str, Any]:
    content = _tuples(yaml.safe_load(path.read_text()))
    like = content.pop("like", None)
    return content if like is None else {**_content(path.with_name(f"{like}.yaml")), **content}


def _made(kind: type[Described], content: dict[str, Any]) -> Described:
    """Creates an object from a part of a YAML file.

    Raises:
        TypeError: The content names other fields than `kind` has, or lacks one.
    """
    unknown = content.keys() - {known.name for known in fields(kind)}  # pyright: ignore[reportArgumentType]
    if unknown:
        raise TypeError(f"unknown fields: {', '.join(sorted(map(str, unknown)))}")
    return kind(**content)
