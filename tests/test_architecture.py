# SPDX-License-Identifier: Apache-2.0
"""The picture of the packages in docs/architecture.md is what their imports are, and only one module asks what class a
model or configuration is of."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
ASKS = "img3d_methods/representation.py"
"""The module that may ask."""
NERFSTUDIO_ASKS = {
    ("img3d_exporters/splats/run_splats.py", "TrainerConfig"),  # whether a YAML file holds a run, as eval_setup does
    ("img3d_methods/commands/command_line_mistakes.py", "DataParserConfig"),  # what tyro makes a subcommand of
}
KINDS = ("Config", "Model", "Options")
"""How names of classes of models and configurations end."""


def sources() -> dict[str, ast.Module]:
    """The syntax trees of all modules of the packages, by path."""
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf8"))
        for package in ROOT.glob("img3d_*/__init__.py")
        for path in package.parent.rglob("*.py")
    }


def last_names(node: ast.expr) -> Iterator[str]:
    """The names of the classes in an expression such as `A`, `module.A`, `A | B`, `(A, B)` or `A[int]`."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Subscript):
        yield from last_names(node.value)
    elif isinstance(node, ast.BinOp):
        yield from (*last_names(node.left), *last_names(node.right))
    elif isinstance(node, ast.Tuple):
        yield from (name for element in node.elts for name in last_names(element))


def models_and_configurations(trees: dict[str, ast.Module]) -> set[str]:
    """The names of our classes of models and configurations, and of the protocols of methods that can be asked for."""
    bases: dict[str, list[str]] = {}
    found: set[str] = set()
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, []).extend(name for base in node.bases for name in last_names(base))
                asked = "runtime_checkable" in {name for each in node.decorator_list for name in last_names(each)}
                if asked and path.startswith("img3d_methods/"):
                    found.add(node.name)
    while True:
        more = {name for name, of in bases.items() if any(base in found or base.endswith(KINDS) for base in of)}
        if more <= found:
            return found
        found |= more


def asked_for(tree: ast.Module) -> Iterable[str]:
    """The names of the classes that a module compares with: isinstance, issubclass, `type(x) is`, and patterns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
            if node.func.id in ("isinstance", "issubclass"):
                yield from last_names(node.args[1])
        elif isinstance(node, ast.MatchClass):
            yield from last_names(node.cls)
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Call):
            if isinstance(node.left.func, ast.Name) and node.left.func.id == "type":
                yield from (name for compared in node.comparators for name in last_names(compared))


def questions(trees: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """The modules, other than the one that may, that ask for a class of a model or configuration; with its name."""
    classes = models_and_configurations(trees)
    return {
        (path, name)
        for path, tree in trees.items()
        if path != ASKS
        for name in asked_for(tree)
        if name in classes or name.endswith(KINDS)
    }


def test_only_the_representation_asks_for_classes_of_models_and_configurations() -> None:
    assert questions(sources()) - NERFSTUDIO_ASKS == set(), f"ask {ASKS} instead"


def test_nothing_is_allowed_in_vain() -> None:
    assert questions(sources()) >= NERFSTUDIO_ASKS


def test_all_ways_of_asking_are_found() -> None:
    ours = (
        "@runtime_checkable\nclass HasPoints(Protocol): ...\nclass Splats(base.SomeModel): ...\nclass Many(Splats): ..."
    )
    for line in (
        "isinstance(x, Many)",
        "isinstance(x, (int, package.Splats))",
        "isinstance(x, HasPoints | None)",
        "issubclass(x, TheirConfig)",
        "type(x) is Splats",
        "match x:\n    case Many(): pass",
    ):
        trees = {"img3d_methods/a.py": ast.parse(ours), "img3d_exporters/b.py": ast.parse(line)}
        assert {path for path, _ in questions(trees)} == {"img3d_exporters/b.py"}, line
    assert not questions({"img3d_methods/a.py": ast.parse(ours + "\nisinstance(x, Mesh)")})


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
