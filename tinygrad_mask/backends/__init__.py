"""The devices: `get_backend("cpu")` and what it offers."""

from tinygrad_mask.backends.cpu import cpu_backend, get_num_threads, set_num_threads
from tinygrad_mask.backends.interface import Array, Backend, DeviceError, FusedActivation, Window

__all__ = [
    "Array",
    "Backend",
    "DeviceError",
    "FusedActivation",
    "Window",
    "get_backend",
    "get_num_threads",
    "set_num_threads",
]


def get_backend(device: "str | Backend") -> Backend:
    """Return the backend of a device: `cpu`, or `auto` for the fastest device that is there.

    Raises `DeviceError` where the device is unknown or is not available here.
    """
    if isinstance(device, Backend):
        return device
    if device in ("cpu", "auto"):
        return cpu_backend()
    if device == "cuda":
        raise DeviceError("device 'cuda' is not available: this version has no CUDA backend yet")
    raise DeviceError(f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}")
