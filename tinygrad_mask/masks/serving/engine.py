"""The model in a thread of its own: pictures are looked at one after the other.

The kernels use all cores for one picture, and the network's buffers serve one call at a time, so
more threads would not answer sooner.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from PIL import Image

from tinygrad_mask.masks.detector.network.detector import DetectedFace, Detector
from tinygrad_mask.masks.serving.metrics import ServerMetrics

LIVE_SIDE = 480
"""The longer side in pixels at which frames of a camera are looked at.

People at an entrance are near: at 480 pixels the network has a third of the work that it has at the
800 of a photograph."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Answer:
    """The faces in a picture of width x height pixels, and how long the model took, in seconds."""

    width: int
    height: int
    faces: list[DetectedFace]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the answer as the interface for programs gives it."""
        return {
            "width": self.width,
            "height": self.height,
            "faces": [face.to_json() for face in self.faces],
            "milliseconds": round(1000 * self.seconds, 1),
        }


class Engine:
    """Answers photographs and frames with a detector; `close` ends its thread."""

    def __init__(
        self, detector: Detector, metrics: ServerMetrics, live_side: int = LIVE_SIDE
    ) -> None:
        settings = replace(detector.settings, long_side=min(live_side, detector.settings.long_side))
        self._detector = detector
        # The same network; a detector has a compiled program of its own.
        self._live = Detector(detector.model, detector.architecture, settings, detector.classifier)
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._waiting = 0
        metrics.gauge("queue", "Pictures that wait for the model", lambda: self._waiting)

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Return what `work` returns, called in the model's thread when its turn comes."""
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def answer_photograph(self, image: Image.Image) -> Answer:
        """Return the faces in a photograph; to be called in the model's thread."""
        return self._answer(self._detector, image)

    def answer_frame(self, image: Image.Image) -> Answer:
        """Return the faces in a frame of a camera; to be called in the model's thread."""
        return self._answer(self._live, image)

    def warm_up(self) -> None:
        """Look at an empty frame, so that the first real one does not wait for the compiler."""
        self._live.detect(Image.new("RGB", (640, 480)))

    def close(self) -> None:
        """End the thread after the picture that it is looking at; the others are not answered."""
        self._pool.shutdown(cancel_futures=True)

    def _answer(self, detector: Detector, image: Image.Image) -> Answer:
        start = time.perf_counter()
        faces = detector.detect(image)
        seconds = time.perf_counter() - start
        self._metrics.model(seconds)
        self._metrics.faces(face.answer for face in faces)
        return Answer(image.width, image.height, faces, seconds)
