"""The command `serve`: the entrance page, and the interface for programs."""

import argparse
import os
import socket
import ssl
import sys
from contextlib import suppress
from pathlib import Path

from tinygrad_mask import resolve_device
from tinygrad_mask.masks.detector.detect_command import add_model_arguments, load_model
from tinygrad_mask.masks.errors import UsageError

_TOKEN_VARIABLE = "TINYGRAD_MASK_TOKEN"
_DEFAULT_PORT = 8000
_LIVE_SIDE = 480

_EPILOG = f"""\
privacy: no picture is stored, logged or sent on.

The page shows what the browser's camera, or with --camera the server's, sees. Programs ask
POST /api/detect, which /api/openapi.json describes; /healthz and /metrics (Prometheus) are for
those who run the server. The token can be given in the environment as {_TOKEN_VARIABLE} too.

examples:
  tinygrad-mask serve
  tinygrad-mask serve --camera 0
  tinygrad-mask serve --host 0.0.0.0 --certfile cert.pem --keyfile key.pem --token SECRET
"""


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a server can be told."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Serve a page that says at an entrance how masks are worn."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on (default: %(default)s, this machine only)",
    )
    parser.add_argument(
        "--port", type=_port, default=_DEFAULT_PORT, help="(default: %(default)s; 0: any free one)"
    )
    parser.add_argument(
        "--camera",
        metavar="N|URL",
        help="show the server's own camera (Linux: /dev/videoN), stream or video",
    )
    parser.add_argument(
        "--token", help="what programs and pages must know to have pictures looked at"
    )
    parser.add_argument(
        "--certfile", type=Path, metavar="FILE", help="the certificate for https (PEM)"
    )
    parser.add_argument("--keyfile", type=Path, metavar="FILE", help="its private key (PEM)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which the server may be called, of a proxy for example; may be repeated",
    )
    parser.add_argument(
        "--live-side",
        type=_side,
        default=_LIVE_SIDE,
        metavar="PIXELS",
        help="the longer side at which a camera's frames are looked at (default: %(default)s); "
        "more finds people who are farther away, and takes longer",
    )
    add_model_arguments(parser)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.set_defaults(run=serve_command)


def serve_command(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    try:
        from tinygrad_mask.masks.serving.app import ServerSettings, create_app
        from tinygrad_mask.masks.serving.security import allowed_names, is_loopback
        from tinygrad_mask.masks.serving.server import create_server
    except ImportError as error:
        raise UsageError(f"serve needs {error.name}: pip install 'tinygrad_mask[serve]'") from error
    _check_certificate(arguments.certfile, arguments.keyfile)
    camera = arguments.camera
    if camera is not None:
        camera = int(camera) if camera.isdecimal() else camera
        _check_video()
    token = arguments.token or os.environ.get(_TOKEN_VARIABLE) or None
    settings = ServerSettings(
        names=allowed_names(arguments.host, arguments.allow_host),
        token=token,
        camera=camera,
        live_side=arguments.live_side,
    )
    listening = _listen(arguments.host, arguments.port)
    with listening:
        device = resolve_device(arguments.device)
        detector = load_model(arguments.model, arguments.classifier, device)
        server = create_server(
            create_app(detector, settings),
            arguments.host,
            listening.getsockname()[1],
            settings.limits,
            certfile=arguments.certfile,
            keyfile=arguments.keyfile,
        )
        if not is_loopback(arguments.host):
            _warn(arguments, token)
        with suppress(KeyboardInterrupt):  # how one ends it
            print(f"{_address(arguments, listening)}  (Ctrl-C ends)", flush=True)
            server.run([listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, before the model is loaded: a port in use is said at once."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, number)
    except OSError as error:
        raise UsageError(
            f"--host: expected an address of this machine, got {host} ({error.strerror})"
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)  # whoever comes while the model is loaded waits
    except OSError as error:
        listening.close()
        raise UsageError(
            f"--port: expected one that is free on {host}, got {port} ({error.strerror}); "
            "--port 0 takes any"
        ) from error
    return listening


def _check_certificate(certfile: Path | None, keyfile: Path | None) -> None:
    if certfile is None:
        if keyfile is not None:
            raise UsageError("--keyfile: expected a --certfile as well, got none")
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certfile, keyfile, password=lambda: b"")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "strerror", None) or "not PEM, encrypted, or not of one key"
        raise UsageError(
            f"--certfile: expected a certificate and its key, got {certfile} and "
            f"{keyfile or 'no key file'} ({reason})"
        ) from error


def _check_video() -> None:
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UsageError("--camera needs PyAV: pip install 'tinygrad_mask[video]'") from error


def _warn(arguments: argparse.Namespace, token: str | None) -> None:
    print(f"warning: {arguments.host} can be reached from other machines", file=sys.stderr)
    if token is None:
        print("warning: without --token anybody who reaches it can use it", file=sys.stderr)
    if arguments.certfile is None:
        print(
            "warning: browsers give a camera to https pages only, except on this machine; "
            "--certfile and --keyfile make it https",
            file=sys.stderr,
        )


def _address(arguments: argparse.Namespace, listening: socket.socket) -> str:
    host = arguments.host if ":" not in arguments.host else f"[{arguments.host.strip('[]')}]"
    scheme = "http" if arguments.certfile is None else "https"
    # What follows the # stays in the browser.
    token = "" if arguments.token is None else "#token=TOKEN"
    return f"{scheme}://{host}:{listening.getsockname()[1]}/{token}"


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, got {text!r}")
    return int(text)


def _side(text: str) -> int:
    if not text.isdecimal() or not 64 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"expected a number from 64 to 4096, got {text!r}")
    return int(text)
