"""Options that the commands of all models share."""

import argparse
import itertools
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS

BOXES_HELP = "a folder of photographs with boxes (Larxel, Humans in the Loop, any Pascal VOC)"

DATA_HELP = (
    f"{BOXES_HELP} or of a folder per class; or synthetic[:COUNT], COUNT drawn photographs of some "
    "faces each; may be repeated"
)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how the labels of data sets are read, and where to compute."""
    parser.add_argument(
        "--classes",
        metavar="NAME=LABEL,...",
        help="what the class names of a data set mean: proper, improper or none",
    )
    parser.add_argument(
        "--other-coverings",
        choices=LABELS,
        metavar="LABEL",
        help="the label of faces covered by something else than a mask (default: left out)",
    )
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda", "emulator"],
        help="where to compute; the emulator executes the kernels of cuda, slowly (default: auto)",
    )


def check_resumed_alone(
    arguments: argparse.Namespace, allowed: Collection[str], not_options: Collection[str]
) -> None:
    """Raise `UsageError` if options other than `allowed` were given with --resume.

    Options that were not given are None. `not_options` are attributes that are no options.
    """
    others = [
        name.replace("_", "-")
        for name, value in vars(arguments).items()
        if value is not None and name not in {*allowed, *not_options}
    ]
    if others:
        raise UsageError(
            "--resume goes on with the settings of the run and takes no others, "
            f"got --{', --'.join(others)}"
        )


def option_error(error: ValueError, options: Mapping[str, str]) -> UsageError:
    """Return an error about a setting, `NAME: ...`, as one about the option that sets it.

    `options` are the settings by name, and their options without the dashes.
    """
    name, colon, rest = str(error).partition(": ")
    if name not in options:
        return UsageError(str(error))
    return UsageError(f"--{options[name].replace('_', '-')}{colon}{rest}")


@contextmanager
def run_folder_path(out: Path | None, kind: str) -> Iterator[Path]:
    """Yield where a run is written: `out`, or a new folder under runs/.

    The new one is named after the model and the time and exists already, so that no other run takes
    the same name. It is removed if it is empty at the end.
    """
    if out is not None:
        yield out
        return
    base = folder = Path("runs") / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(2):
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if not base.parent.is_dir():
                raise UsageError(f"{base.parent}: expected a folder, this is a file") from None
            folder = base.with_name(f"{base.name}-{number}")
        except OSError as error:
            raise UsageError(
                f"{folder}: no run folder can be made there ({error.strerror}); --out names another"
            ) from error
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()
