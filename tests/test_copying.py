"""Copies and pickles of tensors, parameters and backends."""

import copy
import multiprocessing
import operator
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn
from tinygrad_mask.backends import emulator_backend, get_backend
from tinygrad_mask.nn import Parameter

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")
PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)

COPIES = {"deepcopy": copy.deepcopy} | {
    f"protocol {k}": lambda value, k=k: pickle.loads(pickle.dumps(value, k)) for k in PROTOCOLS
}
each_copy = pytest.mark.parametrize("clone", COPIES.values(), ids=COPIES)


class Named(Parameter):
    """A subclass with attributes of its own, as users write them."""

    def __init__(self, data, name):
        super().__init__(data)
        self.name = name


@each_copy
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 2), (3, 4)])
def test_a_copy_is_equal_and_has_memory_of_its_own(clone, dtype, shape):
    tensor = Tensor(np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype))
    twin = clone(tensor)
    assert type(twin) is Tensor
    assert (twin.dtype, twin.shape, twin.device) == (tensor.dtype, tensor.shape, tensor.device)
    np.testing.assert_array_equal(twin.numpy(), tensor.numpy())
    assert not np.shares_memory(twin.numpy(), tensor.numpy())
    assert twin.backend is tensor.backend
    twin[...] = 1  # its memory may be written
    assert twin.numpy().all()


@each_copy
def test_a_parameter_stays_one_with_its_gradient_and_attributes(clone):
    parameter = Named(np.array([1.0, 2.0]), "scale")
    (parameter * 3).sum().backward()
    twin = clone(parameter)
    assert type(twin) is Named
    assert twin.name == "scale"
    assert twin.requires_grad
    assert twin.is_leaf
    np.testing.assert_array_equal(twin.grad.numpy(), [3, 3])
    (twin * 4).sum().backward()
    np.testing.assert_array_equal(twin.grad.numpy(), [7, 7])
    np.testing.assert_array_equal(parameter.grad.numpy(), [3, 3])


@each_copy
def test_a_tensor_that_occurs_twice_is_copied_once(clone):
    tensor = Tensor([1.0])
    first, second = clone([tensor, tensor])
    assert first is second


@each_copy
def test_a_view_is_copied_with_the_elements_that_it_shows(clone):
    tensor = Tensor(np.arange(6.0).reshape(2, 3)).T.broadcast_to(2, 3, 2)
    np.testing.assert_array_equal(clone(tensor).numpy(), tensor.numpy())


@each_copy
def test_a_recorded_result_is_refused(clone):
    result = Tensor([1.0], requires_grad=True) * 2
    with pytest.raises(RuntimeError, match=r"expected a leaf tensor, got one made by multiply"):
        clone(result)
    clone(result.detach())


def test_a_shallow_copy_shares_memory_and_version():
    parameter = Named(np.array([1.0, 2.0]), "scale")
    twin = copy.copy(parameter)
    assert type(twin) is Named
    assert twin.name == "scale"
    assert np.shares_memory(twin.numpy(), parameter.numpy())
    loss = (parameter * parameter).sum()
    twin.detach()[0] = 5.0
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()


@each_copy
def test_a_backend_is_the_one_of_its_name(clone):
    assert clone(get_backend("cpu")) is get_backend("cpu")


@pytest.mark.usefixtures("emulator")
def test_tensors_of_the_emulator():
    backend = emulator_backend()
    assert pickle.loads(pickle.dumps(backend)) is backend
    tensor = Tensor([1.0, 2.0], device="emulator")
    for clone in COPIES.values():
        assert clone(tensor).device == "emulator"
    assert copy.deepcopy(Tensor([1.0], device=emulator_backend("check"))).backend is (
        emulator_backend("check")
    )


def test_tensors_and_parameters_travel_to_another_process(monkeypatch):
    # Otherwise the process that is started runs the script that started the tests again.
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    context = multiprocessing.get_context("spawn")
    parameter = Parameter(np.array([1.0, 2.0]))
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        result = pool.submit(operator.neg, Tensor([1.0, 2.0])).result()
        np.testing.assert_array_equal(result.numpy(), [-1, -2])
        # The result there is recorded, and a graph does not travel.
        with pytest.raises(RuntimeError, match="made by negative"):
            pool.submit(operator.neg, parameter).result()
    with context.Pool(1) as pool:
        (result,) = pool.map(F.exp, [Tensor([0.0])])
        assert result.item() == 1


def test_models_are_made_of_what_can_be_copied():
    layer = nn.Linear(2, 3, rng=np.random.default_rng(0))
    twin = copy.deepcopy(layer)
    assert twin.weight is not layer.weight
    np.testing.assert_array_equal(twin.weight.numpy(), layer.weight.numpy())
