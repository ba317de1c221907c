"""The socket of a browser's camera: frames come in, faces go out, and nothing queues.

The client sends each frame as one binary message, a JPEG file for example. Frames count from 0. The
server looks at the newest frame whenever the model is free; those that came in between are dropped
and get no answer. Its messages are JSON objects with a `kind`:

    ready     the first message
    frame     the answer about frame number `frame`: `faces`, `width`, `height`, `milliseconds`,
              and `dropped`, the frames dropped so far
    refused   frame number `frame` cannot be looked at; `error` says why

If the server has a token the first message of the client is `{"token": "..."}`. The codes of a
close are those of the `CLOSE_` constants and 1009 for a message that is too large.
"""

import asyncio
import json
import threading
import time
from dataclasses import dataclass

from starlette.websockets import WebSocket, WebSocketDisconnect

from tinygrad_mask.masks.serving.engine import Answer, Engine
from tinygrad_mask.masks.serving.limits import (
    NO_PICTURE,
    Places,
    RefusedError,
    ServerLimits,
    check_bytes,
    decode_picture,
)
from tinygrad_mask.masks.serving.metrics import FRAME, ServerMetrics
from tinygrad_mask.masks.serving.security import is_token

CLOSE_UNAUTHORIZED, CLOSE_IDLE, CLOSE_BUSY = 4401, 4408, 1013
CLOSE_GOING, CLOSE_NOT_UNDERSTOOD = 1001, 1008

_TOKEN_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class _NumberedFrame:
    number: int
    content: bytes
    arrived: float


class NewestFrame:
    """Holds the newest frame; one that is replaced before it is taken counts as dropped."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self.dropped = 0
        self.changed = asyncio.Event()
        self._metrics = metrics
        self._count = 0
        self._frame: _NumberedFrame | None = None
        self._lock = threading.Lock()

    def put(self, content: bytes) -> None:
        """Replace the frame that waits, if one does."""
        frame = _NumberedFrame(self._count, content, time.perf_counter())
        self._count += 1
        with self._lock:
            replaced, self._frame = self._frame, frame
        if replaced is not None:
            self.dropped += 1
            self._metrics.frames("dropped")
        self.changed.set()

    def take(self) -> _NumberedFrame | None:
        """Return the newest frame, which then waits no longer; None if there is none."""
        with self._lock:
            frame, self._frame = self._frame, None
        return frame


class LiveFrames:
    """The endpoint of the socket; `places` bounds the open ones."""

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

    async def __call__(self, socket: WebSocket) -> None:
        """Serve one socket until its client goes away, is idle or is refused."""
        await socket.accept()
        try:
            with self._places.taken_by(client_address(socket)):
                if await has_token(socket, self._token):
                    await socket.send_json({"kind": "ready"})
                    await self._serve(socket)
        except RefusedError as error:
            await socket.close(CLOSE_BUSY, close_reason(str(error)))
        except WebSocketDisconnect:
            pass

    async def _serve(self, socket: WebSocket) -> None:
        newest = NewestFrame(self._metrics)
        answering = asyncio.create_task(self._answer(socket, newest))
        try:
            while True:
                receiving = asyncio.ensure_future(socket.receive())
                done, _ = await asyncio.wait(
                    {receiving, answering},
                    timeout=self._limits.idle_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if receiving not in done:
                    receiving.cancel()
                if answering in done:
                    answering.result()  # raises what ended it
                    return
                if not done:
                    await socket.close(CLOSE_IDLE, "no frame came for a long time")
                    return
                message = receiving.result()
                if message["type"] == "websocket.disconnect":
                    return
                content = message.get("bytes")
                if content is None:
                    reason = "a frame: expected a binary message, got text"
                    await socket.close(CLOSE_NOT_UNDERSTOOD, reason)
                    return
                newest.put(content)
        finally:
            newest.take()
            answering.cancel()

    async def _answer(self, socket: WebSocket, newest: NewestFrame) -> None:
        """Answer the newest frame again and again."""
        while True:
            await newest.changed.wait()
            newest.changed.clear()
            # The frame is taken when the model is free, not when the turn is asked for.
            frame, answer = await self._engine.run(lambda: self._look(newest))
            if frame is None:
                continue
            if isinstance(answer, Answer):
                self._metrics.frames("answered")
                self._metrics.latency(FRAME, time.perf_counter() - frame.arrived)
                content = {"kind": "frame", **answer.to_json(), "dropped": newest.dropped}
            else:
                self._metrics.frames("refused")
                content = {"kind": "refused", "error": str(answer)}
            await socket.send_text(json.dumps({**content, "frame": frame.number}))

    def _look(
        self, newest: NewestFrame
    ) -> tuple[_NumberedFrame | None, Answer | RefusedError | None]:
        """Look at the newest frame, in the model's thread."""
        frame = newest.take()
        if frame is None:
            return None, None
        try:
            check_bytes(len(frame.content), self._limits.frame_bytes)
            image = decode_picture(frame.content, self._limits.frame_pixels)
            return frame, self._engine.answer_frame(image)
        except RefusedError as error:
            return frame, error
        except MemoryError:
            return frame, RefusedError(NO_PICTURE, "picture: it does not fit into memory")


async def has_token(socket: WebSocket, token: str | None) -> bool:
    """Whether the first message of a socket has the token, if there is one; else close it."""
    if token is None:
        return True
    try:
        first = await asyncio.wait_for(socket.receive_text(), _TOKEN_SECONDS)
        given = json.loads(first)["token"]
        if isinstance(given, str) and is_token(token, given):
            return True
    except (asyncio.TimeoutError, KeyError, TypeError, ValueError):
        pass
    await socket.close(CLOSE_UNAUTHORIZED, "the token of this server is missing or wrong")
    return False


def client_address(socket: WebSocket) -> str:
    """Return the address of a client, without its port."""
    return socket.client.host if socket.client is not None else ""


def close_reason(text: str) -> str:
    """Return a text as the reason of a close, which has at most 123 bytes."""
    return text.encode()[:123].decode(errors="ignore")
