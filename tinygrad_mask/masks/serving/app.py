"""The application: which address answers what, and how a photograph gets to the model."""

import asyncio
import io
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.serving.camera import ServerCamera
from tinygrad_mask.masks.serving.engine import LIVE_SIDE, Answer, Engine
from tinygrad_mask.masks.serving.limits import (
    BUSY,
    NO_PICTURE,
    TOO_MANY,
    Places,
    RefusedError,
    ServerLimits,
    check_bytes,
    decode_picture,
)
from tinygrad_mask.masks.serving.live import LiveFrames
from tinygrad_mask.masks.serving.metrics import CONTENT_TYPE, UPLOAD, ServerMetrics
from tinygrad_mask.masks.serving.openapi import describe
from tinygrad_mask.masks.serving.security import Guard, is_authorized

_BAD_REQUEST, _UNAUTHORIZED, _TIMEOUT, _GONE = 400, 401, 408, 499
PAGE = Path(__file__).with_name("page")
"""The folder of the page: what is in it is sent as it is."""

_DECODED = 2  # photographs that are in memory as pixels at a time


@dataclass(frozen=True)
class ServerSettings:
    """What a server is told.

    `names` are those by which it may be called (`security.allowed_names`), `token` what programs
    and pages must know, `camera` a source of `VideoSource` that is shown, `live_side` the longer
    side in pixels at which frames are looked at.
    """

    names: frozenset[str] | None = None
    token: str | None = None
    camera: str | int | None = None
    live_side: int = LIVE_SIDE
    limits: ServerLimits = field(default_factory=ServerLimits)


def create_app(detector: Detector, settings: ServerSettings) -> Starlette:
    """Return the application that answers with a detector."""
    limits = settings.limits
    metrics = ServerMetrics()
    engine = Engine(detector, metrics, settings.live_side)
    requests = Places("requests", limits.requests, limits.requests_per_client)
    sockets = Places("sockets", limits.sockets, limits.sockets_per_client)
    metrics.gauge("requests", "Photographs that are received or looked at", lambda: len(requests))
    metrics.gauge("sockets", "Open sockets", lambda: len(sockets))
    photographs = _Photographs(engine, metrics, limits, requests, settings.token)
    live = LiveFrames(engine, metrics, limits, sockets, settings.token)
    description = describe(limits, token=settings.token is not None)

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def measured(request: Request) -> Response:
        if not is_authorized(settings.token, request.headers):
            return _unauthorized()
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def described(_: Request) -> Response:
        return JSONResponse(description)

    interface: list[BaseRoute] = [
        Route("/openapi.json", described),
        Route("/detect", photographs.detect, methods=["POST"]),
        WebSocketRoute("/live", live.__call__),
        # Says to the page whether there is a camera of the server's to show.
        Route("/camera.json", _no if settings.camera is None else _yes),
    ]
    camera = None
    if settings.camera is not None:
        camera = ServerCamera(settings.camera, engine, metrics, sockets, settings.token)
        interface.append(WebSocketRoute("/camera", camera.__call__))
    routes: list[BaseRoute] = [
        Route("/healthz", healthy),
        Route("/metrics", measured),
        Mount("/api", routes=interface),
        WebSocketRoute("/{path:path}", _no_socket),  # files of the page are none
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        warming = asyncio.create_task(engine.run(engine.warm_up))
        try:
            yield
        finally:
            warming.cancel()
            if camera is not None:
                camera.close()
            engine.close()

    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, names=settings.names)],
        exception_handlers={HTTPException: _http_error, Exception: _bug},
        lifespan=lifespan,
    )


