"""What each device has is listed by it, and the lists are true."""

import json

import numpy as np
import pytest
from devices import needs_emulator
from kernel_calls import CALLS, call

from tinygrad_mask.backends import emulator_backend
from tinygrad_mask.backends.commands import DEVICES
from tinygrad_mask.backends.cpu import CpuBackend
from tinygrad_mask.backends.cpu_kernels import available_instruction_sets
from tinygrad_mask.backends.cuda import CudaBackend
from tinygrad_mask.backends.gpu.backend import GpuBackend
from tinygrad_mask.backends.interface import OPERATIONS, Backend, Implementation
from tinygrad_mask.backends.reference import ReferenceBackend
from tinygrad_mask.cli import main

each_backend = pytest.mark.parametrize("backend", [CpuBackend, GpuBackend, ReferenceBackend])
each_operation = pytest.mark.parametrize("operation", OPERATIONS)


def call_of(backend, operation):
    """Call an operation with arguments that are not among its exceptions."""
    rng = np.random.default_rng(0)
    if operation == "matmul":  # not a stack of short products
        return backend.matmul(*rng.standard_normal((2, 8, 8)).astype(np.float32))
    if operation == "sum":  # not of a few terms that lie side by side
        return backend.sum(rng.standard_normal((300, 8)).astype(np.float32), (0,))
    return call(backend, operation, np.float32)


def test_every_operation_is_called_here():
    assert {*CALLS, "sum"} == set(OPERATIONS)


@pytest.mark.parametrize("backend", [*DEVICES.values(), ReferenceBackend])
def test_a_device_lists_every_operation_and_no_other(backend):
    assert set(backend.implementations) == set(OPERATIONS)
    assert set(backend.exceptions) <= set(OPERATIONS)


@each_backend
def test_a_device_defines_every_operation_itself(backend):
    assert backend.__bases__ == (Backend,)
    assert set(OPERATIONS) <= set(vars(backend))


def test_a_gpu_overrides_no_operation_that_the_emulator_runs():
    assert CudaBackend.__bases__ == (GpuBackend,)
    assert not set(OPERATIONS) & set(vars(CudaBackend))


class Counting:
    """A module of kernels that counts the calls of its functions on arrays."""

    def __init__(self, kernels):
        self.kernels, self.calls = kernels, 0

    def __getattr__(self, name):
        value = getattr(self.kernels, name)
        if not callable(value) or name == "set_allocator":
            return value

        def counted(*arguments):
            self.calls += 1
            return value(*arguments)

        return counted


@pytest.mark.skipif(not available_instruction_sets(), reason="no kernels were compiled here")
@each_operation
def test_what_the_cpu_lists_as_hand_written_calls_a_kernel(operation):
    backend = CpuBackend(available_instruction_sets()[0])
    backend.kernels = counting = Counting(backend.kernels)
    call_of(backend, operation)
    hand_written = CpuBackend.implementations[operation] is Implementation.HAND_WRITTEN
    assert (counting.calls > 0) == hand_written


@needs_emulator
@each_operation
def test_what_a_gpu_lists_as_hand_written_launches_a_kernel(operation, monkeypatch):
    backend = emulator_backend("fast")
    launches = []
    start = backend.launcher.start

    def counted(*arguments):
        launches.append(arguments)
        start(*arguments)

    monkeypatch.setattr(backend.launcher, "start", counted)
    call_of(backend, operation)
    hand_written = GpuBackend.implementations[operation] is Implementation.HAND_WRITTEN
    assert (len(launches) > 0) == hand_written


@pytest.mark.parametrize("device", [CpuBackend, GpuBackend])
@pytest.mark.parametrize("operation", ["matmul", "max_pool2d", "relu"])
def test_exceptions_are_listed(device, operation):
    assert "integers" in device.exceptions[operation]


def test_the_table_has_a_row_for_each_operation_and_a_column_for_each_device(capsys):
    assert main(["kernels", "--table"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["operation", *DEVICES]
    listed = {row.split()[0]: row for row in rows[: len(OPERATIONS)]}
    assert list(listed) == list(OPERATIONS)
    assert listed["conv2d"].split() == ["conv2d", *["hand-written"] * 3]
    assert listed["scatter_add"].split() == ["scatter_add", "reference", *["hand-written"] * 2]
    assert all(len(row) <= 100 for row in rows)
    assert listed["sum"].split() == ["sum", "hand-written", "[1]", *["array", "library"] * 2]
    [sums] = [row for row in rows if row.startswith("[1]")]
    assert "array library" in sums


def test_the_table_as_json(capsys):
    assert main(["kernels", "--table", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == list(DEVICES)
    assert printed["cuda"]["relu"] == "hand-written (integers: reference)"
