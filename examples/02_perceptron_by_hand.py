"""The chain rule by hand, next to what the engine computes, for a perceptron.

    python examples/02_perceptron_by_hand.py

The perceptron is that of the slides of a course project on face masks (Park, Zhang, Zhang, Zhu;
Emory University, 2022), which this repository began with. For an input x and its one-hot label y:

    z = W1 x,   h = sigmoid(z),   y_hat = W2 h
    J = 1/2 ||y_hat - y||^2 + lambda/2 (||W1||_F^2 + ||W2||_F^2)

The gradients follow backwards, each from the one after it. Here * multiplies element by element:

    x --- W1 ---> z --- sigmoid ---> h --- W2 ---> y_hat ---> J        forwards
     <----------- dJ/dz <---------- dJ/dh <------ dJ/dy_hat <--        backwards

    dJ/dy_hat = y_hat - y
    dJ/dW2 = dJ/dy_hat h^T + lambda W2
    dJ/dh  = W2^T dJ/dy_hat
    dJ/dz  = dJ/dh * sigmoid(z) (1 - sigmoid(z))
    dJ/dW1 = dJ/dz x^T + lambda W1

The next step is 03_mlp_digits.py.
"""

import numpy as np

from tinygrad_mask import Tensor, optim

rng = np.random.default_rng(0)
x = rng.standard_normal((4, 1))  # four inputs
y = np.array([[0.0], [1.0], [0.0]])  # the second of three classes
w1 = rng.standard_normal((5, 4))  # five hidden units
w2 = rng.standard_normal((3, 5))
decay = 0.1  # lambda


# --- one example ----------------------------------------------------------------------------------


def gradients_by_hand(x, y, w1, w2):
    """Return dJ/dy_hat, dJ/dW2 and dJ/dW1: each line is one application of the chain rule."""
    z = w1 @ x
    h = 1 / (1 + np.exp(-z))
    y_hat = w2 @ h
    grad_y_hat = y_hat - y
    grad_w2 = grad_y_hat @ h.T + decay * w2
    grad_h = w2.T @ grad_y_hat
    grad_z = grad_h * h * (1 - h)
    grad_w1 = grad_z @ x.T + decay * w1
    return grad_y_hat, grad_w2, grad_w1


# By the engine: write J down and call backward().
W1, W2 = Tensor(w1, requires_grad=True), Tensor(w2, requires_grad=True)
Y_hat = (W2 @ (W1 @ Tensor(x)).sigmoid()).retain_grad()
J = ((Y_hat - y) ** 2).sum() / 2 + (decay / 2) * ((W1 * W1).sum() + (W2 * W2).sum())
J.backward()

np.set_printoptions(precision=6, suppress=True)
names = (
    "dJ/dy_hat = y_hat - y",
    "dJ/dW2 = dJ/dy_hat h^T + lambda W2",
    "dJ/dW1 = dJ/dz x^T + lambda W1",
)
by_engine = [tensor.grad.numpy() for tensor in (Y_hat, W2, W1)]
for name, hand, engine in zip(names, gradients_by_hand(x, y, w1, w2), by_engine, strict=True):
    print(name)
    for left, right in zip(hand, engine, strict=True):
        print(f"  by hand {left}   by the engine {right}")
    print(f"  largest difference: {abs(hand - engine).max():.1e}\n")

# --- mini-batch gradient descent ------------------------------------------------------------------

# 60 points around three centres. J is now the mean over a mini-batch, and each step is
# W <- W - eta dJ/dW.
labels = rng.integers(0, 3, 60)
centres = rng.standard_normal((3, 4))
points = centres[labels] + 0.3 * rng.standard_normal((60, 4))
one_hot = np.eye(3)[labels]
eta = 0.5
decay = 1e-3

optimizer = optim.SGD([W1, W2], lr=eta)
for epoch in range(1, 21):
    order = rng.permutation(60)  # each epoch goes through the points in another order
    total = 0.0
    for batch in np.split(order, 6):
        # By hand: the mean of the gradients of the batch's examples.
        parts = [gradients_by_hand(points[i, :, None], one_hot[i, :, None], w1, w2) for i in batch]
        w2 = w2 - eta * np.mean([part[1] for part in parts], axis=0)
        w1 = w1 - eta * np.mean([part[2] for part in parts], axis=0)

        # By the engine: the columns of the matrices are the examples.
        Y_hat = W2 @ (W1 @ Tensor(points[batch].T)).sigmoid()
        J = ((Y_hat - one_hot[batch].T) ** 2).sum() / (2 * len(batch))
        J = J + (decay / 2) * ((W1 * W1).sum() + (W2 * W2).sum())
        optimizer.zero_grad()
        J.backward()
        optimizer.step()
        total += J.item() / 6
    if epoch in (1, 5, 10, 20):
        answers = (W2 @ (W1 @ Tensor(points.T)).sigmoid()).numpy().argmax(axis=0)
        print(f"epoch {epoch:2}: J = {total:.4f}, {(answers == labels).mean():.0%} right")
print(f"weights by hand and by the engine, largest difference: {abs(w1 - W1.numpy()).max():.1e}")
