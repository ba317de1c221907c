"""What would be lost in silence is refused: graphs, masks, digits of numbers, modules in sets."""

import numpy as np
import pytest
from devices import each_backend

from tinygrad_mask import Tensor, from_dlpack, nn, no_grad
from tinygrad_mask import functions as F


def leaf():
    return Tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)


def test_a_list_with_a_leaf_that_requires_a_gradient_is_not_assigned():
    a = Tensor(np.array(0.5, np.float32), requires_grad=True)
    x = Tensor(np.zeros(2, np.float32))
    with pytest.raises(RuntimeError, match="cannot record a write in place"):
        x[:] = [a, a]
    with no_grad():
        x[:] = [a, a]
    assert x.numpy().tolist() == [0.5, 0.5]


def test_from_array_does_not_cut_a_graph():
    with pytest.raises(RuntimeError, match=r"from_array: .*multiply"):
        Tensor.from_array(leaf() * 2)


def test_masks_are_not_dropped():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    with pytest.raises(TypeError, match="from_dlpack: expected an array without a mask"):
        from_dlpack(masked)
    with pytest.raises(TypeError, match="Tensor: expected an array without a mask"):
        Tensor([masked, masked])


@pytest.mark.parametrize(
    ("dtype", "values"), [(np.uint8, [300, 1]), (np.uint8, [1, -1]), (np.int32, [2**40, 0])]
)
def test_a_list_of_integers_outside_the_range_is_not_wrapped(dtype, values):
    x = Tensor(np.ones(2, dtype))
    with pytest.raises(OverflowError, match="setitem: expected a number from"):
        x[:] = values
    assert x.numpy().tolist() == [1, 1]
    x[:] = [2, 3]
    assert x.numpy().tolist() == [2, 3]


@pytest.mark.parametrize("collection", [set, frozenset])
def test_a_set_of_modules_is_refused(collection):
    module = nn.Module()
    with pytest.raises(TypeError, match=r"expected nn\.ModuleList"):
        module.layers = collection([nn.ReLU()])
    module.names = collection(["a"])


@pytest.mark.parametrize("look_up", ["embedding", "getitem"])
@each_backend(emulator=False, gpu=False)
def test_gradients_of_an_index_that_comes_often_add_up_exactly(look_up, backend):
    # The right value: the sum in double precision.
    gradient = np.random.default_rng(0).random((300_000, 2), np.float32) + 3
    weight = Tensor(np.zeros((3, 2), np.float32), device=backend, requires_grad=True)
    indices = np.zeros(len(gradient), np.int64)
    rows = F.embedding(indices, weight) if look_up == "embedding" else weight[indices]
    rows.backward(Tensor(gradient, device=backend))
    expected = gradient.sum(axis=0, dtype=np.float64)
    np.testing.assert_allclose(weight.grad.numpy()[0], expected, rtol=1e-6)
