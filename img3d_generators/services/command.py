# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-remote`: lists services on the network, their prices, settings and the user's balances, and
resumes interrupted jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from img3d_base.atomic_files import user_cache
from img3d_base.console import print_line
from img3d_base.errors import InputError, exits_with_one_line
from img3d_generators.services.registry import Service, service, services

DESCRIPTION = """Services on the network that make a 3D asset from pictures or a text. They cost money;
`ns-train img3d-remote --pipeline.service NAME` uses them."""

app = tyro.extras.SubcommandApp()

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[SERVICE]")]


@app.command(name="list")
def list_command(name: Name = "") -> None:
    """Lists all services, or the models and settings of one. Sends nothing.

    Args:
        name: The service; default: all.
    """
    from img3d_generators.services.keys import find_key

    if name:
        _describe(service(name))
        return
    for row in services().values():
        key = find_key(row.name, row.keys)
        pictures = "one picture" if row.max_pictures == 1 else f"up to {row.max_pictures} pictures"
        takes = f"{pictures} or a text" if row.takes_text else pictures
        has_key = f"key in {key.name}" if key else f"no key ({row.keys[0]})"
        print_line(f"{row.name:10} {row.title}: {takes} → {' or '.join(row.gives)}; {has_key}")
    print_line("`img3d-remote list SERVICE` shows a service's models and settings.")


@app.command(name="price")
def price_command(name: Name = "") -> None:
    """Prints documented list prices, and the addresses of the current ones. Sends nothing.

    Args:
        name: The service; default: all.
    """
    for row in _rows(name):
        print_line(f"{row.name:10} {row.price}; current: {row.prices}")


@app.command(name="balance")
def balance_command(name: Name = "") -> None:
    """Asks services for the balances of your accounts.

    Args:
        name: The service; default: all for which there is a key.
    """
    from img3d_generators.services.keys import find_key

    rows = [row for row in _rows(name) if name or find_key(row.name, row.keys) is not None]
    if not rows:
        raise InputError("no service has a key: `img3d-remote list` shows where keys are looked for")
    failed = 0
    for row in rows:
        adapter = row.connected()
        try:
            left = adapter.balance()
        except InputError as error:
            failed += 1
            left = f"unknown: {error}"
        finally:
            adapter.client.close()
        print_line(f"{row.name:10} {left or f'{row.title} documents no request for what is left; see {row.key_page}'}")
    if failed:
        raise InputError(f"{failed} of {len(rows)} services did not tell the balance")


@app.command(name="resume")
def resume_command(
    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="[PATH]")] = Path(),
) -> None:
    """Waits for interrupted jobs, and downloads their results. Orders nothing.

    Args:
        path: A job's file, the folder of the picture, or that of the cache; default: this folder and ~/.cache/img3d.
    """
    from img3d_generators.services.jobs import finish, jobs_in, read_job
    from img3d_generators.services.orders import job_check

    if not path.exists():
        raise InputError(f"There is no {path}")
    places = [path, path / ".img3d"] if path != Path() else [path, path / ".img3d", user_cache()]
    files = [path] if path.is_file() else [file for place in places for file in jobs_in(place)]
    unfinished = [job for job in map(read_job, files) if not job.is_new and not job.is_ready]
    failed = 0
    for job in unfinished:
        adapter = job.service.connected()
        try:
            print_line(f"{job.service.title} made {finish(job, adapter, None, job_check(job))}")
        except InputError as error:
            failed += 1
            print_line(f"{job.path}: {error}", "bold red")
        finally:
            adapter.client.close()
    if failed:
        raise InputError(f"{failed} of {len(unfinished)} jobs could not be finished")
    if not unfinished:
        print_line(f"No unfinished jobs in {path if path.is_file() else ', '.join(map(str, places))}.")
    else:
        print_line("Repeat the ns-train command to make a run from the result; nothing is paid again.")


def _rows(name: str) -> list[Service]:
    return [service(name)] if name else list(services().values())


def _describe(row: Service) -> None:
    adapter = row.adapter_class()
    print_line(f"{row.title} ({row.base_url})")
    if row.caution:
        print_line(f"Caution: {row.caution}", "yellow")
    print_line(f"Key:     {' or '.join(row.keys)}, or the system's keyring; from {row.key_page}")
    print_line(f"Price:   {row.price} ({row.prices})")
    print_line(f"Terms:   {row.terms}")
    print_line(f"Models:  {', '.join(adapter.MODELS)} (the first one is the default)")
    print_line("Settings, as --pipeline.settings NAME=VALUE …:")
    for name, setting in adapter.SETTINGS.items():
        only = f" ({' and '.join(setting.only)} only)" if setting.only else ""
        print_line(f"  {name} = {setting.values}: {setting.about}{only}")


def main() -> None:
    """Entry point of `img3d-remote`."""
    with exits_with_one_line("Interrupted; jobs that services have taken continue there, and can be resumed."):
        app.cli(prog="img3d-remote", description=DESCRIPTION)


if __name__ == "__main__":
    main()
