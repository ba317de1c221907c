"""The command `serve`: what it refuses, what it warns of, and that no picture leaves it."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from PIL import Image

for package in ("starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")
httpx = pytest.importorskip("httpx", reason="asks the server")

from websockets.sync.client import connect  # noqa: E402

from tinygrad_mask import cli  # noqa: E402

# Runs the command and prints, when it ends, whatever was opened for writing, started or connected
# to since it said that it is ready.
WATCHED = """
import json, os, signal, sys
events, ready = [], False
def hook(name, arguments):
    global ready
    if name == "open":
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND):
            ready and events.append([name, str(path)])
    elif name.startswith(("socket.connect", "socket.sendto", "socket.getaddrinfo", "subprocess",
                          "os.mkdir", "os.rename", "os.link", "os.symlink", "os.system",
                          "os.posix_spawn", "os.fork", "tempfile", "urllib", "http", "smtplib",
                          "shutil", "sqlite3", "mmap")):
        ready and events.append([name, str(arguments)])
sys.addaudithook(hook)
signal.signal(signal.SIGINT, signal.default_int_handler)
from tinygrad_mask import cli
from tinygrad_mask.masks.serving import command
_address = command._address
def address(*of):
    global ready
    ready = True
    return _address(*of)
command._address = address
code = cli.main(sys.argv[1:])
ready = False
print(json.dumps(events))
sys.exit(code)
"""


@contextmanager
def running(*arguments, script=WATCHED, **options):
    command = [sys.executable, "-c", script, "serve", "--port", "0", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        line = process.stdout.readline()
        assert "(Ctrl-C ends)" in line, process.stderr.read()
        yield process, line.split()[0]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end(process):
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def picture(side=800):
    file = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(file, "PNG")
    return file.getvalue()


def test_no_picture_is_stored_logged_or_sent_on(tmp_path):
    """Uploads of all kinds and frames, while files, sockets and processes are watched."""
    folders = {name: tmp_path / name for name in ("home", "tmp", "here")}
    for folder in folders.values():
        folder.mkdir()
    environment = {**os.environ, "HOME": str(folders["home"]), "TMPDIR": str(folders["tmp"])}
    content = picture()
    assert len(content) > 1_200_000  # Starlette would put more than a megabyte into a file
    with running(env=environment, cwd=folders["here"]) as (process, address):
        with httpx.Client(base_url=address, timeout=120, trust_env=False) as http:
            assert http.post("/api/detect", content=content).status_code == 200
            form = {"secretname": ("secretname.png", content)}
            assert http.post("/api/detect", files=form).status_code == 200
            assert http.post("/api/detect", content=content[:-99]).status_code == 415
            assert http.post("/secretname", content=content).status_code == 405
        with connect(f"ws{address[4:]}api/live", proxy=None) as live:
            live.recv(timeout=60)
            live.send(picture(300))
            assert json.loads(live.recv(timeout=120))["kind"] == "frame"
        code, out, err = end(process)
    assert code == 0
    assert json.loads(out.splitlines()[-1]) == []
    assert "secretname" not in out + err
    assert err == ""
    written = [path for folder in folders.values() for path in folder.rglob("*")]
    assert written == []


def test_the_watcher_of_that_test_sees_what_is_written(tmp_path):
    script = WATCHED.replace(
        "    return _address(*of)",
        f"    open({str(tmp_path / 'kept')!r}, 'w').close()\n    return _address(*of)",
    )
    with running(script=script) as (process, _):
        _, out, _ = end(process)
    assert ["open", str(tmp_path / "kept")] in json.loads(out.splitlines()[-1])


def test_it_warns_where_others_can_reach_it():
    plain = ("--host", "0.0.0.0", "--classifier", "none")
    with running(*plain) as (process, address):
        _, _, err = end(process)
    assert re.fullmatch(r"http://0\.0\.0\.0:\d+/", address)
    assert [line.partition(":")[0] for line in err.splitlines()] == ["warning"] * 3
    assert "other machines" in err
    assert "--token" in err
    assert "--certfile" in err
    with running(*plain, "--token", "secret") as (process, address):
        _, out, err = end(process)
    assert "--token" not in err
    assert "secret" not in out + err


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    return cert, key


def test_https_with_a_certificate(certificate):
    cert, key = certificate
    with running("--certfile", str(cert), "--keyfile", str(key)) as (process, address):
        assert address.startswith("https://127.0.0.1:")
        answer = httpx.get(f"{address}healthz", verify=False, trust_env=False, timeout=60)
        assert answer.text == "ok\n"
        code, _, err = end(process)
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--port", "70000"], "expected a number from 0 to 65535"),
        (["--live-side", "8"], "expected a number from 64 to 4096"),
        (["--host", "192.0.2.1"], "--port: expected one that is free on 192.0.2.1"),
        (["--host", "no such host"], "--host: expected an address of this machine"),
        (["--keyfile", "key.pem"], "--keyfile: expected a --certfile as well"),
        (["--certfile", "missing.pem"], "--certfile: expected a certificate and its key"),
        (["--port", "0", "--model", "missing"], "missing: cannot be read as a model"),
    ],
)
def test_what_cannot_be_served(arguments, what, capsys):
    try:
        code = cli.main(["serve", *arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert what in error
