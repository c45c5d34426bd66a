# SPDX-License-Identifier: Apache-2.0
"""Runs jobs one at a time. Each command is a process of its own, which ends with the studio."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from img3d_base.atomic_files import remove
from img3d_base.console import print_line
from img3d_base.errors import InputError
from img3d_studio.commands import Command, RunFiles, commands_of
from img3d_studio.progress import ALREADY_TRAINED, MARK, failure, tail
from img3d_studio.store import Job, Store

SECONDS_TO_SAVE = 60.0
"""A command that has not ended this long after SIGTERM is killed; it saves its state meanwhile."""
POLL_SECONDS = 0.2
"""Time between two looks at the running command."""
CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Current:
    """The command that is running."""

    job: Job
    command: Command
    port: int
    """The port at which it shows the scene; 0 unless it is live."""


def find_program(name: str) -> list[str]:
    """The beginning of a program's command line: the program beside this Python if there is one, else that on PATH."""
    beside = Path(sys.executable).parent / name
    return [str(beside) if beside.exists() else name]


class JobQueue:
    """A thread that takes jobs from the store and runs them.

    Args:
        store: The store.
        program: Returns the beginning of the command line for a program's name; tests replace it.
    """

    def __init__(self, store: Store, program: Callable[[str], list[str]] = find_program) -> None:
        self.store = store
        self.current: Current | None = None
        self._program = program
        self._cancelled: int | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> None:
        """Starts the thread; jobs that were interrupted when the studio ended come first."""
        self.store.resume()
        self._thread.start()

    def wake(self) -> None:
        """Tells the thread that there may be a new job."""
        self._wake.set()

    def stop(self) -> None:
        """Ends the running command, which saves its state first, and the thread. The job continues when the studio is
        started again."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def cancel(self, run_id: str) -> None:
        """Cancels the waiting and running jobs of a run, and waits until the running one has ended."""
        for job in self.store.jobs():
            if job.run_id == run_id and job.state == "queued":
                self.store.job_ended(job.id, "cancelled")
        current = self.current
        if current is not None and current.job.run_id == run_id:
            self._cancelled = current.job.id
            while self.current is not None and self.current.job.id == current.job.id:
                time.sleep(POLL_SECONDS / 4)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            job = self.store.take_job()
            if job is None:
                self._wake.wait()
                continue
            self._cancelled = None  # a job that was cancelled before may run again
            try:
                self._run(job)
            except (InputError, OSError) as error:
                self.store.job_ended(job.id, "failed", str(error))
            finally:
                self.current = None

    def _run(self, job: Job) -> None:
        run = self.store.run(job.run_id)
        if run is None:
            return  # deleted meanwhile
        files = RunFiles(self.store.run_folder(job.run_id))
        files.files.mkdir(parents=True, exist_ok=True)
        commands = commands_of(job, run, files)
        for number, command in enumerate(commands[job.step :], job.step + 1):
            self.current = Current(job, command, _free_port() if command.live else 0)
            began = time.monotonic()
            message = self._run_command(command, self.current.port, files)
            self.store.command_ended(job.id, number - 1 if message else number, time.monotonic() - began)
            if self._stopping.is_set() and message:
                return  # it stays "running" in the database, so that `Store.resume` queues it again
            if self._cancelled == job.id:
                self.store.job_ended(job.id, "cancelled")
                return
            if message:
                self.store.job_ended(job.id, "failed", message)
                return
        self.store.job_ended(job.id, "done")
        if job.kind == "edit":
            _remove_exports(files)

    def _run_command(self, command: Command, port: int, files: RunFiles) -> str:
        """Runs a command, and ends it if the job is cancelled or the studio stops.

        Returns:
            Why it failed, in one line; empty if it succeeded.
        """
        program, *arguments = command.arguments()
        if command.live:
            arguments += ["--viewer.websocket-port", str(port)]
        with files.log.open("ab") as log:
            log.write(f"\n{MARK}{command.title}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [sys.executable, str(CHILD), *self._program(program), *arguments],
                cwd=files.folder,
                env=_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        job = self.current.job.id if self.current is not None else None
        while process.poll() is None:
            if self._stopping.is_set() or self._cancelled == job:
                end(process)
                break
            time.sleep(POLL_SECONDS)
        if process.returncode == 0:
            return ""
        lines = tail(files.log)
        message = failure(lines)
        # Nothing is left to train if the studio was killed after the last step had been saved.
        return "" if command.live and ALREADY_TRAINED.search(message) else message


def end(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGTERM to a process and its children, and kills them if they do not end."""
    for number, patience in ((signal.SIGTERM, SECONDS_TO_SAVE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass  # it ended by itself
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            print_line(f"Process {process.pid} does not end, and is killed.")


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of commands: unbuffered output, and none of the warnings that users cannot act on."""
    quiet = "ignore::FutureWarning,ignore::DeprecationWarning"
    return {**environment, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": quiet, "COLUMNS": "200", "NO_COLOR": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _remove_exports(files: RunFiles) -> None:
    """Removes the files that were exported before an edit, since they do not show it."""
    for path in files.files.iterdir():
        remove(path)
