# PYTHON_ARGCOMPLETE_OK
"""The command line, `tinygrad-mask COMMAND`; `COMMANDS` lists what there is.

What a command needs is imported when the command is used: `--help` and `--version` import nothing.
"""

import argparse
import errno
import importlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tinygrad_mask.masks.classifier.runs.config import Design

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended, as a shell says it: 128 + SIGINT."""

BROKEN_PIPE = 141
"""The exit code if the reader of the output went away, as a shell says it: 128 + SIGPIPE."""

_WRONG_PATH = frozenset(
    {errno.EACCES, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
    | {errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS}
)
"""The errors of the file system that another path mends."""

_LONGEST_MESSAGE = 1000
"""Characters of an error; a longer one, which quotes its input, is cut in the middle."""

_CLASSIFIER = "tinygrad_mask.masks.classifier"
_DETECTOR = "tinygrad_mask.masks.detector"

_LAUNCHED = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMIX_RANK"}
"""Variables that `mpiexec` or `srun` set for the processes that they start."""

_ON_RANKS = ("train", "train-detector")
"""The commands that divide their work among several ranks."""

COMMANDS = {
    "train": (
        "learn from photographs how masks are worn",
        f"{_CLASSIFIER}.commands:add_train_arguments",
    ),
    "evaluate": (
        "judge a trained model on other photographs",
        f"{_CLASSIFIER}.commands:add_evaluate_arguments",
    ),
    "predict": (
        "say how the masks in pictures are worn",
        f"{_DETECTOR}.predict_command:add_predict_arguments",
    ),
    "detect": (
        "find the faces in photographs, folders and videos, and say the same of each",
        f"{_DETECTOR}.detect_command:add_detect_arguments",
    ),
    "serve": (
        "show on a web page at an entrance how masks are worn; answer programs",
        "tinygrad_mask.masks.serving.command:add_serve_arguments",
    ),
    "train-detector": (
        "learn to find faces in whole photographs",
        f"{_DETECTOR}.commands:add_train_detector_arguments",
    ),
    "evaluate-detector": (
        "judge a detector: average precision by label and by size of the face",
        f"{_DETECTOR}.commands:add_evaluate_detector_arguments",
    ),
    "export": (
        "write a model for another runtime",
        "tinygrad_mask.masks.export_command:add_export_arguments",
    ),
    "kernels": (
        "say which kernels are in use on this machine",
        "tinygrad_mask.backends.commands:add_kernels_arguments",
    ),
}
"""Each command: what it does, and `MODULE:FUNCTION` that adds its arguments to a parser."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 for success; 1 for a failure during the work (a full disk, a loss that is not finite) or if
    part of the input could not be read; 2 for input that cannot be used at all: options, data,
    models, and paths that are missing, taken, or may not be read or written; 130 after Ctrl-C or
    SIGTERM, 141 if the reader of the output went away.
    """
    if arguments is None and not _LAUNCHED.isdisjoint(os.environ):
        from tinygrad_mask.distributed import supervised

        return supervised(_main_of_rank)
    return _main(arguments)


def _main_of_rank() -> int:
    """Run the command as one of the ranks that `mpiexec` started; the first one speaks."""
    from tinygrad_mask import distributed

    distributed.init()
    distributed.quiet()
    try:
        return _main(None)
    except SystemExit as error:  # of the parser, which has said why on all ranks alike
        return error.code if isinstance(error.code, int) else 1


def _main(arguments: Sequence[str] | None) -> int:
    parser = _Parser(
        prog="tinygrad-mask",
        description="Learn and say how face masks are worn; look into the kernels that compute it.",
        epilog="first: tinygrad-mask predict PICTURE",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser
    )
    for name, (what, adder) in COMMANDS.items():
        commands.add_parser(name, help=what, adder=adder)
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser, commands)
    return run(parser, arguments)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as those of the commands are, and not the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        self.exit(2, f"error: {message.removeprefix('argument ')}; see {self.prog} --help\n")


class _CommandParser(_Parser):
    """A parser of a command whose arguments are added when it is first used."""

    def __init__(self, *args: Any, adder: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self._adder = adder

    def fill(self) -> None:
        """Import the command and add its arguments."""
        if self._adder:
            module, _, function = self._adder.partition(":")
            self._adder = ""
            getattr(importlib.import_module(module), function)(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with all arguments there; an unknown one is an error of this command."""
        self.fill()
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


