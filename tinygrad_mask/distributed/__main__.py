"""`mpiexec -n N python -m tinygrad_mask.distributed FILE ARGUMENT...` runs a program on N ranks.

A rank that ends by an error, by `sys.exit` or because it was killed is named in one line, and all
others end too.
"""

import runpy
import sys

from tinygrad_mask.distributed import end_all, init, supervised


def main() -> int:
    """Run the program that the arguments name, as this rank."""
    if len(sys.argv) < 2:
        print("usage: python -m tinygrad_mask.distributed FILE ARGUMENT...", file=sys.stderr)
        return 2
    return supervised(_run)


def _run() -> int:
    init()
    sys.argv = sys.argv[1:]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code:
            end_all(f"ended with exit code {code}", code)
        return code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


sys.exit(main())
