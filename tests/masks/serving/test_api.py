"""The interface for programs: answers, refusals, headers, descriptions and metrics."""

import io
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

httpx = pytest.importorskip("httpx", reason="asks the server")
for package in ("starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")

from running_server import plain_detector, serving  # noqa: E402

from tinygrad_mask.masks import load_detector  # noqa: E402
from tinygrad_mask.masks.serving.limits import ServerLimits  # noqa: E402
from tinygrad_mask.masks.serving.openapi import describe  # noqa: E402
from tinygrad_mask.masks.serving.security import allowed_names, is_loopback  # noqa: E402

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
DETECT = "/api/detect"


def encoded(width=64, height=48, kind="PNG"):
    file = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(file, kind)
    return file.getvalue()


@pytest.fixture
def plain(monkeypatch):
    detector = plain_detector(monkeypatch)
    yield detector
    detector.wait.set()


@pytest.fixture
def server(plain):
    with serving() as running:
        yield running


def client(server, **options):
    return httpx.Client(base_url=server.http, timeout=60, trust_env=False, **options)


def metrics(server):
    with client(server) as http:
        text = http.get("/metrics").text
    return dict(re.findall(r"^(tinygrad_mask_\S+) (\S+)$", text, flags=re.MULTILINE))


# --- answers --------------------------------------------------------------------------------------


def test_a_photograph_is_answered_as_by_the_detector():
    content = (PICTURES / "detect.jpg").read_bytes()
    expected = load_detector().detect(PICTURES / "detect.jpg")
    assert expected
    with serving(load_detector()) as server, client(server) as http:
        raw = http.post(DETECT, content=content, headers={"content-type": "image/jpeg"})
        form = http.post(DETECT, files={"file": ("x.jpg", content, "image/jpeg")})
    assert raw.status_code == form.status_code == 200
    answer, other = raw.json(), form.json()
    for faces in (answer["faces"], other["faces"]):
        assert [face["answer"] for face in faces] == [face.answer for face in expected]
        for face, right in zip(faces, expected, strict=True):
            assert face["box"] == pytest.approx(right.box, abs=1e-3)
            assert face["score"] == pytest.approx(right.score, abs=1e-5)
            assert face["probabilities"] == pytest.approx(right.probabilities, abs=1e-5)
    with Image.open(io.BytesIO(content)) as image:
        assert (answer["width"], answer["height"]) == image.size
    assert answer["milliseconds"] > 0


def test_the_content_counts_and_not_what_it_is_called(server):
    with client(server) as http:
        for kind in ("image/png", "image/jpeg", "application/octet-stream", None):
            headers = {} if kind is None else {"content-type": kind}
            assert http.post(DETECT, content=encoded(), headers=headers).status_code == 200


def test_answers_are_not_kept_by_anybody_in_between(server):
    with client(server) as http:
        assert http.post(DETECT, content=encoded()).headers["cache-control"] == "no-store"


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "what"),
    [
        ({"content": b""}, 415, "got nothing"),
        ({"content": b"text"}, 415, "expected JPEG"),
        ({"content": encoded()[:-40]}, 415, "truncated"),
        ({"content": encoded(), "headers": {"content-type": "text/html"}}, 415, "content-type"),
        ({"content": encoded(400, 300, "BMP")}, 413, "at most 100,000 bytes"),
        ({"content": encoded(130, 100, "JPEG")}, 413, "at most 12,000 pixels"),
        ({"data": {"file": "text"}, "files": {}}, 415, "content-type"),
        ({"files": {"file": ("x", b"")}}, 415, "got nothing"),
        ({"files": [("a", ("x", encoded())), ("b", ("y", encoded()))]}, 400, "multipart"),
        (
            {"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data"}},
            400,
            "multipart",
        ),
        (
            {"content": b"?", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "multipart",
        ),
    ],
)
def test_what_is_refused_and_why(plain, request_, status, what):
    with serving(limits=ServerLimits(upload_bytes=100_000, upload_pixels=12_000)) as server:
        with client(server) as http:
            answer = http.post(DETECT, **request_)
            assert http.post(DETECT, content=encoded()).status_code == 200
        counted = metrics(server)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert what in answer.json()["error"]
    assert counted[f'tinygrad_mask_uploads_total{{status="{status}"}}'] == "1.0"


