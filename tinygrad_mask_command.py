"""The console script `tinygrad-mask`.

It is no module of the package, whose import loads NumPy and takes a moment: Ctrl-C in that moment
ends the command as at any other time, and not with a traceback.
"""

import sys


def main() -> int:
    """Run the command line, and return its exit code."""
    try:
        from tinygrad_mask.cli import main as command
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return command()
