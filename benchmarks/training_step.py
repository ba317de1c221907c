"""Time a training step and inference of the reference networks against PyTorch's, side by side.

The convolutional network sees images of 64 x 64 x 3: three times [3x3 convolution with padding 1,
activation, 2x2 max-pooling] with 32, 64 and 128 channels, a dense layer of 128, an activation, a
dense layer of 3; a batch of 32, cross-entropy, SGD with momentum 0.9 and weight decay 1e-4. The
perceptron (`--model mlp`) is 12288-256-3 without biases: a batch of 64, plain SGD, and the loss
1/N sum 1/2 ||y_hat - y||^2. All is float32; the data are standard-normal and the same for all; so
are the initial weights: the losses of the first 5 steps must agree to 1e-4, else nothing is
measured.

A step is zero_grad (PyTorch's with set_to_none), forward, loss, backward and the update (PyTorch's
fused one with momentum, its plain one without: the faster in either case). PyTorch runs contiguous
and channels_last, model and images both; ratios refer to the better of these. Inference is the
convolutional network in evaluation mode under no_grad (torch.inference_mode). Sides are processes
that take turns, see side_by_side.py; a turn is 3 steps (of inference 3 blocks of 20 ms) after an
untimed one; figures are medians.

GFLOP/s count the multiplications and additions of convolutions and dense layers, done as they are
defined: forward, gradient of the weights, gradient of the inputs except that of the first layer.
Winograd's algorithm needs up to 4 times fewer multiplications in a 3x3 convolution, so that a
share of more than 100 % of the sgemm rate is possible. That rate is a NumPy product of 2048 x 2048
float32 matrices, which takes its turns with the others.

Of the convolutional network's own convolutions each kernel is timed alone, without activation. What
the direct kernels do by themselves is read off the same shapes with a window of 1 x 9 in place of
3 x 3: as many operations on as much memory, but out of Winograd's reach.

With `--device cuda` both sides run on the GPU, PyTorch with cuDNN and without TF32, and the clock
stops when the GPU has done its work. What is about the host (sgemm, memory, the kernels alone) is
then left out. With `--graph` both sides replay steps and inference as CUDA graphs; of this side's
step, as in its training loop, all but the update. `--device emulator` runs this side's GPU kernels
on the host, slowly, to see that they work; PyTorch runs on the CPU.

Peak memory is the most that the process holds resident in the first 5 steps and in the 5 after them
(the steady state), less what it held just before the first step, with model, weights and data made
and freed memory given back. So gradients, momentum, activations and work space count, and what an
allocator keeps to use again; the libraries' own code, which is mapped from files and loaded as it
is first used, does not. Either figure is compared with that of PyTorch's layout that needs least,
and the larger of the two ratios counts.
"""

import sys
from typing import Any

import numpy as np
from cases import Conv, Network, network
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
    spread,
    take_turns,
    verdict,
    write_json,
)

FIRST_STEPS = 5
STEPS_PER_TURN = 3
SGEMM_SIZE = 2048
TOLERANCE = 1e-4

TARGETS = {
    "step of cnn": (0.75, 0.50),
    "step of mlp": (0.90, 0.70),
    "inference": (0.75, 0.50),
    "memory": (1.0, 0.7),
    "convolutions": (0.80, 0.90),
}
"""What each ratio to PyTorch must be at most, and should be; of the convolutions the share of the
sgemm rate, at least."""


def start_workers(net: Network, device: str, threads: int, rival: bool) -> dict[str, Worker]:
    """Start the sides, with the same network, weights and data."""
    workers = {"ours": Worker("ours", "side_ours.Training", threads)}
    weights = workers["ours"].call("load", net, device)
    if rival:
        sides = {"contiguous": "Training", "channels_last": "TrainingChannelsLast"}
        if net.kind == "mlp":
            del sides["channels_last"]  # there are no images: it would be the same again
        for layout, side in sides.items():
            workers[layout] = Worker(layout, f"side_torch.{side}", threads)
            workers[layout].call("load", net, "cuda" if device == "cuda" else "cpu", weights)
    return workers


def first_steps(workers: dict[str, Worker]) -> dict[str, dict[str, int]]:
    """Make the first steps of all sides, compare their losses, and return their peak memory."""
    losses, memory = {}, {}
    for name, worker in workers.items():
        losses[name], memory[name] = worker.call("first_steps", FIRST_STEPS)
    print(f"Losses of the first {FIRST_STEPS} steps:")
    for name, values in losses.items():
        print(f"  {name:<14}", "  ".join(f"{value:.6f}" for value in values), flush=True)
    difference = max(np.abs(np.subtract(v, losses["ours"])).max() for v in losses.values())
    if not difference <= TOLERANCE:
        raise SystemExit(
            f"error: the losses differ by {difference:.2g}, expected at most {TOLERANCE:g}"
        )
    print()
    return memory


