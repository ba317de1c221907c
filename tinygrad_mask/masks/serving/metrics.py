"""What the server counts and measures, in Prometheus' format; no picture, no address."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tinygrad_mask.masks.detector.inference.results import ANSWERS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

FRAME, UPLOAD = "frame", "upload"
"""The two kinds of pictures."""

_SECONDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10)
_OUTCOMES = ("answered", "dropped", "refused")


class ServerMetrics:
    """The counters of one server; each server has its own.

    Example:
        >>> metrics = ServerMetrics()
        >>> metrics.frames("dropped")
        >>> b'frames_total{outcome="dropped"} 1.0' in metrics.text()
        True
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        self._frames = Counter(
            "tinygrad_mask_frames",
            "Frames of cameras, by what became of them",
            ["outcome"],
            registry=self._registry,
        )
        self._uploads = Counter(
            "tinygrad_mask_uploads",
            "Requests to look at a photograph, by HTTP status",
            ["status"],
            registry=self._registry,
        )
        self._faces = Counter(
            "tinygrad_mask_faces",
            "Faces found, by answer; a face counts once per frame",
            ["answer"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "tinygrad_mask_latency_seconds",
            "From the arrival of a picture at the server to its answer",
            ["kind"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._model = Histogram(
            "tinygrad_mask_model_seconds",
            "Time that the model takes for a picture",
            buckets=_SECONDS,
            registry=self._registry,
        )
        for outcome in _OUTCOMES:  # counters exist from the beginning, at 0
            self._frames.labels(outcome)
        for answer in ANSWERS:
            self._faces.labels(answer)

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Add a number that is asked for when the metrics are read."""
        gauge = Gauge(f"tinygrad_mask_{name}", what, registry=self._registry)
        gauge.set_function(value)

    def frames(self, outcome: str) -> None:
        """Count a frame: answered, dropped or refused."""
        self._frames.labels(outcome).inc()

    def uploads(self, status: int) -> None:
        """Count a request to look at a photograph."""
        self._uploads.labels(str(status)).inc()

    def faces(self, answers: Iterable[str]) -> None:
        """Count the faces of a picture."""
        for answer in answers:
            self._faces.labels(answer).inc()

    def latency(self, kind: str, seconds: float) -> None:
        """Record how long a picture took from its arrival to its answer."""
        self._latency.labels(kind).observe(seconds)

    def model(self, seconds: float) -> None:
        """Record how long the model took for a picture."""
        self._model.observe(seconds)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)
