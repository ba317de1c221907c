import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygrad_mask.masks.images import is_image_file, read_image, read_image_size, to_rgb


def gradient(width: int = 24, height: int = 16) -> Image.Image:
    """No two sides alike, so that each turn and flip of it is another picture."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 9, y * 14, (x + y) * 5], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg", ".jpeg", ".gif"])
def test_every_suffix_is_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    gradient().save(path, lossless=True)  # heeded by WebP alone
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (24, 16))
    error = np.abs(np.asarray(image, int) - np.asarray(gradient(), int))
    assert error.mean() < (0.5 if suffix in {".png", ".bmp", ".tif", ".webp"} else 12)
    assert read_image_size(path) == (24, 16)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    stored = gradient()
    if orientation > 1:  # what a camera held that way stores
        stored = stored.transpose(_TURNS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient())
    assert read_image_size(tmp_path / "a.png") == (24, 16)


def test_transparent_pixels_are_put_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = 255, 0, 128
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.asarray(read_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 255, 127]


def test_transparent_palette_entry_is_put_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=1)
    assert np.asarray(read_image(tmp_path / "a.png")).tolist() == [[[10, 20, 30], [255] * 3]]


def test_grey_with_alpha_is_put_on_white(tmp_path: Path) -> None:
    Image.new("LA", (1, 1), (0, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette_keep_their_values(tmp_path: Path, mode: str) -> None:
    Image.new("L", (3, 2), 255).convert(mode).save(tmp_path / "a.png")
    assert np.asarray(read_image(tmp_path / "a.png")).tolist() == [[[255] * 3] * 3] * 2


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(tmp_path / f"a{suffix}")
    assert np.asarray(read_image(tmp_path / f"a{suffix}"))[0, :, 1].tolist() == [0, 1, 128, 255]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_image(tmp_path / "a.jpg").getpixel((4, 4))  # type: ignore[misc]
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>not found</html>", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
    ],
)
def test_what_is_no_image_is_an_error_of_one_line(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (read_image, read_image_size):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            read(path)
        assert str(caught.value) == f"{path}: {reason}"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_file_is_an_error_of_one_line(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(OSError, match=r"a\.") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_corrupt_bytes_never_raise_anything_but_oserror(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    messages: list[str] = []
    for suffix in (".png", ".jpg", ".webp", ".bmp", ".gif"):
        path = tmp_path / f"a{suffix}"
        gradient(40, 40).save(path)
        sound = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(40):
            broken = sound.copy()
            at = rng.integers(0, len(broken), 6)
            broken[at] = rng.integers(0, 256, 6)
            path.write_bytes(broken.tobytes())
            try:
                assert read_image(path).mode == "RGB"
            except OSError as error:
                messages.append(str(error))
    assert len(messages) > 20
    assert not any("\n" in message for message in messages)


def test_decompression_bomb_is_an_error(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(OSError, match="decompression bomb"):
        read_image(path)


def test_missing_file_and_folder_are_errors_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a\.jpg: No such file"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="Is a directory"):
        read_image(tmp_path)


def test_files_are_taken_for_images_by_their_suffix(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.png", "._c.jpg", "d.txt"):
        (tmp_path / name).touch()
    (tmp_path / "e.jpg").mkdir()
    assert sorted(p.name for p in tmp_path.iterdir() if is_image_file(p)) == ["a.JPG", "b.png"]


# --- files in memory and arrays ------------------------------------------------------------------


def test_an_open_file_is_read_like_a_path(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as file:
        assert read_image(file).tobytes() == gradient().tobytes()
    content = io.BytesIO((tmp_path / "a.png").read_bytes())
    assert read_image(content).tobytes() == gradient().tobytes()
    assert read_image_size(content) == gradient().size


@pytest.mark.parametrize("read", [read_image, read_image_size])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"xx", "BytesIO: not an image of a known format"), (b"", "BytesIO: the file is empty")],
)
def test_bytes_that_are_no_image_are_an_error_of_one_line(
    read: Callable[[io.BytesIO], object], content: bytes, message: str
) -> None:
    with pytest.raises(OSError, match=f"^{message}$"):
        read(io.BytesIO(content))


def test_arrays_of_every_kind_become_rgb() -> None:
    rgb = np.asarray(gradient())
    grey = rgb[:, :, 0]
    opaque = np.dstack([rgb, np.full_like(grey, 255)])
    for array, expected in (
        (rgb, rgb),
        (opaque, rgb),
        (grey, np.dstack([grey] * 3)),
        (grey[:, :, None], np.dstack([grey] * 3)),
        (rgb[::-1, ::-1], rgb[::-1, ::-1]),
        (np.dstack([rgb, np.zeros_like(grey)]), np.full_like(rgb, 255)),  # on white
    ):
        np.testing.assert_array_equal(np.asarray(to_rgb(array)), expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_blue_first_is_turned_round(channels: int) -> None:
    rgb = np.asarray(gradient().convert("RGB" if channels == 3 else "RGBA"))
    bgr = rgb[:, :, [2, 1, 0, 3][:channels]]
    np.testing.assert_array_equal(np.asarray(to_rgb(bgr, bgr=True)), rgb[:, :, :3])


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_images_of_every_mode_become_rgb(mode: str) -> None:
    image = gradient().convert("I" if mode == "I;16" else mode)
    assert to_rgb(image.convert(mode)).mode == "RGB"
    assert to_rgb(image).size == image.size


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), TypeError, "from 0 to 255, got one of float32"),
        ([[0, 1]], TypeError, "got list"),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError, r"got \(2, 4, 4, 3\)"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"got \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"got \(0, 4, 3\)"),
    ],
)
def test_what_is_no_picture_is_refused(image: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_rgb(image)  # type: ignore[arg-type]


def test_an_image_of_pillows_knows_the_order_of_its_colours() -> None:
    with pytest.raises(ValueError, match="leave bgr out"):
        to_rgb(gradient(), bgr=True)