def compare_scores(workers: dict[str, Worker], batch: int, recorded: bool) -> None:
    """Exit unless all sides, after the first steps, say the same of the images."""
    ours = None
    for name, worker in workers.items():
        worker.call("prepare", ("inference", batch, recorded))
        worker.call("scores")  # the second time it is replayed
        scores = worker.call("scores")
        ours = scores if ours is None else ours
        difference = np.abs(scores - ours).max() / np.abs(ours).max()
        if not difference <= 1e-3:
            raise SystemExit(f"error: inference, batch {batch}: {name} differs by {difference:.2g}")


def measure_step(
    workers: dict[str, Worker], machine: Worker | None, net: Network, rounds: int, recorded: bool
) -> dict[str, Any]:
    """Time the step of all sides, and the sgemm beside them; print and return the figures."""
    for worker in workers.values():
        worker.call("prepare", ("step", 0, recorded))
    turns = dict(workers)
    if machine:
        machine.call("prepare", ("sgemm", SGEMM_SIZE))
        turns["sgemm"] = machine
    times = take_turns(turns, rounds, blocks=STEPS_PER_TURN, least=0)
    seconds = medians(times)
    sgemm = 2 * SGEMM_SIZE**3 / seconds.pop("sgemm") / 1e9 if machine else None
    flops = net.step_flops()
    print(
        f"Training step of the {net.kind}, {net.activation}, batch {net.batch}: "
        f"{flops / 1e9:.3f} GFLOP (2 for each product of convolutions and dense layers)"
    )
    if sgemm:
        print(f"sgemm: {sgemm:.1f} GFLOP/s ({SGEMM_SIZE} x {SGEMM_SIZE})")
    table = Table(14, "ms", "quartiles, ms", "GFLOP/s", "of sgemm")
    for name, value in seconds.items():
        rate = flops / value / 1e9
        table.row(
            name,
            formatted(1e3 * value),
            spread(times[name]),
            formatted(rate),
            percent(rate / sgemm if sgemm else None),
        )
    figures = compare(times)
    figures["gflops"] = flops / seconds["ours"] / 1e9
    figures["sgemm_share"] = figures["gflops"] / sgemm if sgemm else None
    figures["sgemm_gflops"] = sgemm
    figures["gflop_per_step"] = flops / 1e9
    print_ratio(figures, f"step of {net.kind}")
    return figures


def print_ratio(figures: dict[str, Any], target: str) -> None:
    """Print the ratio of medians beside its target, and that of the fastest times."""
    ratio = figures["ratio"]
    if ratio is not None:
        print(
            f"ratio to PyTorch's best: {ratio:.3f} {verdict(ratio, *TARGETS[target])} "
            f"(of the fastest times: {figures['ratio_of_fastest']:.3f})"
        )
    print(flush=True)


