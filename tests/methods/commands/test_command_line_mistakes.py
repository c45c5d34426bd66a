# SPDX-License-Identifier: Apache-2.0
"""A mistyped `ns-train` is answered in one sentence that says what was meant."""

from __future__ import annotations

import pytest
from nerfstudio.configs.dataparser_configs import all_dataparsers
from nerfstudio.configs.method_configs import all_methods

from img3d_methods.commands.command_line_mistakes import about_unknown, option_names

OWN = [name for name in all_methods if name.startswith("img3d-")]


def answer(arguments: str, unknown: str) -> str | None:
    message = about_unknown(unknown.split(), arguments.split(), all_methods, all_dataparsers, OWN)
    assert message is None or "\n" not in message
    return message


@pytest.mark.parametrize(
    ("typed", "meant"), [("img3d-splatt", "img3d-splat"), ("img3d_nerf", "img3d-nerf"), ("splatfact", "splatfacto")]
)
def test_a_mistyped_method(typed: str, meant: str) -> None:
    message = answer(f"{typed} --data x", f"{typed} --data x")
    assert message == f"there is no method {typed}; did you mean {meant}?"


def test_a_method_like_no_other() -> None:
    message = answer("qqqqqq", "qqqqqq")
    assert message == "there is no method qqqqqq; `ns-train --help` lists all."


def test_a_mistyped_option() -> None:
    message = answer("img3d-splat --max-num-iteration 5", "--max-num-iteration 5")
    assert message == "ns-train img3d-splat has no option --max-num-iteration; did you mean --max-num-iterations?"


def test_an_option_without_the_parts_before_its_last() -> None:
    message = answer("img3d-splat --max-gaussians 5", "--max-gaussians 5")
    assert message is not None and "did you mean --pipeline.model.max-gaussians?" in message


def test_an_option_like_no_other() -> None:
    message = answer("img3d-splat --qqqqqq 5", "--qqqqqq 5")
    assert message is not None and "`ns-train img3d-splat --help`" in message


@pytest.mark.parametrize("typed", ["--max-image-size", "--max_image_size"])
def test_an_option_of_the_data_parser_before_its_name(typed: str) -> None:
    message = answer(f"img3d-splat --data x {typed} 5", f"{typed} 5")
    assert message is not None and "--data … img3d-photos --max-image-size …" in message


def test_an_option_of_the_method_behind_the_data_parser() -> None:
    message = answer("img3d-splat img3d-photos --vis viewer", "--vis viewer")
    assert message == "--vis is an option of img3d-splat, and has to be given before img3d-photos"


def test_photos_without_their_option() -> None:
    message = answer("img3d-splat photos/", "photos/")
    assert message is not None and "--data photos/" in message


@pytest.mark.parametrize(("arguments", "unknown"), [("nerfacto --dta x", "--dta x"), ("--dta x", "--dta x")])
def test_what_is_not_ours_is_left_to_tyro(arguments: str, unknown: str) -> None:
    assert answer(arguments, unknown) is None


def test_options_are_named_as_tyro_names_them() -> None:
    names = set(option_names(all_methods["img3d-splat"]))
    assert {"data", "max-num-iterations", "pipeline.model.sh-degree", "optimizers.means.optimizer.lr"} <= names
    assert "viewer.websocket-port" in names
    assert not any("-target" in name or "dataparser" in name for name in names)
