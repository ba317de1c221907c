"""Gradients against finite differences.

The check runs in float64 and reduces the function to one number, its result times a random
cotangent. Along a line `x + t d` the derivative of that number is estimated from its values at
t = -3e .. 3e, and compared with `<gradient, d>`. Directions are random, as in HIPS autograd (one
number checks all entries at once), and single entries, which an error cannot hide in.

A function with a kink (relu, max) has no derivative there, and finite differences across one are
wrong. For a smooth function the one-sided slopes differ by f'' times the step, so that the
difference at two and three steps is two and three times that at one; across a kink it is not. Two
ratios, because each alone is blind to a kink at one place between the points. Where a kink shows,
the point is moved a little and the line is drawn again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_mask.backends import Array, Backend, get_backend
from tinygrad_mask.tensor import Tensor

_STEP = 1e-4
_REDRAWS = 20


class GradientError(AssertionError):
    """A gradient that finite differences contradict, or a function that cannot be checked."""


def check_gradients(
    function: Callable[..., Tensor],
    *inputs: Any,
    seed: int = 0,
    device: str | Backend = "cpu",
    directions: int = 2,
    entries: int = 2,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    noncontiguous: bool = True,
) -> None:
    """Check the gradients of `function(*tensors)`, one tensor of any shape, at `inputs`.

    `inputs` are arrays (or nested sequences), converted to float64. Along `directions` random lines
    through all inputs, and along `entries` single entries of each, the derivative must agree with
    finite differences to `rtol` of the sum of the absolute terms, plus `atol`. By default inputs
    and cotangent are strided views, which a kernel that assumes contiguous memory gets wrong.
    `function` must be deterministic and must not write into its inputs.

    Raises `GradientError` that says which input, which entry, and both derivatives.
    """
    rng = np.random.default_rng(seed)
    backend = get_backend(device)
    point = [np.array(x, dtype=np.float64) for x in inputs]
    name = getattr(function, "__name__", repr(function))

    def line(where: list[Array], gradients: list[Array], along: list[Array], what: str) -> bool:
        """Check one line; False if there is a kink on it."""
        analytic = sum(float((g * d).sum()) for g, d in zip(gradients, along, strict=True))
        scale = sum(float(abs(g * d).sum()) for g, d in zip(gradients, along, strict=True))
        values = [
            _value(
                function, [x + k * _STEP * d for x, d in zip(where, along, strict=True)], problem
            )
            for k in range(-3, 4)
        ]
        if not np.isfinite(values).all():
            raise GradientError(f"{name}: the result near this point is not finite: {values}")
        numeric, kink = _derivative(values, scale)
        if kink:
            return False
        # Differences of numbers of this size carry their rounding errors, divided by the step.
        noise = 16 * np.finfo(np.float64).eps * max(map(abs, values)) / _STEP
        if not abs(analytic - numeric) <= atol + noise + rtol * max(scale, abs(numeric)):
            raise GradientError(
                f"{name}: {what}: the gradient gives {analytic:.10g}, "
                f"finite differences give {numeric:.10g}"
            )
        return True

    problem = _Problem(backend, noncontiguous, rng)
    plans: list[tuple[str, Callable[[], list[Array]]]] = [
        ("along a random direction", lambda: [_direction(rng, x.shape) for x in point])
    ] * directions
    for k, x in enumerate(point):
        for _ in range(min(entries, x.size)):
            index = tuple(int(rng.integers(n)) for n in x.shape)
            plans.append((f"entry {index} of input {k}", _unit_direction(point, k, index)))

    gradients = _gradients(function, point, problem, name)
    for what, draw in plans:
        where, there = point, gradients
        for _ in range(_REDRAWS):
            if line(where, there, draw(), what):
                break
            where = [x + 1e-1 * (1e-1 + abs(x)) * rng.uniform(-1, 1, x.shape) for x in point]
            there = _gradients(function, where, problem, name)
        else:
            raise GradientError(
                f"{name}: {what}: no derivative: a kink was met on each of {_REDRAWS} lines"
            )


class _Problem:
    """What stays the same from one evaluation to the next: device, memory layout, cotangent."""

    def __init__(self, backend: Backend, noncontiguous: bool, rng: np.random.Generator) -> None:
        self.backend = backend
        self.noncontiguous = noncontiguous
        self.rng = rng
        self.cotangent: Array | None = None

    def tensors(self, arrays: list[Array]) -> list[Tensor]:
        return [Tensor.from_array(self.lay_out(x), self.backend) for x in arrays]

    def lay_out(self, x: Array) -> Array:
        """Put an array on the device, as a view with gaps and reversed axes if so wished."""
        x = x.copy()
        if self.noncontiguous and x.ndim:
            spread = np.full((*x.shape[::-1][:-1], 2 * x.shape[0]), np.nan)
            spread[..., ::2] = x.T
            return self.backend.asarray(spread)[..., ::2].T
        return self.backend.asarray(x)

    def cotangent_for(self, shape: tuple[int, ...]) -> Array:
        if self.cotangent is None:
            self.cotangent = _direction(self.rng, shape)
        return self.cotangent


def _value(function: Callable[..., Tensor], arrays: list[Array], problem: _Problem) -> float:
    result = function(*problem.tensors(arrays)).numpy()
    return float((result * problem.cotangent_for(result.shape)).sum())


def _gradients(
    function: Callable[..., Tensor], arrays: list[Array], problem: _Problem, name: str
) -> list[Array]:
    tensors = [t.requires_grad_() for t in problem.tensors(arrays)]
    result = function(*tensors)
    if not isinstance(result, Tensor):
        raise GradientError(f"{name}: expected the function to return a Tensor, got {type(result)}")
    if result.dtype != np.float64:
        raise GradientError(f"{name}: expected a float64 result of float64 inputs: {result.dtype}")
    cotangent = problem.cotangent_for(result.shape)
    given = problem.lay_out(cotangent)
    if result.requires_grad:
        result.backward(given)
    for k, (tensor, array) in enumerate(zip(tensors, arrays, strict=True)):
        if not np.array_equal(tensor.numpy(), array, equal_nan=True):
            raise GradientError(f"{name}: input {k} was changed")
    if not np.array_equal(problem.backend.to_host(given), cotangent):
        raise GradientError(f"{name}: the gradient handed to the backward pass was changed")
    return [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in tensors]


def _direction(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random numbers none of which is so small that its entry would go unnoticed."""
    d: Array = np.asarray(rng.standard_normal(shape))
    return np.copysign(np.maximum(abs(d), 0.1), d)


def _unit_direction(
    point: Sequence[Array], k: int, index: tuple[int, ...]
) -> Callable[[], list[Array]]:
    def draw() -> list[Array]:
        along = [np.zeros(x.shape) for x in point]
        along[k][index] = 1
        return along

    return draw


def _derivative(values: Sequence[float], scale: float) -> tuple[float, bool]:
    """The derivative from the values at -3..3 steps (of sixth order), and whether there is a kink.

    Coefficients: Fornberg 1988, table 1.
    """
    f = dict(zip(range(-3, 4), values, strict=True))
    central = [f[k] - f[-k] for k in (1, 2, 3)]
    slope = (45 * central[0] - 9 * central[1] + central[2]) / (60 * _STEP)
    # f(t) + f(-t) - 2 f(0) over t is the difference of the one-sided slopes.
    bend = [(f[k] + f[-k] - 2 * f[0]) / (k * _STEP) for k in (1, 2, 3)]
    uneven = max(abs(bend[1] - 2 * bend[0]), abs(bend[2] - 3 * bend[0]))
    noise = 64 * np.finfo(np.float64).eps * max(map(abs, values)) / _STEP
    return slope, uneven > 1e-6 * max(scale, abs(slope)) + noise
