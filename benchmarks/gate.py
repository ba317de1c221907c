"""A gate against slower kernels: their rate as a share of NumPy's sgemm, both in one run.

    python benchmarks/gate.py

Times mean little on a machine that is shared; a ratio to what the same processor did a moment ago
means more. One thread, kernels and sgemm in turn, the median of the ratios over some rounds; a
kernel that stays below its least share in three attempts fails the gate. The least shares are about
two thirds of what was measured with AVX2. Operations are counted as if done directly, so that
Winograd's algorithm can come to more than the whole rate.
"""

import os
import statistics
import sys
import time

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TINYGRAD_MASK_NUM_THREADS"):
    os.environ[variable] = "1"  # read when NumPy and the kernels are loaded

import numpy as np  # noqa: E402

from tinygrad_mask.backends import Window, get_backend  # noqa: E402
from tinygrad_mask.backends.cpu import CpuBackend  # noqa: E402

ROUNDS = 9
ATTEMPTS = 3

# Batch, side, channels, outputs, window; the least shares forward, of the input's gradient and of
# the weight's.
CASES = {
    "direct, 7x7": ((4, 28, 32, 64, 7), (0.6, 0.6, 0.4)),
    "Winograd, 3x3": ((8, 16, 64, 128, 3), (1.1, 1.1, 0.9)),
}


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def calls(backend, shape):
    """The three kernels of a convolution, and how many operations each does."""
    n, side, channels, outputs, k = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, side, side, channels), np.float32)
    weight = rng.standard_normal((k, k, channels, outputs), np.float32)
    grad = rng.standard_normal((n, side, side, outputs), np.float32)
    window = Window((k, k), padding=((k // 2, k // 2), (k // 2, k // 2)))
    operations = 2 * n * side * side * k * k * channels * outputs
    return operations, {
        "forward": lambda: backend.conv2d(x, weight, None, window, 1),
        "grad_input": lambda: backend.conv2d_grad_input(grad, weight, x.shape, window, 1),
        "grad_weight": lambda: backend.conv2d_grad_weight(grad, x, weight.shape, window, 1),
    }


def share_of_sgemm(operations, kernel):
    size = 512
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)

    def sgemm():
        return a @ a

    kernel(), sgemm()
    ratios = []
    for _ in range(ROUNDS):
        before, ours, after = seconds(sgemm), seconds(kernel), seconds(sgemm)
        ratios.append(operations / ours / (2 * size**3 / ((before + after) / 2)))
    return statistics.median(ratios)


def main():
    backend = get_backend("cpu")
    if not isinstance(backend, CpuBackend) or backend.instruction_set == "baseline":
        print("gate: skipped, it is for kernels of AVX2 or AVX-512")
        return 0
    failed = False
    for name, (shape, least) in CASES.items():
        operations, kernels = calls(backend, shape)
        for (direction, kernel), bound in zip(kernels.items(), least, strict=True):
            with backend.computing():
                for _ in range(ATTEMPTS):
                    share = share_of_sgemm(operations, kernel)
                    if share >= bound:
                        break
            verdict = "" if share >= bound else "  TOO SLOW"
            failed |= share < bound
            print(f"{name:<14} {direction:<12} {share:.2f} of sgemm, at least {bound}{verdict}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
