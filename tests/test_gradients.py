"""Every primitive's gradient against finite differences, over inputs drawn for it."""

import devices
import numpy as np
import pytest
from devices import drawn, few_entries
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor
from tinygrad_mask.testing import check_gradients
from tinygrad_mask.testing.strategies import STRATEGIES

NAMES = sorted(F.PRIMITIVES)

each_device = devices.each_backend(instruction_sets=False)


def test_every_primitive_has_a_strategy():
    assert set(F.PRIMITIVES) == set(STRATEGIES)


@each_device
@pytest.mark.parametrize("name", NAMES)
@drawn(examples=40)
def test_gradient_agrees_with_finite_differences(backend, name, data):
    case = data.draw(STRATEGIES[name]).to(backend)
    seed = data.draw(st.integers(0, 99))
    check_gradients(case, *case.inputs, seed=seed, device=backend, **few_entries(backend))


@each_device
@pytest.mark.parametrize("name", NAMES)
@drawn(examples=15)
def test_float32_stays_float32_and_agrees_with_float64(backend, name, data):
    case = data.draw(STRATEGIES[name]).to(backend)
    options = {
        key: value.astype(np.float32) if getattr(value, "dtype", None) == np.float64 else value
        for key, value in case.options.items()
    }
    narrow = type(case)(case.name, case.inputs, options)

    def leaves(dtype):
        tensors = [Tensor(x.astype(dtype), device=backend) for x in case.inputs]
        return [tensor.requires_grad_() for tensor in tensors]

    wide, tensors = leaves(np.float64), leaves(np.float32)
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
