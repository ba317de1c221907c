"""One GPU per rank, and sums over NCCL, by a stand-in for CuPy that notes the calls."""

import logging
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_mask.distributed.devices import NcclSums, choose_device, nccl_sums


class Event:
    done = True


class FakeStream:
    def __init__(self, calls, name):
        self.calls, self.name, self.ptr = calls, name, f"ptr of {name}"

    def record(self):
        self.calls.append((self.name, "record"))
        return Event()

    def wait_event(self, event):
        self.calls.append((self.name, "wait_event"))


class FakeArray:
    """An array in the memory of a device; its pointer is the array itself."""

    def __init__(self, array):
        self.dtype, self.size = array.dtype, array.size
        self.data = SimpleNamespace(ptr=array)


def fake_cupy(available=True):
    calls = []
    current = FakeStream(calls, "compute")

    class NcclCommunicator:
        def __init__(self, size, identifier, rank):
            calls.append(("communicator", size, identifier, rank))

        def allReduce(self, source, target, count, kind, op, stream):  # noqa: N802, NCCL's name
            assert source is target
            calls.append(("allReduce", count, kind, op, stream))
            target *= 2  # the other rank has the same

    nccl = SimpleNamespace(
        available=available,
        get_unique_id=lambda: "id",
        NcclCommunicator=NcclCommunicator,
        NCCL_FLOAT="float",
        NCCL_DOUBLE="double",
        NCCL_SUM="sum",
    )
    cuda = SimpleNamespace(
        nccl=nccl,
        Stream=lambda non_blocking: FakeStream(calls, "communication"),
        get_current_stream=lambda: current,
    )
    return SimpleNamespace(cuda=cuda, calls=calls)


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "float"), (np.float64, "double")])
def test_a_sum_runs_on_a_stream_of_its_own_between_what_is_before_and_after(dtype, kind):
    cupy = fake_cupy()
    sums = NcclSums(cupy, 1, 2, lambda given: given or "id of rank 0")
    array = np.ones(3, dtype)
    pending = sums.begin(FakeArray(array))
    assert cupy.calls == [
        ("communicator", 2, "id of rank 0", 1),
        ("compute", "record"),
        ("communication", "wait_event"),
        ("allReduce", 3, kind, "sum", "ptr of communication"),
        ("communication", "record"),
    ]
    assert pending.poll()
    pending.wait()
    assert cupy.calls[-1] == ("compute", "wait_event")
    assert array.tolist() == [2, 2, 2]


def test_without_nccl_the_way_through_the_host_is_said_by_the_first_rank(caplog):
    with caplog.at_level(logging.WARNING):
        assert nccl_sums(fake_cupy(available=False), 1, 2, None) is None
        assert caplog.text == ""
        assert nccl_sums(fake_cupy(available=False), 0, 2, None) is None
    assert "gradients go through the memory of the host" in caplog.text
    assert isinstance(nccl_sums(fake_cupy(), 0, 2, lambda given: given), NcclSums)


@pytest.mark.parametrize(
    ("listed", "local_rank", "seen"), [("0,1,2", 1, "1"), ("4,7", 3, "7"), ("5", 2, "5")]
)
def test_each_rank_sees_the_gpu_of_its_number(monkeypatch, listed, local_rank, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    choose_device(local_rank)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
