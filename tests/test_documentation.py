# SPDX-License-Identifier: Apache-2.0
"""docs/: `make docs` looks after links; here, that pages quote what the program says, and name what it has."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MAX_PICTURE_BYTES = 200_000


def test_troubleshooting_quotes_lines_that_commands_say() -> None:
    said = DOCS.joinpath("bad-input.md").read_text("utf8") + "".join(
        path.read_text("utf8") for package in ROOT.glob("img3d_*") for path in package.rglob("*.py")
    )
    quoted = re.findall(r"^\| `([^`]+)` \|", DOCS.joinpath("troubleshooting.md").read_text("utf8"), re.MULTILINE)
    assert len(quoted) > 5
    missing = [quote for quote in quoted if not all(part.strip(" ,") in said for part in re.split("…|, or ", quote))]
    assert missing == []


def test_each_method_is_on_a_page() -> None:
    pages = "".join(page.read_text("utf8") for page in DOCS.rglob("*.md"))
    ours = {
        entry.name
        for entry in entry_points(group="nerfstudio.method_configs")
        if entry.value.startswith("img3d_methods.") and entry.dist is not None and entry.dist.name == "img3d"
    }
    assert {name for name in ours if name not in pages} == set()


def test_pictures_are_small() -> None:
    pictures = [path for path in DOCS.rglob("*") if path.suffix in (".jpg", ".png", ".webp")]
    assert [path.name for path in pictures if path.stat().st_size > MAX_PICTURE_BYTES] == []
