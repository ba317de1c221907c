"""Sums are accurate however long they are: over every axis, in every place where one is taken.

The right values are NumPy's in float64 (or longer). Equal terms are the worst case: the roundings
of a naive sum all go the same way.
"""

import itertools

import numpy as np
import pytest
from devices import each_backend
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask import functions as F
from tinygrad_mask.backends import get_backend
from tinygrad_mask.backends.cpu_kernels import set_num_threads
from tinygrad_mask.backends.interface import Window
from tinygrad_mask.backends.reference import ReferenceBackend

BOUND = 1e-6

FILLS = {
    "equal": lambda rng, shape: np.full(shape, 0.1, np.float32),
    "random": lambda rng, shape: rng.random(shape, dtype=np.float32),
}

reference_too = each_backend(emulator=False)
"""The CPU's kernels; the reference is added where a test names it."""


def assert_close(got, expected, absolute=None, bound=BOUND):
    """Compare with a float64 result, relative to the sum of the absolute terms."""
    absolute = np.abs(expected) if absolute is None else absolute
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    assert (np.abs(got.astype(np.float64) - expected) <= bound * absolute).all(), (
        np.abs(got - expected) / absolute
    ).max()


SHAPES = [
    ((10**6, 8), (0,)),
    ((10**6, 3), (0,)),
    ((300_000,), (0,)),
    ((2, 50_176, 16), (1,)),
    ((40_000, 2, 5), (0, 2)),
    ((3, 60_001, 1), (1,)),
    ((17, 129, 257), (0, 1)),
    ((257, 1031), (1,)),
    ((5000, 1031), (0,)),
    ((224, 224, 3), (0, 1)),
]


@reference_too
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_sums_over_every_axis(backend, shape, axes, fill):
    x = FILLS[fill](np.random.default_rng(0), shape)
    expected = x.sum(axis=axes, dtype=np.float64)
    for chosen in (backend, ReferenceBackend()):
        assert_close(chosen.sum(x, axes), expected)
        kept = chosen.sum(x, axes, keepdims=True)
        assert_close(kept, x.sum(axis=axes, dtype=np.float64, keepdims=True))


@reference_too
@given(data=st.data())
def test_sums_of_any_shape_axes_and_memory_layout(backend, data):
    ndim = data.draw(st.integers(0, 4))
    shape = tuple(data.draw(st.integers(0, 40 if k == 0 else 7)) for k in range(ndim))
    axes = tuple(k for k in range(ndim) if data.draw(st.booleans()))
    keepdims = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    x = rng.standard_normal(shape).astype(dtype)
    layout = data.draw(st.sampled_from(["dense", "permuted", "gaps", "reversed", "broadcast"]))
    if layout == "permuted":
        x = x.transpose(data.draw(st.permutations(range(ndim))))
    elif layout == "gaps" and ndim:
        x = np.repeat(x, 2, axis=-1)[..., ::2]
    elif layout == "reversed" and ndim:
        x = x[::-1]
    elif layout == "broadcast" and ndim and x.size:
        x = np.broadcast_to(x[:1], (data.draw(st.integers(0, 40)), *shape[1:]))
    expected = x.sum(axis=axes, dtype=np.float64, keepdims=keepdims)
    got = np.asarray(backend.sum(x, axes, keepdims))
    assert got.dtype == dtype
    assert got.shape == expected.shape
    bound = BOUND * np.abs(x).sum(axis=axes, dtype=np.float64, keepdims=keepdims) + 1e-30
    assert (np.abs(got - expected) <= bound).all()


@reference_too
def test_sums_keep_infinities_and_nan(backend):
    x = np.ones((1000, 5), np.float32)
    x[3, 0], x[500, 1], x[999, 2], x[7, 3], x[8, 3] = np.inf, -np.inf, np.nan, np.inf, -np.inf
    got = backend.sum(x, (0,))
    assert got[0] == np.inf
    assert got[1] == -np.inf
    assert np.isnan(got[2:4]).all()
    assert got[4] == 1000


