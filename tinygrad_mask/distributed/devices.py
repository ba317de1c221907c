"""One GPU per rank, and sums over NCCL where CuPy has it."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from tinygrad_mask.backends import Array
from tinygrad_mask.distributed.group import Pending

_LOGGER = logging.getLogger(__name__)
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def choose_device(local_rank: int) -> None:
    """Let this process see one GPU only, that of its rank on its machine.

    If there are fewer GPUs than ranks, they are shared. What `CUDA_VISIBLE_DEVICES` lists is dealt
    to the ranks; a list of one was made by a launcher that has dealt already. It has no effect
    once CUDA is in use.
    """
    if "cupy" in sys.modules:
        return
    listed = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    if not listed:
        listed = [str(number) for number in range(_gpu_count())]
    if len(listed) > 1:
        os.environ[_VISIBLE] = listed[local_rank % len(listed)]


def _gpu_count() -> int:
    try:
        return len([name for name in os.listdir("/proc/driver/nvidia/gpus") if name])
    except OSError:
        return 0


class NcclSums:
    """Sums over all ranks of arrays in the memory of GPUs, on a stream of their own.

    A sum begins when what was queued before it has been computed; whatever is queued after `wait`
    begins when the sum is there. The host waits for neither.

    Args:
        cupy: the module, or a stand-in for it.
        rank, size: this rank's number, and the number of ranks.
        broadcast: gives all ranks the object of rank 0.
    """

    def __init__(self, cupy: Any, rank: int, size: int, broadcast: Callable[[Any], Any]) -> None:
        self._cupy = cupy
        self._nccl = cupy.cuda.nccl
        identifier = broadcast(self._nccl.get_unique_id() if rank == 0 else None)
        self._communicator = self._nccl.NcclCommunicator(size, identifier, rank)
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def begin(self, array: Array) -> Pending:
        """Begin to replace a contiguous array by its sum."""
        nccl, cuda = self._nccl, self._cupy.cuda
        kinds = {"f2": "HALF", "f4": "FLOAT", "f8": "DOUBLE", "i4": "INT32", "i8": "INT64"}
        kind = getattr(nccl, f"NCCL_{kinds[array.dtype.str[1:]]}")
        self._stream.wait_event(cuda.get_current_stream().record())
        memory: Any = array.data
        pointer = memory.ptr
        self._communicator.allReduce(
            pointer, pointer, array.size, kind, nccl.NCCL_SUM, self._stream.ptr
        )
        done = self._stream.record()
        return Pending(lambda: bool(done.done), lambda: cuda.get_current_stream().wait_event(done))


def nccl_sums(cupy: Any, rank: int, size: int, broadcast: Callable[[Any], Any]) -> NcclSums | None:
    """Return sums over NCCL, or None if this CuPy has none, which is said once."""
    if cupy.cuda.nccl.available if hasattr(cupy.cuda, "nccl") else False:
        return NcclSums(cupy, rank, size, broadcast)
    if rank == 0:
        _LOGGER.warning(
            "CuPy was built without NCCL: gradients go through the memory of the host; "
            "pip install nvidia-nccl-cu12 (or -cu13) makes them go from GPU to GPU"
        )
    return None
