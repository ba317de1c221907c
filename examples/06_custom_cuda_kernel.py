"""A CUDA kernel of your own, run and checked without a GPU, and used in a function.

    pip install -e '.[emulator]'      # NVIDIA's compiler; it needs neither a GPU nor a driver
    python examples/06_custom_cuda_kernel.py

The kernel adds up log(cosh(x)), the loss of 05_custom_function.py, along each row of a matrix: one
block of threads per row. Each thread adds up every 128th element; then the threads add up their
sums in pairs, through shared memory, with a barrier after each round.

What runs here is what NVIDIA's compiler makes of the source for a GPU (PTX), translated to C++ and
executed on the host.
"""

import sys

import numpy as np

from tinygrad_mask import Function, Tensor
from tinygrad_mask.emulator import EmulatorError, KernelError, Program, empty

SOURCE = r"""
extern "C" __global__ void log_cosh_rows(const float* x, float* sums, int columns)
{
    __shared__ float partial[128];
    const float* row = x + (long long)blockIdx.x * columns;
    float sum = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        const float size = fabsf(row[i]);
        sum += size + log1pf(expf(-2 * size)) - logf(2);
    }
    partial[threadIdx.x] = sum;
    __syncthreads();  // all sums are written before any thread reads another's
    for (int half = 64; half > 0; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();  // and again before the next round
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}
"""


def launch(source: str, x: np.ndarray, mode: str = "fast", order: str = "forward") -> np.ndarray:
    """Run the kernel over the rows of x, one block of 128 threads each, and return their sums."""
    sums = empty(len(x), np.float32)  # as on a GPU, it holds nothing yet
    kernel = Program(source, name="log_cosh.cu").function("log_cosh_rows")
    kernel.launch(len(x), 128, [x, sums, np.int32(x.shape[1])], mode=mode, order=order)
    return sums


def check(source: str, x: np.ndarray) -> str:
    """Run the kernel with every access checked, threads in two orders; say what is wrong."""
    try:
        for order in ("reverse", "forward"):
            launch(source, x, "check", order)
    except KernelError as error:
        return str(error)
    return "nothing is wrong"


rng = np.random.default_rng(0)
x = rng.standard_normal((3, 1000), dtype=np.float32)
wanted = np.log(np.cosh(x.astype(np.float64))).sum(axis=1)

print("1. The kernel computes what NumPy computes in float64.")
try:
    print("kernel:", launch(SOURCE, x))
except EmulatorError as error:
    sys.exit(str(error))
print("NumPy: ", wanted, end="\n\n")

print("2. Every access is checked: bounds, alignment, initialisation, races, barriers.")
print(check(SOURCE, x), end="\n\n")

print("3. Without the first barrier the result is still right, if threads run in reverse order ...")
no_barrier = SOURCE.replace("__syncthreads();  // all", "// all")
print("kernel:", launch(no_barrier, x, order="reverse"))
print("... but nothing orders the threads, and the checker says so:")
print(check(no_barrier, x), end="\n\n")

print("4. One element too many is the first of the next row; after the last row there is none.")
too_many = SOURCE.replace("i < columns", "i <= columns")
print(check(too_many, x), end="\n\n")


class LogCoshRows(Function):
    """The sums of log(cosh(x)) along rows, computed by the kernel; the derivative is tanh(x)."""

    @staticmethod
    def forward(ctx, x):
        """Run the kernel."""
        ctx.save_for_backward(x)
        return launch(SOURCE, x)

    @staticmethod
    def backward(ctx, grad_output):
        """Return the gradient of x: one factor of the chain rule, the same along each row."""
        (x,) = ctx.saved_arrays
        return grad_output[:, None] * np.tanh(x)


print("5. In a function it is differentiated like any other.")
weights = Tensor(x, requires_grad=True)
LogCoshRows.apply(weights).sum().backward()
print("largest difference from tanh(x):", np.abs(weights.grad.numpy() - np.tanh(x)).max())