@each_backend(instruction_sets=False)
def test_sums_on_every_device(backend):
    x = np.full((3, 20_000, 2), 0.1, np.float32)
    got = backend.to_host(backend.sum(backend.asarray(x), (1,)))
    assert_close(got, x.sum(axis=1, dtype=np.float64))


@reference_too
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    ("rows", "terms", "columns"),
    [(1, 10**5, 40), (7, 10**5, 9), (64, 20_001, 33), (3, 999, 70), (8, 4096, 8)],
)
def test_products_with_long_sums(backend, rows, terms, columns, fill):
    rng = np.random.default_rng(1)
    x, y = FILLS[fill](rng, (rows, terms)), FILLS[fill](rng, (terms, columns))
    expected = x.astype(np.float64) @ y.astype(np.float64)
    bias = np.zeros(columns, np.float32)
    for chosen in (backend, ReferenceBackend()):
        assert_close(chosen.matmul(x, y), expected)
        assert_close(chosen.matmul(np.asfortranarray(x), y), expected)
        assert_close(chosen.matmul(x, np.asfortranarray(y)), expected)
        assert_close(chosen.matmul(x[None], y[None])[0], expected)
        assert_close(chosen.linear(x, y, bias, "none"), expected)


@reference_too
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_products_of_one_row_with_long_sums_and_bias(backend, threads):
    set_num_threads(threads)
    rng = np.random.default_rng(2)
    x, y = rng.random((1, 30_000), np.float32), rng.random((30_000, 21), np.float32)
    bias = rng.random(21, np.float32)
    assert_close(
        backend.linear(x, y, bias, "none"), x.astype(np.float64) @ y.astype(np.float64) + bias
    )


@reference_too
@pytest.mark.parametrize("fill", FILLS)
def test_gradients_of_biases_and_broadcast_operands(backend, fill):
    rng = np.random.default_rng(3)
    grad = FILLS[fill](rng, (200_000, 6))
    expected = grad.sum(axis=0, dtype=np.float64)
    x, weight = np.zeros((200_000, 1), np.float32), np.zeros((1, 6), np.float32)
    _, _, bias = backend.linear_grad(grad, x, weight, "none", None, (False, False, True))
    assert_close(bias, expected)
    shift = Tensor(np.zeros(6, np.float32), device=backend, requires_grad=True)
    (shift + Tensor(np.zeros((200_000, 6), np.float32), device=backend)).backward(grad)
    assert_close(shift.grad.numpy(), expected)


