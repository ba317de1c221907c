"""Tensor: making one, taking values out, operators."""

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, no_grad


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


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize(
    "make",
    [
        Tensor,
        Tensor.from_array,
        lambda array: Tensor(np.zeros((2, 2))).copy_(array),
        lambda array: Tensor(np.zeros((2, 2))) + array,
        lambda array: Tensor(np.eye(2)) @ array,
        lambda array: Tensor(np.eye(2)).__matmul__(array),
    ],
)
def test_a_matrix_becomes_a_plain_array(make):
    tensor = make(np.matrix([[1.0, 2.0], [3.0, 4.0]]))
    assert type(tensor.data) is np.ndarray
    np.testing.assert_array_equal((tensor * tensor).numpy(), [[1, 4], [9, 16]])


def test_from_array_shares_the_memory_of_a_subclass(tmp_path):
    file = np.memmap(tmp_path / "numbers", np.float32, "w+", shape=(2,))
    tensor = Tensor.from_array(file)
    assert type(tensor.data) is np.ndarray
    file[:] = [1, 2]
    assert tensor.numpy().tolist() == [1, 2]


MASKED = np.ma.masked_array([1.0, 2.0], [False, True])


@pytest.mark.parametrize(
    "use",
    [
        lambda: Tensor(MASKED),
        lambda: Tensor.from_array(MASKED),
        lambda: Tensor(np.zeros(2)).copy_(MASKED),
        lambda: Tensor(np.zeros(2)).__setitem__(slice(None), MASKED),
        lambda: Tensor(np.zeros(2)) * MASKED,
        lambda: Tensor(np.zeros(2)) == MASKED,
        lambda: F.squared_error(Tensor(np.zeros(2)), MASKED),
        lambda: F.matmul(Tensor(np.zeros((2, 2))), MASKED),
        lambda: F.where(np.ma.masked_array([True, False], [True, False]), Tensor([1.0, 2.0]), 0.0),
        lambda: Tensor(np.zeros(2))[np.ma.masked_array([0, 1], [True, False])],
        lambda: Tensor(np.zeros(2), requires_grad=True).backward(MASKED),
    ],
)
def test_masked_arrays_are_refused(use):
    with pytest.raises(TypeError, match="expected an array without a mask, got a masked array"):
        use()


@pytest.mark.parametrize(
    ("data", "dtype", "expected"),
    [
        ([0, 255], np.uint8, [0, 255]),
        ([1.0, -2.0], np.int32, [1, -2]),
        (np.array([2**63 - 1], np.uint64), np.int64, [2**63 - 1]),
        ([], np.uint8, []),
        ([0.0, 2.5], bool, [False, True]),
        ([0.1], np.float32, [float(np.float32(0.1))]),
    ],
)
def test_numbers_that_fit_are_converted_to_the_dtype(data, dtype, expected):
    tensor = Tensor(data, dtype=dtype)
    assert tensor.dtype == dtype
    assert tensor.numpy().tolist() == expected


def test_a_copy_never_ends_a_graph_silently():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    for data in (y, [y, y], (x, y)):
        with pytest.raises(RuntimeError, match=r"Tensor: expected data, got a result made by mult"):
            Tensor(data)
    with pytest.raises(RuntimeError, match=r"add: expected data, got a result made by getitem"):
        F.add(x, [y[0], y[1]])
    assert Tensor(y.detach()).numpy().tolist() == [2, 4]
    assert Tensor([x, x]).shape == (2, 2)  # a copy of a leaf is what one asks for
    with no_grad():
        assert not Tensor(y).requires_grad


def test_iterates_over_the_first_axis():
    rows = list(Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True))
    assert [row.numpy().tolist() for row in rows] == [[1, 2], [3, 4]]
    assert all(row.requires_grad for row in rows)
    assert list(Tensor(np.zeros((0, 2)))) == []


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
        (
            lambda: Tensor([1, 300], dtype=np.uint8),
            ValueError,
            r"integers from 0 to 255 for dtype uint8, got 300; convert with astype\(\)",
        ),
        (lambda: Tensor([-1], dtype=np.uint8), ValueError, "got -1"),
        (lambda: Tensor(2**31, dtype=np.int32), ValueError, "got 2147483648"),
        (lambda: Tensor([1.0, 2.5], dtype=np.int64), ValueError, "got 2.5"),
        (lambda: Tensor([2.0**63], dtype=np.int64), ValueError, "got 9.2"),
        (lambda: Tensor([np.nan], dtype=np.int64), ValueError, "got nan"),
        (lambda: Tensor(np.array([2**63], np.uint64), dtype=np.int64), ValueError, "got 9223372"),
        (lambda: Tensor([2**64], dtype=np.int64), TypeError, "expected numbers, got object"),
        (lambda: Tensor([1j], dtype=np.float32), TypeError, "expected numbers, got complex128"),
        (lambda: Tensor.from_array(np.zeros(2, np.float16)), TypeError, "dtype of .*, got float16"),
        (lambda: list(Tensor(1.0)), TypeError, r"shape \(\) cannot be iterated over; see item"),
        (lambda: iter(Tensor(1.0)), TypeError, "cannot be iterated over"),
        (lambda: Tensor([1.0]) < "a", TypeError, "not supported|did not contain a loop"),
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


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
@pytest.mark.parametrize("axis", [None, 0, (0, 1)])
def test_the_sum_of_integers_is_int64_as_in_pytorch(dtype, axis):
    array = np.full((300, 2), 1 if dtype == "bool" else 100, dtype)
    total = Tensor(array).sum(axis=axis)
    assert total.dtype == np.int64
    np.testing.assert_array_equal(total.numpy(), array.astype(np.int64).sum(axis=axis))
    assert Tensor(total.numpy()).dtype == np.int64


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
