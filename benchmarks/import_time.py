"""Time `import tinygrad_mask` on top of NumPy's own import, in processes of their own.

Processes with and without our import take turns; the figure is the difference of the medians. Exits
with 1 if it is more than 0.15 s, or if more than 25 of our modules are loaded.
"""

import argparse
import statistics
import subprocess
import sys

MOST_SECONDS, MOST_MODULES = 0.15, 25

NUMPY = "import numpy"
OURS = "import numpy, tinygrad_mask"
COUNT = "import sys, tinygrad_mask; print(sum(m.startswith('tinygrad_mask') for m in sys.modules))"
TIMED = "import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"


def run(code: str) -> float:
    """Return the number that a new interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return float(result.stdout)


def main(arguments: list[str]) -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=15, help="processes of each kind (default: 15)"
    )
    rounds = parser.parse_args(arguments).rounds
    run(TIMED.format(code=OURS))  # writes the bytecode, once
    numpy, ours = [], []
    for _ in range(rounds):
        numpy.append(run(TIMED.format(code=NUMPY)))
        ours.append(run(TIMED.format(code=OURS)))
    before, after = statistics.median(numpy), statistics.median(ours)
    modules = int(run(COUNT))
    print(f"numpy {before:.3f} s, with tinygrad_mask {after:.3f} s: {after - before:.3f} s more")
    print(f"{modules} of our modules")
    return int(after - before > MOST_SECONDS or modules > MOST_MODULES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
