"""Time the networks' answers against ONNX Runtime's, side by side.

The classifiers go from crops, uint8 (N, size, size, 3), to probabilities (N, 3): scaling, network,
softmax, and with the shipped classifier (`classifier`) the mirror images too. `reference` is the
convolutional network of training_step.py on 64 x 64 pixels. `detector` is the shipped detector's
network on N photographs of 400 x 267 pixels at the size of its first look, without resizing and
decoding. ONNX Runtime runs this package's own export with its default optimisations. Both must
agree to 1e-4, else nothing is measured. Sides are processes that take turns, see side_by_side.py;
figures are medians of a call.
"""

import argparse
import importlib.util

import numpy as np
from side_by_side import (
    Table,
    Worker,
    available_processors,
    describe_run,
    formatted,
    positive,
    spread,
    take_turns,
    verdict,
    writable_file,
    write_json,
)

NETWORKS = ("classifier", "reference", "detector")
BATCHES = (1, 8, 32, 128)
MUST, AIM = 1.0, 0.7
"""What our time to ONNX Runtime's must be at most, and should be."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", choices=("onnxruntime", "none"), default="onnxruntime")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=positive, default=BATCHES, metavar="N")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=positive,
        default=sorted({1, available_processors()}),
        help="threads of each side, one table for each (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=positive, default=15, help="default: %(default)s")
    parser.add_argument("--json", type=writable_file, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.against == "onnxruntime" and not importlib.util.find_spec("onnxruntime"):
        raise SystemExit(
            "error: --against onnxruntime: it is not installed (pip install onnxruntime)"
        )
    figures = {"runs": [measure(arguments, threads) for threads in arguments.threads]}
    write_json(arguments.json, figures)


def measure(arguments: argparse.Namespace, threads: int) -> dict[str, object]:
    """Measure all with a number of threads; return the figures."""
    workers = {"ours": Worker("ours", "side_inference.Ours", threads)}
    if arguments.against == "onnxruntime":
        workers["onnxruntime"] = Worker("onnxruntime", "side_inference.OnnxRuntime", threads)
    run: dict[str, object] = {**describe_run(workers.values(), threads)}
    table = Table(24, "ours ms", "peer ms", "ratio", "of fastest", "quartiles", "")
    rows = []
    for network in arguments.networks:
        for batch in arguments.batches:
            answers = {}
            for name, worker in workers.items():
                worker.call("prepare", (network, batch))
                answers[name] = worker.call("answers")
            for name, answer in answers.items():
                worst = float(np.abs(answer - answers["ours"]).max())
                worst /= max(1.0, float(np.abs(answer).max()))
                if not worst < 1e-4:
                    raise SystemExit(f"error: {network}: {name} differs by {worst:g}")
            times = take_turns(workers, arguments.rounds)
            row = compare_times(times)
            rows.append({"network": network, "batch": batch, **row})
            table.row(
                f"{network}, batch {batch}",
                formatted(row["ours_ms"]),
                formatted(row["peer_ms"]),
                formatted(row["ratio"], 3),
                formatted(row["ratio_of_fastest"], 3),
                spread(times["ours"]),
                verdict(row["ratio"], MUST, AIM),
            )
    print()
    return {**run, "rows": rows}


def compare_times(times: dict[str, list[float]]) -> dict[str, float | None]:
    """Return both medians in milliseconds, and the ratios of the medians and of the fastest."""
    ours, peer = times["ours"], times.get("onnxruntime")
    return {
        "ours_ms": 1e3 * float(np.median(ours)),
        "peer_ms": None if peer is None else 1e3 * float(np.median(peer)),
        "ratio": None if peer is None else float(np.median(ours) / np.median(peer)),
        "ratio_of_fastest": None if peer is None else min(ours) / min(peer),
    }


if __name__ == "__main__":
    main()
