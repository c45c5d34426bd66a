"""Checks, before anything is downloaded, that the system has what img3d's environment needs from outside PyPI.

Runs with the system's own Python and nothing else: `python3 tools/check_system.py`. Ends with status 1 and one sentence
if something is missing.
"""

import ctypes.util
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {
    "python3-venv": lambda: find_spec("ensurepip") is not None,
    "python3-dev": (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file,
    "g++": lambda: shutil.which("c++") is not None,
    "libgl1": lambda: ctypes.util.find_library("GL") is not None,
    "libx11-6": lambda: ctypes.util.find_library("X11") is not None,
    "libgomp1": lambda: ctypes.util.find_library("gomp") is not None,
}
"""Debian's packages, each with whether what it brings is there. The libraries are Open3D's and PyMeshLab's."""
OLDEST, NEWEST = (3, 11), (3, 12)
"""Python versions for which constraints.txt has packages."""


def problem():
    """Say what is missing and how to get it, in one sentence; None if all is there."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        version = sys.version.partition(" ")[0]
        return f"img3d needs Python 3.11 or 3.12, and this is {version}: name one: `make PYTHON=python3.11 …`."
    missing = [name for name, is_there in PACKAGES.items() if not is_there()]
    if missing:
        names = " ".join(missing)
        return f"img3d needs from the system: {names}. On Debian and Ubuntu: apt-get install {names}"
    return None


if __name__ == "__main__":
    sys.exit(problem())
