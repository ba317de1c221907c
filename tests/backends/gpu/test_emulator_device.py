"""The device `emulator`: how it is asked for, and what is said where it is not to be had."""

import numpy as np
import pytest
from devices import needs_emulator

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor
from tinygrad_mask.backends import DeviceError, emulator_backend, get_backend
from tinygrad_mask.backends import emulator as device
from tinygrad_mask.emulator import EmulatorError, KernelError


def say_of(backend):
    launcher = backend.launcher
    return launcher.mode, launcher.arch, launcher.order, launcher.seed


@pytest.fixture
def nothing_set(monkeypatch):
    for variable in (device.MODE_VARIABLE, device.ARCH_VARIABLE, device.ORDER_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


@needs_emulator
@pytest.mark.usefixtures("nothing_set")
class TestChoice:
    def test_defaults(self):
        assert say_of(get_backend("emulator")) == ("fast", "sm_90", "forward", 0)
        assert get_backend("emulator").launcher.capability == (9, 0)

    def test_the_environment_changes_them(self, monkeypatch):
        monkeypatch.setenv(device.MODE_VARIABLE, "check")
        monkeypatch.setenv(device.ARCH_VARIABLE, "sm_120")
        monkeypatch.setenv(device.ORDER_VARIABLE, "random")
        assert say_of(get_backend("emulator")) == ("check", "sm_120", "random", 0)
        assert get_backend("emulator").launcher.capability == (12, 0)
        assert say_of(emulator_backend("fast", seed=3)) == ("fast", "sm_120", "random", 3)

    def test_the_same_choice_is_the_same_device(self):
        assert get_backend("emulator") is emulator_backend("fast", "sm_90")
        assert get_backend("emulator") is not emulator_backend("check")

    @pytest.mark.parametrize(
        ("variable", "value", "message"),
        [
            (device.MODE_VARIABLE, "slow", "expected one of fast, check, got 'slow'"),
            (device.ORDER_VARIABLE, "", "expected one of forward, reverse, random, got ''"),
            (device.ARCH_VARIABLE, "sm_1", "expected one of sm_75, .*, got 'sm_1'"),
        ],
    )
    def test_another_value_is_refused(self, monkeypatch, variable, value, message):
        monkeypatch.setenv(variable, value)
        with pytest.raises(DeviceError, match=f"{variable}: {message}"):
            get_backend("emulator")


@pytest.mark.parametrize("missing", ["toolchain.compiler", "nvrtc.architectures"])
def test_where_a_compiler_is_missing_the_error_says_so(monkeypatch, missing):
    def fail():
        raise EmulatorError("there is no such compiler")

    monkeypatch.setattr(f"tinygrad_mask.emulator.{missing}", fail)
    device._emulator_backend.cache_clear()
    with pytest.raises(DeviceError, match="'emulator' is not available: there is no such compiler"):
        get_backend("emulator")
    device._emulator_backend.cache_clear()


@needs_emulator
class TestTensors:
    def test_go_there_and_back(self):
        tensor = Tensor([[1.0, -2.0]]).to("emulator")
        assert tensor.device == "emulator"
        assert repr(tensor) == "Tensor([[ 1., -2.]], dtype=float32, device='emulator')"
        np.testing.assert_array_equal(tensor.to("cpu").numpy(), [[1, -2]])
        np.testing.assert_array_equal(tensor.relu().numpy(), [[1, 0]])

    def test_do_not_mix_with_those_of_the_cpu(self):
        here, there = Tensor([1.0]), Tensor([1.0], device="emulator")
        with pytest.raises(ValueError, match="expected all tensors on one device"):
            here + there
        with pytest.raises(ValueError, match="expected all tensors on one device"):
            F.cross_entropy(Tensor([[1.0, 2.0]]), Tensor([1], device="emulator"))
        with pytest.raises(ValueError, match="expected all tensors on one device"):
            there.copy_(here)

    def test_a_kernel_draws_what_the_cpu_draws(self):
        here, there = (
            F.dropout(Tensor(np.ones(100, np.float32), device=d), 0.3, np.random.default_rng(1))
            for d in ("cpu", "emulator")
        )
        np.testing.assert_array_equal(here.numpy(), there.numpy())


@needs_emulator
def test_check_mode_knows_what_nobody_has_written():
    """Results and scratch arrays are allocated as on a GPU: they hold nothing."""
    backend = emulator_backend("check")
    x = backend.xp.empty((4, 8), np.float32)
    with pytest.raises(KernelError, match=r"uninitialised global memory .* of x \(argument 4, "):
        backend.relu(x)
    x[...] = 1
    assert (backend.relu(x) == 1).all()
    assert backend.relu(backend.relu(x)).tolist() == x.tolist()
