"""Frames of videos, cameras and network streams, by PyAV (the extra `video`).

A file is read to its end, frame by frame. A camera or a stream is live: a thread of its own reads
it, and whoever asks gets the newest frame; what came meanwhile is dropped, not queued, so that a
slow machine lags by one frame and never by a minute.
"""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from tinygrad_mask.masks.errors import UsageError

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm"}
)
"""The file names taken for videos."""

_STREAM = re.compile(r"(https?|rtsps?|rtmp|udp|tcp)://")
_OPEN_TIMEOUT, _READ_TIMEOUT = 10.0, 5.0  # seconds
_MOST_BROKEN = 100  # frames in a row that cannot be decoded before a source counts as ended


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video: its number in the source, its time in seconds, and its pixels."""

    number: int
    seconds: float
    image: Image.Image


def is_stream(source: str) -> bool:
    """Whether a text is the address of a stream, such as `rtsp://HOST/PATH`."""
    return _STREAM.match(source) is not None


def is_video_file(path: Path) -> bool:
    """Whether a path is a file named like a video, and not hidden."""
    return (
        path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


class VideoSource:
    """A video to iterate over, as a context manager; iterating yields `Frame`s.

    `source` is the path of a file, the address of a stream, or the number of a camera. `broken`
    counts the frames that could not be decoded, `dropped` those of a live source that came while
    an earlier one was being looked at. `frames_per_second` is what the source says, or None, and
    `frame_count` how many frames a file says it has, or None.

    Raises `UsageError` where the extra `video` is not installed, and where there is no video in the
    source.
    """

    def __init__(self, source: str | Path | int) -> None:
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        self.live = isinstance(source, int) or is_stream(str(source))
        self.broken = 0
        self.dropped = 0
        av = _import_av()
        self._errors = (av.error.FFmpegError, OSError, ValueError)
        self._container = self._open(av, source)
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise UsageError(f"{self.name}: expected a video, this file has no video stream")
        self._stream = streams[0]
        if self._stream.codec_context is None:
            self._container.close()
            raise UsageError(f"{self.name}: its codec is not known to the installed PyAV")
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate
        self.frames_per_second = float(rate) if rate else None
        self.frame_count = int(self._stream.frames) or None
        self._reader: _NewestFrame | None = None

    def _open(self, av: Any, source: str | Path | int) -> Any:
        options: dict[str, Any] = {"timeout": (_OPEN_TIMEOUT, _READ_TIMEOUT)} if self.live else {}
        if isinstance(source, int):
            options["format"], source = "v4l2", f"/dev/video{source}"
        elif not self.live and not Path(source).is_file():
            raise UsageError(f"{self.name}: there is no such file")
        try:
            return av.open(str(source), **options)
        except self._errors as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"{self.name}: cannot be opened as a video ({reason})") from error

    def __enter__(self) -> "VideoSource":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._reader is not None:
            self._reader.stop()
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames: all of a file, the newest of a live source."""
        if not self.live:
            return self._decode()
        self._reader = _NewestFrame(self._decode(), self._count_dropped)
        return iter(self._reader)

    def _count_dropped(self) -> None:
        self.dropped += 1

    def _decode(self) -> Iterator[Frame]:
        number = in_a_row = 0
        packets = self._container.demux(self._stream)
        while in_a_row < _MOST_BROKEN:
            try:
                pictures = next(packets).decode()
            except StopIteration:
                return
            except self._errors:  # a broken frame, or the end of an interrupted transmission
                self.broken += 1
                in_a_row += 1
                continue
            for picture in pictures:
                in_a_row = 0
                seconds = float(picture.time) if picture.time is not None else 0.0
                yield Frame(number, seconds, picture.to_image())
                number += 1


class _NewestFrame:
    """Reads frames in a thread and hands out the newest one only."""

    def __init__(self, frames: Iterator[Frame], dropped: Callable[[], None]) -> None:
        self._frames = frames
        self._dropped = dropped
        self._newest: Frame | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="VideoSource", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the frame that it is reading."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(timeout=_READ_TIMEOUT + 1)

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._ended)
                if self._newest is None:
                    return
                frame, self._newest = self._newest, None
            yield frame

    def _read(self) -> None:
        for frame in self._frames:
            with self._changed:
                if self._ended:
                    return
                if self._newest is not None:
                    self._dropped()
                self._newest = frame
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class VideoWriter:
    """Writes frames of one size into an MP4 file (H.264 where PyAV has it, else MPEG-4).

    Frames of another size are scaled to the first one's. Use it as a context manager.
    """

    def __init__(self, path: Path, frames_per_second: float) -> None:
        av = _import_av()
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream(codec, rate=round(frames_per_second) or 1)
        self._stream.pix_fmt = "yuv420p"
        self._size: tuple[int, int] | None = None
        self._frame_of: Callable[[Image.Image], Any] = av.VideoFrame.from_image

    def write(self, image: Image.Image) -> None:
        """Append a frame."""
        if self._size is None:
            # The codecs halve colours along both axes.
            self._size = (max(image.width // 2 * 2, 2), max(image.height // 2 * 2, 2))
            self._stream.width, self._stream.height = self._size
        if image.size != self._size:
            image = image.resize(self._size)
        self._container.mux(self._stream.encode(self._frame_of(image)))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._size is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise UsageError(
            "videos and cameras need PyAV: pip install 'tinygrad_mask[video]'"
        ) from error
    return av
