# SPDX-License-Identifier: Apache-2.0
"""The studio's web application: its page, and the requests that this makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import is_json_object, parse_json
from img3d_studio.access import Guard
from img3d_studio.choices import choice_named, choices_for, generated
from img3d_studio.commands import RunFiles, offers_for, scene_bounds
from img3d_studio.described import described, described_choices, summary
from img3d_studio.edits import edit_of_request
from img3d_studio.job_queue import JobQueue
from img3d_studio.live_view import client_folder, forward, page
from img3d_studio.pictures import thumbnail
from img3d_studio.store import Run, Store
from img3d_studio.uploads import checked_name, input_of, receive, stored_files

STATIC = Path(__file__).parent / "static"
MAX_REQUEST_BYTES = 64 << 10
MAX_TEXT = 1_000
"""Longest text to make a scene from, in characters."""
MAX_TITLE = 60
"""Longest title of a run, in characters."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Content security policy of the studio's page, which loads nothing from other hosts."""
LIVE_POLICY = (
    "default-src 'self' 'unsafe-inline' blob: data:; script-src 'self' 'wasm-unsafe-eval' 'unsafe-eval' blob:; "
    "connect-src 'self' blob: data:; worker-src 'self' blob: data:"
)
"""Content security policy of viser's page, which loads nothing from other hosts either, but compiles WebAssembly."""


def create_app(store: Store, queue: JobQueue, token: str = "") -> Starlette:
    """Creates the application.

    Args:
        store: The runs.
        queue: Runs the jobs; it starts and stops with the application.
        token: The token that requests need, if it serves other machines; empty: it serves this machine only.
    """
    studio = Studio(store, queue)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        queue.start()
        learning = asyncio.create_task(run_in_threadpool(_learn_generators))
        yield
        await run_in_threadpool(queue.stop)
        await learning

    routes = [
        Route("/", studio.home),
        Route("/api/runs", answer(studio.list_runs)),
        Route("/api/runs", answer(studio.new_run), methods=["POST"]),
        Route("/api/runs/{run}", answer(studio.show_run)),
        Route("/api/runs/{run}", answer(studio.delete_run), methods=["DELETE"]),
        Route("/api/runs/{run}/input/{name}", answer(studio.upload), methods=["PUT"]),
        Route("/api/runs/{run}/input/{name}", answer(studio.remove_upload), methods=["DELETE"]),
        Route("/api/runs/{run}/choices", answer(studio.choices), methods=["POST"]),
        Route("/api/runs/{run}/start", answer(studio.begin), methods=["POST"]),
        Route("/api/runs/{run}/cancel", answer(studio.cancel), methods=["POST"]),
        Route("/api/runs/{run}/resume", answer(studio.resume), methods=["POST"]),
        Route("/api/runs/{run}/edit", answer(studio.edit), methods=["POST"]),
        Route("/api/runs/{run}/files/{name}", answer(studio.make_file), methods=["POST"]),
        Route("/runs/{run}/files/{name}", answer(studio.download)),
        Route("/runs/{run}/picture.jpg", answer(studio.picture)),
        Route("/runs/{run}/log.txt", answer(studio.log)),
        Route("/runs/{run}/page/{name}", answer(studio.page_file)),
        Route("/runs/{run}/live/", answer(studio.live_page)),
        WebSocketRoute("/runs/{run}/live", studio.live),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    viewer = client_folder()
    if viewer is not None:
        routes.append(Mount("/assets", StaticFiles(directory=viewer / "assets")))
        routes.append(Mount("/runs/{run}/live/hdri", StaticFiles(directory=viewer / "hdri")))
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token)], lifespan=lifespan)


def _learn_generators() -> None:
    """Imports the generators, which takes seconds, before a request needs them."""
    try:
        generated("image")
        generated("text")
    except Exception as error:  # another package's generator can raise anything
        warn(f"the studio offers no generators: {error}")


