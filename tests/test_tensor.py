"""Tensor: making one, taking values out, operators."""

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float32),
        ([1.0, 2.0], np.float32),
        ([1, 2], np.int64),
        ([True], bool),
        (np.ones(2), np.float64),
        (np.float64(1), np.float64),
        (np.ones(2, np.float32), np.float32),
        (np.zeros(2, np.uint8), np.uint8),
    ],
)
def test_dtype_of_what_it_is_made_of(data, dtype):
    assert Tensor(data).dtype == dtype


def test_copies_what_it_is_made_of():
    array = np.ones(2)
    tensor = Tensor(array)
    array[0] = 5
    assert tensor.numpy()[0] == 1
    assert Tensor.from_array(array).numpy()[0] == 5


def test_numpy_is_a_read_only_view():
    tensor = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        tensor.numpy()[0] = 3
    assert np.shares_memory(tensor.numpy(), tensor.data)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Tensor("text"), TypeError, "expected a dtype"),
        (lambda: Tensor([1, 2], requires_grad=True), TypeError, "floating dtype, got int64"),
        (
            lambda: Tensor(1.0, device="tpu"),
            ValueError,
            "expected 'auto', 'cpu', 'cuda' or 'emulator'",
        ),
        (lambda: Tensor(1.0, device="cuda"), ValueError, "not available"),
        (lambda: Tensor([1.0, 2.0]).item(), ValueError, r"got shape \(2,\)"),
        (lambda: len(Tensor(1.0)), TypeError, "no length"),
        (lambda: Tensor([1]) + 1.5, TypeError, "a float does not fit"),
        (lambda: Tensor([1]) / 2, TypeError, "floating dtype"),
        (lambda: Tensor([1.0]).copy_(np.ones(2)), ValueError, "copy_: expected shape"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_operators_are_numpys():
    a, b = np.array([[1.0, -2.0], [3.0, 4.0]]), np.array([0.5, 2.0])
    x, y = Tensor(a), Tensor(b)
    pairs = [
        (x + y, a + b), (1 + x, 1 + a), (x - y, a - b), (1 - x, 1 - a), (x * y, a * b),
        (2 * x, 2 * a), (x / y, a / b), (1 / x, 1 / a), (x**2, a**2), (2**x, 2**a),
        (x @ y, a @ b), (x @ b, a @ b), (b @ x, b @ a),
        (-x, -a), (abs(x), abs(a)), (x[1], a[1]), (x.T, a.T),
        (x == y, a == b), (x != y, a != b), (x < y, a < b), (x <= y, a <= b), (x > 0, a > 0),
        (x >= y, a >= b), (b + x, b + a), (x.argmax(axis=1), a.argmax(axis=1)),
        (x.reshape(4), a.reshape(4)), (x.reshape((1, 4)), a.reshape(1, 4)),
        (x.permute(1, 0), a.T), (x.broadcast_to(3, 2, 2), np.broadcast_to(a, (3, 2, 2))),
        (x.var(axis=0), a.var(axis=0)), (x.max(), a.max()), (x.mean(), a.mean()),
        (x.clip(0, 3), a.clip(0, 3)), (y.log(), np.log(b)), (y.sqrt(), np.sqrt(b)),
    ]  # fmt: skip
    for result, expected in pairs:
        assert isinstance(result, Tensor)
        np.testing.assert_allclose(result.numpy(), expected)


def test_nan_propagates():
    nan = Tensor(np.array([np.nan, 1.0]))
    for function in (F.relu, F.sigmoid, F.tanh, F.silu, F.abs, F.max, F.sum, F.logsumexp):
        assert np.isnan(function(nan).numpy()).any()
    for function in (F.maximum, F.minimum):
        assert np.isnan(function(nan, 0.0).numpy()).tolist() == [True, False]
        assert np.isnan(function(Tensor(np.zeros(2)), nan).numpy()).tolist() == [True, False]
    image = Tensor(np.array([np.nan, 1.0, 2.0, 3.0]).reshape(1, 2, 2, 1), requires_grad=True)
    pooled = F.max_pool2d(image, 2)
    assert np.isnan(pooled.item())
    pooled.sum().backward()
    np.testing.assert_array_equal(image.grad.numpy().ravel(), [1, 0, 0, 0])


def test_ties_give_the_first_the_whole_gradient():
    ones = Tensor(np.ones((1, 4, 4, 1)), requires_grad=True)
    F.max_pool2d(ones, 2).sum().backward()
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(ones.grad.numpy()[0, :, :, 0], expected)
    row = Tensor(np.ones((2, 3)), requires_grad=True)
    row.max(axis=1).sum().backward()
    np.testing.assert_array_equal(row.grad.numpy(), [[1, 0, 0], [1, 0, 0]])
    x, y = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    (F.maximum(x, y) + F.minimum(x, y)).sum().backward()
    assert x.grad.numpy().tolist() == [2, 2]
    assert y.grad.numpy().tolist() == [0, 0]


@pytest.mark.parametrize("value", [1e4, -1e4, 800.0, -800.0])
def test_nothing_overflows(value):
    x = Tensor(np.array([[value, 0.0, -value]]), requires_grad=True)
    total = (
        F.sigmoid(x).sum() + F.softmax(x).sum() + F.log_softmax(x).max() + F.silu(x).max() * 0.0
        + F.cross_entropy(x, np.array([1])) + F.logsumexp(x)
        + F.binary_cross_entropy_with_logits(x, np.array([[0.0, 1.0, 1.0]]))
    )  # fmt: skip
    total.backward()
    assert np.isfinite(total.item())
    assert np.isfinite(x.grad.numpy()).all()


def test_representation():
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "Tensor([1., 2.], dtype=float32, requires_grad=True)"
    assert repr(x * 2) == "Tensor([2., 4.], dtype=float32, made by multiply)"
