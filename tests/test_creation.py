"""Functions that create tensors: values, dtypes, devices, and what is refused."""

import numpy as np
import pytest
from devices import needs_emulator

import tinygrad_mask as tg

F32, F64, I64 = np.dtype("float32"), np.dtype("float64"), np.dtype("int64")


CREATED = [
    (lambda **k: tg.tensor([1.5, 2], **k), [1.5, 2], F32),
    (lambda **k: tg.tensor(3, **k), 3, I64),
    (lambda **k: tg.tensor(np.ones(2), **k), [1, 1], F64),
    (lambda **k: tg.tensor([1, 2], dtype=float, **k), [1, 2], F64),
    (lambda **k: tg.zeros(2, 3, **k), np.zeros((2, 3)), F32),
    (lambda **k: tg.zeros((), **k), 0, F32),
    (lambda **k: tg.ones([2, np.int64(3)], dtype="int64", **k), np.ones((2, 3)), I64),
    (lambda **k: tg.full((2, 1), 7, **k), [[7], [7]], I64),
    (lambda **k: tg.full(2, 0.5, **k), [0.5, 0.5], F32),
    (lambda **k: tg.full(2, True, **k), [True, True], np.dtype(bool)),
    (lambda **k: tg.full(2, 1, dtype=np.uint8, **k), [1, 1], np.dtype("uint8")),
    (lambda **k: tg.arange(3, **k), [0, 1, 2], I64),
    (lambda **k: tg.arange(3, -3, -2, **k), [3, 1, -1], I64),
    (lambda **k: tg.arange(2, 2, **k), [], I64),
    (lambda **k: tg.arange(3, dtype=np.float64, **k), [0, 1, 2], F64),
    (lambda **k: tg.eye(2, 3, **k), [[1, 0, 0], [0, 1, 0]], F32),
    (lambda **k: tg.eye(2, dtype=int, **k), [[1, 0], [0, 1]], I64),
]


def check(made, values, dtype, device):
    tensor = made(device=device)
    assert (tensor.dtype, tensor.device) == (dtype, device)
    np.testing.assert_array_equal(tensor.numpy(), np.array(values, dtype))


@pytest.mark.parametrize(("made", "values", "dtype"), CREATED)
def test_values_and_dtype(made, values, dtype):
    check(made, values, dtype, "cpu")


@needs_emulator
def test_values_and_dtype_on_another_device():
    for made, values, dtype in CREATED:
        check(made, values, dtype, "emulator")
    same = [tg.randn(3, rng=np.random.default_rng(0), device=d) for d in ("cpu", "emulator")]
    np.testing.assert_array_equal(same[0].numpy(), same[1].numpy())
    assert tg.ones_like(same[1]).device == "emulator"


def test_arange_of_floats_is_computed_in_double_precision():
    step = np.float32(0.1)
    expected = (np.arange(10) * float(step)).astype(np.float32)
    for tensor in (tg.arange(np.float32(0), np.float32(1), step), tg.arange(0, 1, float(step))):
        assert tensor.dtype == F32
        np.testing.assert_array_equal(tensor.numpy(), expected)


@pytest.mark.parametrize("create", [tg.zeros, tg.ones, tg.randn, tg.rand])
def test_gradients_flow_to_what_was_created(create):
    x = create(3, requires_grad=True)
    (x * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy())


def test_like_takes_shape_dtype_and_device_of_its_input():
    for like, value in ((tg.zeros_like, 0), (tg.ones_like, 1)):
        x = tg.tensor([[2, 3]], dtype="int32")
        assert like(x).dtype == np.int32
        np.testing.assert_array_equal(like(x).numpy(), np.full((1, 2), value))
        assert like(x, dtype=np.float32, requires_grad=True).requires_grad
        assert like(np.zeros(3)).dtype == F64
        assert not like(tg.zeros(2, requires_grad=True)).requires_grad


