"""The command line: `tinygrad-mask train | evaluate | predict | export | kernels`."""

import argparse
import logging
import sys
from collections.abc import Sequence

from tqdm.contrib.logging import logging_redirect_tqdm

from tinygrad_mask.backends import DeviceError
from tinygrad_mask.backends.commands import add_kernels_arguments
from tinygrad_mask.masks.classifier.commands import add_evaluate_arguments, add_train_arguments
from tinygrad_mask.masks.classifier.model_commands import (
    add_export_arguments,
    add_predict_arguments,
)
from tinygrad_mask.masks.classifier.runs.config import Design
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.training import InterruptedRunError, TrainingDivergedError

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended, as a shell says it: 128 + SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for a failure, 2 for input not to be used."""
    parser = argparse.ArgumentParser(prog="tinygrad-mask", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_train_arguments(
        commands.add_parser("train", help="learn from photographs how masks are worn")
    )
    add_evaluate_arguments(
        commands.add_parser("evaluate", help="judge a trained model on other photographs")
    )
    add_predict_arguments(
        commands.add_parser("predict", help="say how the masks in pictures are worn")
    )
    add_export_arguments(commands.add_parser("export", help="write a model for another runtime"))
    add_kernels_arguments(
        commands.add_parser("kernels", help="say which kernels are in use on this machine")
    )
    return run(parser, arguments)


def train_example(arguments: Sequence[str] | None, description: str | None, design: Design) -> int:
    """Run the command `train` with a network and training of one's own; return the exit code."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_train_arguments(parser, design.kind, design)
    return run(parser, arguments)


def run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse, call what the command set as `run`, and turn what it raises into one line."""
    parsed = parser.parse_args(arguments)
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        with logging_redirect_tqdm():  # warnings above the progress bar, not through it
            parsed.run(parsed)
    except (UsageError, DeviceError) as error:
        return _fail(error, 2)
    except (TrainingDivergedError, OSError) as error:
        return _fail(error, 1)
    except InterruptedRunError as error:
        print(error, file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def _fail(error: Exception, code: int) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