@reference_too
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    ("kernel", "channels", "outputs", "groups"),
    [(1, 20, 20, 1), (3, 20, 20, 1), (3, 16, 16, 16), (3, 20, 2, 1), (5, 3, 8, 1)],
)
def test_gradients_of_convolutions_biases(backend, kernel, channels, outputs, groups, fill):
    grad = FILLS[fill](np.random.default_rng(4), (4, 90, 110, outputs))
    x = np.zeros((4, 90, 110, channels), np.float32)
    side = kernel // 2
    window = Window((kernel, kernel), padding=((side, side), (side, side)))
    shape = (kernel, kernel, channels // groups, outputs)
    _, bias = backend.conv2d_grad_weight(grad, x, shape, window, groups)
    assert_close(bias, grad.sum(axis=(0, 1, 2), dtype=np.float64))


@reference_too
@pytest.mark.parametrize("fill", FILLS)
def test_poolings_of_whole_images(backend, fill):
    x = FILLS[fill](np.random.default_rng(5), (2, 224, 224, 5))
    expected = x.mean(axis=(1, 2), dtype=np.float64)
    assert_close(F.global_avg_pool2d(Tensor(x, device=backend)).numpy(), expected)
    window = Window((224, 224))
    for chosen in (backend, ReferenceBackend()):
        pooled = chosen.avg_pool2d(x, window, True)
        # 224 rows of 224 pixels, each added one after the other: two sums of 224 terms.
        assert_close(pooled[:, 0, 0], expected, bound=5e-6)


@reference_too
@pytest.mark.parametrize("fill", FILLS)
def test_statistics_of_batch_norm(backend, fill):
    x = FILLS[fill](np.random.default_rng(6), (150_000, 5))
    for chosen in (backend, ReferenceBackend()):
        mean, variance = chosen.batch_norm_statistics(x)
        assert_close(mean, x.mean(axis=0, dtype=np.float64))
        exact = x.astype(np.float64)
        if fill == "random":
            assert_close(variance, exact.var(axis=0))
        ones, zeros = np.ones(5, np.float32), np.zeros(5, np.float32)
        _, weight, bias = chosen.batch_norm_grad(x, x, ones, zeros, ones, False)
        assert_close(weight, (exact * exact).sum(axis=0))
        assert_close(bias, exact.sum(axis=0))


@reference_too
@pytest.mark.parametrize("fill", FILLS)
def test_gradients_of_group_norm(backend, fill):
    x = FILLS[fill](np.random.default_rng(7), (5, 40_000, 4))
    exact = x.astype(np.float64)
    mean, scale = np.zeros((5, 2), np.float32), np.ones((5, 2), np.float32)
    for chosen in (backend, ReferenceBackend()):
        _, weight, bias = chosen.group_norm_grad(x, x, None, mean, scale)
        assert_close(bias, exact.sum(axis=(0, 1)))
        assert_close(weight, (exact * exact).sum(axis=(0, 1)))
        _, means, _ = chosen.group_norm(x, None, None, 2, 1e-5)
        assert_close(means, exact.reshape(5, 40_000, 2, 2).mean(axis=(1, 3)))


@pytest.mark.parametrize("axis", [0, 1])
def test_functions_that_sum(axis):
    x = np.full((100_000, 2) if axis == 0 else (2, 100_000), 0.1, np.float32)
    exact = x.astype(np.float64)
    tensor = Tensor(x)
    assert_close(tensor.sum(axis).numpy(), exact.sum(axis))
    assert_close(tensor.mean(axis).numpy(), exact.mean(axis))
    assert_close(F.softmax(tensor, axis).numpy(), np.full(x.shape, 1e-5), bound=2e-6)
    log_sum = np.full(2, 0.1 + np.log(1e5))
    assert_close(F.logsumexp(tensor, axis).numpy(), log_sum)
    noisy = np.random.default_rng(8).random(x.shape, np.float32)
    exact_variance = noisy.astype(np.float64).var(axis, ddof=1)
    assert_close(F.var(Tensor(noisy), axis, correction=1).numpy(), exact_variance)


def test_the_norm_of_clipped_gradients():
    parameter = nn.Parameter(np.zeros((10**6, 1), np.float32))
    parameter.grad = Tensor(np.full((10**6, 1), 0.1, np.float32))
    assert optim.clip_grad_norm([parameter], 1e9) == pytest.approx(
        1000 * float(np.float32(0.1)), rel=1e-6
    )


@reference_too
def test_sums_are_the_same_with_any_number_of_threads(backend):
    rng = np.random.default_rng(9)
    arrays = [rng.random(shape, np.float32) for shape in ((100_000, 7), (3, 5000, 50), (9, 70_000))]
    results = []
    for threads in (1, 2, 5):
        set_num_threads(threads)
        results.append([backend.sum(x, (x.ndim - 2,)) for x in arrays])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert (a == b).all()


def test_sums_of_integers_and_booleans():
    backend = get_backend("cpu")
    for dtype, axes in itertools.product((bool, np.uint8, np.int64), ((0,), (1,), (0, 1))):
        x = np.ones((300, 4), dtype)
        got = backend.sum(x, axes)
        assert got.dtype == np.int64
        assert (got == x.sum(axis=axes, dtype=np.int64)).all()
