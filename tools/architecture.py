# SPDX-License-Identifier: Apache-2.0
"""Draws which package imports which into docs/architecture.md, from the imports themselves.

    .venv/bin/python tools/architecture.py --write

Without --write it prints the diagram (Mermaid, which code hosts draw). An arrow that longer ones imply is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- made by tools/architecture.py -->\n", "<!-- end -->\n"


def imports_of_packages() -> dict[str, set[str]]:
    """The packages that each package imports, and nerfstudio where it does."""
    packages = sorted(path.parent.name for path in ROOT.glob("img3d_*/__init__.py"))
    graph = grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)
    found: dict[str, set[str]] = {}
    for package in packages:
        modules = {package} | graph.find_descendants(package)
        imported = {
            name.split(".")[0] for module in modules for name in graph.find_modules_directly_imported_by(module)
        }
        found[package] = (imported & {*packages, "nerfstudio"}) - {package}
    return found


def diagram(imports: dict[str, set[str]]) -> str:
    """A Mermaid flow chart of these imports, imported packages on the left."""
    lines = ["```mermaid", "flowchart LR"]
    for package in sorted(imports):
        direct = imports[package]
        for imported in sorted(direct):
            if not any(imported in _reached(imports, other) for other in direct - {imported}):
                lines.append(f"    {imported} --> {package}")
    return "\n".join([*lines, "```", ""])


def _reached(imports: dict[str, set[str]], package: str) -> set[str]:
    """All packages that a package imports, itself or through others."""
    reached: set[str] = set()
    todo = [package]
    while todo:
        for imported in imports.get(todo.pop(), ()):
            if imported not in reached:
                reached.add(imported)
                todo.append(imported)
    return reached


def page_with(drawn: str, page: str) -> str:
    """The page with this diagram between its marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + drawn + END + rest.split(END)[1]


def main() -> None:
    """Print the diagram, or write it into the page."""
    drawn = diagram(imports_of_packages())
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page_with(drawn, PAGE.read_text()))
    else:
        print(drawn)


if __name__ == "__main__":
    main()
