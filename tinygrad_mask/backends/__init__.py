"""The devices: `get_backend("cpu")` and what it offers."""

from tinygrad_mask.backends.cpu import (
    cpu_backend,
    get_num_threads,
    is_winograd_enabled,
    set_num_threads,
    set_winograd,
)
from tinygrad_mask.backends.cuda import cuda_backend, cuda_is_available
from tinygrad_mask.backends.emulator import emulator_backend
from tinygrad_mask.backends.interface import (
    Array,
    Backend,
    DeviceError,
    FusedActivation,
    Resize,
    Window,
)

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


def get_backend(device: "str | Backend") -> Backend:
    """Return the backend of a device: `cpu`, `cuda`, `emulator` (which executes the kernels of
    `cuda` on the host, slowly), or `auto` for the fastest that is there.

    Raises `DeviceError` where the device is unknown or is not available here.
    """
    if isinstance(device, Backend):
        return device
    if device == "cpu":
        return cpu_backend()
    if device == "auto":
        return cuda_backend() if cuda_is_available() else cpu_backend()
    if device == "cuda":
        return cuda_backend()
    if device == "emulator":
        return emulator_backend()
    raise DeviceError(f"device: expected 'auto', 'cpu', 'cuda' or 'emulator', got {device!r}")


def resolve_device(device: str) -> str:
    """Return the name of the device that `device` stands for: of `auto` the one that is chosen.

    Raises `DeviceError` if the device is unknown or is not available here, so a program can check
    a device before it does any work.
    """
    return get_backend(device).name
