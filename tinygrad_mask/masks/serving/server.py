"""The server of the application: uvicorn, with time limits that it has no options for."""

import asyncio
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from tinygrad_mask.masks.serving.limits import ServerLimits

_CONNECTIONS = 256
_HEAD_BYTES = 32_768
_SHUTDOWN_SECONDS = 3


def protocol_of(limits: ServerLimits) -> type[H11Protocol]:
    """Return uvicorn's protocol with a limit on the time that the head of a request may take.

    Without one, clients that send a byte now and then (slow loris) hold all connections.
    """

    class TimedProtocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._start_head_timer()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # From the first byte of the next request on; more bytes do not extend the time.
            if self._waits_for_head() and self._head_timer is None:
                self._start_head_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_head_timer()
            super().connection_lost(exc)

        def handle_events(self) -> None:
            super().handle_events()
            if not self._waits_for_head():
                self._stop_head_timer()

        def _waits_for_head(self) -> bool:
            if self.transport.get_protocol() is not self:
                return False  # it is a socket now
            return self.cycle is None or self.cycle.response_complete

        def _start_head_timer(self) -> None:
            self._head_timer = self.loop.call_later(limits.head_seconds, self._expire)

        def _stop_head_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _expire(self) -> None:
            self._head_timer = None
            if self._waits_for_head():
                self.transport.close()

    return TimedProtocol


def create_server(
    app: Starlette,
    host: str,
    port: int,
    limits: ServerLimits,
    *,
    certfile: Path | None = None,
    keyfile: Path | None = None,
) -> uvicorn.Server:
    """Return a server that is not running yet; nothing about requests is logged."""
    config = uvicorn.Config(
        app,
        host,
        port,
        http=protocol_of(limits),
        ws="websockets-sansio",
        ws_max_size=limits.frame_bytes,
        ws_per_message_deflate=False,  # a small message could become a large one
        lifespan="on",
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
    )
    return uvicorn.Server(config)
