# SPDX-License-Identifier: Apache-2.0
"""Describes runs for the page, as JSON objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from img3d_base.errors import InputError, counted
from img3d_studio.choices import Choice, choice_named, choices_for, expected_time, needed_for_text
from img3d_studio.commands import RunFiles, offers_for
from img3d_studio.job_queue import JobQueue
from img3d_studio.pictures import pictures_of
from img3d_studio.progress import progress, tail
from img3d_studio.store import Job, Run, Store
from img3d_studio.uploads import InputKind, input_of, stored_files


def making(run: Run, jobs: Sequence[Job]) -> Job | None:
    """The job that makes a run's scene."""
    return next((job for job in jobs if job.run_id == run.id and job.kind == "make"), None)


def summary(run: Run, jobs: Sequence[Job]) -> dict[str, Any]:
    """A run as an entry of the list of runs."""
    make = making(run, jobs)
    return {
        "id": run.id,
        "title": run.title,
        "created": run.created,
        "made": _title_of(run.choice),
        "state": "draft" if make is None else make.state,
    }


def _title_of(choice: str) -> str:
    try:
        return choice_named(choice).title
    except InputError:
        return choice  # what it needs has been uninstalled


def described(run: Run, store: Store, queue: JobQueue) -> dict[str, Any]:
    """Everything that the page shows of a run."""
    jobs, files = store.jobs(), RunFiles(store.run_folder(run.id))
    inputs = stored_files(files.input)
    make, current = making(run, jobs), queue.current
    result: dict[str, Any] = {
        **summary(run, jobs),
        "text": run.text,
        "inputs": [path.name for path in inputs],
        "message": "" if make is None else make.message,
        "seconds": 0.0 if make is None else make.seconds,
        "hasPicture": bool(pictures_of(files.folder)),
        "hasPage": (files.page / "index.html").is_file(),
        "running": None,
        "waitsFor": _waits_for(run, jobs, store),
        "files": [],
        "canEdit": False,
        "edited": files.edited is not None,
        "edit": next((_job(job) for job in reversed(jobs) if job.run_id == run.id and job.kind == "edit"), None),
    }
    if current is not None and current.job.run_id == run.id:
        now = progress(tail(files.log))
        result["running"] = {
            "kind": current.job.kind,
            "argument": current.job.argument,
            "title": current.command.title,
            "doing": now.doing,
            "fraction": now.fraction,
            "details": now.details,
            "placed": now.placed,
            "live": current.command.live and now.doing == "Training",
        }
    if make is not None and make.state == "done":
        choice = choice_named(run.choice)
        result["canEdit"] = choice.makes == "splats"
        exports = {job.argument: job for job in jobs if job.run_id == run.id and job.kind == "file"}
        for offer in offers_for(choice, files):
            path, job = files.path_of(offer.name), exports.get(offer.name)
            busy = job is not None and job.state in ("queued", "running")
            result["files"].append(
                {
                    "name": offer.name,
                    "title": offer.title,
                    "megabytes": path.stat().st_size / 1e6 if path.is_file() and not busy else None,
                    "state": job.state if job is not None else "",
                    "message": job.message if job is not None else "",
                }
            )
    return result


def _job(job: Job) -> dict[str, Any]:
    return {"id": job.id, "state": job.state, "message": job.message}


def _waits_for(run: Run, jobs: Sequence[Job], store: Store) -> str:
    """The title of the run for which a waiting run waits; empty if it does not wait."""
    waiting = next((job for job in jobs if job.run_id == run.id and job.state == "queued"), None)
    before = next((job for job in jobs if job.state == "running"), None)
    if waiting is None or before is None or before.run_id == run.id:
        return ""
    other = store.run(before.run_id)
    return "" if other is None else other.title


def described_choices(run: Run, files: RunFiles, text: str, store: Store) -> dict[str, Any]:
    """The choices for a run's files, or for a text.

    Raises:
        InputError: There are neither files nor a text, the files do not belong together, or there is no choice.
    """
    inputs = stored_files(files.input)
    kind, _ = input_of(inputs, text)
    choices = choices_for(kind)
    if kind == "text" and not choices:
        raise InputError(
            f"A text needs weights that are not installed: {needed_for_text()}. Or a service: `img3d-remote list`."
        )
    return {"input": _of_input(kind, len(inputs)), "choices": [_choice(choice, store) for choice in choices]}


def _of_input(kind: InputKind, count: int) -> str:
    names = {"video": "a video", "image": "one image", "splats": "a splat file", "mesh": "a mesh", "text": "a text"}
    return counted(count, "photo") if kind == "photos" else names[kind]


def _choice(choice: Choice, store: Store) -> dict[str, Any]:
    return {
        "name": choice.name,
        "title": choice.title,
        "sentence": choice.sentence,
        "time": expected_time(choice, store.seconds_of(choice.name)),
        "first": choice.first,
    }
