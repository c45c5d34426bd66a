# SPDX-License-Identifier: Apache-2.0
"""Our entry points are imported by every ns-* command of every method: they must be light, and must never raise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hang_limit import HANG_SECONDS

BLOCKED_BY_NAME = ("img3d_kernels._C",)
"""Part of our own packages, but missing where it was not built."""
PARTS_OF_NERFSTUDIOS = ("fontTools", "mpl_toolkits")
"""Imported by packages that Nerfstudio imports anyway (both by matplotlib), as soon as more of these is used."""

IMPORT_NERFSTUDIO_ALONE = """
import importlib.metadata, sys

registered = importlib.metadata.entry_points

def without_plugins(**parameters):
    groups = ("nerfstudio.method_configs", "nerfstudio.dataparser_configs", "torch.backends")
    ours_too = parameters.get("group") in groups
    return importlib.metadata.EntryPoints(()) if ours_too else registered(**parameters)

importlib.metadata.entry_points = without_plugins
import nerfstudio.scripts.train
importlib.metadata.entry_points = registered
"""
ASK_FOR_HELP = """
sys.argv = ["ns-train", "splatfacto", "--help"]
try:
    nerfstudio.scripts.train.entrypoint()
except SystemExit:
    pass
"""
LIST_PACKAGES = """
print("\\nPACKAGES:", *{name.split(".")[0] for name in sys.modules})
"""
BREAK_ALL_OTHERS = """
import importlib.abc, importlib.machinery, os, sys

ALLOWED = {*os.environ["ALLOWED"].split(","), *sys.stdlib_module_names, "sitecustomize"}
BLOCKED = os.environ["BLOCKED"].split(",")

class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        package = name.split(".")[0]
        allowed = package in ALLOWED or package.startswith("img3d_")
        if name in BLOCKED or not allowed and importlib.machinery.PathFinder.find_spec(package) is not None:
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is broken on purpose")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Broken())
"""
LOAD_OURS = """
from importlib.metadata import entry_points
for group in ("nerfstudio.method_configs", "nerfstudio.dataparser_configs"):
    for entry in entry_points(group=group):
        if entry.value.startswith("img3d"):
            print("loaded", entry.load())
"""


@pytest.fixture(scope="module")
def all_others_broken() -> dict[str, str]:
    """The environment of a process in which every package is broken that `ns-train` does not import without us."""
    command = [sys.executable, "-c", IMPORT_NERFSTUDIO_ALONE + ASK_FOR_HELP + LIST_PACKAGES]
    result = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=True)
    (line,) = re.findall(r"^PACKAGES: (.*)$", result.stdout, re.MULTILINE)
    packages = set(line.split())
    assert "torch" in packages
    assert not {name for name in packages if name.startswith("img3d")}
    return {
        **os.environ,
        "ALLOWED": ",".join(sorted({*packages, *PARTS_OF_NERFSTUDIOS})),
        "BLOCKED": ",".join(BLOCKED_BY_NAME),
        "COLUMNS": "120",
    }


def test_what_pyproject_registers_is_what_nerfstudio_expects() -> None:
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification
    from nerfstudio.plugins.types import MethodSpecification

    methods = [entry for entry in entry_points(group="nerfstudio.method_configs") if entry.value.startswith("img3d")]
    parsers = [
        entry for entry in entry_points(group="nerfstudio.dataparser_configs") if entry.value.startswith("img3d")
    ]
    assert {"img3d-splat", "img3d-mesh"} <= {entry.name for entry in methods}
    assert {"img3d-photos", "img3d-mesh"} <= {entry.name for entry in parsers}
    for entry in methods:
        specification = entry.load()
        assert isinstance(specification, MethodSpecification)
        assert specification.config.method_name == entry.name
        assert specification.description
    for entry in parsers:
        assert isinstance(entry.load(), DataParserSpecification)


def test_servers_are_for_this_machine_unless_asked_otherwise() -> None:
    for entry in entry_points(group="nerfstudio.method_configs"):
        if entry.value.startswith("img3d"):
            assert entry.load().config.viewer.websocket_host == "127.0.0.1"


@pytest.mark.slow
def test_entry_points_need_nothing_beyond_nerfstudio(all_others_broken: dict[str, str]) -> None:
    script = IMPORT_NERFSTUDIO_ALONE + BREAK_ALL_OTHERS + LOAD_OURS
    command = [sys.executable, "-c", script]
    result = subprocess.run(
        command, capture_output=True, text=True, env=all_others_broken, timeout=HANG_SECONDS, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(re.findall("^loaded ", result.stdout, re.MULTILINE)) >= 6


@pytest.mark.slow
def test_help_works_without_anything_optional(tmp_path: Path, all_others_broken: dict[str, str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(BREAK_ALL_OTHERS)
    env = {**all_others_broken, "PYTHONPATH": str(tmp_path)}
    command = Path(sys.executable).parent / "ns-train"
    for arguments, expected in (
        (["--help"], "img3d-splat"),
        (["img3d-splat", "--help"], "--pipeline.model.max-gaussians"),
    ):
        result = subprocess.run(
            [str(command), *arguments], capture_output=True, text=True, env=env, timeout=HANG_SECONDS, check=False
        )
        assert result.returncode == 0, result.stderr[-2000:]
        assert expected in result.stdout
        assert "Traceback" not in result.stderr


def test_other_programs_import_nothing_of_ours_with_torch() -> None:
    script = "import sys, torch; print('IMPORTED:', *sorted(name for name in sys.modules if name.startswith('img3d')))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (line,) = re.findall("^IMPORTED: (.*)$", result.stdout, re.MULTILINE)
    assert line.split() in (
        [],
        ["img3d_methods", "img3d_methods.commands", "img3d_methods.commands.nerfstudio_commands"],
    )


def test_export_command_imports_no_nerfstudio_before_it_is_needed() -> None:
    """Nerfstudio warns when it is imported, and takes seconds."""
    script = "import sys, img3d_exporters.export_command; print('IMPORTED:', 'nerfstudio' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "IMPORTED: False" in result.stdout
    assert result.stderr == ""
