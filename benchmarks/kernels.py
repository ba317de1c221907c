"""Time each kernel over a list of shapes against PyTorch's, side by side.

Convolutions and poolings: forward and both gradients (that of the weight brings that of the bias,
on both sides); sigmoid and relu: forward and gradient. PyTorch is called below its recording of
graphs, under inference_mode, through the operations that its own backward pass calls, and in both
layouts where there are images; `ratio` refers to the better one. Before anything is timed the
results are compared: a layout whose results differ from this side's by 1e-3 of them or more, root
mean square (on a GPU 1e-2), is not measured, and it is an error if neither agrees.

Sides are processes that take turns, see side_by_side.py. A turn is a call that is not timed and a
block of as many calls as take 20 ms; figures are medians over the rounds. Where after these the
sides are within 1.25 times of each other, whichever is ahead, three times as many rounds follow and
count like the first: the medians of a few blocks vary by some 10 % on a machine shared with others.

GFLOP/s count the multiplications and additions of a convolution done as it is defined, padding
included; Winograd's algorithm needs up to 4 times fewer multiplications, so that a share of more
than 100 % of the sgemm rate (a NumPy product of 2048 x 2048 float32 matrices in the same rounds) is
possible. Poolings and activations are bound by memory: GB/s count the bytes of images and results
(x and y; dy and dx; of an activation dy, y and dx), and their share is that of the rate at which
NumPy (a single thread) copies between two arrays that are there already, as many bytes read and
written together.

With `--device cuda` all of it runs on the GPU, PyTorch with cuDNN and without TF32, and every call
is replayed as a CUDA graph, so that kernels are measured and not what it takes to start them; the
products and copies to compare with are then cuBLAS' and CuPy's, and the cache is the GPU's.
"""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cases import Conv, Elementwise, GroupNorm, Pool, Resized
from side_by_side import (
    Table,
    Worker,
    argument_parser,
    compare,
    describe_run,
    formatted,
    has_rival,
    medians,
    percent,
    take_turns,
    write_json,
)

CASES: list[Conv | Pool | Elementwise | GroupNorm | Resized] = [
    # 3x3, from 3 to 256 channels; the first three are those of the reference network
    Conv(32, 64, 64, 3, 32),
    Conv(32, 32, 32, 32, 64),
    Conv(32, 16, 16, 64, 128),
    Conv(16, 64, 64, 16, 16),
    Conv(16, 16, 16, 128, 128),
    Conv(8, 14, 14, 256, 256),
    # other windows
    Conv(16, 28, 28, 64, 128, kernel=1),
    Conv(16, 28, 28, 256, 64, kernel=1),
    Conv(8, 28, 28, 32, 64, kernel=5),
    Conv(4, 224, 224, 3, 64, kernel=7, stride=2),
    Conv(16, 32, 32, 64, 128, stride=2),
    Conv(8, 32, 32, 64, 64, dilation=2),
    Conv(16, 32, 32, 64, 64, groups=64),
    Conv(16, 56, 56, 128, 128, stride=2, groups=128),
    # few outputs, odd images, a single image
    Conv(8, 32, 32, 64, 3),
    Conv(8, 37, 53, 32, 64),
    Conv(8, 37, 53, 3, 32, stride=2),
    Conv(1, 64, 64, 3, 32),
    Conv(1, 56, 56, 64, 64),
    Conv(1, 14, 14, 256, 256, kernel=1),
    # pooling, without and with overlap
    Pool("max", 32, 64, 64, 32),
    Pool("max", 32, 56, 56, 64, kernel=3, stride=2, padding=1),
    Pool("max", 8, 37, 53, 64, kernel=3, stride=1, padding=1),
    Pool("max", 1, 64, 64, 32),
    Pool("avg", 32, 64, 64, 32),
    Pool("avg", 32, 56, 56, 64, kernel=3, stride=2, padding=1),
    Pool("avg", 8, 37, 53, 64, kernel=3, stride=1, padding=1),
    # normalisation of examples, and images at twice their size
    GroupNorm(8192, 1, 1, 512),
    GroupNorm(16, 32, 32, 64, groups=8),
    Resized("nearest", 16, 32, 32, 64),
    Resized("bilinear", 16, 32, 32, 64),
    Resized("bilinear", 16, 32, 32, 3),
    # activations, from what a core holds to what no cache does
    *(Elementwise("sigmoid", 10**exponent) for exponent in range(3, 9)),
    *(Elementwise("relu", 10**exponent) for exponent in (3, 5, 7)),
]

