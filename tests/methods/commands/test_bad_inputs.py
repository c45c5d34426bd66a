# SPDX-License-Identifier: Apache-2.0
"""Every bad input of docs/bad-input.md costs the one line that the page has, and leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[3] / "tools"
sys.path.insert(0, str(TOOLS))

from bad_input_cases import SECTIONS, Case  # noqa: E402
from bad_inputs import SIGNALS, outcome, row, rows_of_page  # noqa: E402

SLOW = ("Training",)
"""Sections whose command takes seconds to look at its options."""
CASES = [
    pytest.param(case, marks=[pytest.mark.slow] if title in SLOW else [], id=f"{title}: {case.what}")
    for title, cases in SECTIONS.items()
    for case in cases
]


@pytest.fixture(scope="module")
def known() -> set[str]:
    return rows_of_page()


@pytest.mark.parametrize("case", CASES)
def test_one_line_which_the_page_has(case: Case, known: set[str], tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    folder.chmod(0o755)
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)  # the case without rights has to come here
    said = outcome(case, folder)
    assert said.is_one_line, said.lines[-20:]
    assert row(case, said.line, said.status) in known, "tools/bad_inputs.py --write brings the page up to date"
    assert not [path for path in folder.iterdir() if path.name.startswith("out.")]


def test_the_page_has_no_others(known: set[str]) -> None:
    inputs = {case.what for cases in SECTIONS.values() for case in cases}
    assert len(inputs) >= 40
    assert len(known) == sum(len(cases) for cases in SECTIONS.values()) + len(SIGNALS) + 1, "and the head of the tables"