class _Photographs:
    """Answers requests to look at a photograph."""

    def __init__(
        self,
        engine: Engine,
        metrics: ServerMetrics,
        limits: ServerLimits,
        places: Places,
        token: str | None,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._limits = limits
        self._places = places
        self._token = token
        self._decoded = asyncio.Semaphore(_DECODED)

    async def detect(self, request: Request) -> Response:
        """Answer with the faces as JSON, or with an error in one line."""
        came = time.perf_counter()
        if not is_authorized(self._token, request.headers):
            self._metrics.uploads(_UNAUTHORIZED)
            return _unauthorized()
        try:
            with self._places.taken_by(request.client.host if request.client else ""):
                answer = await self._answer(await self._picture(request))
        except RefusedError as error:
            self._metrics.uploads(error.status)
            return _refused(error)
        except ClientDisconnect:
            self._metrics.uploads(_GONE)
            return Response(status_code=_GONE)  # nobody reads it
        self._metrics.uploads(200)
        self._metrics.latency(UPLOAD, time.perf_counter() - came)
        return JSONResponse(answer.to_json(), headers={"cache-control": "no-store"})

    async def _answer(self, content: bytes) -> Answer:
        async with self._decoded:
            try:
                image = await asyncio.to_thread(decode_picture, content, self._limits.upload_pixels)
                return await self._engine.run(lambda: self._engine.answer_photograph(image))
            except MemoryError as error:
                raise RefusedError(BUSY, "picture: no memory is left; try again later") from error

    async def _picture(self, request: Request) -> bytes:
        """Return the bytes of the picture in a request; refused before they are read if too many.

        Raises `RefusedError`.
        """
        length = request.headers.get("content-length", "")
        if length.isdecimal():
            check_bytes(int(length), self._limits.upload_bytes)
        try:
            content = await asyncio.wait_for(self._body(request), self._limits.body_seconds)
        except asyncio.TimeoutError as error:
            raise RefusedError(_TIMEOUT, "picture: the body was not complete in time") from error
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            return await self._file(request, content)
        if kind and not kind.startswith("image/") and kind != "application/octet-stream":
            raise RefusedError(
                NO_PICTURE,
                "content-type: expected image/* or multipart/form-data, got another",
            )
        return content

    async def _body(self, request: Request) -> bytes:
        parts, count = [], 0
        async for part in request.stream():
            count += len(part)
            check_bytes(count, self._limits.upload_bytes)
            parts.append(part)
        return b"".join(parts)

    async def _file(self, request: Request, content: bytes) -> bytes:
        """Return the content of the file in a multipart body."""

        async def stream() -> AsyncGenerator[bytes, None]:
            yield content

        parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=10)
        # Starlette would write larger files to the disk, where no picture may go.
        parser.spool_max_size = len(content) + 1
        try:
            form = await parser.parse()
        except (MultiPartException, ValueError, LookupError) as error:
            raise RefusedError(
                _BAD_REQUEST, "multipart: expected a body with one file, got one that is broken"
            ) from error
        try:
            for part in form.values():
                if isinstance(part, UploadFile):
                    return cast(io.BytesIO, part.file).read()
        finally:
            await form.close()
        raise RefusedError(_BAD_REQUEST, "multipart: expected a file, got fields only")


async def _no_socket(socket: WebSocket) -> None:
    await socket.close()


async def _yes(_: Request) -> Response:
    return JSONResponse({"camera": True})


async def _no(_: Request) -> Response:
    return JSONResponse({"camera": False})


def _refused(error: RefusedError) -> Response:
    # The rest of a body that is not read would be taken for the next request.
    headers = {"connection": "close", "cache-control": "no-store"}
    if error.status in (TOO_MANY, BUSY):
        headers["retry-after"] = "1"
    return JSONResponse({"error": str(error)}, error.status, headers)


def _unauthorized() -> Response:
    headers = {"www-authenticate": "Bearer", "connection": "close", "cache-control": "no-store"}
    text = "authorization: expected the server's token, `Authorization: Bearer TOKEN`"
    return JSONResponse({"error": text}, _UNAUTHORIZED, headers)


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _bug(request: Request, error: Exception) -> Response:
    # The type alone: the text of an error may contain what the request did.
    logging.getLogger(__name__).error("%s: %s", request.url.path, type(error).__name__)
    return JSONResponse({"error": "the server failed; this is a fault in it"}, 500)
