"""The socket of a camera: the newest frame wins, nothing queues, and strangers stay outside."""

import io
import json
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

for package in ("starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")
httpx = pytest.importorskip("httpx", reason="asks the server")

from running_server import plain_detector, serving  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from tinygrad_mask.masks import load_detector  # noqa: E402
from tinygrad_mask.masks.detector.network.detector import Detector  # noqa: E402
from tinygrad_mask.masks.serving.limits import ServerLimits  # noqa: E402

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"


def encoded(width=64, height=48, kind="JPEG"):
    file = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(file, kind)
    return file.getvalue()


@pytest.fixture
def plain(monkeypatch):
    detector = plain_detector(monkeypatch)
    yield detector
    detector.wait.set()


@contextmanager
def live(server, path="/api/live", **options):
    with connect(f"{server.ws}{path}", proxy=None, **options) as connection:
        yield connection


def received(connection):
    return json.loads(connection.recv(timeout=60))


def metric(server, name):
    text = httpx.get(f"{server.http}/metrics", trust_env=False, timeout=60).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name))


def test_a_frame_is_answered_as_by_the_detector():
    detector = load_detector()
    smaller = Detector(
        detector.model,
        detector.architecture,
        type(detector.settings)(long_side=480),
        detector.classifier,
    )
    with Image.open(PICTURES / "detect.jpg") as image:
        frame = io.BytesIO()
        image.resize((640, 445)).save(frame, "PNG")
        expected = smaller.detect(image.resize((640, 445)).convert("RGB"))
    assert expected
    with serving(detector) as server, live(server) as connection:
        assert received(connection) == {"kind": "ready"}
        connection.send(frame.getvalue())
        answer = received(connection)
    assert (answer["kind"], answer["frame"], answer["dropped"]) == ("frame", 0, 0)
    assert (answer["width"], answer["height"]) == (640, 445)
    assert [face["answer"] for face in answer["faces"]] == [face.answer for face in expected]
    for face, other in zip(answer["faces"], expected, strict=True):
        assert face["box"] == pytest.approx(other.box, abs=1e-3)


def test_the_newest_frame_wins_and_nothing_queues(plain):
    plain.wait.clear()
    with serving() as server, live(server) as connection:
        received(connection)
        while not plain.seen:  # the server looks at an empty frame first
            time.sleep(0.01)
        for k in range(20):
            connection.send(encoded(40 + k))
        connection.ping().wait(30)  # all of them have arrived
        while metric(server, 'tinygrad_mask_frames_total{outcome="dropped"}') < 19:
            time.sleep(0.01)
        plain.wait.set()
        answer = received(connection)
        assert (answer["frame"], answer["width"], answer["dropped"]) == (19, 59, 19)
        connection.send(encoded(100))
        answer = received(connection)
        assert (answer["frame"], answer["width"], answer["dropped"]) == (20, 100, 19)
        assert [size[0] for size in plain.seen[1:]] == [59, 100]


def test_clients_take_turns(plain):
    """One that sends as fast as it can does not keep another from being answered."""
    with serving() as server, live(server) as greedy, live(server) as modest:
        received(greedy), received(modest)
        stopped = threading.Event()

        def flood():
            frame = encoded()
            while not stopped.is_set():
                greedy.send(frame)

        def drain():
            with_answers = iter(greedy)
            while not stopped.is_set() and next(with_answers, None):
                pass

        threads = [threading.Thread(target=work) for work in (flood, drain)]
        for thread in threads:
            thread.start()
        try:
            for k in range(5):
                modest.send(encoded())
                assert received(modest)["frame"] == k
        finally:
            stopped.set()
            for thread in threads:
                thread.join(30)


def test_what_is_no_picture_is_refused_and_the_next_frame_answered(plain):
    limits = ServerLimits(frame_bytes=50_000, frame_pixels=10_000)
    with serving(limits=limits) as server, live(server) as connection:
        received(connection)
        for k, (content, what) in enumerate(
            [
                (b"", "nothing"),
                (b"text", "JPEG"),
                (encoded()[:300], "truncated"),
                (encoded(101, 100), "pixels"),
            ]
        ):
            connection.send(content)
            answer = received(connection)
            assert (answer["kind"], answer["frame"]) == ("refused", k)
            assert what in answer["error"]
        connection.send(encoded())
        assert received(connection)["kind"] == "frame"


