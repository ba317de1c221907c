"""Reading image files of every usual kind into one: upright, RGB, 8 bits a channel."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""The file names taken for images; what the file really is, its content says."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_EXIF_ORIENTATION = 0x0112
_EXIF_QUARTER_TURNS = (5, 6, 7, 8)


def read_image(path: str | Path) -> Image.Image:
    """Return the image in a file as the eye is meant to see it: upright, RGB, 8 bits a channel.

    EXIF orientation is applied, palettes and CMYK are converted, 16-bit grey is scaled, and what
    is transparent is put on white. Of an animation it is the first frame.

    Raises `OSError`, in one line with the path, where the file is missing, empty, truncated,
    corrupt or of no known format, and where it has so many pixels that Pillow takes it for a
    decompression bomb.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # whatever a decoder trips over in a corrupt file
        raise OSError(f"{path}: {_reason(error, Path(path))}") from error


def read_image_size(path: str | Path) -> tuple[int, int]:
    """Return the (width, height) that `read_image` would give, from the file's header alone.

    Raises `OSError` like `read_image`, but does not notice what is wrong behind the header.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION) in _EXIF_QUARTER_TURNS
    except Exception as error:  # as in read_image
        raise OSError(f"{path}: {_reason(error, Path(path))}") from error
    return (height, width) if turned else (width, height)


def is_image_file(path: Path) -> bool:
    """Whether a path is a file named like an image, and not hidden."""
    return (
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16-bit grey to 255, not scale it
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image.convert("RGB")


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        empty = path.stat().st_size == 0
        return "the file is empty" if empty else "not an image of a known format"
    return " ".join(str(error).split()) or type(error).__name__
