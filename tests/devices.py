"""The devices that the suites of kernels and gradients run on, and how many examples each gets.

Without `--device` they run on the CPU, on the kernels of every instruction set, and with a few
examples on the emulator, which is slow. With it they run on that device alone, with all of them.
"""

import functools
import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_mask.backends import Backend, DeviceError, emulator_backend, get_backend
from tinygrad_mask.backends.cpu import CpuBackend
from tinygrad_mask.backends.cpu_kernels import available_instruction_sets
from tinygrad_mask.emulator import EmulatorError
from tinygrad_mask.emulator.sass import disassembler

NAMES = ("cpu", "cuda", "emulator")

SLOWNESS = 12  # how many examples the CPU gets for one of the emulator's

chosen: str | None = None
"""What `--device` says; see conftest.py."""


@functools.cache
def emulator_is_missing() -> str | None:
    """Why there is no emulator here, if there is none."""
    try:
        emulator_backend()
    except DeviceError as error:
        return str(error)
    return None


needs_emulator = pytest.mark.usefixtures("emulator")
"""Skips a test, or with `pytestmark` a module, where there is no emulator; see conftest.py."""


@functools.cache
def disassembler_is_missing() -> str | None:
    """Why there is no nvdisasm here, if there is none."""
    try:
        disassembler()
    except EmulatorError as error:
        return str(error)
    return None


needs_nvdisasm = pytest.mark.skipif(
    disassembler_is_missing() is not None, reason=str(disassembler_is_missing())
)
"""Skips a test where machine code cannot be listed."""


def each_backend(*, instruction_sets: bool = True, emulator: bool = True, gpu: bool = True):
    """Parametrize a test by `backend`: the CPU and the emulator, or the device that was chosen.

    The CPU counts once for each instruction set that runs here, unless `instruction_sets=False`.
    With `emulator=False` the emulator is left out unless it was chosen: it would take too long.
    With `gpu=False` only the CPU is left.
    """
    parameters = []
    if chosen in (None, "cpu"):
        sets = available_instruction_sets() if instruction_sets else []
        parameters = [pytest.param(CpuBackend(name), id=name) for name in sets]
        parameters = parameters or [pytest.param(get_backend("cpu"), id="cpu")]
    elif gpu:
        parameters = [pytest.param(get_backend(chosen), id=chosen)]
    if chosen is None and emulator and gpu and emulator_is_missing() is None:
        # In an order that no kernel may count on, and with everything checked.
        checking = emulator_backend(mode="check", order="random", seed=1)
        parameters.append(pytest.param(checking, id="emulator"))
    return pytest.mark.parametrize("backend", parameters)


def few_entries(backend: Backend) -> dict[str, int]:
    """Options of `check_gradients`: on the emulator a few entries of each input, not all."""
    return {"entries": 4} if backend.name == "emulator" and chosen is None else {}


def put(array, backend: Backend):
    """Return what a NumPy array holds on a device, lying in memory as it does there."""
    if backend.xp is np:
        return array
    memory = array
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    offset, rest = divmod(_address(array) - _address(memory), array.itemsize)
    if rest or memory.dtype != array.dtype or not memory.flags.forc:
        return backend.asarray(array)  # no array of a GPU begins within an element
    elements = backend.asarray(memory.ravel(order="K"))[offset:]
    return backend.xp.lib.stride_tricks.as_strided(elements, array.shape, array.strides)


def _address(array):
    return array.__array_interface__["data"][0]


def drawn(*, share: int = 1, examples: int | None = None):
    """Have a test, parametrized by `backend`, draw its argument `data` for each example.

    Their number is `examples`, or the profile's, divided by `share`; less where it is slow.
    """

    def decorate(test):
        def run(*, backend: Backend, **arguments):
            count = (examples or settings.default.max_examples) // share
            if backend.name == "emulator" and chosen is None:
                count //= SLOWNESS

            def body(data):
                test(backend=backend, data=data, **arguments)

            body.__name__ = test.__name__
            settings(max_examples=max(count, 1))(given(data=st.data())(body))()

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        parameters = inspect.signature(test).parameters.values()
        run.__signature__ = inspect.Signature([p for p in parameters if p.name != "data"])
        return run

    return decorate
