# SPDX-License-Identifier: Apache-2.0
"""Our entry points are imported by every ns-* command of every method: they must be light, and must never raise."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest

OPTIONAL = (
    "img3d_kernels._C",
    "pycolmap",
    "imageio_ffmpeg",
    "mitsuba",
    "diffusers",
    "transformers",
    "rembg",
    "onnxruntime",
)
"""What may be missing or broken while `ns-train --help` and every other method go on working."""
HEAVY = ("open3d", "pycolmap", "mitsuba", "diffusers", "transformers", "rembg", "onnxruntime", "pandas", "numba")
"""What our entry points must not import. (Nerfstudio itself imports torch, torchvision, gsplat, viser and the like.)"""

BROKEN_MODULES = """
import importlib.abc, importlib.machinery, os, sys

class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in os.environ["BROKEN"].split(","):
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is broken on purpose")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Broken())
"""


def test_what_pyproject_registers_is_what_nerfstudio_expects() -> None:
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification
    from nerfstudio.plugins.types import MethodSpecification

    methods = [entry for entry in entry_points(group="nerfstudio.method_configs") if entry.value.startswith("img3d")]
    parsers = [
        entry for entry in entry_points(group="nerfstudio.dataparser_configs") if entry.value.startswith("img3d")
    ]
    assert "img3d-splat" in {entry.name for entry in methods}
    assert "img3d-photos" in {entry.name for entry in parsers}
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


def test_entry_points_import_nothing_heavy_beyond_nerfstudio() -> None:
    script = textwrap.dedent(
        f"""
        import sys
        import nerfstudio.engine.trainer, nerfstudio.models.splatfacto
        import nerfstudio.data.datamanagers.full_images_datamanager
        before = set(sys.modules)
        from importlib.metadata import entry_points
        for group in ("nerfstudio.method_configs", "nerfstudio.dataparser_configs"):
            for entry in entry_points(group=group):
                if entry.value.startswith("img3d"):
                    entry.load()
        new = {{name.split(".")[0] for name in set(sys.modules) - before}}
        print("HEAVY:", sorted(new & set({HEAVY!r})), "C" if "img3d_kernels._C" in sys.modules else "")
        """
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "HEAVY: []" in result.stdout


@pytest.mark.slow
def test_help_works_without_anything_optional(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN_MODULES)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "BROKEN": ",".join(OPTIONAL), "COLUMNS": "120"}
    command = Path(sys.executable).parent / "ns-train"
    for arguments, expected in (
        (["--help"], "img3d-splat"),
        (["img3d-splat", "--help"], "--pipeline.model.max-gaussians"),
    ):
        result = subprocess.run(
            [str(command), *arguments], capture_output=True, text=True, env=env, timeout=240, check=False
        )
        assert result.returncode == 0, result.stderr[-2000:]
        assert expected in result.stdout
        assert "Traceback" not in result.stderr
