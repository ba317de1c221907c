"""The chain rule by hand, beside what the engine computes.

The perceptron of the slides, for one face x and its one-hot label y:

    z = W1 x,   h = sigmoid(z),   y_hat = W2 h,
    J = 1/2 ||y_hat - y||^2 + lambda/2 (||W1||_F^2 + ||W2||_F^2)
"""

import numpy as np

from tinygrad_mask import Tensor

rng = np.random.default_rng(0)
x = rng.standard_normal((4, 1))  # four inputs
y = np.array([[0.0], [1.0], [0.0]])  # the second of three classes
w1 = rng.standard_normal((5, 4))  # five hidden units
w2 = rng.standard_normal((3, 5))
decay = 0.1  # lambda


# By hand: each line is one application of the chain rule, from the loss back to the weights.
z = w1 @ x
h = 1 / (1 + np.exp(-z))
y_hat = w2 @ h
grad_y_hat = y_hat - y
grad_w2 = grad_y_hat @ h.T + decay * w2
grad_w1 = (w2.T @ grad_y_hat * h * (1 - h)) @ x.T + decay * w1

# By the engine: write down J, and ask.
W1, W2 = Tensor(w1, requires_grad=True), Tensor(w2, requires_grad=True)
Y_hat = (W2 @ (W1 @ Tensor(x)).sigmoid()).retain_grad()
J = ((Y_hat - y) ** 2).sum() / 2 + (decay / 2) * ((W1 * W1).sum() + (W2 * W2).sum())
J.backward()

np.set_printoptions(precision=6, suppress=True)
for name, formula, by_hand, by_engine in (
    ("dJ/dy_hat", "y_hat - y", grad_y_hat, Y_hat.grad),
    ("dJ/dW2", "(y_hat - y) h^T + lambda W2", grad_w2, W2.grad),
    (
        "dJ/dW1",
        "(W2^T (y_hat - y) * sigmoid(z) (1 - sigmoid(z))) x^T + lambda W1",
        grad_w1,
        W1.grad,
    ),
):
    print(f"{name} = {formula}")
    for left, right in zip(by_hand, by_engine.numpy(), strict=True):
        print(f"  by hand {left}   by the engine {right}")
    print(f"  largest difference: {abs(by_hand - by_engine.numpy()).max():.1e}\n")
