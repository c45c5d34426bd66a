# SPDX-License-Identifier: Apache-2.0
"""Other people's programs from npm, which read what we write: PlayCanvas's splat-transform, Khronos' glTF validator.

They are installed by hand, in a folder that IMG3D_NODE_TOOLS names:
`npm install --prefix FOLDER @playcanvas/splat-transform@2.7.1 gltf-validator@2.0.0-dev.3.10`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

VALIDATE = """
const fs = require('fs'), validator = require('gltf-validator');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
    .then((report) => console.log(JSON.stringify(report)));
"""


def splat_transform(source: Path, output: Path) -> Path:
    """Converts one splat file to another."""
    program = _package("@playcanvas/splat-transform") / "bin" / "cli.mjs"
    command = ["node", str(program), "-q", "-w", "-g", "cpu", str(source), str(output)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


def gltf_validation(path: Path) -> dict[str, Any]:
    """What the validator says of a file: "issues", "info"."""
    modules = _package("gltf-validator").parent
    done = subprocess.run(
        ["node", "-e", VALIDATE, str(path)], capture_output=True, text=True, timeout=300, cwd=modules, check=True
    )
    return json.loads(done.stdout)


def _package(name: str) -> Path:
    folder = Path(os.environ.get("IMG3D_NODE_TOOLS", "")) / "node_modules" / name
    if "IMG3D_NODE_TOOLS" not in os.environ or not folder.is_dir() or shutil.which("node") is None:
        pytest.skip(f"IMG3D_NODE_TOOLS names no folder with npm's {name}, or there is no Node")
    return folder
