"""Frames of videos, cameras and network streams, by PyAV (the extra `video`).

A file, also one on a server, is read to its end, frame by frame. A camera or a stream is live: a
thread of its own reads it, and whoever asks gets the newest frame; what came meanwhile is dropped,
not queued, so that a slow machine lags by one frame and never by a minute.
"""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from tinygrad_mask.files import check_folder
from tinygrad_mask.masks.errors import UsageError

VIDEO_SUFFIXES = frozenset(
    {
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
    }
)
"""The file names taken for videos."""

_STREAM = re.compile(r"(https?|rtsps?|rtmp|udp|tcp)://")
_USER = re.compile(r"^(\w+://)[^/@]*@")
_OPEN_TIMEOUT, _READ_TIMEOUT = 10.0, 5.0  # seconds
_MOST_BROKEN = 100  # frames in a row that cannot be decoded before a source counts as ended
_TICKS = 60_000  # per second, in which the times of written frames are counted; MPEG-4's limit


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video: its number in the source, its time in seconds, its upright pixels."""

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


def without_password(address: str) -> str:
    """Return the address of a stream without the user and the password that may be in it."""
    return _USER.sub(r"\1", address)


class VideoSource:
    """A video to iterate over, as a context manager; iterating yields `Frame`s.

    `source` is the path of a file, the address of a stream, or the number of a camera. `broken`
    counts the frames that could not be decoded, `dropped` those of a live source that came while
    an earlier one was being looked at. `failure` says why a source ended before its end (an
    unplugged camera, a transmission that broke off, a file that cannot be read further), None if it
    did not. `frames_per_second` is what the source says, or None, and `frame_count` how many frames
    a file says it has, or None.

    Raises `UsageError` where the extra `video` is not installed, and where there is no video in the
    source.
    """

    def __init__(self, source: str | Path | int) -> None:
        self.name = f"camera {source}" if isinstance(source, int) else without_password(str(source))
        self._remote = isinstance(source, int) or is_stream(str(source))
        self.broken = 0
        self.dropped = 0
        self.failure: str | None = None
        av = _import_av()
        self._errors = (av.error.FFmpegError, OSError, ValueError)
        self._container = self._open(av, source)
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise UsageError(f"{self.name}: expected a video, this file has no video stream")
        # A file on a server comes as fast as the network is: none of it is dropped.
        self.live = self._remote and self._container.duration is None
        self._stream = streams[0]
        if self._stream.codec_context is None:
            self._container.close()
            raise UsageError(
                f"{self.name}: expected a codec that the installed PyAV knows, got another; "
                "convert the video, to H.264 for example"
            )
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate
        self.frames_per_second = float(rate) if rate else None
        self.frame_count = int(self._stream.frames) or None
        self._reader: _NewestFrame | None = None

    def _open(self, av: Any, source: str | Path | int) -> Any:
        options: dict[str, Any] = (
            {"timeout": (_OPEN_TIMEOUT, _READ_TIMEOUT)} if self._remote else {}
        )
        if isinstance(source, int):
            options["format"], source = "v4l2", f"/dev/video{source}"
        elif not self._remote and not Path(source).is_file():
            what = "no regular file" if Path(source).exists() else "no such file"
            raise UsageError(f"{self.name}: there is {what}")
        try:
            return av.open(str(source), **options)
        except self._errors as error:
            raise UsageError(
                f"{self.name}: cannot be opened as a video ({_reason(error)})"
            ) from error

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
                packet = next(packets)
            except StopIteration:
                return
            except self._errors as error:
                self.failure = _reason(error)
                return
            try:
                pictures = [_upright(picture) for picture in packet.decode()]
            except self._errors:
                self.broken += 1
                in_a_row += 1
                continue
            for seconds, image in pictures:
                in_a_row = 0
                yield Frame(number, seconds, image)
                number += 1
        self.failure = f"{_MOST_BROKEN} broken frames in a row"


def _upright(picture: Any) -> tuple[float, Image.Image]:
    """Return the time of a decoded frame in seconds, and its pixels, turned as the file says."""
    image: Image.Image = picture.to_image()
    quarter_turns = round(getattr(picture, "rotation", 0) / 90) % 4
    if quarter_turns:
        turns = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
        image = image.transpose(turns[quarter_turns - 1])
    return (float(picture.time) if picture.time is not None else 0.0), image


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())


class _NewestFrame:
    """Reads frames in a thread and hands out the newest one only."""

    def __init__(self, frames: Iterator[Frame], dropped: Callable[[], None]) -> None:
        self._frames = frames
        self._dropped = dropped
        self._newest: Frame | None = None
        self._ended = False
        self._error: Exception | None = None
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
                    if self._error is not None:
                        raise self._error
                    return
                frame, self._newest = self._newest, None
            yield frame

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    if self._ended:
                        return
                    if self._newest is not None:
                        self._dropped()
                    self._newest = frame
                    self._changed.notify_all()
        except Exception as error:  # raised where the frames are asked for, which must not wait
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class VideoWriter:
    """Writes frames of one size into an MP4 file (H.264 where PyAV has it, else MPEG-4).

    Frames of another size are scaled to the first one's. Use it as a context manager: the file
    appears when it ends, with the frames written until then, also if it ends with an exception;
    without a frame none appears.

    Raises `FileExistsError` if there is a file already, and `OSError` if it cannot be written.
    """

    def __init__(self, path: Path, frames_per_second: float) -> None:
        av = _import_av()
        check_folder(path)
        if path.exists():
            raise FileExistsError(f"{path} exists already and is not overwritten")
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        # A preset that takes a third of the default's time, for files that are a tenth larger.
        options = {"preset": "veryfast"} if codec == "libx264" else {}
        rate = Fraction(frames_per_second).limit_denominator(1001) or Fraction(1)
        self._container = av.open(str(self._partial), "w", format="mp4")
        self._stream = self._container.add_stream(codec, rate=rate, options=options)
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_type = "AUTO"
        self._size: tuple[int, int] | None = None
        self._count = 0
        self._last = -1  # the time of the last frame, in ticks
        self._ticks_per_frame = float(_TICKS / rate)
        self._frame_of: Callable[[Image.Image], Any] = av.VideoFrame.from_image

    def write(self, image: Image.Image, seconds: float | None = None) -> None:
        """Append a frame, to be shown at a time, or else a frame's duration after the last one.

        A live source whose frames were dropped so plays as fast as it was.
        """
        if self._size is None:
            # The codecs halve colours along both axes.
            self._size = (max(image.width // 2 * 2, 2), max(image.height // 2 * 2, 2))
            self._stream.width, self._stream.height = self._size
            self._stream.codec_context.time_base = Fraction(1, _TICKS)
        if image.size != self._size:
            image = image.resize(self._size)
        frame = self._frame_of(image)
        ticks = self._count * self._ticks_per_frame if seconds is None else seconds * _TICKS
        frame.pts = self._last = max(round(ticks), self._last + 1)
        frame.time_base = Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))
        self._count += 1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._count:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if self._count:
                self._partial.replace(self._path)
        finally:
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise UsageError(
            "videos and cameras need PyAV: pip install 'tinygrad_mask[video]'"
        ) from error
    return av
