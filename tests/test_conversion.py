"""Tensors in another dtype and on another device: values, gradients, what ends the graph."""

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, no_grad
from tinygrad_mask.autograd import grad
from tinygrad_mask.backends import get_backend
from tinygrad_mask.testing import check_gradients


def leaf(values, dtype=np.float64, device="cpu"):
    return Tensor(np.array(values, dtype), requires_grad=True, device=device)


class TestAsType:
    def test_gradients_convert_back(self):
        x = leaf([1.0, 2.0], np.float32)
        y = x.astype(np.float64)
        assert (y.dtype, y.requires_grad, y.is_leaf) == (np.float64, True, False)
        (y * np.array([3.0, 4.0])).sum().backward()
        assert x.grad.dtype == np.float32
        np.testing.assert_array_equal(x.grad.numpy(), [3, 4])

    def test_agrees_with_finite_differences(self):
        check_gradients(lambda x: (x.astype(np.float64) * x).exp(), np.array([0.5, -0.3]))

    def test_second_derivatives(self):
        x = leaf([2.0], np.float32)
        (slope,) = grad(x.astype(np.float64) ** 3, x, create_graph=True)
        assert slope.dtype == np.float32
        assert grad(slope, x)[0].item() == 12

    def test_is_a_copy_also_in_the_same_dtype(self):
        x = leaf([1.0])
        y = x.astype(np.float64)
        assert not np.shares_memory(x.data, y.data)
        y.backward()
        assert x.grad.item() == 1

    def test_integers_end_the_graph(self):
        y = leaf([1.7, -1.7]).astype(np.int64)
        assert not y.requires_grad
        assert y.numpy().tolist() == [1, -1]
        assert y.astype(np.float32).is_leaf

    def test_mixed_precision_in_one_graph(self):
        x, w = leaf([[1.0, 2.0]], np.float32), leaf([[3.0], [4.0]])
        y = x.astype(np.float64) @ w
        y.astype(np.float32).backward(np.array([[2.0]], np.float32))
        np.testing.assert_array_equal(x.grad.numpy(), [[6, 8]])
        np.testing.assert_array_equal(w.grad.numpy(), [[2], [4]])

    def test_detach_and_no_grad_end_it(self):
        x = leaf([1.0])
        assert not x.detach().astype(np.float32).requires_grad
        with no_grad():
            assert not x.astype(np.float32).requires_grad

    def test_other_dtypes_are_refused(self):
        with pytest.raises(TypeError, match=r"expected a dtype of .*, got float16"):
            leaf([1.0]).astype(np.float16)


class TestTo:
    def test_the_same_device_gives_the_tensor_itself(self):
        x = leaf([1.0])
        assert x.to("cpu") is x
        assert x.to(get_backend("cpu")) is x


@pytest.mark.usefixtures("emulator")
class TestToEmulator:
    def test_gradients_move_back(self):
        x = leaf([1.0, 2.0])
        y = x.to("emulator")
        assert (y.device, y.requires_grad, y.is_leaf) == ("emulator", True, False)
        assert not np.shares_memory(x.data, y.data)
        F.sigmoid(y).sum().backward()
        assert x.grad.device == "cpu"
        s = 1 / (1 + np.exp(-x.numpy()))
        np.testing.assert_allclose(x.grad.numpy(), s * (1 - s))

    def test_there_and_back_in_one_graph(self):
        x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0], device="emulator")
        y = (x.to("emulator") * w).retain_grad()
        y.to("cpu").log().sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 1 / x.numpy())
        np.testing.assert_allclose(w.grad.numpy(), 1 / w.numpy())
        assert (w.grad.device, y.grad.device) == ("emulator", "emulator")

    def test_second_derivatives(self):
        x = leaf([2.0])
        (slope,) = grad((x.to("emulator") ** 3).to("cpu"), x, create_graph=True)
        assert slope.device == "cpu"
        assert grad(slope, x)[0].item() == 12

    def test_integers_move_and_detach_ends_the_graph(self):
        assert Tensor([1, 2]).to("emulator").numpy().tolist() == [1, 2]
        assert not leaf([1.0]).detach().to("emulator").requires_grad
