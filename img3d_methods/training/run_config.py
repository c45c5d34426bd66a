# SPDX-License-Identifier: Apache-2.0
"""Paths of a run: independent of the working directory, checked before anything is printed, and readable in
config.yml."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml
from nerfstudio.engine.trainer import TrainerConfig

from img3d_base.atomic_files import write_atomically
from img3d_methods.compat import fail, loaded_run, option_value
from img3d_methods.training.checkpoint_files import checkpoint_steps
from img3d_methods.training.event_writers import missing_account

UNWRAPPED = 1 << 16
"""Maximum width of a config.yml, so that no path is wrapped."""


@dataclass
class RunConfig(TrainerConfig):
    """Nerfstudio's configuration of a run. `ns-train` calls `set_timestamp`, `print_to_terminal`, `save_config` and
    then `setup`."""

    def __post_init__(self) -> None:
        """Stores --data only in the data manager, of which it is an alias, so that config.yml has one place to
        change it."""
        if self.data is not None:
            self.pipeline.datamanager.data, self.data = self.data, None

    def print_to_terminal(self) -> None:
        """Checks the run's options, and prints only what is wrong, in one line. (Upstream prints all options, 250
        lines, which are in config.yml too.)"""
        self.make_paths_absolute()
        data = self.pipeline.datamanager.data
        assert data is not None
        try:
            there = data.exists()
        except OSError as error:
            fail(f"{data} cannot be read: {error.strerror}; check --data")
        if not there:
            fail(f"there is no folder or file {data}; check --data")
        if message := missing_account(self):
            fail(message)
        if self.is_trained() and not self._continues_itself():
            fail(
                f"{self.get_base_dir()} already holds a trained run: give another --timestamp, or continue that one "
                f"with --load-dir {self.get_checkpoint_dir()}"
            )

    def is_trained(self) -> bool:
        """Whether the run's folder holds checkpoints."""
        return bool(checkpoint_steps(self.get_checkpoint_dir()))

    def _continues_itself(self) -> bool:
        """Whether the checkpoint to continue from is the run's own."""
        path = self.load_checkpoint
        folder = self.load_dir if path is None else path.parent
        return folder is not None and folder.resolve() == self.get_checkpoint_dir().resolve()

    def make_paths_absolute(self) -> None:
        """Makes paths absolute, so that commands can load the run from any working directory."""
        datamanager: Any = self.pipeline.datamanager
        parser = datamanager.dataparser
        if datamanager.data is None:
            datamanager.data = parser.data  # as Nerfstudio's data managers do
        datamanager.data = absolute(datamanager.data)
        if getattr(parser, "cache_dir", None) is not None:
            parser.cache_dir = absolute(parser.cache_dir)
        self.output_dir = absolute(self.output_dir)
        for name in ("load_dir", "load_checkpoint", "load_config"):
            path = getattr(self, name)
            if path is not None:
                setattr(self, name, absolute(path))

    def set_experiment_name(self) -> None:
        """Names the experiment after an image or video (upstream: after the folder, as for a transforms.json)."""
        data = self.pipeline.datamanager.data
        if self.experiment_name is None and data is not None and data.is_file() and data.suffix.lower() != ".json":
            self.experiment_name = data.stem
        super().set_experiment_name()

    def get_base_dir(self) -> Path:
        """The run's folder; for commands that load a run, the one of its config.yml, which may have been moved there
        or be a copy."""
        loaded = loaded_run()
        if loaded is not None and (loaded / self.relative_model_dir).is_dir():
            return loaded
        return super().get_base_dir()

    def save_config(self) -> None:
        """Writes config.yml, silently. A run that is continued keeps its own until the trainer has loaded it."""
        self.make_paths_absolute()
        if not self.is_trained():
            self.write_config(self.as_yaml())

    def as_yaml(self) -> str:
        """What config.yml says, with each path on one line."""
        return yaml.dump(self, Dumper=_ConfigDumper, width=UNWRAPPED)

    def write_config(self, text: str) -> None:
        """Writes config.yml whole or not at all."""
        folder = self.get_base_dir()
        try:
            with write_atomically(folder / "config.yml") as temporary:
                temporary.write_text(text, "utf8")
        except OSError as error:
            remove_empty(folder, self.output_dir)
            fail(f"{folder} cannot be written: {error.strerror}; --output-dir says where runs go")


def moved_data_message(config: Any) -> str | None:
    """An error message if the data of a run have been moved since training; otherwise None. Takes a data manager's
    config."""
    data = config.data if config.data is not None else config.dataparser.data
    if data.exists():
        return None
    path = option_value("load-config")
    file = "its config.yml" if path is None else Path(path).absolute()
    if not data.is_absolute():  # written by an earlier version
        return (
            f"this run was trained on {data}, relative to the folder where ns-train ran: run this command there, or "
            f"write the whole path into {file} (pipeline, datamanager, data)."
        )
    return (
        f"this run was trained on {data}, which no longer exists: put the data back, or write their new path into "
        f"{file} (pipeline, datamanager, data)."
    )


class _ConfigDumper(yaml.Dumper):
    """Writes a path as one string; Nerfstudio writes a list of its parts."""


def _represent_path(dumper: yaml.Dumper, path: PurePath) -> yaml.Node:
    tag = f"tag:yaml.org,2002:python/object/apply:pathlib.{type(path).__name__}"
    return dumper.represent_sequence(tag, [str(path)], flow_style=True)


_ConfigDumper.add_multi_representer(PurePath, _represent_path)


def absolute(path: Path) -> Path:
    """The absolute path, with .. resolved, and ~, which shells do not expand in `--data=~/photos`."""
    if path.parts[:1] and path.parts[0].startswith("~"):
        path = path.expanduser()
    return path.resolve() if os.pardir in path.parts else path.absolute()


def remove_empty(folder: Path, last: Path) -> None:
    """Removes an empty folder, and then empty parents, up to but not including `last`."""
    while folder != last and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