def test_a_body_without_a_length_is_cut_off_at_the_limit(plain):
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(10_000):
            sent += 10_000
            yield bytes(10_000)

    with serving(limits=ServerLimits(upload_bytes=100_000)) as server, client(server) as http:
        with suppress(httpx.HTTPError):  # the server closed the connection while more was sent
            assert http.post(DETECT, content=endless()).status_code == 413
        assert http.post(DETECT, content=encoded()).status_code == 200
        assert metrics(server)['tinygrad_mask_uploads_total{status="413"}'] == "1.0"
    assert sent < 50_000_000


def test_too_many_at_a_time_are_told_so(plain):
    plain.wait.clear()
    limits = ServerLimits(requests=3, requests_per_client=2)
    with serving(limits=limits) as server, client(server) as http, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(http.post, DETECT, content=encoded()) for _ in range(2)]
        while metrics(server)["tinygrad_mask_requests"] != "2.0":
            time.sleep(0.01)
        refused = http.post(DETECT, content=encoded())
        assert http.get("/healthz").text == "ok\n"  # the model is busy, the server is not
        plain.wait.set()
        assert [answer.result().status_code for answer in waiting] == [200, 200]
        assert http.post(DETECT, content=encoded()).status_code == 200
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    plain.wait.clear()
    limits = ServerLimits(requests=1)
    with serving(limits=limits) as server, client(server) as http, ThreadPoolExecutor(1) as pool:
        first = pool.submit(http.post, DETECT, content=encoded())
        while metrics(server)["tinygrad_mask_requests"] != "1.0":
            time.sleep(0.01)
        assert http.post(DETECT, content=encoded()).status_code == 503
        plain.wait.set()
        assert first.result().status_code == 200


def test_other_methods_and_addresses(server):
    with client(server) as http:
        assert http.get(DETECT).status_code == 405
        assert http.get("/api/nosuch").status_code == 404
        for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/..%5c..%5cx"):
            assert http.get(path).status_code in (400, 404)


# --- who is let in --------------------------------------------------------------------------------


def test_every_answer_has_the_headers(server):
    with client(server) as http:
        for answer in (http.get("/healthz"), http.get("/nosuch"), http.post(DETECT, content=b"")):
            headers = answer.headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["permissions-policy"].startswith("camera=(self)")
            assert "server" not in headers


def test_other_pages_and_other_names_are_refused(server):
    with client(server) as http:
        post = {"url": DETECT, "content": encoded()}
        assert http.post(**post, headers={"origin": server.http}).status_code == 200
        for origin in ("https://example.org", "null", f"http://127.0.0.1:{server.port + 1}"):
            assert http.post(**post, headers={"origin": origin}).status_code == 403
        # A name elsewhere that was made to mean 127.0.0.1.
        assert http.get("/healthz", headers={"host": f"evil.org:{server.port}"}).status_code == 421
        assert http.get("/healthz", headers={"host": f"localhost:{server.port}"}).is_success


