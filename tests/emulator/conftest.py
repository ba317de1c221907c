"""What the emulator's tests share: skip where its tools are missing; programs, compiled once.

With `TINYGRAD_MASK_TEST_NVRTC_OPTIONS=-G` in the environment, every kernel is compiled with that
option of NVRTC besides its own: nothing is inlined and nothing is optimised away.
"""

import functools
import math
import os
from collections.abc import Callable
from fractions import Fraction

import pytest

from tinygrad_mask.emulator import EmulatorError, Program, nvrtc, toolchain


@pytest.fixture(scope="session")
def tools() -> None:
    """Skip where there is no NVRTC or no compiler."""
    try:
        nvrtc.library_path()
        toolchain.compiler()
    except EmulatorError as error:
        pytest.skip(str(error))


@functools.cache
def _compiled(source: str, arch: str, options: tuple[str, ...]) -> Program:
    more = os.environ.get("TINYGRAD_MASK_TEST_NVRTC_OPTIONS", "").split()
    return Program(source, name="test.cu", arch=arch, options=(*options, *more))


@pytest.fixture(scope="session")
def compiled(tools):
    """A function from source, architecture and options to a program, the same for the same."""

    def compile_program(
        source: str, arch: str = "sm_90", options: tuple[str, ...] = ("-std=c++17", "-ftz=true")
    ) -> Program:
        return _compiled(source, arch, options)

    return compile_program


@pytest.fixture(params=["sm_75", "sm_90"])
def arch(request) -> str:
    """The oldest architecture, and one of those of today."""
    return request.param


def _rounded(x: Fraction, mode: str, digits: int, least: int, most: int) -> float:
    """Return a number rounded once, to a format of so many digits and exponents least to most."""
    if x == 0:
        return 0.0
    negative, magnitude = x < 0, abs(x)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    quantum = Fraction(2) ** (max(exponent, least) - digits + 1)
    count, rest = divmod(magnitude, quantum)
    up = {"rz": False, "rm": negative, "rp": not negative}.get(
        mode, rest > quantum / 2 or (rest == quantum / 2 and count % 2 == 1)
    )
    magnitude = (count + (up and rest != 0)) * quantum
    result = float(magnitude) if magnitude < Fraction(2) ** (most + 1) else math.inf
    if result == math.inf and mode != "rn" and not up:
        result = (2 - 2.0 ** (1 - digits)) * 2.0**most
    return -result if negative else result


@pytest.fixture(scope="session")
def rounded() -> Callable[[Fraction, str, int, int, int], float]:
    """The function that rounds a rational number to a floating-point format ("rn", "rz", ...)."""
    return _rounded
