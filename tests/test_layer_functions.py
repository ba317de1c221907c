"""Gradients, on every backend, of the functions that are made of other primitives."""

import math

import numpy as np
import pytest
from devices import each_backend, few_entries

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor
from tinygrad_mask.testing import check_gradients

RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((2, 3, 4, 6))
ROWS = RNG.standard_normal((4, 5))

CASES = {
    "gelu": (F.gelu, [ROWS]),
    "gelu, tanh": (lambda x: F.gelu(x, "tanh"), [ROWS]),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 0.7), [ROWS]),
    "mse_loss": (F.mse_loss, [ROWS, ROWS[::-1].copy()]),
    "l1_loss": (F.l1_loss, [ROWS, ROWS + np.sign(ROWS)]),
    "smooth_l1_loss": (
        lambda x, y: F.smooth_l1_loss(x, y, "none", 0.8),
        [ROWS, ROWS[::-1].copy()],
    ),
    "embedding": (lambda w: F.embedding(np.array([[0, 3, 3], [1, 0, 3]]), w), [ROWS]),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), [IMAGE]),
    "max_pool2d, options": (
        lambda x: F.max_pool2d(x, 2, 2, dilation=(1, 2), ceil_mode=True),
        [IMAGE],
    ),
    "avg_pool2d, ceil_mode": (lambda x: F.avg_pool2d(x, 2, 2, 1, ceil_mode=True), [IMAGE]),
    "avg_pool2d, divisor": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), [IMAGE]),
    "conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(
            x, w, b, stride=(2, 1), padding=1, output_padding=(1, 0)
        ),
        [IMAGE, RNG.standard_normal((3, 2, 4, 6)), RNG.standard_normal(4)],
    ),
    "conv_transpose2d, groups": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, dilation=2, groups=2),
        [IMAGE, RNG.standard_normal((2, 2, 3, 6))],
    ),
}


@each_backend()
@pytest.mark.parametrize("name", CASES)
def test_gradients(name, backend):
    function, inputs = CASES[name]
    check_gradients(function, *inputs, device=backend, **few_entries(backend))


def test_a_transposed_convolution_is_the_transpose_of_a_convolution():
    """The scalar product <conv(x), y> is <x, conv_transpose(y)>."""
    weight = Tensor(RNG.standard_normal((3, 2, 4, 6)))
    x, y = Tensor(RNG.standard_normal((2, 7, 6, 4))), Tensor(RNG.standard_normal((2, 4, 5, 6)))
    options = {"stride": (2, 1), "padding": ((1, 1), (0, 0))}
    left = (F.conv2d(x, weight, **options) * y).sum()
    right = (x * F.conv_transpose2d(y, weight, **options)).sum()
    np.testing.assert_allclose(left.item(), right.item(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_is_accurate_to_the_last_places(dtype):
    x = np.concatenate([np.linspace(-6.5, 6.5, 2001), np.geomspace(1e-30, 1, 200)]).astype(dtype)
    expected = np.array([math.erf(float(v)) for v in x])
    came = F.erf(Tensor(x)).numpy()
    assert came.dtype == dtype
    np.testing.assert_allclose(came, expected, rtol=4 * np.finfo(dtype).eps)
    edges = F.erf(Tensor(np.array([0, -0.0, np.inf, -np.inf, np.nan, 30], dtype))).numpy()
    np.testing.assert_array_equal(edges, np.array([0, -0.0, 1, -1, np.nan, 1], dtype))
    assert np.signbit(edges[1])
