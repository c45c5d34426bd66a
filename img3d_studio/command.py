# SPDX-License-Identifier: Apache-2.0
"""The command `img3d-studio`: serves the page."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import tyro

from img3d_base.console import print_line
from img3d_base.errors import InputError, exits_with_one_line
from img3d_base.file_locks import locked
from img3d_studio.access import LOOPBACK

DESCRIPTION = """Serves a page that makes 3D from photos, a video, an image, splats or a mesh, with img3d's commands,
one after another. It serves this machine only, unless --host says otherwise."""
MISSING = "img3d-studio needs more packages: pip install 'img3d[studio]'"


def studio(folder: Path = Path("studio"), port: int = 7010, host: str = "127.0.0.1", token: str = "") -> None:
    """Serves the page until Ctrl-C. A job that this interrupts continues when the command is started again.

    Args:
        folder: The folder of uploads, runs and the list of runs; created if absent.
        port: The port of the page.
        host: The address to listen at. 0.0.0.0 lets other machines in the network use the page, with the token that
            is printed. Use it only in networks that you trust: the connection is not encrypted.
        token: The token for other machines; default: a new one each time.
    """
    from img3d_studio.job_queue import JobQueue
    from img3d_studio.store import Store

    try:
        import uvicorn

        from img3d_studio.app import create_app
    except ImportError as error:
        raise InputError(MISSING) from error
    store = Store(folder)
    listener = _listener(host, port)
    if host in LOOPBACK:
        token = ""
    else:
        token = token or secrets.token_urlsafe(16)
    in_use = f"Another img3d-studio uses {folder}: end it, or give another --folder."
    with listener, locked(store.folder / "studio.lock", in_use):
        app = create_app(store, JobQueue(store), token)
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
        print_line(f"Open http://{f'[{shown}]' if ':' in shown else shown}:{port}/{f'?token={token}' if token else ''}")
        print_line(f"Runs are kept in {store.folder}; Ctrl-C ends the studio.")
        config = uvicorn.Config(app, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens at this address.

    Raises:
        InputError: It cannot.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"The page cannot be served at {host}, port {port}: {reason}. Try another --port.") from error


def main() -> None:
    """Entry point of `img3d-studio`."""
    with exits_with_one_line("The studio has ended; the interrupted job continues when it is started again."):
        tyro.cli(studio, prog="img3d-studio", description=DESCRIPTION)


if __name__ == "__main__":
    main()
