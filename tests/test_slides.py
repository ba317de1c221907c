"""The equations of the slides, by hand in NumPy, against what the engine computes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn
from tinygrad_mask.masks.classifier.training.recipes import slides_objective
from tinygrad_mask.optim import SGD


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@st.composite
def perceptrons(draw):
    """W1, W2, a batch x (N, inputs), one-hot y (N, outputs), lambda."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, inputs, hidden, outputs = (draw(st.integers(1, 6)) for _ in range(4))
    decay = draw(st.sampled_from([0.0, 1e-3, 0.7]))
    w1, w2 = rng.standard_normal((hidden, inputs)), rng.standard_normal((outputs, hidden))
    x, y = rng.standard_normal((n, inputs)), np.eye(outputs)[rng.integers(outputs, size=n)]
    return w1, w2, x, y, decay


def closed_form(w1, w2, x, y, decay):
    """J, dJ/dW1, dJ/dW2, one column vector at a time, as the slides write them."""
    objective = decay / 2 * ((w1**2).sum() + (w2**2).sum())
    grad_w1, grad_w2 = decay * w1, decay * w2
    n = len(x)
    for row, wanted in zip(x, y, strict=True):
        x_i, y_i = row[:, None], wanted[:, None]
        z = w1 @ x_i
        h = sigmoid(z)
        y_hat = w2 @ h
        objective += 0.5 * float(((y_hat - y_i) ** 2).sum()) / n
        grad_w2 = grad_w2 + (y_hat - y_i) @ h.T / n
        grad_w1 = grad_w1 + ((w2.T @ (y_hat - y_i)) * h * (1 - h)) @ x_i.T / n
    return objective, grad_w1, grad_w2


def model_of(w1, w2):
    """The same network, whose layers hold the transposed matrices, in float64."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Linear(w1.shape[1], w1.shape[0], bias=False, rng=rng),
        nn.Sigmoid(),
        nn.Linear(w2.shape[1], w2.shape[0], bias=False, rng=rng),
    )
    model[0].weight = nn.Parameter(w1.T)
    model[2].weight = nn.Parameter(w2.T)
    return model


@given(perceptrons())
def test_chain_rule(problem):
    w1, w2, x, y, decay = problem
    objective, grad_w1, grad_w2 = closed_form(*problem)
    a, b = Tensor(w1, requires_grad=True), Tensor(w2, requires_grad=True)
    y_hat = F.matmul(F.sigmoid(Tensor(x) @ a.T), b.T).retain_grad()
    loss = F.squared_error(y_hat, Tensor(y))
    total = loss + (decay / 2) * ((a * a).sum() + (b * b).sum())
    total.backward()
    np.testing.assert_allclose(total.item(), objective, rtol=1e-10)
    np.testing.assert_allclose(y_hat.grad.numpy(), (y_hat.numpy() - y) / len(x), atol=1e-10)
    np.testing.assert_allclose(b.grad.numpy(), grad_w2, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(a.grad.numpy(), grad_w1, rtol=1e-10, atol=1e-10)


@given(perceptrons())
def test_objective_of_the_model(problem):
    w1, w2, x, y, decay = problem
    objective, grad_w1, grad_w2 = closed_form(*problem)
    model = model_of(w1, w2)
    result = slides_objective(model, model(Tensor(x)), Tensor(y), decay)
    result.backward()
    np.testing.assert_allclose(result.item(), objective, rtol=1e-10)
    np.testing.assert_allclose(model[0].weight.grad.numpy().T, grad_w1, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(model[2].weight.grad.numpy().T, grad_w2, rtol=1e-10, atol=1e-10)


@given(perceptrons(), st.integers(1, 4), st.integers(0, 99))
def test_one_epoch_of_mini_batch_gradient_descent(problem, batches, seed):
    w1, w2, x, y, decay = problem
    eta = 0.1
    parts = np.array_split(np.random.default_rng(seed).permutation(len(x)), min(batches, len(x)))

    model = model_of(w1, w2)
    optimizer = SGD(model.parameters(), lr=eta)
    for part in parts:
        optimizer.zero_grad()
        slides_objective(model, model(Tensor(x[part])), Tensor(y[part]), decay).backward()
        optimizer.step()

    for part in parts:
        _, grad_w1, grad_w2 = closed_form(w1, w2, x[part], y[part], decay)
        w1, w2 = w1 - eta * grad_w1, w2 - eta * grad_w2
    np.testing.assert_allclose(model[0].weight.numpy().T, w1, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(model[2].weight.numpy().T, w2, rtol=1e-10, atol=1e-10)
