"""`check_gradients` finds planted faults of every kind and size, and raises no false alarm."""

import numpy as np
import pytest

from tinygrad_mask import Function, Tensor
from tinygrad_mask import functions as F
from tinygrad_mask.testing import GradientError, check_gradients


def planted(forward, backward):
    """A function whose gradient is what `backward(x, grad_output)` says."""

    class Planted(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_arrays
            return backward(x, grad_output)

    return Planted.apply


def cube(fault):
    """x ** 3, whose gradient a fault has gone through."""
    return planted(lambda x: x**3, lambda x, g: fault(3 * x * x * g))


def one_entry(factor, place=-1):
    """A fault in one entry."""

    def change(gradient):
        gradient = gradient.copy()
        index = np.unravel_index(place % gradient.size, gradient.shape)
        gradient[index] *= factor
        return gradient

    return change


def points(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2, shape)


# --- faults that must be found --------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 10, 100, 1000, 2000])
@pytest.mark.parametrize("error", [1e-3, -1e-3, 1e-4, 0.1, 1.0, -2.0])
def test_an_error_in_one_entry_of_up_to_two_thousand(size, error):
    with pytest.raises(GradientError, match=r"entry \(\d+,\) of input 0: the gradient"):
        check_gradients(cube(one_entry(1 + error, place=size // 3)), points(size))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("size", "error"), [(10_000, 0.1), (10_000, 0.01), (5000, 1e-3)])
def test_an_error_in_one_entry_of_many(size, error, seed):
    function = cube(one_entry(1 + error, place=seed * 1931))
    with pytest.raises(GradientError, match=rf"entry \({seed * 1931 % size},\) of input 0"):
        check_gradients(function, points(size), seed=seed, entries=50)


def test_all_entries_of_many_if_that_is_asked_for():
    function = cube(one_entry(1 + 2e-5, place=2718))
    with pytest.raises(GradientError, match=r"entry \(2718,\)"):
        check_gradients(function, points(3000), exhaustive=True, directions=0)


@pytest.mark.parametrize("factor", [1 + 1e-4, 0.999, 0.0, -1.0, 2.0])
def test_a_wrong_factor(factor):
    with pytest.raises(GradientError, match="finite differences give"):
        check_gradients(cube(lambda g: g * factor), points(3, 4))


def test_a_fault_for_contiguous_inputs_only_and_for_strided_ones_only():
    for contiguous in (True, False):
        function = planted(
            lambda x: x * 2,
            lambda x, g, contiguous=contiguous: (
                g * (3 if x.flags.c_contiguous is contiguous else 2)
            ),
        )
        with pytest.raises(GradientError, match="entry"):
            check_gradients(function, points(3, 4))


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_result_that_is_wrong_in_one_layout(contiguous):
    function = planted(
        lambda x: x * (2.001 if x.flags.c_contiguous is contiguous else 2.0), lambda x, g: g * 2
    )
    with pytest.raises(GradientError, match="the result of strided inputs is not that of"):
        check_gradients(function, points(3, 4))


def test_gradients_of_other_inputs_are_checked_as_well():
    class Product(Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx, grad_output):
            x, y = ctx.saved_arrays
            return grad_output * y, one_entry(1.01, 4)(grad_output * x)

    with pytest.raises(GradientError, match=r"entry \(1, 1\) of input 1"):
        check_gradients(Product.apply, points(2, 3), points(2, 3, seed=1))


def test_exchanged_and_shifted_entries():
    with pytest.raises(GradientError):
        check_gradients(cube(lambda g: np.roll(g, 1)), points(50))
    with pytest.raises(GradientError):
        check_gradients(cube(lambda g: g.T.copy()), points(7, 7))


def test_a_sum_in_which_errors_cancel():
    def cancel(gradient):
        gradient = gradient.copy()
        gradient[0] += 1
        gradient[1] -= 1
        return gradient

    with pytest.raises(GradientError, match=r"entry \(0,\)"):
        check_gradients(
            planted(lambda x: x.sum(keepdims=True), lambda x, g: cancel(g * np.ones_like(x))),
            points(40),
        )


def test_a_small_gradient_next_to_large_ones():
    scales = np.array([1.0, 1e-2, 1e3, 1e-3])

    def backward(x, g):
        gradient = 3 * x * x * g * scales
        gradient[3] *= 1.1
        return gradient

    with pytest.raises(GradientError, match=r"entry \(3,\)"):
        check_gradients(planted(lambda x: x**3 * scales, backward), points(4))


def test_a_wrong_gradient_of_a_function_with_kinks():
    relu = planted(lambda x: np.maximum(x, 0), lambda x, g: g * (x > 0) * 1.001)
    with pytest.raises(GradientError, match="finite differences give"):
        check_gradients(relu, np.array([-1.0, 0.0, 1.0, 2.0]))


def test_a_gradient_that_is_not_finite():
    with pytest.raises(GradientError):
        check_gradients(cube(one_entry(np.nan)), points(5))


def test_the_message_names_entry_gradient_and_derivative():
    function = cube(one_entry(2.0, place=4))
    x = np.full((2, 3), 2.0)
    with pytest.raises(
        GradientError,
        match=r"entry \(1, 1\) of input 0: the gradient gives -?(\d+\.\d+), finite "
        r"differences give -?(\d+\.\d+)",
    ) as caught:
        check_gradients(function, x)
    given, measured = (float(w.strip(",")) for w in str(caught.value).split() if "." in w[:-1])
    assert given == pytest.approx(2 * measured, rel=1e-6)


# --- right functions at hard points ---------------------------------------------------------------

HARD = {
    "log": (F.log, [1e-3, 1e-6, 0.5, 1e6]),
    "reciprocal": (lambda x: 1 / x, [1e-3, -1e-3, 1e-5, 30.0]),
    "fast sine": (lambda x: sine(x * 1e3), [1.0, 0.1, -2.0, 1e-4]),
    "sqrt": (F.sqrt, [1e-8, 1e-3, 1.0, 1e8]),
    "power": (lambda x: x**-3.5, [1e-2, 0.3, 2.0, 50.0]),
    "exp": (F.exp, [-30.0, -1.0, 5.0, 30.0]),
    "steep sigmoid": (lambda x: F.sigmoid(x * 100), [-0.1, 0.0, 1e-3, 0.2]),
    "saturated tanh": (F.tanh, [-9.0, 0.0, 3.0, 8.0]),
    "relu": (F.relu, [-1.0, 0.0, 1e-7, 1e-12]),
    "abs": (F.abs, [0.0, -1e-9, 1e-5, 1.0]),
    "leaky relu": (F.leaky_relu, [0.0, -1e-10, 2.0, -3.0]),
    "clip": (lambda x: F.clip(x, 0.0, 1.0), [0.0, 1.0, 0.5, 1 - 1e-9]),
    "maximum": (lambda x: F.maximum(x, 0.25), [0.25, 0.25 + 1e-8, 0.0, 1.0]),
    "max": (lambda x: x.max(), [1.0, 1.0, 1.0, 0.5]),
    "large cancels": (lambda x: (x + 1e6) - 1e6, [0.1, 1.0, -2.0, 1e-3]),
    "square near 0": (lambda x: x * x, [0.0, 1e-8, -1e-12, 1e-3]),
    "huge": (lambda x: x * 1e12, [1.0, 2.0, -1.0, 1e-3]),
    "tiny": (lambda x: x * 1e-12, [1.0, 2.0, -1.0, 1e-3]),
    "no dependence": (lambda x: x.detach() * 0 + 3.0 * (x * 0 + 1), [1.0, 2.0, 0.0, -1.0]),
    "logsumexp": (lambda x: F.logsumexp(x, axis=0), [0.0, 700.0, -700.0, 699.0]),
    "softmax": (lambda x: F.softmax(x, 0), [0.0, 30.0, -30.0, 1.0]),
    "variance of near equals": (lambda x: F.var(x, 0), [1.0, 1 + 1e-6, 1 - 1e-6, 1.0]),
    "oscillating and large": (lambda x: x * 100 + sine(x * 50), [0.3, 3.0, -1.0, 0.0]),
    "step function's plateau": (lambda x: F.sigmoid(x * 1e4), [1.0, -1.0, 0.5, -0.1]),
    "chained": (lambda x: F.exp(F.sigmoid(F.log(x) * 3)) / x, [1e-2, 0.5, 3.0, 10.0]),
}


class Sine(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return np.sin(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_arrays
        return grad_output * np.cos(x)


sine = Sine.apply


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", HARD)
def test_right_functions_raise_no_alarm(name, seed):
    """Two hundred of them: 25 functions, each at 8 arrangements of its points."""
    function, values = HARD[name]
    rng = np.random.default_rng(seed)
    x = rng.permutation(np.array(values))
    if seed >= 4:
        x = rng.choice(x, (3, 2)) if name not in ("max", "variance of near equals") else x
    check_gradients(function, x, seed=seed)


def test_a_large_right_function_raises_no_alarm():
    weight = np.random.default_rng(0).standard_normal((30, 20))
    check_gradients(lambda x: F.relu(x @ Tensor(weight)).sum(axis=0), points(400, 30), entries=20)


def test_a_given_step_and_tolerance_are_used():
    seen = []

    def watch(x):
        seen.append(x.numpy().copy())
        return x * x

    check_gradients(watch, np.array([3.0]), eps=1e-3, directions=0)
    assert {round(abs(float(x[0]) - 3), 12) for x in seen} <= {0.0, 3e-3, 12e-3}
    # A gradient that is wrong by 1e-4, which is good enough for somebody.
    function = cube(lambda g: g * (1 + 1e-4))
    check_gradients(function, points(5), tolerance=1e-2, directions=0)
    with pytest.raises(GradientError):
        check_gradients(function, points(5), tolerance=1e-6)
