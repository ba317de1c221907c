"""The server's own camera or stream, shown to all who watch; it runs only while somebody does."""

import asyncio
import io
import json
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from PIL import Image
from starlette.websockets import WebSocket, WebSocketDisconnect

from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.serving.engine import Engine
from tinygrad_mask.masks.serving.limits import Places, RefusedError
from tinygrad_mask.masks.serving.live import (
    CLOSE_BUSY,
    client_address,
    close_reason,
    has_token,
)
from tinygrad_mask.masks.serving.metrics import FRAME, ServerMetrics
from tinygrad_mask.masks.video import VideoSource

_SHOWN_SIDE = 960  # pixels of the longer side of the pictures that are shown
_JPEG_QUALITY = 80
_RETRY_SECONDS = 3.0  # after a camera failed or a file ended
_PACE = 1 / 25  # seconds; a file is not played faster


class ServerCamera:
    """The endpoint of the socket on which the pictures of one camera and their faces are shown.

    Each watcher gets, for each frame that was looked at, a JPEG file as a binary message and then a
    JSON object as in `live`; a slow watcher misses frames. An object of the kind `camera` says with
    `error` that there is no picture at the moment. `source` is what `VideoSource` takes.
    """

    def __init__(
        self,
        source: str | int,
        engine: Engine,
        metrics: ServerMetrics,
        places: Places,
        token: str | None,
    ) -> None:
        self._source = source
        self._engine = engine
        self._metrics = metrics
        self._places = places
        self._token = token
        self._watchers = 0
        self._shown: tuple[bytes | None, str] = (None, "")
        self._number = 0
        self._changed = asyncio.Condition()
        self._stop: threading.Event | None = None

    async def __call__(self, socket: WebSocket) -> None:
        """Show the camera to one watcher until it goes away."""
        await socket.accept()
        try:
            with self._places.taken_by(client_address(socket)):
                if await has_token(socket, self._token):
                    await self._show(socket)
        except RefusedError as error:
            await socket.close(CLOSE_BUSY, close_reason(str(error)))
        except WebSocketDisconnect:
            pass

    def close(self) -> None:
        """Stop the camera."""
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    async def _show(self, socket: WebSocket) -> None:
        self._watchers += 1
        if self._stop is None:
            self._stop = threading.Event()
            arguments = (self._stop, asyncio.get_running_loop())
            threading.Thread(target=self._read, args=arguments, name="camera", daemon=True).start()
        gone = asyncio.create_task(_wait_until_gone(socket))
        sending = asyncio.create_task(self._send(socket))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)
            self._watchers -= 1
            if self._watchers == 0:
                self.close()

    async def _send(self, socket: WebSocket) -> None:
        last = self._number
        while True:
            async with self._changed:
                while self._number <= last:
                    await self._changed.wait()
                last, (picture, text) = self._number, self._shown
            if picture is not None:
                await socket.send_bytes(picture)
            await socket.send_text(text)

    # --- in the camera's thread -------------------------------------------------------------

    def _read(self, stop: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        """Read the camera until told to stop; after a failure try again in a while."""
        with suppress(RuntimeError, CancelledError):  # the server ended
            while not stop.is_set():
                failure = "the video ended"
                try:
                    with VideoSource(self._source) as video:
                        for frame in video:
                            if stop.is_set():
                                return
                            self._look(frame.number, frame.image, loop)
                        failure = video.failure or failure
                except (UsageError, OSError, ValueError) as error:
                    failure = str(error)
                content = {"kind": "camera", "error": failure}
                asyncio.run_coroutine_threadsafe(self._publish(None, content), loop).result()
                stop.wait(_RETRY_SECONDS)

    def _look(self, number: int, image: Image.Image, loop: asyncio.AbstractEventLoop) -> None:
        came = time.perf_counter()
        work = self._engine.run(lambda: self._engine.answer_frame(image))
        answer = asyncio.run_coroutine_threadsafe(work, loop).result()
        picture = io.BytesIO()
        shown = image.copy()
        shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        shown.save(picture, "JPEG", quality=_JPEG_QUALITY)
        self._metrics.frames("answered")
        self._metrics.latency(FRAME, time.perf_counter() - came)
        content = {"kind": "frame", "frame": number, **answer.to_json()}
        shown_to_all = self._publish(picture.getvalue(), content)
        asyncio.run_coroutine_threadsafe(shown_to_all, loop).result()
        time.sleep(max(came + _PACE - time.perf_counter(), 0))

    async def _publish(self, picture: bytes | None, content: dict[str, Any]) -> None:
        async with self._changed:
            self._shown = (picture, json.dumps(content))
            self._number += 1
            self._changed.notify_all()


async def _wait_until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