@pytest.mark.parametrize(
    ("host", "further", "names"),
    [
        ("127.0.0.1", [], {"localhost", "127.0.0.1", "[::1]"}),
        ("::1", [], {"localhost", "127.0.0.1", "[::1]"}),
        ("0.0.0.0", [], None),
        ("127.0.0.1", ["Door.example"], {"localhost", "127.0.0.1", "[::1]", "door.example"}),
    ],
)
def test_by_which_names_a_server_may_be_called(host, further, names):
    assert allowed_names(host, further) == names


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_what_is_this_machine_only(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_what_others_can_reach(host):
    assert not is_loopback(host)


def test_a_token_is_asked_for_where_pictures_and_figures_are(plain):
    with serving(token="secret") as server, client(server) as http:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic secret"},
            {"authorization": "Bearer"},
            {"authorization": "Bearer sécret".encode()},
        ):
            answer = http.post(DETECT, content=encoded(), headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert http.get("/metrics", headers=headers).status_code == 401
        right = {"authorization": "Bearer secret"}
        assert http.post(DETECT, content=encoded(), headers=right).status_code == 200
        assert http.get("/metrics", headers=right).status_code == 200
        assert http.get("/healthz").status_code == 200


# --- time -----------------------------------------------------------------------------------------


def test_who_sends_a_byte_now_and_then_is_cut_off(plain):
    """Slow loris: neither the head of a request nor its body may take for ever."""
    limits = ServerLimits(head_seconds=0.5, body_seconds=0.5)
    with serving(limits=limits) as server:
        heads = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(20)]
        bodies = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(5)]
        second = socket.create_connection(("127.0.0.1", server.port), 30)
        silent = socket.create_connection(("127.0.0.1", server.port), 30)
        for slow in bodies:
            slow.sendall(
                b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n"
            )
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += second.recv(4096)
        stopped = threading.Event()

        def trickle():
            while not stopped.wait(0.1):
                for slow in (*heads, *bodies, second):
                    with suppress(OSError):  # it was closed
                        slow.sendall(b"G")

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            with client(server) as http:  # others are served meanwhile
                assert http.post(DETECT, content=encoded()).status_code == 200
            for slow in (*heads, second, silent):
                assert received(slow) == b""
            for slow in bodies:
                assert received(slow).startswith(b"HTTP/1.1 408")
        finally:
            stopped.set()
            sender.join()
            for slow in (*heads, *bodies, second, silent):
                slow.close()
        assert metrics(server)["tinygrad_mask_requests"] == "0.0"


def received(connection):
    """All that comes until the server closes; a reset is an end too."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(4096):
            parts.append(part)
    return b"".join(parts)


def test_a_client_that_goes_away_leaves_nothing_behind(server, plain):
    for _ in range(5):
        slow = socket.create_connection(("127.0.0.1", server.port), 30)
        slow.sendall(
            b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nGG"
        )
        slow.close()
    deadline = time.monotonic() + 20
    while metrics(server)["tinygrad_mask_requests"] != "0.0":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with client(server) as http:
        assert http.post(DETECT, content=encoded()).status_code == 200


# --- for those who run it -------------------------------------------------------------------------


def test_metrics_are_what_prometheus_reads(server):
    from prometheus_client.parser import text_string_to_metric_families

    with client(server) as http:
        for _ in range(3):
            http.post(DETECT, content=encoded())
        answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["tinygrad_mask_uploads_total", "200"] == 3
    assert samples["tinygrad_mask_faces_total", "proper"] == 3
    assert samples["tinygrad_mask_faces_total", "none"] == 0
    assert samples["tinygrad_mask_latency_seconds_count", "upload"] == 3
    assert samples["tinygrad_mask_model_seconds_count",] == 3
    assert samples["tinygrad_mask_frames_total", "dropped"] == 0
    assert samples["tinygrad_mask_queue",] == samples["tinygrad_mask_sockets",] == 0
    assert "127.0.0.1" not in answer.text


@pytest.mark.parametrize("token", [False, True])
def test_the_description_is_openapi(token):
    validator = pytest.importorskip("openapi_spec_validator", reason="checks the description")
    validator.validate(describe(ServerLimits(), token=token))


def test_answers_are_as_described(server):
    jsonschema = pytest.importorskip("jsonschema", reason="checks the answers")
    with client(server) as http:
        described = http.get("/api/openapi.json").json()
        good = http.post(DETECT, content=encoded()).json()
        bad = http.post(DETECT, content=b"x").json()
    for answer, name in ((good, "Faces"), (bad, "Error")):
        reference = f"#/components/schemas/{name}"
        jsonschema.validate(answer, {**described, "$ref": reference})
    assert good["faces"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"faces": []}, {**described, "$ref": "#/components/schemas/Faces"})
