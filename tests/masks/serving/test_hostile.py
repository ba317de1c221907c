"""Uploads that mean no good: each is refused, and the next good one is answered."""

import io
import socket
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

for package in ("starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")
httpx = pytest.importorskip("httpx", reason="asks the server")

from running_server import plain_detector, serving  # noqa: E402


def good(kind="JPEG", size=(40, 30)):
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(file, kind)
    return file.getvalue()


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(width, height, *chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def bombs():
    zeros = zlib.compress(bytes(50_000_000), 9)
    yield png(30_000, 30_000, chunk(b"IDAT", zeros))
    yield png(100_000_000, 1, chunk(b"IDAT", zeros))
    yield png(9, 9, chunk(b"zTXt", b"k\0\0" + zeros), chunk(b"IDAT", zeros))
    yield png(9, 9, chunk(b"iCCP", b"k\0\0" + zeros), chunk(b"IDAT", zeros))
    yield png(9, 9, *[chunk(b"tEXt", b"k\0" + bytes(1000))] * 5000)
    yield b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(100)
    yield b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 50_000, 50_000, 1, 24, *[0] * 6)
    webp = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xff\xff\xff" * 2
    yield b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp
    jpeg = bytearray(good())
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", 65_500, 65_500)
    yield bytes(jpeg)


def wrong_kinds():
    yield from (b"", b"\0", b"%PDF-1.7", b"<html>", b"PK\3\4" + bytes(99), b"\x7fELF" + bytes(99))
    yield b"<svg onload='alert(1)'/>" * 99
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n" + bytes(99)
    yield good("TIFF")
    yield good("PPM")
    yield good("PDF")
    yield b"\0\0\0\x18ftypheic" + bytes(99)
    yield b"\xff\xd8\xff" + good("TIFF")


def damaged(rng, count):
    kinds = ["JPEG", "PNG", "WEBP", "GIF", "BMP"]
    for k in range(count):
        content = bytearray(good(kinds[k % len(kinds)]))
        if k % 2:
            yield bytes(content[: rng.integers(1, len(content))])
        else:
            for _ in range(rng.integers(1, 30)):
                content[rng.integers(len(content))] = rng.integers(256)
            yield bytes(content)


def test_two_hundred_hostile_uploads(monkeypatch):
    plain_detector(monkeypatch)
    rng = np.random.default_rng(0)
    uploads = [*bombs(), *wrong_kinds()]
    certain = len(uploads)
    uploads += damaged(rng, 200 - len(uploads))
    with (
        serving() as server,
        httpx.Client(base_url=server.http, timeout=60, trust_env=False) as http,
    ):
        for k, content in enumerate(uploads):
            answer = http.post("/api/detect", content=content)
            # A damaged picture may still be one; all the others are refused.
            expected = (413, 415) if k < certain else (200, 413, 415)
            assert answer.status_code in expected, (k, content[:20], answer.text)
            form = http.post("/api/detect", files={"file": content})
            assert form.status_code == answer.status_code
        assert http.post("/api/detect", content=good()).status_code == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 50_000 + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\r\n" * 1000 + b"\0",
        b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n",
        b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_requests_that_are_none(monkeypatch, request_):
    plain_detector(monkeypatch)
    with serving() as server:
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            answer = b""
            with suppress(ConnectionError):
                connection.sendall(request_)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65_536):
                    answer += part
        assert not answer or answer[9:10] == b"4", answer[:200]
        answer = httpx.post(f"{server.http}/api/detect", content=good(), trust_env=False)
        assert answer.status_code == 200
