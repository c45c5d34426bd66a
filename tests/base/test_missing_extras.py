# SPDX-License-Identifier: Apache-2.0
"""A command that needs an extra which is not installed says which, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from img3d_base.errors import EXTRAS, exits_with_one_line


def test_a_package_of_an_extra(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exits_with_one_line(""):
        raise ModuleNotFoundError("No module named 'nerfstudio.utils'", name="nerfstudio.utils")
    assert ended.value.code == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("pip install 'img3d[nerfstudio]'")


def test_any_other_package_is_a_fault_of_ours() -> None:
    with pytest.raises(ModuleNotFoundError), exits_with_one_line(""):
        raise ModuleNotFoundError("No module named 'x'", name="x")


def test_the_extras_exist_and_bring_the_packages() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for package, extra in EXTRAS.items():
        names = " ".join(project["optional-dependencies"][extra]).replace("-", "_")
        assert package in names or package == "pymeshlab"  # which Nerfstudio brings
