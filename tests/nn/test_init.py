"""Initial weights: their limits and moments, and that a seed decides them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_mask import nn

# Shapes (..., inputs, outputs): linear, convolution, and a flat one whose fans differ much.
SHAPES = [(200, 300), (3, 5, 40, 60), (1000, 20)]

VARIANCES = {
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((7, 5), (7, 5)), ((3, 2, 7, 5), (42, 30)), ((4, 1, 1, 6), (4, 24)), ((0, 5), (0, 5))],
)
def test_fans_count_the_window(shape, expected):
    assert nn.init.fans(shape) == expected


@pytest.mark.parametrize("shape", [(), (3,)])
def test_fans_need_inputs_and_outputs(shape):
    message = rf"^fans: expected a shape of at least two axes, got \({'3,' if shape else ''}\)$"
    with pytest.raises(ValueError, match=message):
        nn.init.fans(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", VARIANCES)
def test_mean_and_variance(name, shape):
    weights = getattr(nn.init, name)(shape, np.random.default_rng(0))
    window = math.prod(shape[:-2])
    variance = VARIANCES[name](window * shape[-2], window * shape[-1])
    assert weights.shape == shape
    assert weights.dtype == np.float32
    # Five standard errors of the mean, and of the variance (that of a normal's is the larger).
    count = weights.size
    assert abs(weights.mean(dtype=np.float64)) < 5 * math.sqrt(variance / count)
    assert abs(weights.var(dtype=np.float64) / variance - 1) < 5 * math.sqrt(2 / count)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["glorot_uniform", "he_uniform"])
def test_uniform_weights_fill_their_range(name, shape):
    weights = getattr(nn.init, name)(shape, np.random.default_rng(0))
    window = math.prod(shape[:-2])
    # A uniform distribution in +-limit has the variance limit ** 2 / 3.
    limit = math.sqrt(3 * VARIANCES[name](window * shape[-2], window * shape[-1]))
    assert abs(weights).max() <= np.float32(limit)
    assert abs(weights).max() > 0.99 * limit


@pytest.mark.parametrize("name", ["glorot_normal", "he_normal"])
def test_normal_weights_have_the_tails_of_a_normal(name):
    weights = getattr(nn.init, name)((300, 300), np.random.default_rng(0))
    beyond = (abs(weights) > 2 * weights.std()).mean()
    assert 0.042 < beyond < 0.049  # 0.0455


@pytest.mark.parametrize("name", VARIANCES)
@given(shape=st.lists(st.integers(0, 3), min_size=2, max_size=4).map(tuple))
def test_any_shape_gives_finite_weights_of_that_shape(name, shape):
    weights = getattr(nn.init, name)(shape, np.random.default_rng(0))
    assert weights.shape == shape
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("name", VARIANCES)
def test_the_seed_decides(name):
    draw = getattr(nn.init, name)
    one, same, other = (draw((3, 4), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_generator_goes_on():
    rng = np.random.default_rng(0)
    first, second = (nn.init.he_normal((3, 4), rng) for _ in range(2))
    assert not np.array_equal(first, second)
