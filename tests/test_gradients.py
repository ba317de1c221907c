"""Every primitive's gradient against finite differences, over inputs drawn for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor
from tinygrad_mask.testing import check_gradients
from tinygrad_mask.testing.strategies import STRATEGIES

NAMES = sorted(F.PRIMITIVES)


def test_every_primitive_has_a_strategy():
    assert set(F.PRIMITIVES) == set(STRATEGIES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(data=st.data())
def test_gradient_agrees_with_finite_differences(name, data):
    case = data.draw(STRATEGIES[name])
    check_gradients(case, *case.inputs, seed=data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(data=st.data())
def test_float32_stays_float32_and_agrees_with_float64(name, data):
    case = data.draw(STRATEGIES[name])
    options = {
        key: value.astype(np.float32) if getattr(value, "dtype", None) == np.float64 else value
        for key, value in case.options.items()
    }
    narrow = type(case)(case.name, case.inputs, options)
    wide = [Tensor(x, requires_grad=True) for x in case.inputs]
    tensors = [Tensor(x.astype(np.float32), requires_grad=True) for x in case.inputs]
    expected, result = case(*wide), narrow(*tensors)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
    result.backward(np.ones(result.shape, np.float32))
    expected.backward(np.ones(result.shape))
    for tensor, reference in zip(tensors, wide, strict=True):
        assert tensor.grad.dtype == np.float32
        np.testing.assert_allclose(
            tensor.grad.numpy(), reference.grad.numpy(), rtol=1e-3, atol=1e-3
        )
