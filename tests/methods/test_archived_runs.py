# SPDX-License-Identifier: Apache-2.0
"""The config.yml of an earlier run of each method still loads: it names modules, classes and options of ours.

`tools/archive_configs.py` writes a new method's file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from img3d_generators.registry import row
from img3d_methods.training.pipeline import Img3dPipeline

ARCHIVE = Path(__file__).parent / "archived_runs"
METHODS = {
    entry.name: entry
    for entry in entry_points(group="nerfstudio.method_configs")
    if entry.value.startswith("img3d_methods")
}


RETIRED = {"img3d-tiny": "img3d-small"}
"""Methods that are no longer here, and the generator that stands in for theirs."""


def loaded(text: str) -> Any:
    """As Nerfstudio's `eval_setup` loads it: classes are found by the names of their modules."""
    return yaml.load(text, Loader=yaml.Loader)


def archived(method: str) -> str:
    """The config.yml of an earlier run of a method."""
    return (ARCHIVE / f"{method}.yml").read_text("utf8")


def load(method: str) -> Any:
    """The configuration of an earlier run of a method."""
    return loaded(archived(method))


def configs_in(value: Any) -> Iterator[Any]:
    """Every configuration in a configuration, itself included."""
    if isinstance(value, dict):
        children = list(value.values())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        children = list(vars(value).values())
    else:
        children = list(value) if isinstance(value, (list, tuple)) else []
    for child in children:
        yield from configs_in(child)


def test_each_method_has_an_archived_run() -> None:
    assert METHODS
    assert {path.stem for path in ARCHIVE.iterdir()} == {*METHODS, *RETIRED}, "run tools/archive_configs.py"


@pytest.mark.parametrize("method", METHODS)
def test_an_archived_run_loads(method: str) -> None:
    config = load(method)
    # An option of a later edition may have given the method a derived class; its earlier runs stay what they were.
    assert issubclass(type(METHODS[method].load().config), type(config))
    assert config.method_name == method
    assert config.get_base_dir() == Path("/archive/outputs/photos") / method / config.timestamp


@pytest.mark.parametrize(("method", "generator"), RETIRED.items())
def test_a_run_of_a_retired_method_loads_with_what_replaces_its_generator(method: str, generator: str) -> None:
    config = load(method)
    assert config.method_name == method and row(config.pipeline.generator).name == generator


@pytest.mark.parametrize("method", METHODS)
def test_an_archived_run_has_a_value_for_each_option(method: str) -> None:
    for config in configs_in(load(method)):
        options = {option.name for option in dataclasses.fields(config)}
        assert vars(config).keys() <= options, f"{type(config).__name__} has lost options"
        missing = [option for option in options if not hasattr(config, option)]  # no default in the class
        assert not missing, f"{type(config).__name__} of an earlier run lacks options"


@pytest.mark.parametrize("method", ["img3d-triposr", "img3d-trellis", "img3d-lgm"])
def test_the_guidance_of_an_earlier_run_is_its_guidance_scale(method: str) -> None:
    text = archived(method)
    assert text.count("guidance: 4.0") == 1
    configs = list(configs_in(loaded(text.replace("guidance: 4.0", "guidance: 3.0"))))
    assert [config.guidance_scale for config in configs if hasattr(config, "guidance_scale")] == [3.0]
    assert 3.0 not in [getattr(config, "guidance", None) for config in configs]


@pytest.mark.parametrize("method", METHODS)
def test_an_archived_run_names_no_folder_of_the_machine_that_wrote_it(method: str) -> None:
    paths = [
        value
        for config in configs_in(load(method))
        for value in vars(config).values()
        if isinstance(value, Path) and value.is_absolute()
    ]
    assert paths
    assert all(path.is_relative_to("/archive") for path in paths), paths


@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_our_pipeline(method: str) -> None:
    """It reports bad input in one line, and lets `ns-render spiral` take the run."""
    assert issubclass(METHODS[method].load().config.pipeline._target, Img3dPipeline)
