# SPDX-License-Identifier: Apache-2.0
"""The table of generators in docs/one-image.md, made from the registry's rows; `--write` brings the page up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from img3d_generators.pairing import title_of
from img3d_generators.registry import Generator, rows
from img3d_generators.weights.checkpoints import checkpoint

PAGE = Path(__file__).parents[1] / "docs" / "one-image.md"
BEGIN, END = "<!-- generators: tools/generator_table.py -->\n", "<!-- end of generators -->\n"


def table() -> str:
    """All of our rows in Markdown: what goes in, what comes out, which weights they need and under which licence."""
    lines = ["| name | takes | gives | weights | what it is |", "|---|---|---|---|---|"]
    for row in rows().values():
        if row.configs is None:
            lines.append(f"| `{row.name}` | {row.takes} | {row.gives} | {_weights(row)} | {title_of(row)} |")
    return "\n".join(lines) + "\n"


def page_with_table(page: str) -> str:
    """The page with the current table between the marks."""
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: BEGIN + table() + END, page, flags=re.DOTALL)


def _weights(row: Generator) -> str:
    if row.networks:
        return "those of " + " or ".join(f"`{name}`" for name in row.networks) + ", and of what makes the views"
    known = [checkpoint(name) for name in row.checkpoints]
    return ", ".join(f"{entry.size}, {entry.licence}" for entry in known) or "none"


def main() -> None:
    """Print the table, or write it into the page."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page_with_table(PAGE.read_text("utf8")), "utf8")
    else:
        print(table(), end="")


if __name__ == "__main__":
    main()