def test_random_numbers_follow_the_default_generator_or_their_own():
    for create in (tg.randn, tg.rand):
        tg.manual_seed(3)
        first = create(2, 3)
        tg.manual_seed(3)
        np.testing.assert_array_equal(create((2, 3)).numpy(), first.numpy())
        own = create(2, 3, rng=np.random.default_rng(3), dtype=np.float64)
        again = create(2, 3, rng=np.random.default_rng(3), dtype=float)
        assert own.dtype == F64
        np.testing.assert_array_equal(own.numpy(), again.numpy())


def test_moments_of_random_numbers():
    rng = np.random.default_rng(0)
    normal, uniform = tg.randn(100_000, rng=rng).numpy(), tg.rand(100_000, rng=rng).numpy()
    # Six standard errors of each estimate.
    assert abs(normal.mean()) < 6 / 100_000**0.5
    assert abs(normal.var() - 1) < 6 * (2 / 100_000) ** 0.5
    assert abs(uniform.mean() - 0.5) < 6 * (1 / 12 / 100_000) ** 0.5
    assert uniform.min() >= 0
    assert uniform.max() < 1


def test_from_numpy_shares_memory():
    array = np.zeros(3)
    tensor = tg.from_numpy(array)
    array[0], tensor[1] = 1, 2
    np.testing.assert_array_equal(tensor.numpy(), [1, 2, 0])
    np.testing.assert_array_equal(array, [1, 2, 0])
    assert tensor.dtype == F64


def test_tensor_copies():
    array = np.zeros(3)
    tensor = tg.tensor(array)
    array[0] = 1
    np.testing.assert_array_equal(tensor.numpy(), [0, 0, 0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tg.zeros(), TypeError, "zeros: expected the size .* got nothing"),
        (lambda: tg.zeros((2, 3), np.float32), TypeError, "zeros: .*dtype= by its name"),
        (lambda: tg.ones(2.0), TypeError, "ones: expected the size as integers .* got 2.0"),
        (lambda: tg.ones(True), TypeError, "ones: expected the size as integers .* got True"),
        (lambda: tg.zeros("ab"), TypeError, "zeros: expected the size as integers .* got 'ab'"),
        (lambda: tg.randn([[2]]), TypeError, "randn: expected the size as integers"),
        (lambda: tg.rand(2, -1), ValueError, r"rand: expected lengths >= 0, got \(2, -1\)"),
        (lambda: tg.eye(2.0), TypeError, "eye: expected the size as integers"),
        (lambda: tg.full(2, [1, 2]), TypeError, "full: expected fill_value to be a number"),
        (lambda: tg.full(2, 0.5, dtype=int), ValueError, "expected integers .* got 0.5"),
        (lambda: tg.arange("3"), TypeError, "arange: expected end to be a number, got '3'"),
        (lambda: tg.arange(True), TypeError, "arange: expected end to be a number, got True"),
        (lambda: tg.arange(float("inf")), ValueError, "arange: expected end to be finite"),
        (lambda: tg.arange(1, 5, 0), ValueError, "arange: expected a step .* from 1 to 5, got 0"),
        (lambda: tg.arange(1, 5, -1), ValueError, "arange: expected a step .* got -1"),
        (lambda: tg.randn(2, dtype=int), TypeError, "randn: expected dtype float32 or float64"),
        (lambda: tg.rand(2, rng=0), TypeError, "rand: .*np.random.default_rng"),
        (lambda: tg.zeros(2, dtype=np.float16), TypeError, "expected a dtype .* got float16"),
        (lambda: tg.zeros(2, dtype=int, requires_grad=True), TypeError, "a floating dtype"),
        (lambda: tg.zeros_like([1]), TypeError, "zeros_like: expected a tensor .* got list"),
        (lambda: tg.from_numpy([1]), TypeError, "from_numpy: .* got list; use tensor"),
        (lambda: tg.from_numpy(np.zeros(1, np.float16)), TypeError, "dtype .* got float16"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
