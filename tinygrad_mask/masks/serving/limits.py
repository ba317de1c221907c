"""How large a picture may be, how many at a time, and how one is decoded safely.

A picture is refused before it is decoded if it has too many bytes or, by its header, too many
pixels. Whether it is a picture at all is known when it has been decoded.
"""

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from tinygrad_mask.masks.images import read_image

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

TOO_LARGE, NO_PICTURE, TOO_MANY, BUSY = 413, 415, 429, 503
"""The HTTP statuses of what is refused."""


@dataclass(frozen=True)
class ServerLimits:
    """Upper bounds on what clients may ask for; a client is an address.

    `upload_*` are of a photograph, `frame_*` of a frame of a camera. `requests` are the photographs
    that are received or looked at, `sockets` the open sockets. A body must be complete within
    `body_seconds`, the head of a request within `head_seconds`; a socket is closed if nothing comes
    for `idle_seconds`.
    """

    upload_bytes: int = 20_000_000
    upload_pixels: int = 50_000_000
    frame_bytes: int = 1_500_000
    frame_pixels: int = 2_100_000
    requests: int = 16
    requests_per_client: int = 8
    sockets: int = 16
    sockets_per_client: int = 8
    body_seconds: float = 20.0
    head_seconds: float = 10.0
    idle_seconds: float = 120.0


class RefusedError(Exception):
    """Something that is not answered, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Places:
    """Places for requests or sockets, of which each client may take a few.

    Example:
        >>> places = Places("requests", 16, 8)
        >>> with places.taken_by("192.0.2.1"):
        ...     len(places)
        1
    """

    def __init__(self, what: str, total: int, per_client: int) -> None:
        self._what = what
        self._total = total
        self._per_client = per_client
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many places are taken."""
        return self._taken.total()

    @contextmanager
    def taken_by(self, client: str) -> Iterator[None]:
        """Take a place for as long as the context lasts.

        Raises `RefusedError` with status 503 if no place is free, 429 if the client has its share.
        """
        if len(self) >= self._total:
            raise RefusedError(
                BUSY,
                f"{self._what}: expected at most {self._total} at a time, all places are taken; "
                "try again in a second",
            )
        if self._taken[client] >= self._per_client:
            raise RefusedError(
                TOO_MANY,
                f"{self._what}: expected at most {self._per_client} at a time from one address; "
                "wait for an answer before the next",
            )
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            self._taken += Counter()  # drops clients without a place


def check_bytes(count: int, most: int) -> None:
    """Raise `RefusedError` (413) if a picture has too many bytes."""
    if count > most:
        raise RefusedError(
            TOO_LARGE, f"picture: expected at most {most:,} bytes, got more; reduce it"
        )


def decode_picture(content: bytes, most_pixels: int) -> Image.Image:
    """Return the picture in the bytes of a file: upright, RGB, 8 bits per channel.

    Raises `RefusedError`: 415 for what is not a whole JPEG, PNG, WebP, GIF or BMP file, 413 for
    one that has more than `most_pixels`, which is read from its header before it is decoded.
    """
    webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    if not (webp or content.startswith(_BEGINNINGS)):
        got = "other content" if content else "nothing"
        raise RefusedError(NO_PICTURE, f"picture: expected JPEG, PNG, WebP, GIF or BMP, got {got}")
    try:
        # Not `read_image_size`, which for some formats decodes the pixels in search of EXIF data.
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            pixels = image.width * image.height
    except _BOMBS as error:
        raise _too_many_pixels(most_pixels) from error
    except Exception as error:  # whatever a decoder trips over in a corrupt file
        raise _corrupt() from error
    if pixels > most_pixels:
        raise _too_many_pixels(most_pixels)
    try:
        return read_image(io.BytesIO(content))
    except OSError as error:
        raise _corrupt() from error


def _corrupt() -> RefusedError:
    return RefusedError(
        NO_PICTURE, "picture: expected a whole file, got one that is truncated or corrupt"
    )


def _too_many_pixels(most: int) -> RefusedError:
    return RefusedError(
        TOO_LARGE, f"picture: expected at most {most:,} pixels, got more; reduce it"
    )