def memory_figures(memory: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Print and return the peak memory of the sides."""
    if not all(memory.values()):
        print("Peak memory: this system does not tell (it takes Linux's /proc/self/clear_refs)\n")
        return {"peak_memory_ratio": None}
    print("Peak memory of the step beyond model and data:")
    phases = ("first_steps", "later_steps")
    table = Table(14, "first steps, MB", "later steps, MB")
    for name, peaks in memory.items():
        table.row(name, *(f"{peaks[phase] / 1e6:.1f}" for phase in phases))
    rivals = [peaks for name, peaks in memory.items() if name != "ours"]
    ratio = None
    if rivals:
        least = {phase: min(peaks[phase] for peaks in rivals) for phase in phases}
        ratio = max(memory["ours"][phase] / least[phase] for phase in phases)
        print(f"ratio to PyTorch's least: {ratio:.3f} {verdict(ratio, *TARGETS['memory'])}")
    print(flush=True)
    return {"peak_memory_ratio": ratio, "peak_memory_bytes": memory}


def measure_inference(
    workers: dict[str, Worker], net: Network, batch: int, rounds: int, recorded: bool
) -> dict[str, Any]:
    """Time inference of all sides; print and return the figures."""
    for worker in workers.values():
        worker.call("prepare", ("inference", batch, recorded))
    times = take_turns(workers, rounds, blocks=STEPS_PER_TURN)
    seconds = medians(times)
    flops = net.forward_flops(batch)
    print(f"Inference, batch {batch}: {flops / 1e9:.3f} GFLOP")
    table = Table(14, "ms", "quartiles, ms", "GFLOP/s")
    for name, value in seconds.items():
        table.row(name, formatted(1e3 * value), spread(times[name]), formatted(flops / value / 1e9))
    figures = compare(times)
    figures["gflops"] = flops / seconds["ours"] / 1e9
    print_ratio(figures, "inference")
    return figures


def measure_convolutions(
    net: Network, machine: Worker, threads: int, rounds: int
) -> list[dict[str, Any]]:
    """Time this side's convolutions of the network, one by one; print and return the figures."""
    kernels = Worker("ours", "side_ours.Kernels", threads)
    machine.call("prepare", ("sgemm", SGEMM_SIZE))
    print("Convolutions of the network, this side's kernels alone:")
    table = Table(46, "ms", "GFLOP/s", "of sgemm", "direct ms", "of sgemm")
    rows: list[dict[str, Any]] = []
    totals = {"chosen": 0.0, "direct": 0.0, "flops": 0.0, "sgemm": 0.0}
    for layer, conv in enumerate(net.convolutions()):
        direct = Conv(conv.n, conv.h, conv.w, conv.c, conv.o, kernel=9, kernel_height=1)
        for direction in conv.directions:
            if layer == 0 and direction == "grad_input":
                continue
            seconds = {}
            for name, case in {"chosen": conv, "direct": direct}.items():
                kernels.call("prepare", (case, direction))
                seconds[name] = medians(take_turns({name: kernels, "sgemm": machine}, rounds))
            rates = {name: 2 * SGEMM_SIZE**3 / s["sgemm"] / 1e9 for name, s in seconds.items()}
            gflops = {name: conv.flops() / s[name] / 1e9 for name, s in seconds.items()}
            row = {
                "name": str(conv),
                "direction": direction,
                "ours_ms": 1e3 * seconds["chosen"]["chosen"],
                "gflops": gflops["chosen"],
                "sgemm_share": gflops["chosen"] / rates["chosen"],
                "direct_ms": 1e3 * seconds["direct"]["direct"],
                "direct_sgemm_share": gflops["direct"] / rates["direct"],
            }
            rows.append(row)
            table.row(f"{conv}, {direction}", *convolution_cells(row))
            for name in ("chosen", "direct"):
                totals[name] += seconds[name][name]
                totals["sgemm"] += seconds[name]["sgemm"] / 2
            totals["flops"] += conv.flops()
    rate = 2 * SGEMM_SIZE**3 / (totals["sgemm"] / len(rows)) / 1e9
    gflops = {name: totals["flops"] / totals[name] / 1e9 for name in ("chosen", "direct")}
    row = {
        "name": "all",
        "direction": "all",
        "ours_ms": 1e3 * totals["chosen"],
        "gflops": gflops["chosen"],
        "sgemm_share": gflops["chosen"] / rate,
        "direct_ms": 1e3 * totals["direct"],
        "direct_sgemm_share": gflops["direct"] / rate,
    }
    table.row("all together", *convolution_cells(row))
    for name, share in {
        "all together": row["sgemm_share"],
        "the direct kernels alone": row["direct_sgemm_share"],
    }.items():
        target = verdict(share, *TARGETS["convolutions"], at_least=True)
        print(f"share of the sgemm rate, {name}: {share:.2f} {target}")
    return [*rows, row]


def convolution_cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a convolution's row."""
    return [
        formatted(row["ours_ms"]),
        formatted(row["gflops"]),
        percent(row["sgemm_share"]),
        formatted(row["direct_ms"]),
        percent(row["direct_sgemm_share"]),
    ]


def main(arguments: list[str]) -> None:
    """Measure what the command line says."""
    parser = argument_parser(__doc__, rounds=15)
    parser.add_argument("--model", choices=("cnn", "mlp"), default="cnn")
    parser.add_argument(
        "--activation",
        choices=("relu", "sigmoid"),
        help="default: relu for the cnn, sigmoid for the mlp",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "emulator"), default="cpu", help="default: cpu"
    )
    parser.add_argument(
        "--graph", action="store_true", help="record steps and inference, with --device cuda"
    )
    options = parser.parse_args(arguments)
    if options.graph and options.device != "cuda":
        parser.error("--graph: only a GPU replays what was recorded; add --device cuda")
    activation = options.activation or {"cnn": "relu", "mlp": "sigmoid"}[options.model]
    net = network(options.model, activation)
    rival = has_rival(options.against)

    workers = start_workers(net, options.device, options.threads, rival)
    on_host = options.device == "cpu"
    machine = Worker("sgemm", "side_by_side.Machine", options.threads) if on_host else None
    sides = [*workers.values(), *([machine] if machine else [])]
    run = describe_run(sides, options.threads)
    run |= {"device": options.device, "graph": options.graph}
    memory = first_steps(workers)
    batches = (net.batch, 1) if net.kind == "cnn" else ()
    for batch in batches:
        compare_scores(workers, batch, options.graph)
    figures: dict[str, Any] = {"model": net.kind, "activation": activation, "batch": net.batch}
    figures |= measure_step(workers, machine, net, options.rounds, options.graph)
    if on_host:
        figures |= memory_figures(memory)
    for batch in batches:
        figures[f"inference_{batch}"] = measure_inference(
            workers, net, batch, options.rounds, options.graph
        )
    if net.kind == "cnn" and machine:
        figures["convolutions"] = measure_convolutions(
            net, machine, options.threads, options.rounds
        )
    write_json(options.json, figures | {"run": run})


if __name__ == "__main__":
    main(sys.argv[1:])
