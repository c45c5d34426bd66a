# SPDX-License-Identifier: Apache-2.0
"""Jobs at services: ordered once, recorded before anything is waited for, and resumed after an interruption.

A job has two files in the cache: `remote-SERVICE-KEY.json`, the record of the order, the job's id and the service's
answer; and the asset. The key depends on everything that was ordered.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from img3d_base.atomic_files import write_atomically
from img3d_base.console import print_line
from img3d_base.errors import InputError
from img3d_base.file_locks import locked
from img3d_base.foreign_files import is_json_object, read_json
from img3d_base.fraction_bar import FractionBar
from img3d_generators.services.adapter import Adapter, Handle, ImmediateAdapter, JobAdapter, Order, Report
from img3d_generators.services.client import NotKnownWhetherTaken, ServiceError
from img3d_generators.services.downloads import MAX_BYTES, LinkExpired, download
from img3d_generators.services.keys import without_secrets
from img3d_generators.services.registry import Service, service

RECIPE = 1
"""Part of the key. Increment it if the same order begins to mean something else, so that it is made anew."""
PATTERN = "remote-*.json"
"""Matches the names of jobs' files."""
SPLAT_ENDINGS = (".ply", ".spz", ".splat", ".ksplat", ".sog")
ORDERED, ORDERING, DONE, FAILED, READY = "ordered", "ordering", "done", "failed", "ready"
"""States of a job. ORDERED: the service has taken it. ORDERING: an order was begun, and no answer is known. DONE and
FAILED: at the service. READY: the asset is in the cache."""
MAX_LINKS = 3
"""Number of links that are asked for, one after another, if they expire before the download begins."""
Check = Callable[[Path], object]
"""Reads an asset; raises InputError if it cannot be used."""


