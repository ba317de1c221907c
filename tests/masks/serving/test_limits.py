"""How pictures from strangers are decoded, and who gets a place."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tinygrad_mask.masks.serving.limits import (
    Places,
    RefusedError,
    check_bytes,
    decode_picture,
)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of_size(width, height):
    """A PNG file whose header names a size; what follows would inflate to it, or is missing."""

    def chunk(name, content):
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10_000_000, 9)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_the_usual_formats_are_decoded(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    image = decode_picture(encoded(Image.fromarray(pixels), kind), 96)
    assert (image.mode, image.size) == ("RGB", (12, 8))
    if kind in ("PNG", "BMP"):
        assert np.array_equal(np.asarray(image), pixels)


def test_a_picture_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_picture(encoded(Image.new("RGB", (12, 8)), "JPEG", exif=exif), 96)
    assert image.size == (8, 12)


@pytest.mark.parametrize(
    ("content", "status", "what"),
    [
        (b"", 415, "got nothing"),
        (b"hello", 415, "got other content"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "got other content"),
        (b"\xff\xd8\xff\xe0", 415, "truncated or corrupt"),
        (b"\x89PNG\r\n\x1a\n", 415, "truncated or corrupt"),
        (b"BM" + bytes(60), 415, "truncated or corrupt"),
        (b"GIF89a" + bytes(3), 415, "truncated or corrupt"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", 415, "truncated or corrupt"),
        (encoded(Image.new("RGB", (60, 60)), "TIFF"), 415, "got other content"),
        (encoded(Image.new("RGB", (60, 60)))[:-30], 415, "truncated or corrupt"),
        (encoded(Image.effect_noise((60, 60), 90), "JPEG")[:-800], 415, "truncated or corrupt"),
        (encoded(Image.new("RGB", (101, 100))), 413, "at most 10,000 pixels"),
        (png_of_size(6_000, 6_000), 413, "at most 10,000 pixels"),
        (png_of_size(12_000, 12_000), 413, "at most 10,000 pixels"),
        (png_of_size(2**31 - 1, 2**31 - 1), 413, "at most 10,000 pixels"),
    ],
)
def test_what_is_refused(content, status, what):
    with pytest.raises(RefusedError, match=what) as refused:
        decode_picture(content, 10_000)
    assert refused.value.status == status
    assert "\n" not in str(refused.value)


def test_bytes_are_counted():
    check_bytes(10, 10)
    with pytest.raises(RefusedError, match="at most 10 bytes") as refused:
        check_bytes(11, 10)
    assert refused.value.status == 413


def test_places_are_bounded_in_all_and_per_client():
    places = Places("requests", 3, 2)
    with places.taken_by("a"), places.taken_by("a"):
        with pytest.raises(RefusedError, match="from one address") as refused, places.taken_by("a"):
            pass
        assert refused.value.status == 429
        with places.taken_by("b"):
            assert len(places) == 3
            with pytest.raises(RefusedError, match="all places") as refused, places.taken_by("c"):
                pass
            assert refused.value.status == 503
    assert len(places) == 0
    with places.taken_by("a"):
        assert len(places) == 1
