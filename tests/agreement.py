"""How a kernel's results are compared with the reference's in float64.

The error of a sum in floating point grows with its length: that of n products of numbers around 1
is some eps * n at most (the sum itself is around sqrt(n), and so is each of the n roundings), which
is far from what a single wrong product changes.
"""

from dataclasses import dataclass
from typing import Any

import devices
import numpy as np
import pytest
from hypothesis import strategies as st

from tinygrad_mask.backends.reference import ReferenceBackend
from tinygrad_mask.testing.strategies import generators

REFERENCE = ReferenceBackend()
FUSED = ["none", "relu", "sigmoid", "tanh"]
LAYOUTS = ["dense", "fortran", "strided", "reversed", "offset", "unaligned", "frozen"]

each_backend = devices.each_backend()
each_fast_backend = devices.each_backend(emulator=False)
each_cpu_backend = devices.each_backend(emulator=False, gpu=False)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def around(*multiples):
    """Numbers beside which a tile or a vector ends."""
    return st.sampled_from(sorted({m + d for m in multiples for d in (-1, 0, 1)} - {0}))


def laid_out(array, layout):
    """Return an array that equals this one but lies otherwise in memory."""
    if layout == "fortran":
        return np.array(array, order="F")
    if layout == "strided":  # whatever is read between the elements would spoil every result
        shape, between = [2 * n + 1 for n in array.shape], np.nan if array.dtype.kind == "f" else 77
        around = np.full(shape, between, array.dtype)
        view = around[(*[slice(1, None, 2)] * array.ndim, ...)]
        view[...] = array
        return view
    if layout == "reversed":
        return np.asarray(np.flip(np.array(np.flip(array), order="C")))
    if layout == "offset":  # begins at an element, but not where a vector does
        memory = np.empty(array.size + 1, array.dtype)
        view = memory[1:].reshape(array.shape)
        view[...] = array
        return view
    if layout == "unaligned":
        memory = np.empty(array.nbytes + 1, np.uint8)[1:]
        view = memory.view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    array = np.array(array, order="C")
    array.setflags(write=layout != "frozen")
    return array


@dataclass
class Inputs:
    """Draws arrays of one dtype, each laid out in a way of its own."""

    draw: Any
    dtype: Any

    def __post_init__(self):
        self.rng = self.draw(generators())

    def normal(self, *shape):
        return self.put(self.rng.standard_normal(shape))

    def positive(self, *shape):
        return self.put(self.rng.uniform(0.3, 3, shape))

    def put(self, array):
        return laid_out(np.asarray(array, self.dtype), self.draw(st.sampled_from(LAYOUTS)))


def wide(value):
    """The same in float64, for the reference."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.float64)
    return value


def run(backend, method, *arguments, **options):
    """Call a kernel, see that it leaves its inputs as they were, and return its results."""
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    arguments = [devices.put(a, backend) if isinstance(a, np.ndarray) else a for a in arguments]
    with backend.computing():
        results = getattr(backend, method)(*arguments, **options)
    for argument, copy in zip(arguments, before, strict=True):
        if isinstance(copy, np.ndarray):
            after = backend.to_host(argument)
            np.testing.assert_array_equal(after, copy, err_msg=f"{method} wrote into its input")
    results = results if isinstance(results, tuple) else (results,)
    return tuple(None if r is None else backend.to_host(r) for r in results)


def check(backend, dtype, terms, method, *arguments):
    """Compare a kernel's results with the reference's; each is a sum of so many terms."""
    results = run(backend, method, *arguments)
    expected = run(REFERENCE, method, *map(wide, arguments))
    terms = terms if isinstance(terms, tuple) else (terms,) * len(results)
    for result, reference, count in zip(results, expected, terms, strict=True):
        if reference is None:
            assert result is None
            continue
        assert result.dtype == dtype
        close(result, reference, 8 * np.finfo(dtype).eps * (count + 2))
    return results


def close(result, expected, tolerance):
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
