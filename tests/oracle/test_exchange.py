"""Exchange with PyTorch: memory by DLPack, the parts of a random split."""

import numpy as np
import pytest

import tinygrad_mask as tg
from tinygrad_mask import Tensor
from tinygrad_mask.data import random_split

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_ways_share_the_memory(dtype):
    theirs = torch.zeros((2, 3), dtype=getattr(torch, dtype)).T
    tensor = tg.from_dlpack(theirs)
    assert (tensor.shape, tensor.dtype) == ((3, 2), np.dtype(dtype))
    theirs[0, 1] = 1
    assert tensor.numpy()[0, 1] == 1
    back = torch.from_dlpack(tensor)
    assert back.dtype == theirs.dtype
    tensor[2, 0] = 1
    assert back[2, 0] == theirs[2, 0] == 1


def test_gradients_stay_behind():
    with pytest.raises(BufferError, match="require"):
        tg.from_dlpack(torch.ones(2, requires_grad=True))
    with pytest.raises(BufferError, match="export detach"):
        torch.from_dlpack(Tensor([1.0], requires_grad=True))


@pytest.mark.parametrize("shares", [[0.8, 0.2], [0.29, 0.71], [0.25] * 4, [1.0], [0.5, 0.0, 0.5]])
@pytest.mark.parametrize("total", [0, 1, 7, 100])
def test_shares_are_rounded_as_in_pytorch(total, shares):
    theirs = torch.utils.data.random_split(range(total), shares)
    ours = random_split(range(total), shares)
    assert [len(part) for part in ours] == [len(part) for part in theirs]
