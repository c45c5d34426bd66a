# SPDX-License-Identifier: Apache-2.0
"""The walks of CONTRIBUTING.md work as they are written, and are as short as they say."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from command_lines import CommandLine
from object_image import write_object_image

from img3d_assets.splat_files import read_splats

PAGE = Path(__file__).resolve().parents[3] / "CONTRIBUTING.md"
STILL_LIFE = Path(__file__).resolve().parents[3] / "sample" / "still_life"


def section(title: str) -> str:
    """The text below a heading."""
    return PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]


def files_of(text: str) -> dict[str, str]:
    """Contents of the files that a section shows, by the name in the first line of each."""
    blocks = re.findall(r"```(?:python|toml|yaml)\n# (\S+)\n(.*?)```", text, re.DOTALL)
    return dict(blocks)


def install(files: dict[str, str], folder: Path) -> None:
    """What `pip install` makes of these files, in a folder for PYTHONPATH."""
    for name, contents in files.items():
        (folder / name).write_text(contents)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in rows.items())])
        for group, rows in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups) + "\n")


@pytest.mark.parametrize("title", ["Add a method", "Add a generator"])
def test_a_walk_is_as_short_as_it_says(title: str) -> None:
    text = section(title)
    lines = [line for contents in files_of(text).values() for line in contents.splitlines() if line.strip()]
    stated = re.search(r"(\d+) lines together", text)
    assert stated is not None
    assert len(lines) == int(stated[1])


@pytest.mark.slow
def test_add_a_method(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    install(files_of(section("Add a method")), package)
    command = CommandLine(tmp_path)
    command.env["PYTHONPATH"] += os.pathsep + str(package)
    command.succeed(
        *("ns-train", "small-splat", "--data", STILL_LIFE, "--output-dir", tmp_path / "outputs"),
        *("--experiment-name", "scene", "--timestamp", "now", "--vis", "tensorboard", "--max-num-iterations", 20),
        *("--pipeline.model.size-weight", 0.2),
    )
    assert "size_weight: 0.2" in (tmp_path / "outputs" / "scene" / "small-splat" / "now" / "config.yml").read_text()


@pytest.mark.slow
def test_add_a_generator(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    install(files_of(section("Add a generator")), package)
    image = write_object_image(tmp_path / "object.png")
    command = CommandLine(tmp_path)
    command.env["PYTHONPATH"] += os.pathsep + str(package)
    command.succeed(
        *("ns-train", "img3d-disc", "--data", image, "--output-dir", tmp_path / "outputs", "--vis", "tensorboard"),
        *("--experiment-name", "scene", "--timestamp", "now", "--max-num-iterations", 0),
    )
    command.succeed(
        *("img3d-export", "splat", "--load-config", tmp_path / "outputs" / "scene" / "img3d-disc" / "now"),
        *("--output", tmp_path / "disc.ply"),
    )
    assert len(read_splats(tmp_path / "disc.ply")[0]) == 500
