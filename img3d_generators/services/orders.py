# SPDX-License-Identifier: Apache-2.0
"""Orders of users: checks them, asks for agreement, and turns them into assets. `remote_asset` is the library's
function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from img3d_base.atomic_files import writable_cache
from img3d_base.console import CONSOLE, print_line
from img3d_base.errors import InputError, counted, some_names, warn
from img3d_generators.services.adapter import Gives, Order
from img3d_generators.services.jobs import Check, Job, finish, job_of
from img3d_generators.services.registry import Service, service
from img3d_generators.services.settings import parsed_settings

if TYPE_CHECKING:
    from img3d_assets.gaussians import Gaussians
    from img3d_assets.mesh import Mesh
    from img3d_generators.services.client import Pace


@dataclass
class Request:
    """What a user asks a service for."""

    service: str
    """The name of a row."""
    pictures: Sequence[Path] = ()
    """Pictures of one object; none for a text."""
    prompt: str = ""
    """The text; with pictures, for services that take both."""
    model: str = ""
    """The service's model; empty: its default."""
    settings: Sequence[str] = ()
    """Further fields of the service's request, as NAME=VALUE; `img3d-remote list SERVICE` shows them."""
    seed: int = 0
    gives: Gives = "Mesh"
    row: Service = field(init=False)

    def __post_init__(self) -> None:
        self.row = service(self.service)

    def order(self) -> Order:
        """Reads the pictures and checks the rest.

        Raises:
            InputError: A picture cannot be read, or the service does not take such an order.
        """
        from img3d_generators.services.pictures import read_picture

        row, prompt = self.row, self.prompt.strip()
        if self.gives not in row.gives:
            raise InputError(f"{row.title} gives {' and '.join(row.gives)}, not {self.gives}")
        if not self.pictures and not prompt:
            raise InputError("a service makes something of a picture (--data) or of a text (--pipeline.prompt)")
        if prompt and not row.takes_text:
            raise InputError(f"{row.title} takes a picture, not a text")
        if self.pictures and prompt and row.name != "rodin":
            raise InputError(f"{row.title} takes pictures or a text, not both")
        if len(self.pictures) > row.max_pictures:
            at_most = counted(row.max_pictures, "picture")
            raise InputError(f"{row.title} takes at most {at_most} of one object; there are {len(self.pictures)}")
        known = row.adapter_class().SETTINGS
        settings = parsed_settings(self.settings, known, row.title)
        pictures = tuple(map(read_picture, self.pictures))
        return Order(pictures, prompt, self.model, self.seed, self.gives, settings)


@dataclass(frozen=True)
class RemoteFile:
    """An asset that a service made."""

    path: Path
    """The file, in the cache."""
    record: dict[str, Any]
    """The order, the service's answer, its terms, and the cost; without secrets."""


def asset_file(request: Request, cache: Path, yes: bool = False, pace: Pace | None = None) -> RemoteFile:
    """The file of the asset, from the cache, from a job that was begun, or from a new job.

    Args:
        request: What the user asks for.
        cache: The folder of jobs and assets.
        yes: Whether the user has agreed to sending and paying; else the terminal asks.
        pace: How long to wait.

    Raises:
        InputError: The user does not agree, the service refuses, or something cannot be read or written.
    """
    order = request.order()
    job = job_of(order, request.row, cache)
    if job.is_ready:
        print_line(f"From the cache, without asking {request.row.title} again: {job.asset}")
        return RemoteFile(job.asset, job.public_record())
    adapter = request.row.connected(pace)
    if job.is_new:
        agree(order, request.row, yes)
    else:
        print_line(f"Picking up the job {job.id or '(unknown)'} at {request.row.title}; nothing is sent or paid again.")
    try:
        path = finish(job, adapter, order, _reader_of(request.gives))
    finally:
        adapter.client.close()
    cost = job.record.get("cost_in_credits")
    paid = f"{cost:g} credits" if isinstance(cost, (int, float)) else f"list price {request.row.price}"
    print_line(f"{request.row.title} made {path} ({paid}; terms: {request.row.terms})")
    return RemoteFile(path, job.public_record())


def remote_asset(
    service: str,
    *pictures: str | Path,
    prompt: str = "",
    model: str = "",
    settings: Sequence[str] = (),
    seed: int = 0,
    gives: Gives = "Mesh",
    yes: bool = False,
    cache_dir: Path | None = None,
) -> Mesh | Gaussians:
    """Has a service make an asset from pictures or a text. Costs money.

    Args:
        service: Its name; `img3d_generators.services.registry.services()` lists all.
        pictures: Image files of one object.
        prompt: The text, instead of pictures.
        model: The service's model; empty: its default.
        settings: Further fields of the request, as NAME=VALUE.
        seed: Random seed, if the service takes one.
        gives: The kind of asset.
        yes: Agrees to sending the pictures and paying; else the terminal asks.
        cache_dir: Where to keep the job and the asset, so that it is paid once; default: .img3d beside the first
            picture.

    Returns:
        The asset; `up` names its up axis, or is None if the file does not say.

    Raises:
        InputError: The user does not agree, the service refuses, or something cannot be read or written.
    """
    paths = [Path(picture) for picture in pictures]
    request = Request(service, paths, prompt, model, settings, seed, gives)
    made = asset_file(request, writable_cache(paths[0].parent if paths else Path(), cache_dir), yes)
    return _reader_of(gives)(made.path)


def agree(order: Order, row: Service, yes: bool) -> None:
    """Prints what is sent where and what it costs, and asks unless the user has agreed.

    Raises:
        InputError: The user does not agree, or cannot be asked.
    """
    host = urlsplit(row.address).netloc
    if row.caution:
        warn(row.caution)
    print_line(f"To {row.title} ({host}) goes: {what_is_sent(order)}.")
    print_line(f"Price: {row.price} ({row.prices}). Terms, also of what it makes: {row.terms}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(
            "nothing was sent: there is no terminal to ask on; agree with --pipeline.yes True (in Python: yes=True)"
        )
    try:
        answer = CONSOLE.input("Send it, and pay? \\[y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise InputError("nothing was sent")


def what_is_sent(order: Order) -> str:
    """What leaves this machine, in words."""
    sent = [
        f"{picture.path.name} ({picture.width} x {picture.height} pixels, {len(picture.content) / 1e6:.1f} MB)"
        for picture in order.pictures
    ]
    parts = [f"the pixels of {some_names(sent, 5)}, without names, places and dates"] if sent else []
    if order.prompt:
        parts.append(f"the text “{order.prompt}”")
    if order.settings:
        parts.append("the settings " + ", ".join(order.settings))
    return "; ".join(parts)


def _reader_of(gives: Gives) -> Callable[[Path], Mesh | Gaussians]:
    """What reads files of this kind of asset, and refuses damaged and hostile ones."""
    return _mesh if gives == "Mesh" else _gaussians


def _mesh(path: Path) -> Mesh:
    from img3d_assets.mesh_files import read_mesh

    mesh, up = read_mesh(path)
    mesh.up = up
    return mesh


def _gaussians(path: Path) -> Gaussians:
    from img3d_assets.splat_files import read_splats

    splats, up = read_splats(path)
    splats.up = up
    return splats


def job_check(job: Job) -> Check:
    """What reads the asset of a job whose order is not known."""
    return _reader_of("Mesh" if job.asset.suffix == ".glb" else "Gaussians")
