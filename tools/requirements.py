"""Prints the packages that pyproject.toml asks for, one a line: img3d's own dependencies and those of the named extras.

pip can install a project's dependencies only together with the project. They are needed apart, because they build in
pip's isolated environments, and img3d itself does not (its build folder is reused).

    python tools/requirements.py dev
"""

import sys
import tomllib
from pathlib import Path


def requirements(extras: list[str]) -> list[str]:
    """Read pyproject.toml's dependencies, and those of the `extras`.

    Raises:
        SystemExit: An extra does not exist.
    """
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in optional]
    if unknown:
        raise SystemExit(f"pyproject.toml has no extra {', '.join(unknown)}; it has {', '.join(sorted(optional))}")
    return [*project["dependencies"], *(name for extra in extras for name in optional[extra])]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