SGEMM_SIZES = {"cpu": 2048, "emulator": 2048, "cuda": 4096}
TOLERANCES = {"cpu": 1e-3, "emulator": 1e-3, "cuda": 1e-2}
"""Of cuDNN's algorithms some (by FFT) are that far from the rest."""
COMPARED = 1 << 24  # elements of a result
MUST_RATIO, AIM_RATIO = 1.0, 0.7
MUST_COPY_SHARE = 0.9  # of sigmoid, beyond the cache
CLOSE = 1.25  # a ratio within this factor of 1 is not told from it by a few rounds
MORE_ROUNDS = 3  # times as many follow for such a row


def cache_size(device: str) -> int:
    """Return the bytes of the processor's largest cache, 32 MiB where the system does not tell.

    A GPU's is taken to be no larger: it is 50 MiB on an H100, 60 on an H200.
    """
    if device != "cpu":
        return 64 << 20
    folder = Path("/sys/devices/system/cpu/cpu0/cache")
    sizes = [int(path.read_text().strip().rstrip("K")) << 10 for path in folder.glob("*/size")]
    return max(sizes, default=32 << 20)


def those_that_agree(workers: dict[str, Worker], label: str, tolerance: float) -> dict[str, Worker]:
    """Return the sides that compute what this one does, and say which of PyTorch's do not; exit if
    none of those does.
    """
    results = {name: worker.call("result", COMPARED) for name, worker in workers.items()}
    agree = {}
    for name, worker in workers.items():
        difference = max(
            np.linalg.norm(result - ours) / np.linalg.norm(ours)
            for result, ours in zip(results[name], results["ours"], strict=True)
        )
        if difference < tolerance:
            agree[name] = worker
        else:
            print(f"{label}: {name} differs by {difference:.2g} and is left out")
    if len(workers) > len(agree) == 1:
        raise SystemExit(f"error: {label}: no other side agrees with ours")
    return agree


def measure(
    case: Conv | Pool | Elementwise | GroupNorm | Resized,
    direction: str,
    workers: dict[str, Worker],
    machine: Worker,
    rounds: int,
    device: str,
) -> dict[str, Any]:
    """Return the figures of one direction of a case."""
    if isinstance(case, Elementwise):  # an array of one axis has one layout
        workers = {name: w for name, w in workers.items() if name != "channels_last"}
    for worker in workers.values():
        worker.call("prepare", (case, direction))
    workers = those_that_agree(workers, f"{case}, {direction}", TOLERANCES[device])

    is_conv, size = isinstance(case, Conv), SGEMM_SIZES[device]
    machine.call("prepare", ("sgemm", size) if is_conv else ("copy", case.bytes(direction)))
    sides = {**workers, "machine": machine}
    times = take_turns(sides, rounds)
    if is_close(compare(times)["ratio"]):
        for name, more in take_turns(sides, MORE_ROUNDS * rounds).items():
            times[name] += more
    seconds = medians(times)
    figures = {"name": str(case), "direction": direction, "rounds": len(times["ours"])}
    figures |= compare(times)
    if is_conv:
        figures["gflops"] = case.flops() / seconds["ours"] / 1e9
        figures["sgemm_share"] = figures["gflops"] * 1e9 * seconds["machine"] / 2 / size**3
    else:
        figures["gbytes_per_s"] = case.bytes(direction) / seconds["ours"] / 1e9
        figures["copy_share"] = seconds["machine"] / seconds["ours"]
        figures["beyond_cache"] = case.bytes(direction) > cache_size(device)
    return figures


def is_close(ratio: float | None) -> bool:
    """Say whether a ratio is too near to 1 to be known from a few rounds."""
    return ratio is not None and 1 / CLOSE < ratio < CLOSE