class _Version(argparse.Action):
    """Print the version; it is imported then and not before."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from tinygrad_mask import __version__

        print(f"{parser.prog} {__version__}")
        parser.exit()


def _complete(parser: argparse.ArgumentParser, commands: Any) -> None:
    """Answer a shell that asks for completions, and exit; argcomplete has set the variable."""
    try:
        import argcomplete
    except ImportError:
        return
    for command in commands.choices.values():
        command.fill()
    argcomplete.autocomplete(parser)


def train_example(
    arguments: Sequence[str] | None, description: str | None, design: "Design"
) -> int:
    """Run the command `train` with a network and training of one's own; return the exit code."""
    from tinygrad_mask.masks.classifier.commands import add_train_arguments

    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_train_arguments(parser, design.kind, design)
    return run(parser, arguments)


def run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse, call what the command set as `run`, and turn what it raises into one line.

    What the command returns is the exit code; None stands for 0.
    """
    _use_streams()
    try:
        with _flushed():
            parsed = parser.parse_args(arguments)
            return _call(parsed.run, parsed)
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except KeyboardInterrupt:  # while a command was being loaded
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def _call(command: Callable[[argparse.Namespace], int | None], parsed: argparse.Namespace) -> int:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_CutFormatter("warning: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        with _interruptible(), _warnings_above_bars():
            _check_ranks(parsed)
            return command(parsed) or 0
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        code, message = _failure(error)
        if not _LAUNCHED.isdisjoint(os.environ):
            _end_ranks(code, message, error)
        if code is None:
            raise
        print(message, file=sys.stderr)
        return code


def _check_ranks(parsed: argparse.Namespace) -> None:
    """Refuse several ranks where each would do, and write, the same."""
    if _LAUNCHED.isdisjoint(os.environ):
        return
    from tinygrad_mask.distributed import launched_size
    from tinygrad_mask.masks.errors import UsageError

    command, ranks = getattr(parsed, "command", "train"), launched_size()
    alone = command not in _ON_RANKS
    for option in ("cross_validate", "protocol"):
        if getattr(parsed, option, None) is not None:
            command, alone = f"{command} --{option.replace('_', '-')}", True
    if alone and ranks > 1:
        raise UsageError(
            f"{command}: expected one process, got {ranks} ranks; start it without mpiexec"
        )


def _end_ranks(code: int | None, message: str, error: BaseException) -> None:
    """End the other ranks too; without others do nothing."""
    from tinygrad_mask.distributed import end_all

    expected = code is not None and not hasattr(error, "together")
    end_all(message, 1 if code is None else code, None if expected else error)


_AGAIN = 0.5
"""Seconds after which an interrupt that had no effect is repeated."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Within it SIGTERM interrupts as Ctrl-C does, and a second one of either ends the process.

    Python drops a `KeyboardInterrupt` that is raised while an object is being destroyed, and some
    libraries catch it: it is raised again until it has ended the command.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        if received:
            os._exit(INTERRUPTED)
        received.append(number)
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, repeat)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        raise KeyboardInterrupt

    def repeat(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        if received and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _failure(error: BaseException) -> tuple[int | None, str]:
    """Return the exit code of an expected error and its line; None for one that is a bug."""
    from tinygrad_mask.backends import DeviceError
    from tinygrad_mask.masks.errors import UsageError
    from tinygrad_mask.training import InterruptedRunError, TrainingDivergedError

    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "stopped"
    if isinstance(error, InterruptedRunError):
        return INTERRUPTED, str(error)
    message = f"error: {_cut(' '.join(str(error).split()))}"
    # An error that was made of a text alone has no number.
    by_path = isinstance(error, OSError) and (
        error.errno in _WRONG_PATH
        or isinstance(
            error, FileExistsError | FileNotFoundError | IsADirectoryError | NotADirectoryError
        )
    )
    if isinstance(error, (UsageError, DeviceError)) or by_path:
        return 2, message
    return (1 if isinstance(error, TrainingDivergedError | OSError) else None), message


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_MESSAGE:
        return text
    half = _LONGEST_MESSAGE // 2
    return f"{text[:half]} ... {text[-half:]}"


class _CutFormatter(logging.Formatter):
    """Formats a warning as one line of bounded length."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return _cut(" ".join(super().format(record).splitlines()))


def _use_streams() -> None:
    """Make standard output and error usable whatever the terminal is.

    A name that the terminal's encoding lacks, or that is no text at all, is printed with escapes; a
    stream that is closed swallows what is written.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _warnings_above_bars() -> AbstractContextManager[Any]:
    """Show warnings above the progress bar, not through it, if the command has one."""
    if "tqdm" not in sys.modules:
        return nullcontext()
    from tqdm.contrib.logging import logging_redirect_tqdm

    return logging_redirect_tqdm()


@contextmanager
def _flushed() -> Iterator[None]:
    """Flush the output at the end, so that a reader who went away is noticed here and not later."""
    try:
        yield
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()


def _discard_output() -> None:
    """Send the output that is left to nowhere: Python flushes it once more when it exits."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # not a file of the system
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
