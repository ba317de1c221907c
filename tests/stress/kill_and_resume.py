"""Kill training at random moments and resume it: the weights are those of an unbroken run.

    python tests/stress/kill_and_resume.py --kills 100

For `train`, `train --cross-validate` and `train-detector` in turn. The quick form, which kills at
chosen files, is in tests/masks/runs/test_run_folder.py.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tinygrad_mask import serialization

COMMANDS = {
    "train": ["train", "--data", "synthetic:24", "--image-size", "8", "--epochs", "8"],
    "train --cross-validate": [
        *("train", "--data", "synthetic:24", "--image-size", "8", "--epochs", "4"),
        *("--cross-validate", "3"),
    ],
    "train-detector": [
        *("train-detector", "--data", "synthetic:16", "--image-size", "32", "--steps", "16"),
        *("--epochs", "8", "--batch-size", "2", "--mosaic", "0"),
    ],
}


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    """Start a command whose output nobody reads."""
    return subprocess.Popen(
        [sys.executable, "-m", "tinygrad_mask", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(folder: Path) -> dict[str, bytes]:
    """Return the bits of all models in a run folder."""
    return {
        f"{path.name} {name}": array.tobytes()
        for path in sorted(folder.glob("*model.safetensors"))
        for name, array in serialization.load(path)[0].items()
    }


def stress(name: str, kills: int, seed: int, folder: Path) -> tuple[int, int]:
    """Return how many runs were finished and how many kills they survived."""
    arguments, rng = COMMANDS[name], np.random.default_rng(seed)
    begin = time.monotonic()
    whole = start([*arguments, "--out", str(folder / "whole")])
    _, error = whole.communicate()
    assert whole.returncode == 0, error
    seconds = time.monotonic() - begin
    expected = weights(folder / "whole")
    runs = killed = 0
    while killed < kills:
        out = folder / f"run-{runs}"
        command = [*arguments, "--out", str(out)]
        while True:
            process = start(command)
            try:
                _, error = process.communicate(timeout=rng.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
                if (out / "config.json").exists():  # else nothing had been begun
                    command = [arguments[0], "--resume", str(out)]
                continue
            assert process.returncode == 0 or "this run is finished" in error, error
            break
        assert weights(out) == expected, f"{out}: other weights"
        assert not list(out.glob(".*")), f"{out}: leftovers"
        runs += 1
    return runs, killed


def main() -> None:
    """Stress each command and print what it survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="at least, for each command")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            runs, kills = stress(name, arguments.kills, arguments.seed, Path(folder))
        print(f"{name}: {kills} kills, {runs} runs, every one with the same bits", flush=True)


if __name__ == "__main__":
    main()
