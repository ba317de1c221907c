"""A function of your own, with its own gradient, checked and used in training.

    python examples/05_custom_function.py

The engine differentiates what is written with its operators. A `Function` is for the rest: for a
formula with a better gradient than the operators' (more accurate, faster, less memory), or for a
kernel of your own. The next step, 06_custom_cuda_kernel.py, is such a kernel.

The function here is log(cosh(x)): nearly x^2 / 2 for small x and |x| - log 2 for large x, so as a
loss it is not dominated by outliers. Written with operators it overflows in float32 from 89 on.
"""

import numpy as np

import tinygrad_mask as tg
from tinygrad_mask import Function, Tensor, nn, optim
from tinygrad_mask.testing import GradientError, check_gradients


class LogCosh(Function):
    """log(cosh(x)), element by element; its derivative is tanh(x)."""

    elementwise = True

    @staticmethod
    def forward(ctx, x):
        """Compute the result from arrays (NumPy's, or CuPy's on a GPU: ctx.xp is the module)."""
        ctx.save_for_backward(x)
        size = abs(x)
        return size + ctx.xp.log1p(ctx.xp.exp(-2 * size)) - np.log(2).astype(x.dtype)

    @staticmethod
    def backward(ctx, grad_output):
        """Return the gradient of x from that of the result: one factor of the chain rule."""
        (x,) = ctx.saved_arrays
        return grad_output * ctx.xp.tanh(x)


def log_cosh(x: Tensor) -> Tensor:
    """Return log(cosh(x)), of the shape of x."""
    return LogCosh.apply(x)


print("1. It works where the operators overflow.")
large = Tensor([1.0, 10.0, 100.0])
with np.errstate(over="ignore"):
    print("by operators:", (((large.exp() + (-large).exp()) / 2).log()).numpy())
print("log_cosh:    ", log_cosh(large).numpy(), end="\n\n")

print("2. Its gradient agrees with small steps, in float64, along random directions.")
rng = np.random.default_rng(0)
check_gradients(log_cosh, rng.standard_normal((3, 4)))
print("check_gradients: fine")


class Wrong(LogCosh):
    """The same with a forgotten factor in the gradient."""

    elementwise = True

    @staticmethod
    def backward(ctx, grad_output):
        """Return a wrong gradient."""
        (x,) = ctx.saved_arrays
        return ctx.xp.tanh(x)  # grad_output is missing


def wrong(x: Tensor) -> Tensor:
    """Return the right result, whose gradient is wrong."""
    return Wrong.apply(x)


try:
    check_gradients(wrong, rng.standard_normal((3, 4)))
except GradientError as error:
    print(f"check_gradients: {error}", end="\n\n")

print("3. As a loss it is not dominated by outliers.")
# A line, y = 2 x + 1, with noise; every tenth point is far off.
x = rng.uniform(-1, 1, (200, 1)).astype(np.float32)
y = (2 * x + 1 + 0.1 * rng.standard_normal((200, 1))).astype(np.float32)
y[::10] += 20


def fit(loss) -> None:
    """Fit a line by gradient descent and print it."""
    tg.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.2)
    for _ in range(500):
        optimizer.zero_grad()
        loss(model(Tensor(x)) - y).mean().backward()
        optimizer.step()
    print(f"y = {model.weight.item():.2f} x + {model.bias.item():.2f}  by {loss.__name__}")


def half_square(error: Tensor) -> Tensor:
    """Return the loss of least squares."""
    return error * error / 2


fit(half_square)
fit(log_cosh)
print("y = 2.00 x + 1.00  is the truth")
