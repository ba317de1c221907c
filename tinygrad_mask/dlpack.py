"""Tensors that share memory with arrays of other libraries, by way of DLPack.

Neither direction copies: `tg.from_dlpack(x)` makes a tensor of an array of NumPy, CuPy or PyTorch;
`np.from_dlpack(x)`, `cupy.from_dlpack(x)` and `torch.from_dlpack(x)` take a tensor.
"""

from typing import Any

import numpy as np

from tinygrad_mask.autograd import plain_array
from tinygrad_mask.backends import get_backend
from tinygrad_mask.tensor import Tensor

_ON_THE_HOST = {1: "CPU", 3: "CUDA host", 13: "CUDA managed"}
_ON_CUDA = 2
"""Numbers of DLPack's for kinds of devices (`DLDeviceType` in dlpack.h)."""


def from_dlpack(array: Any) -> Tensor:
    """Return a tensor that shares the memory of an array of another library, on the same device.

    A write on either side is seen on the other; the tensor does not notice what the other library
    writes, and a backward pass that needs the old values would use the new ones. An array that is
    read-only gives a tensor that cannot be written to.

    Raises:
        TypeError: for an object that is no array of such a library, and for a dtype that tensors do
            not have.
        BufferError: where the other library refuses, as PyTorch does for a tensor that requires a
            gradient.
        DeviceError: for an array on a GPU, if `cuda` is not available.

    Example:
        >>> array = np.zeros(3, np.float32)
        >>> tensor = from_dlpack(array)
        >>> tensor[0] = 1
        >>> array.tolist()
        [1.0, 0.0, 0.0]
    """
    if not (hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__")):
        raise TypeError(
            f"from_dlpack: expected an array that has __dlpack__, got {type(array).__name__}; "
            "use Tensor(...), which copies"
        )
    plain_array(array, "from_dlpack")  # refuses a mask, which would be lost
    kind, _ = array.__dlpack_device__()
    if int(kind) in _ON_THE_HOST:
        return Tensor.from_array(np.from_dlpack(array))
    if int(kind) == _ON_CUDA:
        backend = get_backend("cuda")
        return Tensor.from_array(backend.xp.from_dlpack(array), backend)
    raise BufferError(
        f"from_dlpack: expected an array on a CPU or an NVIDIA GPU, got DLPack's device {kind}; "
        "copy it to the CPU first"
    )