@dataclass
class Job:
    """A job and its two files."""

    service: Service
    path: Path
    """Its .json file."""
    record: dict[str, Any] = field(default_factory=dict[str, Any])
    """The file's content; empty if nothing was ordered yet."""

    @property
    def state(self) -> str:
        """One of the states above; "" if nothing was ordered."""
        return str(self.record.get("state", ""))

    @property
    def asset(self) -> Path:
        """The file of the asset, whether it is there or not."""
        return self.path.with_suffix(str(self.record.get("ending", ".glb")))

    @property
    def id(self) -> str:
        """The job's id at the service."""
        return str(self.handle.get("id", ""))

    @property
    def is_new(self) -> bool:
        """Whether it has to be ordered, and paid. It is new again if the asset is gone and no service keeps it."""
        lost = self.state in (DONE, READY) and not self.handle and not self.asset.is_file()
        return self.state in ("", FAILED) or lost

    @property
    def is_ready(self) -> bool:
        """Whether the asset is in the cache."""
        return self.state == READY and self.asset.is_file()

    @property
    def handle(self) -> Handle:
        """What identifies the job to its service; empty if that is unknown, or if the service keeps no jobs."""
        handle = self.record.get("handle")
        return handle if is_json_object(handle) else {}

    def save(self, state: str, **changes: Any) -> None:
        """Writes the file, which only its owner may read, atomically.

        Raises:
            InputError: It cannot be written.
        """
        self.record = {**self.record, "state": state, **changes}
        try:
            with write_atomically(self.path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_text(json.dumps(self.record, indent=1, ensure_ascii=False) + "\n", "utf8")
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def public_record(self) -> dict[str, Any]:
        """The record without secrets, to be kept beside a run."""
        return without_secrets({**self.record, "asset": str(self.asset)})


def job_of(order: Order, row: Service, cache: Path) -> Job:
    """The job of an order, begun or not.

    Raises:
        InputError: Its file is damaged.
    """
    content = (
        *(RECIPE, row.name, order.prompt, order.model, order.seed, order.gives, sorted(order.settings.items())),
        *(picture.digest for picture in order.pictures),
        row.adapter_class().identity(order),
    )
    key = hashlib.sha256(repr(content).encode()).hexdigest()[:16]
    path = cache / f"remote-{row.name}-{key}.json"
    return read_job(path) if path.exists() else Job(row, path)


def read_job(path: Path) -> Job:
    """Reads a job's file.

    Raises:
        InputError: It is damaged.
    """
    try:
        record = read_json(path)
    except InputError as error:
        raise InputError(f"{error}; delete it to make a new job") from None
    valid = (
        is_json_object(record)
        and isinstance(record.get("service"), str)
        and record.get("state") in (ORDERED, ORDERING, DONE, FAILED, READY)
        and record.get("ending") in (".glb", *SPLAT_ENDINGS)
        and (isinstance(record.get("handle"), dict) or record["state"] not in (ORDERED, DONE))
    )
    if not valid:
        raise InputError(f"{path} does not describe a job; delete it to make a new one")
    return Job(service(record["service"]), path, record)


def jobs_in(folder: Path) -> list[Path]:
    """The files of all jobs of a cache folder."""
    return sorted(folder.glob(PATTERN))


def finish(job: Job, adapter: Adapter, order: Order | None, check: Check) -> Path:
    """Orders the asset unless that has been done, waits for it, and downloads it.

    Args:
        job: The job.
        adapter: The adapter of its service, connected.
        order: What to order if nothing was ordered; None: only resume.
        check: Reads the asset.

    Returns:
        The asset's file.

    Raises:
        NotKnownWhetherTaken: An order was sent, and it is unknown whether the service took it.
        ServiceError: The service refuses, fails, or cannot be reached.
        InputError: The files cannot be written, the asset cannot be used, or another process works on the job.
    """
    with _locked(job), _kept_if_interrupted(job, adapter):
        if job.path.exists():  # another process may have continued it meanwhile
            job.record = read_job(job.path).record
        if job.is_ready:
            return job.asset
        if job.state == ORDERING:
            raise NotKnownWhetherTaken(_not_known(job))
        if job.is_new:
            if order is None:
                raise InputError(f"{job.path}: this job failed; order it anew with ns-train")
            _order(job, adapter, order)
        if isinstance(adapter, JobAdapter):
            answer = _waited_for(job, adapter)
            _download(job, adapter, answer)
        try:
            check(job.asset)
        except InputError as error:
            if not isinstance(adapter, JobAdapter):
                raise InputError(f"what {job.service.title} sent cannot be used: {error}") from error
            job.asset.unlink(missing_ok=True)
            raise InputError(f"what {job.service.title} sent cannot be used, and is removed: {error}") from error
        job.save(READY, ready_at=_now())
        return job.asset


def _order(job: Job, adapter: Adapter, order: Order) -> None:
    """Makes the job, which costs money; its file records it before and after."""
    row, settings = job.service, dict(order.settings)
    ordered = {
        "kind": order.kind,
        "pictures": [picture.path.name for picture in order.pictures],
        "prompt": order.prompt,
        "model": order.model or "default",
        "seed": order.seed,
        "settings": settings,
        "gives": order.gives,
    }
    job.record = {
        "service": row.name,
        "address": row.address,
        "terms": row.terms,
        "prices": row.prices,
        "list_price": row.price,
        "order": ordered,
        "ordered_at": _now(),
        "ending": ".glb" if order.gives == "Mesh" else SPLAT_ENDINGS[0],
    }
    job.save(ORDERING)
    try:
        if isinstance(adapter, ImmediateAdapter):
            with FractionBar(f"{row.title} works") as bar:
                bar.show(None, "waiting for its answer")
                with write_atomically(job.asset) as temporary:
                    answer = adapter.make(order, temporary)
            job.save(DONE, handle={}, answer=_kept(answer, adapter), cost_in_credits=adapter.cost(answer))
        elif isinstance(adapter, JobAdapter):
            handle = adapter.submit(order)
            job.save(ORDERED, handle=handle)
    except NotKnownWhetherTaken as error:
        raise NotKnownWhetherTaken(f"{error}. {_what_to_do(job)}", error.status) from None
    except InputError:
        job.path.unlink(missing_ok=True)  # refused: nothing was made
        raise


def _waited_for(job: Job, adapter: JobAdapter) -> dict[str, Any]:
    """Waits until the last stage is done, and returns its answer."""
    while True:
        report = _done_report(job, adapter)
        costs = [*job.record.get("costs_of_stages", []), adapter.cost(report.answer)]
        handle = job.handle
        job.save(ORDERING if handle.get(adapter.NEXT_STAGE) else DONE, answer=_kept(report.answer, adapter))
        try:
            following = adapter.next_stage(handle, report.answer)
        except NotKnownWhetherTaken as error:
            raise NotKnownWhetherTaken(f"{error}. {_what_to_do(job)}", error.status) from None
        except InputError:
            job.save(ORDERED)
            raise
        if following is None:
            known = [cost for cost in costs if cost is not None]
            job.save(DONE, cost_in_credits=sum(known) if known else None)
            return report.answer
        job.save(ORDERED, handle=following, costs_of_stages=costs)


def _done_report(job: Job, adapter: JobAdapter) -> Report:
    """Polls the service until the job is done.

    Raises:
        ServiceError: The job failed, or took too long.
    """
    pace, title = adapter.client.pace, job.service.title
    pause, began = pace.first_poll, time.monotonic()
    print_line(f"{title} has the job {job.id}")
    with FractionBar(f"{title} works") as bar:
        while True:
            report = _report(job, adapter)
            if report.state == "done":
                return report
            if report.state == "failed":
                reason = adapter.client.clean(report.reason) or "it gives no reason"
                job.save(FAILED, answer=_kept(report.answer, adapter), reason=reason)
                raise ServiceError(f"{title} could not make it: {reason} (job {job.id})")
            note = "in the queue" if report.state == "waiting" else "in progress"
            said = f" ({adapter.client.clean(report.reason)})" if report.reason else ""
            bar.show(report.fraction, note + said, report.seconds_left)
            if time.monotonic() - began > pace.longest_job:
                raise ServiceError(
                    f"{title} has not finished the job {job.id} after {pace.longest_job / 60:.0f} min; the same "
                    "command, or `img3d-remote resume`, picks it up"
                )
            pace.sleep(pause)
            pause = min(pace.longest_poll, pause * pace.poll_growth)


def _report(job: Job, adapter: JobAdapter) -> Report:
    try:
        return adapter.report(job.handle)
    except ServiceError as error:
        if error.status in (404, 410):
            raise ServiceError(
                f"{job.service.title} does not know the job {job.id} (any more); delete {job.path} to order anew",
                error.status,
            ) from None
        kept = "" if error.status in (401, 402, 403) else f"; the job {job.id} is kept, the same command picks it up"
        raise ServiceError(f"{error}{kept}", error.status) from None


def _download(job: Job, adapter: JobAdapter, answer: dict[str, Any]) -> None:
    """Downloads the asset; asks for a new link if one has expired."""
    title = job.service.title
    for attempt in range(MAX_LINKS):
        address = adapter.link(job.handle, answer)
        if job.asset.suffix != ".glb":
            ending = PurePosixPath(urlsplit(address).path).suffix.lower()
            job.save(DONE, ending=ending if ending in SPLAT_ENDINGS else SPLAT_ENDINGS[0])
        with FractionBar(f"Downloading from {title}") as bar:

            def show(have: int, total: int | None, bar: FractionBar = bar) -> None:
                bar.show(have / total if total else None, f"{have / 1e6:.1f} MB")

            try:
                download(address, job.asset, title, adapter.client.pace, show, MAX_BYTES)
                return
            except LinkExpired:
                if attempt == MAX_LINKS - 1:
                    raise
        answer = _report(job, adapter).answer


def _kept(answer: dict[str, Any], adapter: Adapter) -> Any:
    return without_secrets(answer, [adapter.client.key])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _not_known(job: Job) -> str:
    return (
        f"an order was sent to {job.service.title} on {job.record.get('ordered_at')}, and no answer is known. "
        f"{_what_to_do(job)}"
    )


def _what_to_do(job: Job) -> str:
    return f"Look on its pages whether the job was made; delete {job.path} to order anew, and perhaps pay a second time"


@contextmanager
def _locked(job: Job) -> Generator[None, None, None]:
    """Keeps other processes from working on the same job.

    Raises:
        InputError: Another process does.
    """
    path = job.path.with_suffix(".lock")
    with locked(path, f"another process works on the job of {job.path}; let it finish"):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _kept_if_interrupted(job: Job, adapter: Adapter) -> Generator[None, None, None]:
    """After Ctrl-C, says what becomes of the job."""
    try:
        yield
    except KeyboardInterrupt:
        if job.state == ORDERING and not adapter.client.has_ordered:
            job.path.unlink(missing_ok=True)
        elif job.state == ORDERING:
            print_line(_not_known(job))
        elif job.state in (ORDERED, DONE):
            print_line(
                f"The job {job.id} goes on at {job.service.title}; the same command, or `img3d-remote resume`, picks "
                "it up without paying again."
            )
        raise
