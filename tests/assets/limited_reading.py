# SPDX-License-Identifier: Apache-2.0
"""Reads splat files in a process that may take one GiB more than it has when it begins; says what came of each.

`python limited_reading.py FOLDER EXAMPLES NAME …` reads so many damaged variants of each file in the folder whose name
begins with "good", then the files of these names. It prints a line of JSON for each of either.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SPARE_BYTES = 1 << 30
HANG_SECONDS = 60
"""For what takes a second or two on an idle machine."""
MAX_LINE_LENGTH = 500
HUGE = (0, 1, 0xFF, 0xFFFF, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
JSON_JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 3, 0.5, 2**31, 10**9, 10**12, 10**30, -(10**30), float("nan"), float("inf")),
    *(
        "",
        "x",
        "../x",
        "/dev/zero",
        "data:,",
        "data:;base64,AAAA",
        [],
        [0],
        [[]],
        [1] * 300,
        {},
        {"x": 1},
        {"uri": "x"},
    ),
)


def read_limited(folder: Path, examples: int, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What a process of this module says, by file: "outcome", "line", "seconds"."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(folder), str(examples), *names],
        capture_output=True,
        text=True,
        env=environment,
        timeout=20 * HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {report["name"]: report for report in reports}


def _outcome(path: Path) -> tuple[str, str]:
    """What reading the file comes to, and what is said.

    Raises:
        AssertionError: It is wrong: more than a line, a lack of memory, Gaussians that do not fit together.
    """
    from img3d_assets.gaussians import ARRAYS
    from img3d_assets.splat_files import read_splats
    from img3d_base.errors import InputError

    signal.alarm(HANG_SECONDS)
    try:
        splats, _ = read_splats(path)
        assert len({len(getattr(splats, name)) for name in ARRAYS}) == 1
        splats.visible()
        return "read", f"{len(splats)} Gaussians"
    except InputError as error:
        line = str(error)
        assert line.isprintable() and len(line) < MAX_LINE_LENGTH + len(str(path)), line
        assert "this computer's memory" not in line and "allocate" not in line, line
        return "refused", line
    finally:
        signal.alarm(0)


def _limit_memory() -> None:
    """From here on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _report(name: str, start: float, outcome: str, line: str) -> None:
    print(json.dumps({"name": name, "outcome": outcome, "line": line, "seconds": time.monotonic() - start}), flush=True)


def _read(path: Path) -> None:
    start = time.monotonic()
    try:
        outcome, line = _outcome(path)
    except BaseException as error:  # whatever it is: the test says what was expected
        outcome, line = "failed", f"{type(error).__name__}: {error}"
    _report(path.name, start, outcome, line)


def _read_damaged(path: Path, examples: int) -> None:
    from hypothesis import given, settings
    from hypothesis import strategies as st

    bad = path.with_name(f"bad-{path.name}")
    contents = path.read_bytes()
    outcomes = {"read": 0, "refused": 0}

    @settings(max_examples=examples, deadline=None, database=None)
    @given(data=st.data())
    def damage(data: st.DataObject) -> None:
        bad.write_bytes(_damaged(contents, path.name, data))
        outcomes[_outcome(bad)[0]] += 1

    start = time.monotonic()
    try:
        damage()
    except BaseException as error:
        notes = " ".join(getattr(error, "__notes__", []))
        _report(path.name, start, "failed", f"{type(error).__name__}: {error} {notes}")
    else:
        _report(path.name, start, "right", f"{outcomes}")


def _damaged(contents: bytes, name: str, data: Any) -> bytes:
    """Cut off, with other bytes, with counts that lie, or with other things in its JSON."""
    from hypothesis import strategies as st

    kinds = ["cut", "bytes", "counts"]
    if b"end_header" in contents:
        kinds += ["numbers"] * 2
    if name.endswith((".gltf", ".glb", ".sog")):
        kinds += ["json"] * 5
    kind = data.draw(st.sampled_from(kinds))
    if kind == "cut":
        return contents[: data.draw(st.integers(0, len(contents) - 1))]
    if kind == "numbers":
        return _with_other_numbers(contents, data)
    if kind == "json":
        return _with_other_json(contents, name, data)
    changed = bytearray(contents)
    for _ in range(data.draw(st.integers(1, 4))):
        last = len(changed) - 1 if data.draw(st.booleans()) else min(len(changed) - 1, 300)  # headers matter most
        place = data.draw(st.integers(0, last))
        value = data.draw(st.sampled_from(HUGE) if kind == "counts" else st.integers(0, 255))
        length = data.draw(st.sampled_from([2, 4])) if kind == "counts" else 1
        changed[place : place + length] = (value % (1 << (8 * length))).to_bytes(length, "little")
    return bytes(changed)


def _with_other_numbers(contents: bytes, data: Any) -> bytes:
    """A PLY whose header has another count."""
    from hypothesis import strategies as st

    header, end, rest = contents.partition(b"end_header")
    lines = header.split(b"\n")
    counts = [i for i, line in enumerate(lines) if line.startswith(b"element")]
    chosen = data.draw(st.sampled_from(counts))
    count = data.draw(st.sampled_from([*HUGE, -1, 10**12, 10**30]))
    lines[chosen] = b" ".join([*lines[chosen].split()[:2], str(count).encode()])
    return b"\n".join(lines) + end + rest


def _with_other_json(contents: bytes, name: str, data: Any) -> bytes:
    """A glTF or SOG in whose JSON something is something else, or is not there."""
    import io
    import struct
    import zipfile

    def changed(text: bytes) -> bytes:
        value = json.loads(text)
        for _ in range(data.draw(_small_counts())):
            _change(value, data)
        return json.dumps(value).encode()

    if name.endswith(".gltf"):
        return changed(contents)
    if name.endswith(".glb"):
        length = struct.unpack_from("<I", contents, 12)[0]
        text = changed(contents[20 : 20 + length])
        return contents[:12] + struct.pack("<I", len(text)) + contents[16:20] + text + contents[20 + length :]
    source, target = zipfile.ZipFile(io.BytesIO(contents)), io.BytesIO()
    with source, zipfile.ZipFile(target, "w") as archive:
        for member in source.namelist():
            text = source.read(member)
            archive.writestr(member, changed(text) if member == "meta.json" else text)
    return target.getvalue()


def _small_counts() -> Any:
    from hypothesis import strategies as st

    return st.integers(1, 2)


def _change(value: Any, data: Any) -> None:
    """Goes down into a JSON value and changes something there."""
    from hypothesis import strategies as st

    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(value[key], (dict, list)) and value[key] and data.draw(st.integers(0, 4)):
            value = value[key]
            continue
        if isinstance(value, dict) and data.draw(st.integers(0, 4)) == 0:
            del value[key]
        else:
            value[key] = copy.deepcopy(data.draw(st.sampled_from(JSON_JUNK)))  # as the next change may be in it
        return


def main() -> None:
    """What the module's text says."""
    folder, examples, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    warnings.simplefilter("error", RuntimeWarning)  # NumPy's are lines that nobody understands
    files = sorted(path for path in folder.iterdir() if path.name.startswith("good"))
    for path in files:  # whatever is loaded late
        assert _outcome(path)[0] == "read"
    _limit_memory()
    for path in files:
        _read_damaged(path, examples)
    for name in names:
        _read(folder / name)


if __name__ == "__main__":
    main()