@pytest.mark.parametrize(
    ("message", "code"),
    [(bytes(50_001), 1009), ([bytes(30_000), bytes(30_000)], 1009), ("text", 1008)],
    ids=["too large", "too large in parts", "text"],
)
def test_what_closes_a_socket(plain, message, code):
    with serving(limits=ServerLimits(frame_bytes=50_000)) as server:
        with live(server) as connection:
            received(connection)
            connection.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(timeout=60)
            assert closed.value.rcvd.code == code
        with live(server) as connection:  # the next client is served
            received(connection)
            connection.send(encoded())
            assert received(connection)["kind"] == "frame"


def test_an_idle_socket_is_closed(plain):
    with serving(limits=ServerLimits(idle_seconds=0.3)) as server, live(server) as connection:
        received(connection)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=60)
        assert closed.value.rcvd.code == 4408


def test_sockets_are_bounded(plain):
    with serving(limits=ServerLimits(sockets=1)) as server:
        with live(server) as first, live(server) as second:
            received(first)
            with pytest.raises(ConnectionClosed) as closed:
                second.recv(timeout=60)
            assert closed.value.rcvd.code == 1013
            assert "at most 1" in closed.value.rcvd.reason
            assert metric(server, "tinygrad_mask_sockets") == 1
        deadline = time.monotonic() + 30
        while metric(server, "tinygrad_mask_sockets"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with live(server) as third:
            assert received(third) == {"kind": "ready"}


def test_another_page_gets_no_socket(plain):
    with serving() as server:
        for headers in ({"Origin": "https://example.org"}, {"Origin": "null"}):
            with pytest.raises(InvalidStatus) as refused, live(server, additional_headers=headers):
                pass
            assert refused.value.response.status_code == 403
        with live(server, additional_headers={"Origin": server.http}) as connection:
            assert received(connection) == {"kind": "ready"}


@pytest.mark.parametrize(
    "first", ['{"token": "wrong"}', "{}", "[]", "no json", '{"token": 1}', b"frame"]
)
def test_the_first_message_has_the_token(plain, first):
    with serving(token="secret") as server:
        with live(server) as connection:
            connection.send(first)
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(timeout=60)
            assert closed.value.rcvd.code == 4401
        with live(server) as connection:
            connection.send('{"token": "secret"}')
            assert received(connection) == {"kind": "ready"}
            connection.send(encoded())
            assert received(connection)["kind"] == "frame"


def test_a_client_that_vanishes_frees_its_place(plain):
    plain.wait.clear()
    with serving(limits=ServerLimits(sockets=1)) as server:
        with live(server) as connection:
            received(connection)
            connection.send(encoded())
            connection.socket.shutdown(socket.SHUT_RDWR)
        plain.wait.set()
        deadline = time.monotonic() + 30
        while metric(server, "tinygrad_mask_sockets"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


# --- the server's own camera ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    av = pytest.importorskip("av", reason="writes a video")
    path = tmp_path_factory.mktemp("video") / "door.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for grey in range(0, 200, 10):
            frame = av.VideoFrame.from_image(Image.new("RGB", (96, 64), (grey,) * 3))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_all_who_watch_see_the_servers_camera(plain, video):
    with serving(camera=str(video)) as server:
        with live(server, "/api/camera") as one, live(server, "/api/camera") as other:
            for watcher in (one, other):
                picture = watcher.recv(timeout=60)
                answer = received(watcher)
                with Image.open(io.BytesIO(picture)) as image:
                    assert (image.format, image.size) == ("JPEG", (96, 64))
                assert (answer["kind"], answer["width"], answer["height"]) == ("frame", 96, 64)
                assert [face["label"] for face in answer["faces"]] == ["proper"]
        deadline = time.monotonic() + 30
        while any(thread.name == "camera" for thread in threading.enumerate()):
            assert time.monotonic() < deadline  # nobody watches, so it is off
            time.sleep(0.01)


def test_a_camera_that_fails_is_said_to(plain, tmp_path):
    pytest.importorskip("av", reason="opens the camera")
    missing = str(tmp_path / "missing.mp4")
    with serving(camera=missing) as server, live(server, "/api/camera") as watcher:
        answer = received(watcher)
    assert answer["kind"] == "camera"
    assert "no such file" in answer["error"]


@pytest.mark.parametrize("path", ["/api/camera", "/api/nosuch", "/", "/page.js", "/nosuch"])
def test_there_is_no_other_socket(plain, path):
    with (
        serving() as server,
        pytest.raises(InvalidStatus) as refused,
        live(server, path),
    ):
        pass
    assert refused.value.response.status_code in (403, 404)
