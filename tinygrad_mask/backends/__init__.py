"""The devices: `get_backend("cpu")` and what it offers.

A device is loaded when it is first used: who computes on the CPU never loads the emulator.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tinygrad_mask.backends.interface import (
    Array,
    Backend,
    DeviceError,
    FusedActivation,
    Resize,
    Window,
)

if TYPE_CHECKING:
    from tinygrad_mask.backends.cpu_kernels import (
        get_num_threads,
        is_winograd_enabled,
        set_num_threads,
        set_winograd,
    )
    from tinygrad_mask.backends.emulator import emulator_backend

__all__ = [
    "Array",
    "Backend",
    "DeviceError",
    "FusedActivation",
    "Resize",
    "Window",
    "emulator_backend",
    "get_backend",
    "get_num_threads",
    "is_winograd_enabled",
    "resolve_device",
    "set_num_threads",
    "set_winograd",
]


_MODULES = {
    "emulator_backend": "emulator",
    "get_num_threads": "cpu_kernels",
    "is_winograd_enabled": "cpu_kernels",
    "set_num_threads": "cpu_kernels",
    "set_winograd": "cpu_kernels",
}
"""The modules of the names that are loaded on first use."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


def get_backend(device: "str | Backend") -> Backend:
    """Return the backend of a device: `cpu`, `cuda`, `emulator` (which executes the kernels of
    `cuda` on the host, slowly), or `auto` for the fastest that is there.

    Raises `DeviceError` where the device is unknown or is not available here.
    """
    if isinstance(device, Backend):
        return device
    if device == "cpu":
        from tinygrad_mask.backends.cpu import cpu_backend

        return cpu_backend()
    if device in ("auto", "cuda"):
        from tinygrad_mask.backends.cuda import cuda_backend, cuda_is_available

        return (
            get_backend("cpu") if device == "auto" and not cuda_is_available() else cuda_backend()
        )
    if device == "emulator":
        from tinygrad_mask.backends.emulator import emulator_backend

        return emulator_backend()
    raise DeviceError(f"device: expected 'auto', 'cpu', 'cuda' or 'emulator', got {device!r}")


def resolve_device(device: str) -> str:
    """Return the name of the device that `device` stands for: of `auto` the one that is chosen.

    Raises `DeviceError` if the device is unknown or is not available here, so a program can check
    a device before it does any work.
    """
    return get_backend(device).name
