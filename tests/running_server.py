"""Servers of the entrance page that listen on a free port of this machine while a test lasts."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import uvicorn

from tinygrad_mask.masks import load_detector
from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.serving import engine
from tinygrad_mask.masks.serving.app import ServerSettings, create_app
from tinygrad_mask.masks.serving.security import allowed_names
from tinygrad_mask.masks.serving.server import create_server


class PlainDetector(Detector):
    """Finds one face with a proper mask in every picture; while `wait` is not set it is held up.

    `seen` are the sizes of the pictures that it was asked about.
    """

    wait = threading.Event()
    seen: list[tuple[int, int]] = []  # noqa: RUF012

    def find(self, image, least_score):
        self.seen.append(image.size)
        assert self.wait.wait(60)
        box = np.array([[1, 1, image.width - 1, image.height - 1]], np.float32)
        labels = np.array([[0.9, 0.06, 0.04]], np.float32)
        return Detections(box, np.array([0.8], np.float32), labels)


def plain_detector(monkeypatch: pytest.MonkeyPatch) -> type[PlainDetector]:
    """Have servers look at frames and photographs with a `PlainDetector`, and return its class."""
    monkeypatch.setattr(engine, "Detector", PlainDetector)
    PlainDetector.wait = threading.Event()
    PlainDetector.wait.set()
    PlainDetector.seen = []
    return PlainDetector


@dataclass(frozen=True)
class RunningServer:
    port: int
    server: uvicorn.Server

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        return f"http://{self.host}"

    @property
    def ws(self) -> str:
        return f"ws://{self.host}"


@contextmanager
def serving(detector: Detector | None = None, port: int = 0, **options) -> Iterator[RunningServer]:
    """Run a server with these `ServerSettings`, by default with a `PlainDetector`."""
    if detector is None:
        trained = load_detector()
        detector = PlainDetector(trained.model, trained.architecture, trained.settings)
    settings = ServerSettings(names=allowed_names("127.0.0.1", []), **options)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    port = listening.getsockname()[1]
    server = create_server(create_app(detector, settings), "127.0.0.1", port, settings.limits)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield RunningServer(port, server)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
        listening.close()
