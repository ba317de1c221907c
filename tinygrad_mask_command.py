"""The console script `tinygrad-mask`.

It is no module of the package, whose import loads NumPy and takes a moment: Ctrl-C in that moment
ends the command as at any other time, and not with a traceback. SIGTERM does the same.
"""

import signal
import sys
from typing import Any


def main() -> int:
    """Run the command line, and return its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from tinygrad_mask.cli import main as command
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return command()


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
