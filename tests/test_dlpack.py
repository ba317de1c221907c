"""Memory shared with NumPy and with CuPy's stand-in; PyTorch's part is in the oracle group."""

import sys

import fake_cupy
import numpy as np
import pytest

import tinygrad_mask as tg
from tinygrad_mask import Tensor
from tinygrad_mask.backends import cuda

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_ways_share_the_memory_with_numpy(dtype):
    array = np.zeros((2, 3), dtype)
    tensor = tg.from_dlpack(array)
    assert (tensor.shape, tensor.dtype, tensor.device) == ((2, 3), array.dtype, "cpu")
    array[0, 1] = 1
    assert tensor.numpy()[0, 1] == 1
    back = np.from_dlpack(tensor)
    tensor[1, 2] = 1
    assert back[1, 2] == array[1, 2] == 1


def test_views_keep_their_strides():
    array = np.arange(24.0).reshape(4, 6)[::2, ::3].T
    np.testing.assert_array_equal(tg.from_dlpack(array).numpy(), array)
    np.testing.assert_array_equal(np.from_dlpack(Tensor(array).detach()), array)


def test_the_device_is_dlpacks_number():
    assert Tensor([1.0]).__dlpack_device__() == (1, 0)


def test_what_requires_a_gradient_is_not_exported():
    x = Tensor([1.0], requires_grad=True)
    for tensor in (x, x * 2):
        with pytest.raises(BufferError, match=r"^dlpack: .*; export detach"):
            np.from_dlpack(tensor)
        assert np.from_dlpack(tensor.detach()).shape == (1,)


def test_an_in_place_operator_that_would_be_recorded_is_refused_after_an_export():
    x, w = Tensor([1.0, 2.0]), Tensor([3.0, 4.0], requires_grad=True)
    np.from_dlpack(x)
    with pytest.raises(RuntimeError, match="share"):
        x *= w


def test_a_read_only_array_gives_a_tensor_that_cannot_be_written_to():
    array = np.zeros(2)
    array.flags.writeable = False
    try:
        tensor = tg.from_dlpack(array)
    except BufferError:  # NumPy before 2.1 does not export it at all
        return
    with pytest.raises(ValueError, match="read-only"):
        tensor[0] = 1


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        ([1.0], TypeError, "expected an array that has __dlpack__, got list; use Tensor"),
        (np.zeros(2, np.float16), TypeError, "float16"),
        (np.zeros(2, np.complex64), TypeError, "complex64"),
    ],
)
def test_what_tensors_cannot_hold_is_refused(array, error, message):
    with pytest.raises(error, match=message):
        tg.from_dlpack(array)


def test_an_array_on_another_kind_of_device_is_refused():
    class OnMetal:
        def __dlpack__(self, **options):
            raise AssertionError("nobody asks")

        def __dlpack_device__(self):
            return 8, 0

    with pytest.raises(BufferError, match="DLPack's device 8; copy it to the CPU"):
        tg.from_dlpack(OnMetal())


@pytest.fixture
def cupy(monkeypatch, emulator):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    cuda.cuda_backend.cache_clear()
    cuda.cuda_is_available.cache_clear()
    yield fake_cupy
    cuda.cuda_backend.cache_clear()
    cuda.cuda_is_available.cache_clear()


def test_both_ways_share_the_memory_with_cupy(cupy):
    array = cupy.zeros((2, 3), np.float32)
    tensor = tg.from_dlpack(array)
    assert (tensor.shape, tensor.dtype, tensor.device) == ((2, 3), np.dtype(np.float32), "cuda")
    assert tensor.__dlpack_device__() == (2, 0)
    array[0, 1] = 1
    assert tensor.numpy()[0, 1] == 1
    back = cupy.from_dlpack(tensor)
    tensor[1, 2] = 2
    assert back.get()[1, 2] == 2
