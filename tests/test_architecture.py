# SPDX-License-Identifier: Apache-2.0
"""The picture of the packages in docs/architecture.md is what their imports are."""

from __future__ import annotations

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def test_the_page_is_up_to_date(monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    from architecture import PAGE, diagram, imports_of_packages, page_with

    page = PAGE.read_text()
    assert page_with(diagram(imports_of_packages()), page) == page, "run tools/architecture.py --write"


def test_an_implied_arrow_is_left_out(monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    from architecture import diagram

    drawn = diagram({"base": set(), "middle": {"base"}, "top": {"middle", "base"}})
    assert "base --> middle" in drawn
    assert "middle --> top" in drawn
    assert "base --> top" not in drawn
