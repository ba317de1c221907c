"""Gradients against finite differences.

The check runs in float64 and reduces the function to one number, its result times a random
cotangent c. Along a line `x + t d` the derivative of that number is `<gradient, d>`, and it is
measured by central differences at many steps t, each a quarter of the one before, extrapolated in
pairs (Richardson 1911; Ridders 1982 chooses among them as is done here):

    D(t) = <c, f(x + t d) - f(x - t d)> / 2 t        R(t) = (16 D(t / 4) - D(t)) / 15

A step that is too long errs because the function bends, one that is too short because its values
are rounded. The right one differs from entry to entry: 1 / x at 0.001 and sin(1000 x) want short
ones, sums of many terms long ones. That pair is taken which differs least from its neighbour and
from rounding, and the difference says how far to trust it.

Lines are single entries, in which no error can hide, and random directions through all entries at
once, of which a few see the entries of inputs that are too large to be looked at one by one.

At a kink (relu at 0) there is no derivative. There the one-sided slopes differ by the same amount
however short the step; for a smooth function by f'' t. Where a kink would explain a contradiction,
the point is moved a little, and the line is measured again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_mask.backends import Array, Backend, get_backend
from tinygrad_mask.tensor import Tensor

_LONGEST_STEP, _RATIO, _STEPS = 1e-2, 4.0, 18
_SHORT_STEP = 1e-9
_QUICK_STEP = 1e-5
_REDRAWS = 20
_EPS = float(np.finfo(np.float64).eps)

LAYOUTS = ("contiguous", "strided")


class GradientError(AssertionError):
    """A gradient that finite differences contradict, or a function that cannot be checked."""


def check_gradients(
    function: Callable[..., Tensor],
    *inputs: Any,
    seed: int = 0,
    device: str | Backend = "cpu",
    eps: float | None = None,
    tolerance: float = 1e-5,
    entries: int = 2000,
    exhaustive: bool = False,
    directions: int = 2,
    noncontiguous: bool | None = None,
) -> None:
    """Check the gradients of `function(*tensors)`, one tensor of any shape, at `inputs`.

    Every single entry of the inputs is checked if there are at most `entries` of them, else as many
    random ones; `exhaustive` checks all, however many. `directions` random lines through all
    entries at once find smaller errors than `tolerance` in entries that are left out.

    `function` must be deterministic and must not write into its inputs. At a kink (relu at 0) there
    is no derivative; a point near it is checked instead.

    Args:
        function: the function to check.
        inputs: arrays or nested sequences, converted to float64.
        seed: of everything random.
        device: where to compute.
        eps: the step, relative to an entry (absolute if the entry is below 1). By default it is
            chosen for each entry.
        tolerance: the largest relative difference of an entry's gradient.
        entries: how many single entries are checked at most.
        exhaustive: whether all are checked.
        directions: how many random lines are checked besides.
        noncontiguous: by default inputs and cotangent are handed in twice, contiguous and as
            strided views, which a kernel that assumes contiguous memory gets wrong; True hands in
            strided ones only, False contiguous ones only.

    Raises:
        GradientError: names the entry, its gradient and what finite differences give, or says why
            the function cannot be checked.

    Example:
        >>> check_gradients(lambda x: x.exp() * x, np.array([0.5, -1.0]))
    """
    layouts = LAYOUTS if noncontiguous is None else (LAYOUTS[int(noncontiguous)],)
    point = [np.array(x, dtype=np.float64) for x in inputs]
    _Check(function, point, get_backend(device), layouts, seed, eps, tolerance).run(
        sum(x.size for x in point) if exhaustive else entries, directions
    )


@dataclass
class _Measured:
    """A derivative along a line: its value, its error, and what a kink would explain of it."""

    value: float
    error: float
    bend: float


_Line = list[tuple[int, tuple[int, ...], float]]
"""Entries (input, index) and how far each moves per unit of t."""


class _Check:
    """One call of `check_gradients`: the function, the point, and its gradients in each layout."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        point: list[Array],
        backend: Backend,
        layouts: tuple[str, ...],
        seed: int,
        eps: float | None,
        tolerance: float,
    ) -> None:
        self.function = function
        self.name = getattr(function, "__name__", repr(function))
        self.backend = backend
        self.layouts = layouts
        self.rng = np.random.default_rng(seed)
        self.eps, self.tolerance = eps, tolerance
        self.start = point
        self.cotangent: Array | None = None
        self.move_to(point)

    def run(self, entries: int, directions: int) -> None:
        """Check random directions and single entries."""
        for _ in range(directions):
            self.check_direction()
        for k, index in self.choose_entries(entries):
            self.check_entry(k, index)

    def choose_entries(self, most: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield all entries of the inputs, or `most` random ones, in order."""
        sizes = [x.size for x in self.start]
        total = sum(sizes)
        chosen = np.arange(total)
        if total > most:
            chosen = np.sort(self.rng.choice(total, most, replace=False))
        ends = np.cumsum(sizes)
        for flat in chosen.tolist():
            k = int(np.searchsorted(ends, flat, side="right"))
            inside = flat - int(ends[k]) + sizes[k]
            yield k, tuple(int(i) for i in np.unravel_index(inside, self.start[k].shape))

    # --- where the gradients are compared -----------------------------------------------------

    def move_to(self, point: list[Array]) -> None:
        """Compute results and gradients at a point, in each layout, and compare the layouts."""
        self.point = point
        self.results = [self.evaluate(point, layout) for layout in self.layouts]
        if not np.isfinite(self.results[0]).all():
            raise GradientError(f"{self.name}: the result at this point is not finite")
        self.gradients = [self.differentiate(layout) for layout in self.layouts]
        largest = max((float(np.abs(g).max(initial=0)) for g in self.gradients[0]), default=0.0)
        first, other = self.results[0], self.results[-1]
        size = float(np.abs(first).max(initial=0))
        self.negligible = 1e-6 * self.tolerance * largest + 1e-13 * size
        if not np.allclose(first, other, rtol=self.tolerance, atol=1e-9 * size, equal_nan=True):
            raise GradientError(
                f"{self.name}: the result of {self.layouts[-1]} inputs is not that of "
                f"{self.layouts[0]} ones"
            )

    def move(self) -> None:
        """Go to another point near the first one, where the result is finite."""
        far = 1e-1
        while True:
            near = [
                x + far * (1e-1 + abs(x)) * self.rng.uniform(-1, 1, x.shape) for x in self.start
            ]
            if np.isfinite(self.evaluate(near, self.layouts[0])).all():
                break
            far /= 2
        self.move_to(near)

    def check_entry(self, k: int, index: tuple[int, ...]) -> None:
        """Check one entry in every layout."""
        for _ in range(_REDRAWS):
            line: _Line = [(k, index, max(abs(float(self.point[k][index])), 1.0))]
            given = [float(gradients[k][index]) for gradients in self.gradients]
            if self.agrees_quickly(k, index, given):
                return
            scale = line[0][2]
            measured = self.measure(line)
            numeric, error = measured.value / scale, measured.error / scale
            # Of a derivative that is 0 no relative error is known.
            large = max(1e-2 * abs(numeric), 1e-9 * max(map(abs, given)))
            trusted = error <= large + self.negligible
            wrong = [
                (layout, value)
                for layout, value in zip(self.layouts, given, strict=True)
                if not abs(value - numeric)
                <= max(self.tolerance * max(abs(value), abs(numeric)), 8 * error) + self.negligible
            ]
            if trusted and not wrong:
                return
            kink = 0.75 * measured.bend / scale
            if trusted and any(not abs(value - numeric) <= kink for _, value in wrong):
                layout, value = wrong[0]
                where = f" of {layout} inputs" if len(wrong) < len(self.layouts) else ""
                raise GradientError(
                    f"{self.name}: entry {index} of input {k}: the gradient{where} gives "
                    f"{value:.10g}, finite differences give {numeric:.10g}{self.of_what()}"
                )
            self.move()
        raise GradientError(
            f"{self.name}: entry {index} of input {k}: no derivative: a kink was met on each of "
            f"{_REDRAWS} lines"
        )

    def check_direction(self) -> None:
        """Check a random line through all entries, and find the entry that is to blame.

        A line that cannot be measured well, because one of many entries is at a kink, says nothing.
        """
        line = [
            (k, index, sign * (abs(float(x[index])) or 1.0))
            for k, x in enumerate(self.point)
            for index, sign in zip(
                np.ndindex(x.shape), self.rng.choice([-1.0, 1.0], x.size), strict=True
            )
        ]
        while self.contradicted(line):
            if len(line) == 1:
                self.check_entry(line[0][0], line[0][1])
                break
            half = len(line) // 2
            line = line[:half] if self.contradicted(line[:half]) else line[half:]

    def contradicted(self, line: _Line) -> bool:
        """Whether finite differences contradict a gradient along a line, where there is no kink."""
        scale = max(
            sum(abs(float(gradients[k][index]) * step) for k, index, step in line)
            for gradients in self.gradients
        )
        measured = self.measure(line)
        if not measured.error <= 1e-5 * max(scale, abs(measured.value)):
            return False
        worst = max(
            abs(sum(float(g[k][index]) * step for k, index, step in line) - measured.value)
            for g in self.gradients
        )
        # Finer than the tolerance of an entry: here one error is among the terms of all entries.
        allowed = 10 * measured.error + 1e-3 * self.tolerance * max(scale, abs(measured.value))
        return not worst <= allowed + self.negligible and not measured.bend > 1e-4 * scale

    def of_what(self) -> str:
        """Say what the compared numbers are derivatives of."""
        assert self.cotangent is not None
        if self.cotangent.size == 1 and self.cotangent.item() == 1:
            return ""
        return " (of the sum of all outputs, each times a random number)"

    # --- finite differences ---------------------------------------------------------------------

    def agrees_quickly(self, k: int, index: tuple[int, ...], given: list[float]) -> bool:
        """Whether two values of the function confirm an entry; if not, it is measured well."""
        x = float(self.point[k][index])
        step = (self.eps or _QUICK_STEP) * max(abs(x), 1.0 if self.eps else 1e-2)
        changed = np.zeros(self.results[0].shape, bool)
        difference, noise, _ = self.difference([(k, index, 1.0)], step, changed)
        numeric, noise = difference / (2 * step), noise / (2 * step)
        return all(
            abs(value - numeric) + 4 * noise
            <= 0.1 * self.tolerance * max(abs(value), abs(numeric)) + self.negligible
            for value in given
        )

    def measure(self, line: _Line) -> _Measured:
        """Measure the derivative along a line, with the step that suits it best."""
        if self.eps is not None:
            steps = [self.eps * _RATIO, self.eps]
        else:
            steps = [_LONGEST_STEP / _RATIO**k for k in range(_STEPS)]
        slopes, noises, bends = [], [], []
        changed = np.zeros(self.results[0].shape, bool)
        for step in steps:
            difference, noise, bend = self.difference(line, step, changed)
            slopes.append(difference / (2 * step))
            noises.append(noise)
            bends.append(bend / step)
        # Rounding within the function shows where steps are short: f(x + t) + f(x - t) - 2 f(x) is
        # then t^2 f'', nothing, or t times the difference of the slopes at a kink.
        kink_at_most = min(filter(np.isfinite, bends), default=0.0)
        inner = [
            (bend - kink_at_most) * step
            for bend, step in zip(bends, steps, strict=True)
            if step <= _SHORT_STEP and np.isfinite(bend)
        ]
        own = max(inner, default=0.0)
        noises = [(noise + own) / (2 * step) for noise, step in zip(noises, steps, strict=True)]
        best = _Measured(np.nan, np.inf, 0.0)
        change = before = np.inf
        for k in range(len(steps) - 1):
            value = (_RATIO**2 * slopes[k + 1] - slopes[k]) / (_RATIO**2 - 1)
            if not np.isfinite(value):
                change = before = np.inf
                continue
            if len(steps) == 2:  # a given step: there is one pair
                before, change = slopes[k + 1], 0.0
            # An estimate that changed little by chance changed more from the one before.
            earlier, change = change, abs(value - before)
            before = value
            error = change + earlier / _RATIO**2 + 2 * noises[k + 1]
            if not np.isfinite(error):
                continue
            if not np.isfinite(best.error) or error * abs(best.value) < best.error * abs(value):
                # At a kink the one-sided slopes differ as much at a quarter of the step.
                kink = bends[k + 1] > 0.5 * bends[k] and bends[k + 1] > 16 * noises[k + 1]
                best = _Measured(value, error, bends[k + 1] if kink else 0.0)
        return best

    def difference(self, line: _Line, step: float, changed: Array) -> tuple[float, float, float]:
        """Return f(x + t d) - f(x - t d) times the cotangent, how far rounding may have changed it,
        and |f(x + t d) + f(x - t d) - 2 f(x)|, likewise.

        `changed` collects which elements of the result depend on this line; the rounding of others
        does not count.
        """
        assert self.cotangent is not None
        values = []
        for sign in (1.0, -1.0):
            moved = [x.copy() for x in self.point]
            for k, index, far in line:
                moved[k][index] += sign * step * far
            values.append(self.evaluate(moved, self.layouts[0]))
        above, below = values
        with np.errstate(invalid="ignore", over="ignore"):
            changed |= (above != below) | (above != self.results[0])
            weights = np.where(changed, self.cotangent, 0.0)
            noise = _EPS * float((abs(weights) * (abs(above) + abs(below))).sum())
            bend = float((weights * (above + below - 2 * self.results[0])).sum())
            return float((weights * (above - below)).sum()), noise, abs(bend)

    # --- the function ---------------------------------------------------------------------------

    def evaluate(self, arrays: list[Array], layout: str) -> Array:
        """Return the function's result on the host."""
        result = self.function(*self.tensors(arrays, layout))
        if not isinstance(result, Tensor):
            raise GradientError(
                f"{self.name}: expected the function to return a Tensor, got {type(result)}"
            )
        if result.dtype != np.float64:
            raise GradientError(
                f"{self.name}: expected a float64 result of float64 inputs: {result.dtype}"
            )
        values = np.array(result.numpy())
        if self.cotangent is None:
            self.cotangent = _cotangent(self.rng, values.shape)
        return values

    def differentiate(self, layout: str) -> list[Array]:
        """Return the gradients of the inputs at this point, on the host."""
        assert self.cotangent is not None
        tensors = [t.requires_grad_() for t in self.tensors(self.point, layout)]
        result = self.function(*tensors)
        given = self.lay_out(self.cotangent, layout)
        if result.requires_grad:
            result.backward(given)
        for k, (tensor, array) in enumerate(zip(tensors, self.point, strict=True)):
            if not np.array_equal(tensor.numpy(), array, equal_nan=True):
                raise GradientError(f"{self.name}: input {k} was changed")
        if not np.array_equal(self.backend.to_host(given), self.cotangent):
            raise GradientError(
                f"{self.name}: the gradient handed to the backward pass was changed"
            )
        return [np.zeros(t.shape) if t.grad is None else t.grad.numpy().copy() for t in tensors]

    def tensors(self, arrays: list[Array], layout: str) -> list[Tensor]:
        """Return the arrays as tensors of the device, laid out in memory as asked."""
        return [Tensor.from_array(self.lay_out(x, layout), self.backend) for x in arrays]

    def lay_out(self, x: Array, layout: str) -> Array:
        """Put a copy of an array on the device, maybe as a view with gaps and reversed axes."""
        if layout == "strided" and x.ndim:
            spread = np.full((*x.shape[::-1][:-1], 2 * x.shape[0]), np.nan)
            spread[..., ::2] = x.T
            return self.backend.asarray(spread)[..., ::2].T
        return self.backend.asarray(x.copy())


def _cotangent(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random numbers none of which is so small that its entry would go unnoticed; 1 for a single
    output, whose derivatives are then what one expects.
    """
    if np.prod(shape) == 1:
        return np.ones(shape)
    d: Array = np.asarray(rng.standard_normal(shape))
    return np.copysign(np.maximum(abs(d), 0.1), d)
