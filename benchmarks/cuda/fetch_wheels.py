# SPDX-License-Identifier: Apache-2.0
"""Fetches the wheels that cuda_benchmark.py installs where there is no network.

python benchmarks/cuda/fetch_wheels.py wheels/ --python 3.12
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).with_name("wheels.txt")
MAX_BYTES = 60_000_000
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
)


def wanted() -> list[str]:
    """What wheels.txt lists, as NAME==VERSION."""
    lines = (line.partition("#")[0].strip() for line in LIST.read_text("utf8").splitlines())
    return [line for line in lines if line]


def fetch(package: str, folder: Path, python: str) -> str | None:
    """Download one wheel; what went wrong, or None. What has no wheel is built from its source here."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    foreign = [*pip, "--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms, package]
    if subprocess.run(foreign, capture_output=True, check=False).returncode == 0:
        return None
    pure = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), package]
    built = subprocess.run(pure, capture_output=True, text=True, check=False)
    return None if built.returncode == 0 else (built.stderr.strip().splitlines() or ["pip failed"])[-1]


def main() -> None:
    """Fetch all, and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="the other machine's version")
    arguments = parser.parse_args()
    failures = {
        package: reason for package in wanted() if (reason := fetch(package, arguments.folder, arguments.python))
    }
    for package, reason in failures.items():
        print(f"{package}: {reason}", file=sys.stderr)
    wheels = sorted(arguments.folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{len(wheels)} wheels, {size / 1e6:.1f} MB: {arguments.folder}")
    for wheel in wheels:
        if "-any.whl" not in wheel.name and "x86_64" not in wheel.name:
            failures[wheel.name] = "for another platform"
            print(f"{wheel.name} was built for this machine only", file=sys.stderr)
    sys.exit(bool(failures) or size > MAX_BYTES)


if __name__ == "__main__":
    main()
