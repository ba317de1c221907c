"""Read images of every usual kind, from files and arrays: upright, RGB, 8 bits per channel."""

import errno
import io
import os
import stat
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png"}
    | {".tif", ".tiff", ".webp"}
)
"""The file names taken for images; what the file really is, its content says.

Pillow reads no HEIC: such files are reported as unreadable rather than overlooked.
"""

PIXELS_VARIABLE = "TINYGRAD_MASK_MAX_PIXELS"
"""The environment variable that says how many pixels an image may have."""

MAX_PIXELS = 50_000_000
"""Its default: an image of as many takes up to 400 MB while it is read."""

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_CONVERTED_AT_ONCE = 4_000_000  # pixels

# Pillow warns of what `read_image` refuses.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
_EXIF_ORIENTATION = 0x0112
_EXIF_QUARTER_TURNS = (5, 6, 7, 8)


def read_image(path: str | Path | BinaryIO) -> Image.Image:
    """Return the image in a file as the eye is meant to see it: upright, RGB, 8 bits a channel.

    `path` is a path, or a file that is open for reading bytes. EXIF orientation is applied,
    palettes and CMYK are converted, 16-bit grey is scaled, and transparent pixels are put on white.
    Of an animation it is the first frame.

    Raises `OSError`, in one line with the path, if the file is missing, empty, truncated, corrupt
    or of no known format, and before it is decoded if it has more pixels than `MAX_PIXELS` or
    another number in the environment variable `PIXELS_VARIABLE`.
    """
    try:
        with _open(path) as image:
            most = _most_pixels()
            if image.width * image.height > most:
                raise OSError(
                    f"expected at most {most:,} pixels, got {image.width:,} x {image.height:,}; "
                    f"the environment variable {PIXELS_VARIABLE} allows others"
                )
            return to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # whatever a decoder trips over in a corrupt file
        raise OSError(f"{_name(path)}: {_reason(error, path)}") from error


def read_image_size(path: str | Path | BinaryIO) -> tuple[int, int]:
    """Return the (width, height) that `read_image` would give, from the file's header alone.

    Raises `OSError` like `read_image`, but does not notice what is wrong behind the header.
    """
    try:
        with _open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION) in _EXIF_QUARTER_TURNS
    except Exception as error:  # as in read_image
        raise OSError(f"{_name(path)}: {_reason(error, path)}") from error
    return (height, width) if turned else (width, height)


def _open(path: str | Path | BinaryIO) -> Image.Image:
    """Open an image file without decoding it; only a regular file: reading others may block."""
    if isinstance(path, str | Path):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "not a regular file")
    return Image.open(path, formats=_FORMATS)


def _most_pixels() -> int:
    text = os.environ.get(PIXELS_VARIABLE, "")
    if not text:
        return MAX_PIXELS
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 20):
        raise OSError(f"{PIXELS_VARIABLE}: expected a number of pixels, got {text[:20]!r}")
    return int(text)


def open_image(image: str | Path | Image.Image | NDArray[Any], *, bgr: bool = False) -> Image.Image:
    """Return a picture in any of its forms, upright and in RGB: a path, an image, an array.

    Raises what `read_image` and `to_rgb` raise; `bgr` is for arrays, see `to_rgb`.
    """
    if isinstance(image, str | Path):
        if bgr:
            raise ValueError(f"{image}: expected an array with bgr=True, got a path; leave bgr out")
        return read_image(image)
    if isinstance(image, Image.Image):
        image = ImageOps.exif_transpose(image)
    return to_rgb(image, bgr=bgr)


def is_image_file(path: Path) -> bool:
    """Whether a path is a file named like an image, and not hidden."""
    return (
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def to_rgb(image: Image.Image | NDArray[Any], *, bgr: bool = False) -> Image.Image:
    """Return an image in RGB, 8 bits per channel; one that already is, as it is.

    Grey and palettes are converted, transparent pixels are put on white. An array is uint8 of shape
    (height, width), grey, (height, width, 1), grey too, (height, width, 3), RGB, or
    (height, width, 4), RGBA. With `bgr` the colours of an array are in the order that OpenCV reads
    them, blue first.

    Raises `TypeError` for anything else than an image or an array of uint8, `ValueError` for an
    array of another shape or without pixels, and for `bgr` with an image of Pillow's.
    """
    if isinstance(image, Image.Image):
        if bgr:
            raise ValueError(
                "image: expected an array with bgr=True, got an image of Pillow's; it knows the "
                "order of its colours, leave bgr out"
            )
        return image if image.mode == "RGB" else _converted(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        got = f"one of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(
            f"image: expected an image of Pillow's or an array of uint8 from 0 to 255, got {got}"
        )
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or image.size == 0:
        raise ValueError(
            "image: expected an array of shape (height, width), (height, width, 3) or (height, "
            f"width, 4), got {image.shape}"
        )
    if channels == 1:
        return Image.fromarray(image.reshape(image.shape[:2])).convert("RGB")
    if bgr:
        image = image[:, :, [2, 1, 0, 3][:channels]]
    return to_rgb(Image.fromarray(np.ascontiguousarray(image)))


def _converted(image: Image.Image) -> Image.Image:
    """Convert a large image in strips, which bounds the memory that the steps between take."""
    rows = max(_CONVERTED_AT_ONCE // image.width, 1) if image.width else 1
    if image.height <= rows:
        return _converted_at_once(image)
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(_converted_at_once(strip), (0, top))
    return result


def _converted_at_once(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16-bit grey to 255, not scale it
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image.convert("RGB")


def _name(path: str | Path | BinaryIO) -> str:
    """The name of a file in messages; one that is in memory has none."""
    if isinstance(path, str | Path):
        return str(path)
    return str(getattr(path, "name", type(path).__name__))


def _reason(error: Exception, path: str | Path | BinaryIO) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        if isinstance(path, str | Path):
            empty = Path(path).stat().st_size == 0
        else:
            empty = path.seek(0, io.SEEK_END) == 0
        return "the file is empty" if empty else "not an image of a known format"
    return " ".join(str(error).split()) or type(error).__name__
