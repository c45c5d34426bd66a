# SPDX-License-Identifier: Apache-2.0
"""Commands that are run one after the other, each with a limit of time: what fails is noted, and the rest goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

LAST_LINES = 15
"""Of the output of a stage that failed."""
RESULT = "STAGE_RESULT"
"""The environment variable that tells a stage which JSON file to write its numbers into."""

State = Literal["done", "failed", "timed out", "skipped"]


@dataclass(frozen=True)
class Stage:
    """One command."""

    name: str
    command: Sequence[str]
    seconds: float
    """The longest that it may take."""
    needs: tuple[str, ...] = ()
    """Stages that must be done."""
    skip: str | None = None
    """Why it is not run."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Record:
    """What became of a stage."""

    name: str
    state: State
    seconds: float = 0.0
    result: Any = None
    """What it wrote, as far as it wrote anything."""
    reason: str = ""
    last_lines: list[str] = field(default_factory=list)


class Stages:
    """Runs stages in groups, and keeps what became of each.

    Args:
        folder: For logs and results; made if need be.
        seconds: For all of them together.
        changed: Called with all records whenever there are new ones.
    """

    def __init__(self, folder: Path, seconds: float, changed: Callable[[list[Record]], None]) -> None:
        self.records: list[Record] = []
        self._folder = folder
        self._deadline = time.monotonic() + seconds
        self._changed = changed
        self._running: set[subprocess.Popen[bytes]] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, *together: Stage) -> None:
        """Run these side by side, and wait for all of them."""
        with ThreadPoolExecutor(len(together)) as threads:
            records = list(threads.map(self._guarded, together))
        self.records += records
        self._changed(self.records)

    def end(self) -> None:
        """End what is running; for a script that is told to end itself."""
        for process in list(self._running):
            _end(process)

    def _guarded(self, stage: Stage) -> Record:
        done = {record.name for record in self.records if record.state == "done"}
        missing = [name for name in stage.needs if name not in done]
        left = self._deadline - time.monotonic()
        if stage.skip:
            return Record(stage.name, "skipped", reason=stage.skip)
        if missing:
            return Record(stage.name, "skipped", reason=f"needs {', '.join(missing)}")
        if left < 1:
            return Record(stage.name, "skipped", reason="no time was left")
        began = time.monotonic()
        try:
            return self._run(stage, min(stage.seconds, left))
        except Exception as error:  # whatever it is, the other stages go on
            return Record(stage.name, "failed", time.monotonic() - began, reason=f"{type(error).__name__}: {error}")

    def _run(self, stage: Stage, limit: float) -> Record:
        log, result = (self._folder / f"{stage.name}.{ending}" for ending in ("log", "json"))
        result.unlink(missing_ok=True)
        environment = {**os.environ, **stage.environment, RESULT: str(result), "PYTHONUNBUFFERED": "1"}
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                stage.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # so that what it starts ends with it
            )
            self._running.add(process)
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _end(process)
                self._running.discard(process)
        record = Record(stage.name, "done", time.monotonic() - began)
        if status is None:
            record.state, record.reason = "timed out", f"after {limit:.0f} s"
        elif status != 0:
            record.state, record.reason = "failed", f"exit status {status}"
        if record.state != "done":
            record.last_lines = log.read_text("utf8", "replace").splitlines()[-LAST_LINES:]
        if result.is_file():
            record.result = json.loads(result.read_text("utf8"))
        return record


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a stage's process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of them have ended
    process.wait()


def write_result(numbers: Any) -> None:
    """For a stage: its numbers so far, whole or not at all."""
    path = Path(os.environ[RESULT])
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(numbers), "utf8")
    temporary.replace(path)
