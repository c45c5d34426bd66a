# SPDX-License-Identifier: Apache-2.0
"""The studio's runs and jobs, in an SQLite database. The files of each run are in a folder of its own."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from img3d_base.atomic_files import remove
from img3d_base.errors import InputError

JobKind = Literal["make", "file", "edit"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
DATABASE = "studio.sqlite"
SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    created REAL NOT NULL,
    choice TEXT NOT NULL DEFAULT '',
    text TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    argument TEXT NOT NULL,
    state TEXT NOT NULL,
    step INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,
    message TEXT NOT NULL DEFAULT ''
);
"""


@dataclass(frozen=True)
class Run:
    """A scene that a user makes, or has made, from files or a text."""

    id: str
    title: str
    created: float
    """Seconds since 1970."""
    choice: str
    """The name of the `Choice` to make; empty until the user has chosen."""
    text: str
    """The text that it is made from; empty if it is made from files."""


@dataclass(frozen=True)
class Job:
    """A sequence of commands for a run: making the scene, exporting a file, or editing."""

    id: int
    run_id: str
    kind: JobKind
    argument: str
    """Name of the file to export, or the edit as JSON; else empty."""
    state: JobState
    step: int
    """The number of commands that have ended."""
    seconds: float
    """Time that its commands have taken."""
    message: str
    """Why it failed, in one line."""


class Store:
    """The database and the folders of runs. Each call opens a connection of its own, so threads may share a store.

    Args:
        folder: Holds both; created if absent.

    Raises:
        InputError: The folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{folder} cannot hold the studio's runs: {error}") from error

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection, None, None]:
        connection = sqlite3.connect(self.folder / DATABASE, timeout=30)
        connection.execute("PRAGMA foreign_keys=ON")
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    # ------------------------------------------------------------------------------------------------------ runs

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run's files."""
        return self.folder / "runs" / run_id

    def new_run(self) -> Run:
        """Creates a run without files."""
        run = Run(secrets.token_hex(6), "", time.time(), "", "")
        self.run_folder(run.id).joinpath("input").mkdir(parents=True)
        with self._connection() as connection:
            connection.execute("INSERT INTO runs (id, title, created) VALUES (?, ?, ?)", (run.id, "", run.created))
        return run

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        with self._connection() as connection:
            rows = connection.execute(f"SELECT {_columns(Run)} FROM runs ORDER BY created DESC").fetchall()
        return [Run(*row) for row in rows]

    def run(self, run_id: str) -> Run | None:
        """The run with this id, or None."""
        return next((run for run in self.runs() if run.id == run_id), None)

    def choose(self, run_id: str, title: str, choice: str, text: str) -> None:
        """Records what a run makes, and its title."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE runs SET title = ?, choice = ?, text = ? WHERE id = ?", (title, choice, text, run_id)
            )

    def delete_run(self, run_id: str) -> None:
        """Removes a run and its files. None of its jobs may be running."""
        with self._connection() as connection:
            connection.execute("DELETE FROM runs WHERE id = ?", (run_id,))
        remove(self.run_folder(run_id))

    # ------------------------------------------------------------------------------------------------------ jobs

    def add_job(self, run_id: str, kind: JobKind, argument: str = "") -> int:
        """Adds a job at the end of the queue, unless the same job is waiting or running.

        Returns:
            The id of the job, new or old.
        """
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            same = connection.execute(
                "SELECT id FROM jobs WHERE run_id = ? AND kind = ? AND argument = ? AND state IN ('queued', 'running')",
                (run_id, kind, argument),
            ).fetchone()
            if same is not None:
                return int(same[0])
            cursor = connection.execute(
                "INSERT INTO jobs (run_id, kind, argument, state) VALUES (?, ?, ?, 'queued')", (run_id, kind, argument)
            )
            return int(cursor.lastrowid or 0)

    def jobs(self) -> list[Job]:
        """All jobs, in the order of the queue."""
        with self._connection() as connection:
            rows = connection.execute(f"SELECT {_columns(Job)} FROM jobs ORDER BY id").fetchall()
        return [Job(*row) for row in rows]

    def take_job(self) -> Job | None:
        """Marks the first waiting job as running, and returns it; None if no job waits."""
        with self._connection() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = 'running', message = '' WHERE id = (SELECT min(id) FROM jobs WHERE state = "
                f"'queued') RETURNING {_columns(Job)}"
            ).fetchone()
        return None if row is None else Job(*row)

    def command_ended(self, job_id: int, step: int, seconds: float) -> None:
        """Records the number of a job's commands that have ended, and the time that the last one took."""
        with self._connection() as connection:
            connection.execute("UPDATE jobs SET step = ?, seconds = seconds + ? WHERE id = ?", (step, seconds, job_id))

    def job_ended(self, job_id: int, state: JobState, message: str = "") -> None:
        """Records how a job ended."""
        with self._connection() as connection:
            connection.execute("UPDATE jobs SET state = ?, message = ? WHERE id = ?", (state, message, job_id))

    def queue_again(self, run_id: str) -> None:
        """Queues a run's failed and cancelled jobs again; they continue with the command that did not succeed."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'queued' WHERE run_id = ? AND state IN ('failed', 'cancelled')", (run_id,)
            )

    def resume(self) -> None:
        """Puts jobs that were running when the studio ended back into the queue."""
        with self._connection() as connection:
            connection.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")

    def seconds_of(self, choice: str) -> list[float]:
        """Times that runs of this choice took on this machine, newest last."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT jobs.seconds FROM jobs JOIN runs ON runs.id = jobs.run_id WHERE jobs.kind = 'make' AND "
                "jobs.state = 'done' AND runs.choice = ? ORDER BY jobs.id",
                (choice,),
            ).fetchall()
        return [float(row[0]) for row in rows]


def _columns(kind: type[Run | Job]) -> str:
    return ", ".join(field.name for field in fields(kind))
