# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-batch`: many items, as tasks of Ray."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from img3d_base.console import print_line
from img3d_base.errors import InputError, counted, exits_with_one_line
from img3d_base.progress import duration
from img3d_batch.items import Item, read_items
from img3d_batch.work import Result, Settings, kept_result, make

DESCRIPTION = """Makes many runs, and exports of each: of a folder of photo folders, videos, images or meshes, or of a
CSV table. Items that were made before are not made again; one that fails does not stop the others."""
LOCAL = "127.0.0.1"
STARTS, TIMED_OUT = 3, "timed out during startup"
"""Ray gives a machine 30 seconds to start its processes, which may not do on a busy one."""


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
        options: Options of ns-train for all items, in one word: --options="--pipeline.model.preset fast".
        jobs: Number of items at a time; 0: as many as cores and memory allow.
        cpus_per_item: Cores that an item takes of its machine.
        memory_gb: Memory that an item takes of its machine; one that needs more is ended, and has failed.
        address: A Ray cluster's address, such as "auto" or "ray://head:10001". Default: this machine alone.
    """
    items = read_items(source, method)
    settings = Settings(output_dir.absolute(), export, tuple(shlex.split(options)), memory_gb)
    began = time.monotonic()
    results = make_all(items, settings, jobs, cpus_per_item, address)
    from img3d_batch.report import write_report

    path = write_report(items, results, settings.output_dir, time.monotonic() - began)
    failed = [result.name for result in results if not result.ok]
    print_line(f"{counted(len(items), 'item')}, {len(failed)} failed: {path}")
    if failed:
        raise InputError(f"{counted(len(failed), 'item')} failed; the same command tries these again.")


def make_all(
    items: Sequence[Item], settings: Settings, jobs: int = 0, cpus_per_item: float = 2, address: str = ""
) -> list[Result]:
    """The results of all items, in their order; those that earlier batches made are not made again.

    Raises:
        InputError: Ray is not installed, cannot be reached, or has no machine for an item.
    """
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    results = {item.name: kept for item in items if (kept := kept_result(item, settings)) is not None}
    if results:
        print_line(f"{counted(len(results), 'item')} made before.")
    left = [item for item in items if item.name not in results]
    if left:
        for result in _on_ray(left, settings, jobs, cpus_per_item, address):
            results[result.name] = result
    return [results[item.name] for item in items]


def _on_ray(items: Sequence[Item], settings: Settings, jobs: int, cpus_per_item: float, address: str) -> list[Result]:
    ray = _connected(address)
    try:
        memory = int(settings.memory_gb * 1e9)
        totals = ray.cluster_resources()
        if cpus_per_item > totals.get("CPU", 0) or memory > totals.get("memory", 0):
            raise InputError(
                f"No machine has {cpus_per_item:g} cores and {settings.memory_gb:g} GB for an item: the cluster has "
                f"{totals.get('CPU', 0):g} and {totals.get('memory', 0) / 1e9:.0f} GB. Give --cpus-per-item and "
                "--memory-gb."
            )
        # A task whose machine is lost is started again elsewhere; `make` itself catches what an item does.
        remote = ray.remote(make).options(num_cpus=cpus_per_item, memory=memory, max_retries=2)
        waiting, running, results = list(items), {}, []
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
            said = "made" if result.ok else f"failed: {result.message}"
            print_line(f"{len(results)} of {len(items)}: {item.name}, {duration(result.seconds)}, {said}")
        return results
    finally:
        ray.shutdown()


def _connected(address: str) -> Any:
    """Ray, connected to a cluster, or to one that is started on this machine and ends with the command."""
    try:
        import ray
    except ImportError as error:
        raise InputError("img3d-batch needs Ray: pip install 'img3d[batch]'") from error
    quiet = {"log_to_driver": False, "logging_level": "error", "ignore_reinit_error": True}
    where = {"address": address} if address else {"include_dashboard": False, "_node_ip_address": LOCAL}
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(**where, **quiet)
            break
        except Exception as error:  # Ray raises bare exceptions
            ray.shutdown()
            lines = str(error).strip().splitlines() or [type(error).__name__]
            if attempt == STARTS or TIMED_OUT not in lines[0]:
                raise InputError(f"Ray cannot be {'reached' if address else 'started'}: {lines[0]}") from error
    return ray


def main() -> None:
    """Entry point of `img3d-batch`."""
    with exits_with_one_line("Interrupted; the same command goes on with what is left."):
        tyro.cli(batch, prog="img3d-batch", description=DESCRIPTION)


if __name__ == "__main__":
    main()
