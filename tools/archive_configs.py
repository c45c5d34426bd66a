# SPDX-License-Identifier: Apache-2.0
"""Writes tests/methods/archived_runs/<method>.yml: each method's config.yml, as `ns-train <method> --data …` writes it.

    .venv/bin/python tools/archive_configs.py

Files that are there already stay as they are: they stand for runs that people have. To rewrite one, remove it first.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory

ARCHIVE = Path(__file__).resolve().parents[1] / "tests" / "methods" / "archived_runs"
ROOT = "/archive"
"""Stands for the folder in which the run was made."""


def main() -> None:
    """Writes the file of every method of ours that has none."""
    sys.argv[1:] = []  # some configurations look for options
    ARCHIVE.mkdir(exist_ok=True)
    for entry in entry_points(group="nerfstudio.method_configs"):
        file = ARCHIVE / f"{entry.name}.yml"
        if entry.name.startswith("img3d-") and not file.exists():
            file.write_text(archived_config(entry.load().config), "utf8")
            print(f"Wrote {file}")


def archived_config(method_config: object) -> str:
    """The config.yml of a run of a method, with its folders below `ROOT`."""
    from img3d_methods.training.run_config import RunConfig

    config = deepcopy(method_config)
    assert isinstance(config, RunConfig)
    with TemporaryDirectory() as folder:
        config.pipeline.datamanager.data = Path(folder) / "photos"
        config.output_dir = Path(folder) / "outputs"
        config.set_experiment_name()
        config.timestamp = "2026-01-01_000000"
        config.save_config()
        return (config.get_base_dir() / "config.yml").read_text("utf8").replace(folder, ROOT)


if __name__ == "__main__":
    main()
