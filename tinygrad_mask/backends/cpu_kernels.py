"""The compiled kernels of `kernels/cpu`: which there are, and their settings.

They are compiled once per instruction set. The settings, the number of threads and whether
Winograd's algorithm may be used, hold for all that are loaded.
"""

import importlib
import os
import threading
from typing import Any

from tinygrad_mask.backends.interface import DeviceError

INSTRUCTION_SETS = ("avx512", "avx2", "baseline")
"""What the kernels are compiled for, best first; `baseline` is what every processor of its kind can
run."""

KERNELS_VARIABLE = "TINYGRAD_MASK_KERNELS"
THREADS_VARIABLE = "TINYGRAD_MASK_NUM_THREADS"
MOST_THREADS = 1024


# --- which kernels there are --------------------------------------------------------------------


def load_kernels(instruction_set: str) -> Any:
    """Return the kernels compiled for an instruction set.

    Raises `DeviceError` if they were not built, cannot be loaded, or do not run on this processor.
    """
    try:
        features = importlib.import_module("tinygrad_mask.backends._cpu_features")
        if instruction_set in features.runnable():
            return importlib.import_module(f"tinygrad_mask.backends._cpu_{instruction_set}")
        why = "this processor cannot run them"
    except ModuleNotFoundError as error:
        why = (
            "not built (install again with TINYGRAD_MASK_INSTRUCTION_SETS=all and a C++ compiler "
            f"to build every set): {error}"
        )
    except ImportError as error:
        why = f"cannot be loaded: {error}"
    raise DeviceError(f"kernels for {instruction_set}: {why}")


def unavailable_instruction_sets() -> dict[str, str]:
    """Return the instruction sets whose kernels cannot be used here, and the reason of each."""
    reasons = {}
    for name in INSTRUCTION_SETS:
        try:
            load_kernels(name)
        except DeviceError as error:
            reasons[name] = str(error)
    return reasons


def available_instruction_sets() -> list[str]:
    """Return the instruction sets whose kernels were built and can run here, best first."""
    unavailable = unavailable_instruction_sets()
    return [name for name in INSTRUCTION_SETS if name not in unavailable]


# --- settings -----------------------------------------------------------------------------------


def default_num_threads() -> int:
    """Return `TINYGRAD_MASK_NUM_THREADS`, else `OMP_NUM_THREADS`, else the processors that this
    process may run on.

    Raises `DeviceError` where the first of these is no number from 1 to `MOST_THREADS`.
    """
    given = os.environ.get(THREADS_VARIABLE)
    if given is not None:
        if not given.isdecimal() or not 1 <= int(given) <= MOST_THREADS:
            raise DeviceError(f"{THREADS_VARIABLE}: expected 1 to {MOST_THREADS}, got {given!r}")
        return int(given)
    inherited = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if inherited.isdecimal() and int(inherited) >= 1:
        return min(int(inherited), MOST_THREADS)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Settings:
    """The settings of all compiled kernels, and the modules of kernels that were loaded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads: int | None = None  # until it is first asked for
        self.winograd = True
        self.kernels: list[Any] = []


_settings = _Settings()


def get_num_threads() -> int:
    """Return how many threads a compiled kernel uses."""
    with _settings.lock:
        if _settings.threads is None:
            _settings.threads = default_num_threads()
        return _settings.threads


def set_num_threads(count: int) -> None:
    """Have compiled kernels use `count` threads from now on, in all Python threads.

    Results depend on the number of threads in their last bits, and on nothing else. (What NumPy's
    own BLAS still computes has a number of its own, see the package threadpoolctl.) Raises
    `ValueError` unless `count` is a positive integer.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_THREADS:
        raise ValueError(f"set_num_threads: expected 1 to {MOST_THREADS}, got {count!r}")
    with _settings.lock:
        _settings.threads = count
        for kernels in _settings.kernels:
            kernels.set_num_threads(count)


def is_winograd_enabled() -> bool:
    """Return whether compiled float32 convolutions may use Winograd's algorithm."""
    return _settings.winograd


def set_winograd(enabled: bool) -> None:
    """Allow compiled float32 convolutions on the CPU to use Winograd's algorithm, or not.

    It is on at first, and halves the time of a 3x3 convolution or better. Its rounding error is at
    most 4 times that of adding the products one by one (root mean square; usually 2 to 3 times), or
    up to 20 times that of PyTorch's direct convolution, and a NaN or an infinity in one pixel
    spreads to all results of its tile, up to 36, not only to the 9 that see it. Without it, both
    are as the definition says. The setting holds for all Python threads.

    Example:
        >>> tinygrad_mask.set_winograd(False)   # accuracy before speed
    """
    if not isinstance(enabled, bool):
        raise TypeError(f"set_winograd: expected True or False, got {enabled!r}")
    with _settings.lock:
        _settings.winograd = enabled
        for kernels in _settings.kernels:
            kernels.set_winograd(enabled)


def load_configured(instruction_set: str) -> Any:
    """Return the kernels as `load_kernels` does, with the settings of now and of the future."""
    kernels = load_kernels(instruction_set)
    count = get_num_threads()
    with _settings.lock:
        if kernels not in _settings.kernels:
            _settings.kernels.append(kernels)
        kernels.set_num_threads(count)
        kernels.set_winograd(_settings.winograd)
    return kernels
