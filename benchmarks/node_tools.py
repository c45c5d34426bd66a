# SPDX-License-Identifier: Apache-2.0
"""Other people's programs from npm, which read and write what we do: PlayCanvas's splat-transform, Khronos' validator.

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

FOLDER = "IMG3D_NODE_TOOLS"
VALIDATE = """
const fs = require('fs'), validator = require('gltf-validator');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
    .then((report) => console.log(JSON.stringify(report)));
"""


class NoNodeToolError(Exception):
    """The program is not installed; the message says what is missing."""


def splat_transform(source: Path, output: Path, timeout: float = 300) -> Path:
    """Converts one splat file to another, without a GPU.

    Raises:
        NoNodeToolError: It is not installed.
        subprocess.SubprocessError: It failed, or took longer than so many seconds.
    """
    program = _package("@playcanvas/splat-transform") / "bin" / "cli.mjs"
    command = ["node", str(program), "-q", "-w", "-g", "cpu", str(source), str(output)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout)
    return output


def gltf_validation(path: Path) -> dict[str, Any]:
    """What the validator says of a file: "issues", "info".

    Raises:
        NoNodeToolError: It is not installed.
    """
    modules = _package("gltf-validator").parent
    done = subprocess.run(
        ["node", "-e", VALIDATE, str(path)], check=True, capture_output=True, text=True, timeout=300, cwd=modules
    )
    return json.loads(done.stdout)


def _package(name: str) -> Path:
    folder = Path(os.environ.get(FOLDER, "")) / "node_modules" / name
    if FOLDER not in os.environ or not folder.is_dir() or shutil.which("node") is None:
        raise NoNodeToolError(f"{FOLDER} names no folder with npm's {name}, or there is no Node")
    return folder
