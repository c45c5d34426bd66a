# SPDX-License-Identifier: Apache-2.0
"""A method's help starts with ten options, all of which exist."""

from __future__ import annotations

import sys

import pytest
from nerfstudio.configs.dataparser_configs import all_dataparsers
from nerfstudio.configs.method_configs import all_descriptions, all_methods

from img3d_generators.registry import generators
from img3d_methods.commands.command_line_mistakes import option_names
from img3d_methods.commands.method_help import LEFT_OUT, TEXTS, description, most_used
from img3d_methods.generated.methods import OBJECT
from img3d_methods.generated.runs import method_name

METHODS = sorted(name for name in all_methods if name.startswith("img3d-"))


def test_every_method_of_ours_has_its_own() -> None:
    of_generators = {method_name(row.name) for row in generators("Gaussians")} | {method_name(OBJECT)}
    assert {*LEFT_OUT, *of_generators} == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_ten_options_that_exist(method: str) -> None:
    options = most_used(method)
    assert len(options) == 10
    known = {f"--{name}" for name in option_names(all_methods[method])}
    known |= {f"{parser} --{name}" for parser, config in all_dataparsers.items() for name in option_names(config)}
    for option in options:
        name = option.rpartition(" ")[0]
        assert name in known
    parser = all_methods[method].pipeline.datamanager.dataparser
    for option in options:
        if not option.startswith("--"):
            assert type(all_dataparsers[option.split()[0]]) is type(parser)


def test_nothing_is_left_out_of_all() -> None:
    of_text = most_used("img3d-of-another-package", "text")
    assert "--pipeline.prompt TEXT" in of_text and "--data PATH" not in of_text
    assert set(TEXTS) == set(of_text).union(*(most_used(method) for method in METHODS))


def test_the_list_of_methods_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ns-train", "--help"])
    assert description("img3d-splat", "Splats.") == "Splats."
    for name, text in all_descriptions.items():
        if name.startswith("img3d-"):
            assert "\n" not in text and len(text) < 160 and "with poses" not in text


def test_a_methods_own_help_begins_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ns-train", "img3d-splat", "--help"])
    text = description("img3d-splat", "Splats.")
    assert text.startswith("Splats.\n\nWhat most runs need:\n  --data PATH")
    assert max(map(len, text.splitlines())) <= 80
    assert "runs code when it is loaded" in text