def answer(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Wraps a handler: bad input gives status 422 and its one-line message."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 422)
        except HTTPException as error:
            return JSONResponse({"error": error.detail}, error.status_code)

    return answered


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body, which is limited to MAX_REQUEST_BYTES, whatever its header says.

    Raises:
        HTTPException: It is larger.
        InputError: It is not a JSON object.
    """
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_REQUEST_BYTES:
            raise HTTPException(413, "The request is too large.")
    value = parse_json(content or b"{}", "the request")
    if not is_json_object(value):
        raise InputError("the request is not a JSON object")
    return value


class Studio:
    """The handlers of requests.

    Args:
        store: The runs.
        queue: Runs the jobs.
    """

    def __init__(self, store: Store, queue: JobQueue) -> None:
        self.store = store
        self.queue = queue

    def _run(self, request: Request | WebSocket) -> Run:
        run = self.store.run(request.path_params["run"])
        if run is None:
            raise HTTPException(404, "There is no such run; it may have been deleted.")
        return run

    def _files(self, run: Run) -> RunFiles:
        return RunFiles(self.store.run_folder(run.id))

    def _described(self, run: Run) -> dict[str, Any]:
        return described(run, self.store, self.queue)

    async def home(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": PAGE_POLICY})

    async def list_runs(self, request: Request) -> Response:
        def listed() -> list[dict[str, Any]]:
            jobs = self.store.jobs()
            return [summary(run, jobs) for run in self.store.runs() if run.choice]

        return JSONResponse({"runs": await run_in_threadpool(listed)})

    async def new_run(self, request: Request) -> Response:
        return JSONResponse({"id": self.store.new_run().id}, 201)

    async def show_run(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._described, self._run(request)))

    async def delete_run(self, request: Request) -> Response:
        run = self._run(request)
        await run_in_threadpool(self.queue.cancel, run.id)
        await run_in_threadpool(self.store.delete_run, run.id)
        return JSONResponse({})

    async def upload(self, request: Request) -> Response:
        run = self._draft(request)
        name = request.path_params["name"]
        kind = await receive(request.stream(), self._files(run).input, name)
        return JSONResponse({"name": name, "kind": kind}, 201)

    async def remove_upload(self, request: Request) -> Response:
        run = self._draft(request)
        (self._files(run).input / checked_name(request.path_params["name"])).unlink(missing_ok=True)
        return JSONResponse({})

    def _draft(self, request: Request) -> Run:
        run = self._run(request)
        if run.choice:
            raise HTTPException(409, "This run has begun: its files stay as they are.")
        return run

    async def choices(self, request: Request) -> Response:
        run = self._run(request)
        text = str((await body_of(request)).get("text", ""))
        return JSONResponse(await run_in_threadpool(described_choices, run, self._files(run), text, self.store))

    async def begin(self, request: Request) -> Response:
        run, body = self._draft(request), await body_of(request)
        text, choice = str(body.get("text", "")).strip(), str(body.get("choice", ""))
        if len(text) > MAX_TEXT:
            raise InputError(f"The text has {len(text):,} letters; {MAX_TEXT:,} are the most")
        kind, file = await run_in_threadpool(input_of, stored_files(self._files(run).input), text)
        if choice not in [each.name for each in await run_in_threadpool(choices_for, kind)]:
            raise InputError("Choose what to make first")
        named = str(body.get("title", "")).strip() or (text if kind == "text" else file.stem if file else "Photos")
        self.store.choose(run.id, named[:MAX_TITLE], choice, text if kind == "text" else "")
        self.store.add_job(run.id, "make")
        return await self._queued(run)

    async def cancel(self, request: Request) -> Response:
        run = self._run(request)
        await run_in_threadpool(self.queue.cancel, run.id)
        return JSONResponse(await run_in_threadpool(self._described, run))

    async def resume(self, request: Request) -> Response:
        run = self._run(request)
        self.store.queue_again(run.id)
        return await self._queued(run)

    async def edit(self, request: Request) -> Response:
        run, body = self._run(request), await body_of(request)
        if choice_named(run.choice).makes != "splats":
            raise InputError("Only splats can be cut and cleaned here")
        bounds = await run_in_threadpool(scene_bounds, self._files(run))
        self.store.add_job(run.id, "edit", edit_of_request(body, bounds).written())
        return await self._queued(run)

    async def make_file(self, request: Request) -> Response:
        run, name = self._run(request), request.path_params["name"]
        offers = offers_for(choice_named(run.choice), self._files(run))
        if name not in [offer.name for offer in offers]:
            raise HTTPException(404, "There is no such file.")
        self.store.add_job(run.id, "file", name)
        return await self._queued(run)

    async def _queued(self, run: Run) -> Response:
        self.queue.wake()
        return JSONResponse(await run_in_threadpool(self._described, self.store.run(run.id) or run))

    async def download(self, request: Request) -> Response:
        run, name = self._run(request), request.path_params["name"]
        files = self._files(run)
        path = files.path_of(name)
        if name not in [offer.name for offer in offers_for(choice_named(run.choice), files)] or not path.is_file():
            raise HTTPException(404, "There is no such file.")
        return FileResponse(path, filename=f"{run.title}{path.suffix}")

    async def picture(self, request: Request) -> Response:
        path = await run_in_threadpool(thumbnail, self._files(self._run(request)).folder)
        if path is None:
            raise HTTPException(404, "There is no picture.")
        return FileResponse(path, media_type="image/jpeg")

    async def log(self, request: Request) -> Response:
        path = self._files(self._run(request)).log
        return FileResponse(path, media_type="text/plain") if path.is_file() else PlainTextResponse("")

    async def page_file(self, request: Request) -> Response:
        path = self._files(self._run(request)).page / request.path_params["name"]
        if not path.is_file():
            raise HTTPException(404, "There is no such file.")
        return FileResponse(path, headers={"Cache-Control": "no-cache"})  # edits replace it

    async def live_page(self, request: Request) -> Response:
        viewer = client_folder()
        if viewer is None or self._live_port(self._run(request)) is None:
            raise HTTPException(404, "This run is not being trained.")
        response = page(viewer)
        response.headers["Content-Security-Policy"] = LIVE_POLICY
        return response

    async def live(self, socket: WebSocket) -> None:
        run = self.store.run(socket.path_params["run"])
        port = None if run is None else self._live_port(run)
        if port is None:
            await socket.close(1008)
        else:
            await forward(socket, port)

    def _live_port(self, run: Run) -> int | None:
        current = self.queue.current
        return current.port if current is not None and current.job.run_id == run.id and current.command.live else None