def print_row(table: Table, figures: dict[str, Any]) -> None:
    """Print the figures of a row."""
    peers = figures["peer_ms"]
    if "gflops" in figures:
        rate, share = f"{figures['gflops']:.1f} GFLOP/s", figures["sgemm_share"]
        of = "of sgemm"
    else:
        rate, share = f"{figures['gbytes_per_s']:.1f} GB/s", figures["copy_share"]
        of = "of copy"
    table.row(
        f"{figures['name']}, {figures['direction']}",
        formatted(figures["ours_ms"]),
        formatted(peers.get("contiguous")),
        formatted(peers.get("channels_last")),
        formatted(figures["ratio"], 3),
        rate,
        f"{percent(share)} {of}",
    )


def print_misses(rows: list[dict[str, Any]]) -> None:
    """Print which rows are not what they must be."""
    compared = [row for row in rows if row["ratio"] is not None]
    if compared:
        missed = [row for row in compared if row["ratio"] > MUST_RATIO]
        aimed = sum(row["ratio"] <= AIM_RATIO for row in compared)
        print(
            f"\nRatio to PyTorch's best: of {len(compared)} rows {len(compared) - len(missed)} are "
            f"at most {MUST_RATIO:.1f} (must), {aimed} at most {AIM_RATIO:.1f} (aim)"
        )
        for row in sorted(missed, key=lambda row: -row["ratio"]):
            print(f"  missed: {row['ratio']:.2f}  {row['name']}, {row['direction']}")
    large = [row for row in rows if row["name"].startswith("sigmoid") and row["beyond_cache"]]
    if large:
        missed = [row for row in large if row["copy_share"] < MUST_COPY_SHARE]
        print(
            f"\nSigmoid beyond the cache: of {len(large)} rows {len(large) - len(missed)} run at "
            f"{percent(MUST_COPY_SHARE)} (must) of the rate of a copy or more"
        )
        for row in missed:
            print(f"  missed: {percent(row['copy_share'])}  {row['name']}, {row['direction']}")


def pattern(text: str) -> re.Pattern[str]:
    """Return a regular expression given on the command line."""
    try:
        return re.compile(text)
    except re.error as error:
        raise SystemExit(f"error: --only: {error}") from error


def main(arguments: list[str]) -> None:
    """Measure what the command line says."""
    parser = argument_parser(__doc__, rounds=7)
    parser.add_argument(
        "--only",
        type=pattern,
        default="",
        metavar="REGEX",
        help="only rows in whose name this is found, such as 'conv 3x3' or 'sigmoid.*forward'",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "emulator"), default="cpu", help="default: cpu"
    )
    options = parser.parse_args(arguments)
    chosen = [
        (case, direction)
        for case in CASES
        for direction in case.directions
        if options.only.search(f"{case}, {direction}")
    ]
    if not chosen:
        raise SystemExit(f"error: --only: no row's name has {options.only.pattern!r}")

    sides = {"ours": "side_ours.Kernels"}
    if has_rival(options.against):
        sides["contiguous"] = "side_torch.Kernels"
        sides["channels_last"] = "side_torch.KernelsChannelsLast"
    workers = {name: Worker(name, side, options.threads) for name, side in sides.items()}
    for name, worker in workers.items():
        torch_on_host = name != "ours" and options.device == "emulator"
        worker.call("use", "cpu" if torch_on_host else options.device)
    on_gpu = options.device == "cuda"
    machine = Worker(
        "machine", "side_ours.Gpu" if on_gpu else "side_by_side.Machine", options.threads
    )
    if on_gpu:
        machine.call("use", options.device)
    run = describe_run([*workers.values(), machine], options.threads)

    widest = max(len(f"{case}, {direction}") for case, direction in chosen)
    table = Table(
        widest, "ours ms", "contiguous ms", "ch.last ms", "ratio", "ours        ", "        share"
    )
    rows = []
    for case, direction in chosen:
        rows.append(measure(case, direction, workers, machine, options.rounds, options.device))
        print_row(table, rows[-1])
    print_misses(rows)
    write_json(options.json, {"run": run | {"device": options.device}, "kernels": rows})


if __name__ == "__main__":
    main(sys.argv[1:])
