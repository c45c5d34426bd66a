# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-batch`: makes many items, on this machine or as tasks of a Ray cluster."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Annotated, Any
from urllib.parse import urlsplit

import tyro

from img3d_base.console import print_line
from img3d_base.errors import InputError, counted, exits_with_one_line
from img3d_base.progress import duration
from img3d_batch.items import Item, read_items
from img3d_batch.work import Result, Settings, kept_result, make

DESCRIPTION = """Makes and exports a run for each item of a folder (photo folders, videos, images, meshes) or of a
CSV table. Items that were made before are not made again; one that fails does not stop the others."""
CONNECT_SECONDS = 10.0
MISSING = "img3d-batch needs more packages: pip install 'img3d[batch]'"


def batch(
    source: Annotated[Path, tyro.conf.Positional],
    output_dir: Path = Path("batch"),
    method: str = "",
    export: tuple[str, ...] = ("scene.spz",),
    options: str = "",
    jobs: int = 0,
    cpus_per_item: float = 2,
    memory_gb: float = 8,
    address: str = "",
) -> None:
    """Makes all items, and report.html with a row for each.

    Args:
        source: A folder whose folders of photos, videos, images and meshes are the items; or a CSV table with the
            columns name, data, text, method.
        output_dir: A folder for each item, and the report. On a cluster, all machines must see it at the same path.
        method: The method for items that name none. Default: img3d-splat for photos and videos, img3d-object for an
            image, img3d-mesh for a mesh.
        export: Names of the files to export of each run, such as scene.spz, mesh.glb, report.html.
        options: Options of ns-train for all items, as one argument: --options="--pipeline.model.preset fast".
        jobs: Number of items at a time; 0: as many as cores and memory allow.
        cpus_per_item: Cores reserved for an item, whose commands use as many threads.
        memory_gb: Memory reserved for an item; one that needs more is ended and fails.
        address: A Ray cluster's address, such as "auto" or "ray://head:10001". Default: this machine alone.
    """
    items = read_items(source, method)
    ns_train_options = tuple(shlex.split(options))
    settings = Settings(output_dir.absolute(), export, ns_train_options, memory_gb, cores=cpus_per_item)
    began = time.monotonic()
    results = make_all(items, settings, jobs, address)
    from img3d_batch.report import write_report

    path = write_report(items, results, settings.output_dir, time.monotonic() - began)
    failed = [result.name for result in results if not result.ok]
    print_line(f"{counted(len(items), 'item')}, {len(failed)} failed: {path}")
    if failed:
        raise InputError(f"{counted(len(failed), 'item')} failed; the same command tries these again.")


def make_all(items: Sequence[Item], settings: Settings, jobs: int = 0, address: str = "") -> list[Result]:
    """The results of all items, in order. Items that an earlier batch made are not made again.

    Raises:
        InputError: Ray cannot be reached, a package is missing, or no machine has room for an item.
    """
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    results = {item.name: kept for item in items if (kept := kept_result(item, settings)) is not None}
    if results:
        print_line(f"{counted(len(results), 'item')} made before.")
    left = [item for item in items if item.name not in results]
    if left:
        if address:
            made = _on_ray(left, settings, jobs, address)
        else:
            made = _on_this_machine(left, settings, jobs)
        for result in made:
            results[result.name] = result
    return [results[item.name] for item in items]


def _check_room(fits: bool, settings: Settings, cores: float, memory_gb: float) -> None:
    if not fits:
        raise InputError(
            f"No machine has {settings.cores:g} cores and {settings.memory_gb:g} GB for an item: there are "
            f"{cores:g} and {memory_gb:.0f} GB in all. Give --cpus-per-item and --memory-gb."
        )


def _say(number: int, total: int, result: Result) -> None:
    said = "made" if result.ok else f"failed: {result.message}"
    print_line(f"{number} of {total}: {result.name}, {duration(result.seconds)}, {said}")


def _on_this_machine(items: Sequence[Item], settings: Settings, jobs: int) -> list[Result]:
    try:
        import psutil
    except ImportError as error:
        raise InputError(MISSING) from error
    cores, memory_gb = os.cpu_count() or 1, psutil.virtual_memory().total / 1e9
    fitting = int(min(cores / settings.cores, memory_gb / settings.memory_gb))
    _check_room(fitting > 0, settings, cores, memory_gb)
    stopped, results = Event(), list[Result]()
    with ThreadPoolExecutor(min(jobs or fitting, fitting)) as pool:
        futures = [pool.submit(make, item, settings, stopped) for item in items]
        try:
            for future in as_completed(futures):
                results.append(future.result())
                _say(len(results), len(items), results[-1])
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _on_ray(items: Sequence[Item], settings: Settings, jobs: int, address: str) -> list[Result]:
    ray = _connected(address)
    try:
        memory = int(settings.memory_gb * 1e9)
        totals = ray.cluster_resources()
        cores, total = totals.get("CPU", 0.0), totals.get("memory", 0.0)
        _check_room(settings.cores <= cores and memory <= total, settings, cores, total / 1e9)
        # Ray restarts a task elsewhere if its machine is lost; `make` itself handles an item's own failure.
        remote = ray.remote(make).options(num_cpus=settings.cores, memory=memory, max_retries=2)
        waiting, results = list(items), list[Result]()
        running: dict[Any, Item] = {}
        while waiting or running:
            while waiting and (jobs == 0 or len(running) < jobs):
                item = waiting.pop(0)
                running[remote.remote(item, settings)] = item
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            item = running.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                result = Result(item.name, False, f"its machine was lost: {reason}", 0.0, 0.0, ())
            results.append(result)
            _say(len(results), len(items), result)
        return results
    finally:
        ray.shutdown()


def _connected(address: str) -> Any:
    """Ray, connected to a cluster."""
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise InputError(MISSING) from error
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except Exception as error:  # Ray raises bare exceptions
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"Ray cannot be reached at {address}: {lines[0]}") from error
    return ray


def _check_reachable(address: str) -> None:
    """Asks whether anything listens at HOST:PORT or ray://HOST:PORT: Ray itself tries for minutes.

    Raises:
        InputError: Nothing does.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
        if host is not None and port is not None:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"Ray cannot be reached at {address}: {error}. `ray start` says its cluster's address."
        ) from error


def main() -> None:
    """Entry point of `img3d-batch`."""
    with exits_with_one_line("Interrupted; the same command goes on with what is left."):
        tyro.cli(batch, prog="img3d-batch", description=DESCRIPTION)


if __name__ == "__main__":
    main()
