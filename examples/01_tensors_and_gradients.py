"""Tensors and gradients: what the engine records, and how it differentiates.

    python examples/01_tensors_and_gradients.py

Run it, then read it from top to bottom; each section prints what its comments say. The next step is
02_perceptron_by_hand.py.
"""

import numpy as np

import tinygrad_mask as tg
from tinygrad_mask import Tensor

print("1. A tensor is an array.")
a = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
print(a)
print(f"shape {a.shape}, dtype {a.dtype}, device {a.device!r}")
# Operators work as in NumPy, broadcasting included; numpy() gives the array back.
print((a * 2 + Tensor([10.0, 20.0, 30.0])).numpy(), end="\n\n")

print("2. The engine records operations on tensors that require a gradient.")
x = Tensor(3.0, requires_grad=True)
y = x * x + 2 * x
print(y)  # "made by add": the last operation recorded
# Each result knows the operation that made it, and the operation knows its inputs: a graph that
# leads from y back to x.
#
#       x ---+-- multiply --+
#            |              +-- add --> y
#            +-- times 2 ---+
#
# backward() walks it from the end to the beginning and applies the chain rule at each operation.
# The results of several paths to one tensor add up, here x (twice) and 2.
y.backward()
print(f"dy/dx = 2 x + 2 = {x.grad.item()} at x = 3", end="\n\n")

print("3. Gradients have the shape of their tensor, whatever was broadcast.")
weight = Tensor(np.ones((3, 2), np.float32), requires_grad=True)
bias = Tensor([0.5, -0.5], requires_grad=True)
result = (a @ weight + bias).tanh().sum()
result.backward()
print(f"weight {weight.shape}: gradient {weight.grad.shape}")
print(f"bias   {bias.shape}:   gradient {bias.grad.shape}, summed over the rows it was added to")
# grad adds up over several backward passes; set it to None (an optimiser's zero_grad() does) before
# the next one.
print()

print("4. A gradient says how the result changes.")


def function(t: Tensor) -> Tensor:
    """Return exp(t sigmoid(t))."""
    return (t.sigmoid() * t).exp()


t = Tensor(0.7, dtype=np.float64, requires_grad=True)
function(t).backward()
step = 1e-5
above, below = (function(Tensor(0.7 + s, dtype=np.float64)).item() for s in (step, -step))
print(f"by the engine:            {t.grad.item():.10f}")
print(f"by a small step each way: {(above - below) / (2 * step):.10f}", end="\n\n")

print("5. Gradient descent follows the gradient downwards.")
# The smallest of (u - 1)^2 + 10 (v + 2)^2 is at u = 1, v = -2.
point = Tensor([0.0, 0.0], requires_grad=True)
scale, target = Tensor([1.0, 10.0]), Tensor([1.0, -2.0])
for k in range(61):
    loss = (scale * (point - target) ** 2).sum()
    point.grad = None
    loss.backward()
    if k % 15 == 0:
        u, v = point.numpy()
        print(f"step {k:2}: loss {loss.item():9.6f} at ({u:.4f}, {v:.4f})")
    with tg.no_grad():  # the step itself is not to be differentiated
        point -= 0.05 * point.grad
