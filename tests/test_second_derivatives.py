"""Gradients of gradients: those of every primitive against finite differences."""

import devices
import numpy as np
import pytest
from devices import drawn, few_entries
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import Function, Tensor
from tinygrad_mask.autograd import GradientFunction, grad
from tinygrad_mask.backends import get_backend
from tinygrad_mask.testing import check_gradients
from tinygrad_mask.testing.strategies import STRATEGIES

WITHOUT_SECOND_DERIVATIVE: set[str] = set()
"""Primitives that raise NotImplementedError, by name, instead."""

NAMES = sorted(set(F.PRIMITIVES) - WITHOUT_SECOND_DERIVATIVE)

each_device = devices.each_backend(instruction_sets=False)


def defines(function, method):
    return getattr(function, method) is not getattr(Function, method)


def test_every_primitive_has_a_second_derivative_or_is_listed():
    without = {
        name
        for name, function in F.PRIMITIVES.items()
        if not defines(function, "differentiable_backward")
    }
    assert without == WITHOUT_SECOND_DERIVATIVE


def test_the_gradients_of_primitives_can_be_differentiated_too():
    for function in GradientFunction.__subclasses__():
        assert defines(function, "backward"), function.name
        assert defines(function, "differentiable_backward"), function.name


def slopes(case):
    """The gradients of the result of a case, or a function, along a cotangent, flattened and
    joined, as a function of its inputs and the cotangent.
    """

    def joined(*tensors):
        # What only evaluates this function does not require gradients of it.
        tensors = [t if t.requires_grad else t.detach().requires_grad_() for t in tensors]
        *inputs, cotangent = tensors
        result = case(*inputs)
        gradients = grad(result, inputs, cotangent, create_graph=True, allow_unused=True)
        return F.concatenate([F.reshape(g, (g.size,)) for g in gradients if g is not None])

    joined.__name__ = f"the gradient of {case.__name__}"
    return joined


def cotangent_of(function, inputs, backend, rng):
    tensors = [Tensor(x, device=backend) for x in inputs]
    return np.asarray(rng.standard_normal(function(*tensors).shape))


@each_device
@pytest.mark.parametrize("name", NAMES)
@drawn(examples=25)
def test_second_derivatives_agree_with_finite_differences(backend, name, data):
    case = data.draw(STRATEGIES[name]).to(backend)
    seed = data.draw(st.integers(0, 99))
    cotangent = cotangent_of(case, case.inputs, backend, np.random.default_rng(seed))
    inputs = (*case.inputs, cotangent)
    check_gradients(slopes(case), *inputs, seed=seed, device=backend, **few_entries(backend))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5)
@given(data=st.data())
def test_third_derivatives_agree_with_finite_differences(name, data):
    # They are those of the functions that the gradients of convolution and pooling are made of.
    case = data.draw(STRATEGIES[name])
    rng, backend = np.random.default_rng(0), get_backend("cpu")
    first = slopes(case)
    inputs = [*case.inputs, cotangent_of(case, case.inputs, backend, rng)]
    inputs.append(cotangent_of(first, inputs, backend, rng))
    check_gradients(slopes(first), *inputs)


@each_device
@pytest.mark.parametrize("name", NAMES)
@drawn(examples=15)
def test_recorded_gradients_are_those_of_the_plain_backward_pass(backend, name, data):
    case = data.draw(STRATEGIES[name]).to(backend)
    rng = np.random.default_rng(0)
    cotangent = cotangent_of(case, case.inputs, backend, rng)
    leaves = [Tensor(x, device=backend, requires_grad=True) for x in (*case.inputs, cotangent)]
    *inputs, given = leaves
    assert_same_gradients(lambda: case(*inputs), inputs, given)
    # And those of the functions that the gradients are made of.
    first = slopes(case)
    other = Tensor(cotangent_of(first, (*case.inputs, cotangent), backend, rng), device=backend)
    assert_same_gradients(lambda: first(*leaves), leaves, other)


def assert_same_gradients(compute, inputs, given):
    plain = grad(compute(), inputs, given, allow_unused=True)
    recorded = grad(compute(), inputs, given, create_graph=True, allow_unused=True)
    for a, b in zip(plain, recorded, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert b.dtype == a.dtype
            np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-9, atol=1e-9)


def test_a_window_whose_maximum_is_in_the_padding_gives_nothing():
    image = Tensor(np.full((1, 3, 3, 1), -np.inf), requires_grad=True)
    given = Tensor(np.arange(1.0, 5.0).reshape(1, 2, 2, 1), requires_grad=True)
    pooled = F.max_pool2d(image, 3, stride=2, padding=1)
    (slope,) = grad(pooled, image, given, create_graph=True)
    (share,) = grad(slope.sum(), given)
    assert set(share.numpy().ravel()) <= {0, 1}
    assert slope.sum().item() == (share * given).sum().item()
