# SPDX-License-Identifier: Apache-2.0
"""Makes one item of a batch: runs its commands, each as a process of its own with limited memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

from img3d_base.foreign_files import parse_json
from img3d_base.output_files import written_whole
from img3d_batch.items import Item
from img3d_studio.job_queue import CHILD, end, find_program
from img3d_studio.progress import ALREADY_TRAINED, MARK, failure, tail

RESULT, LOG = "result.json", "log.txt"
POLL_SECONDS = 0.2
PICTURE = "turn.gif"
PICTURE_OPTIONS = ("--seconds", "2", "--fps", "6", "--resolution", "192", "144")


@dataclass(frozen=True)
class Settings:
    """What a batch does with each item."""

    output_dir: Path
    """The folder of the items' folders."""
    exports: tuple[str, ...]
    """Names of the files to export; their endings determine the formats."""
    options: tuple[str, ...]
    """Options of `ns-train`."""
    memory_gb: float
    """Memory that the processes of an item may have together."""
    programs: tuple[str, ...] = ()
    """Beginning of each command line, before the program's name, in tests; empty: the program's own path."""
    cores: float = 2
    """Cores reserved for an item; its commands use as many threads, unless OMP_NUM_THREADS is set."""


@dataclass(frozen=True)
class Result:
    """The result of an item."""

    name: str
    ok: bool
    message: str
    """Why it failed, in one line."""
    seconds: float
    peak_gb: float
    """Peak memory of its processes together."""
    files: tuple[str, ...]
    """The exported files, relative to the item's folder."""


def kept_result(item: Item, settings: Settings) -> Result | None:
    """The result of an earlier batch with the same settings, if it succeeded and its files are there."""
    folder = settings.output_dir / item.name
    path = folder / RESULT
    if not path.is_file():
        return None
    content = parse_json(path.read_bytes(), str(path))
    if content.get("asked") != _asked(item, settings) or not content["result"]["ok"]:
        return None
    fields: dict[str, Any] = {**content["result"], "files": tuple(content["result"]["files"])}
    result = Result(**fields)
    return result if all((folder / name).is_file() for name in result.files) else None


def _asked(item: Item, settings: Settings) -> dict[str, object]:
    return {
        "data": str(item.data),
        "text": item.text,
        "method": item.method,
        "exports": list(settings.exports),
        "options": list(settings.options),
    }


def make(item: Item, settings: Settings, stopped: Event | None = None) -> Result:
    """Makes an item. Its failure is part of the result. An interrupted try is continued.

    Args:
        item: The item.
        settings: What to do with it.
        stopped: Once this is set, the running command saves its state and ends.

    Raises:
        KeyboardInterrupt: `stopped` was set.
    """
    folder = settings.output_dir / item.name
    folder.mkdir(parents=True, exist_ok=True)
    began, peak, message, files = time.monotonic(), 0.0, "", list[str]()
    try:
        peak, message = _run(_training(item, settings, folder), settings, folder, "ns-train", stopped)
        config = next(folder.glob("scene/*/run/config.yml"), None)
        if not message and config is None:
            message = "it left no run"
        if not message:
            for name in (*settings.exports, PICTURE):
                used, message = _run(_export(name, config, folder), settings, folder, f"img3d-export {name}", stopped)
                peak = max(peak, used)
                if message:
                    break
                files.append(name)
    except OSError as error:
        message = f"{error.strerror or error}"
    result = Result(item.name, not message, message, time.monotonic() - began, peak, tuple(files))
    with written_whole(folder / RESULT) as temporary:
        temporary.write_text(json.dumps({"asked": _asked(item, settings), "result": asdict(result)}, indent=1))
    return result


def _training(item: Item, settings: Settings, folder: Path) -> list[str]:
    checkpoints = next(folder.glob("scene/*/run/nerfstudio_models"), None)
    resumed = [] if checkpoints is None or not any(checkpoints.glob("*.ckpt")) else ["--load-dir", str(checkpoints)]
    source = ["--data", str(item.data)] if item.data is not None else ["--pipeline.prompt", item.text]
    return [
        *("ns-train", item.method, *source, "--output-dir", str(folder), "--experiment-name", "scene"),
        *("--timestamp", "run", "--vis", "tensorboard", *settings.options, *resumed),
    ]


def _export(name: str, config: Path | None, folder: Path) -> list[str]:
    ending = Path(name).suffix.lower()
    kinds = {".html": "report", ".mp4": "video", ".gif": "video", ".las": "pointcloud", ".xyz": "pointcloud"}
    meshes = (".glb", ".obj", ".stl", ".usdz", ".fbx")
    subcommand = kinds.get(ending, "mesh" if ending in meshes else "splat")
    options = PICTURE_OPTIONS if name == PICTURE else ()
    return [
        *("img3d-export", subcommand, "--load-config", str(config), "--output", str(folder / name), "--force"),
        *options,
    ]


def _run(command: list[str], settings: Settings, folder: Path, title: str, stopped: Event | None) -> tuple[float, str]:
    """Runs a command to its end.

    Returns:
        Its peak memory in GB; and why it failed, in one line, empty if it succeeded.

    Raises:
        KeyboardInterrupt: `stopped` was set.
    """
    program = [*settings.programs, command[0]] if settings.programs else find_program(command[0])
    threads = str(max(1, round(settings.cores)))
    with (folder / LOG).open("ab") as log:
        log.write(f"\n{MARK}{title}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [sys.executable, str(CHILD), *program, *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": threads, **os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
            start_new_session=True,
        )
        peak = 0.0
        try:
            while process.poll() is None:
                peak = max(peak, _memory_gb(process.pid))
                if peak > settings.memory_gb:
                    return peak, f"{title} needs more than the {settings.memory_gb:g} GB that --memory-gb allows"
                if stopped is not None and stopped.wait(POLL_SECONDS):
                    end(process)
                    raise KeyboardInterrupt
                if stopped is None:
                    time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode == 0:
        return peak, ""
    message = failure(tail(folder / LOG))
    return peak, "" if ALREADY_TRAINED.search(message) else f"{title}: {message}"


def _memory_gb(pid: int) -> float:
    """Memory of a process and its children in GB; 0 if it has just ended."""
    import psutil

    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        return sum(process.memory_info().rss for process in family) / 1e9
    except psutil.Error:
        return 0.0
