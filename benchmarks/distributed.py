"""Data-parallel training steps of the mask networks, and how much of the exchange is hidden.

    python benchmarks/distributed.py --threads 2
    mpiexec -n 2 python benchmarks/distributed.py --threads 1

Each line is for one network at one batch size of all ranks together. Steps with and without the
exchange of gradients, and the exchange by itself, are timed in turn, so that whatever else the
machine does falls on all alike; the figures are medians. The hidden share is that of the exchange's
own time by which a step does not become longer.
"""

import argparse
import statistics
import time

import numpy as np

import tinygrad_mask as tg
from tinygrad_mask import Tensor, distributed, optim
from tinygrad_mask import functions as F
from tinygrad_mask.masks.classifier.network.architecture import architecture_of, build_model


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="of each rank (default: 1)")
    parser.add_argument("--batch", type=int, default=64, help="of all ranks (default: 64)")
    parser.add_argument("--steps", type=int, default=30, help="timed steps (default: 30)")
    parser.add_argument("--model", default="vgg", help="the network (default: vgg)")
    options = parser.parse_args()
    group = distributed.init()
    tg.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    model = build_model(architecture_of(options.model, 32), rng)
    optimizer = optim.Adam(model.parameters(), lr=1e-4)
    reducer = distributed.GradientReducer(
        model.parameters(), averaged=distributed.running_statistics(model)
    )
    part = distributed.part_of(options.batch, group.rank, group.size)
    count = part.stop - part.start
    inputs = Tensor(rng.standard_normal((count, 32, 32, 3)).astype(np.float32))
    labels = Tensor(rng.integers(0, 3, count))

    def step(exchange):
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        if exchange:
            with reducer.reducing(count):
                loss.backward()
        else:
            loss.backward()
        optimizer.step()

    def timed(function, *arguments):
        group.barrier()
        start = time.perf_counter()
        function(*arguments)
        return (time.perf_counter() - start) * 1e3

    step(exchange=True)
    whole, alone, exchange = [], [], []
    for _ in range(options.steps):
        group.traffic.reset()
        whole.append(timed(step, True))
        messages, sent = group.traffic.messages, group.traffic.sent_bytes
        if group.size > 1:
            alone.append(timed(step, False))
            exchange.append(timed(reducer.reduce, count))
    if group.rank > 0:
        return
    line = (
        f"{options.model}, batch {options.batch}, {group.size} ranks of {options.threads} threads"
    )
    line += f": {statistics.median(whole):.2f} ms a step"
    if group.size > 1:
        added = statistics.median(whole) - statistics.median(alone)
        cost = statistics.median(exchange)
        line += (
            f", {statistics.median(alone):.2f} without the exchange, which takes {cost:.2f} ms by "
            f"itself ({messages} messages, {sent:,} bytes): {1 - added / cost:.0%} of it hidden"
        )
    print(line)


if __name__ == "__main__":
    main()
