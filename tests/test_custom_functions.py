"""Functions of the user's own: several outputs, and what is reported by their name."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import Function, Tensor
from tinygrad_mask.autograd import grad
from tinygrad_mask.testing import check_gradients


def leaf(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


class Cube(Function):
    """x ** 3 with a second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * 3 * x**2

    differentiable_backward = backward


class TestSeveralOutputs:
    class SumAndProduct(Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x + y, x * y, x > y

        @staticmethod
        def backward(ctx, grad_sum, grad_product, grad_larger):
            x, y = ctx.saved_tensors
            assert grad_larger is None
            grad_x = grad_y = grad_sum
            if grad_product is not None:
                grad_x = grad_product * y if grad_x is None else grad_x + grad_product * y
                grad_y = grad_product * x if grad_y is None else grad_y + grad_product * x
            return grad_x, grad_y

        differentiable_backward = backward

    def test_each_output_has_a_gradient_of_its_own(self):
        x, y = leaf(3), leaf(3, seed=1)
        total, product, larger = self.SumAndProduct.apply(x, y)
        np.testing.assert_array_equal(larger.numpy(), x.numpy() > y.numpy())
        assert not larger.requires_grad
        (total * 2 + product * product).sum().backward()
        a, b = x.numpy(), y.numpy()
        np.testing.assert_allclose(x.grad.numpy(), 2 + 2 * a * b * b)
        np.testing.assert_allclose(y.grad.numpy(), 2 + 2 * a * a * b)

    @pytest.mark.parametrize("used", [0, 1])
    def test_an_output_that_is_not_used_gives_none(self, used):
        x, y = leaf(3), leaf(3, seed=1)
        self.SumAndProduct.apply(x, y)[used].sum().backward()
        expected = np.ones(3) if used == 0 else y.numpy()
        np.testing.assert_array_equal(x.grad.numpy(), expected)

    def test_second_derivatives_and_finite_differences(self):
        def function(x, y):
            total, product, _ = self.SumAndProduct.apply(x, y)
            return (total * product).sum()

        def slope(x, y):
            return grad(function(x, y), x, create_graph=True)[0]

        x, y = leaf(3), leaf(3, seed=1)
        check_gradients(function, x.numpy(), y.numpy())
        dx, dy = grad(slope(x, y).sum(), [x, y])
        np.testing.assert_allclose(dx.numpy(), 2 * y.numpy())
        np.testing.assert_allclose(dy.numpy(), 2 * (x.numpy() + y.numpy()))

    def test_saved_outputs_lead_back_to_the_function(self):
        class ExpAndDouble(Function):
            @staticmethod
            def forward(ctx, x):
                y = np.exp(x)
                ctx.save_for_backward(y)
                return y, 2 * x

            @staticmethod
            def backward(ctx, grad_exp, grad_double):
                (y,) = ctx.saved_tensors
                return grad_exp * y

            differentiable_backward = backward

        x = leaf(2)
        y, _ = ExpAndDouble.apply(x)
        (g,) = grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(grad(g.sum(), y, retain_graph=True)[0].numpy(), [1, 1])
        np.testing.assert_allclose(grad(g.sum(), x)[0].numpy(), np.exp(x.numpy()))

    def test_no_reference_cycle(self):
        gc.collect()
        gc.disable()
        try:
            outputs = self.SumAndProduct.apply(leaf(2), leaf(2))
            gone = [weakref.ref(outputs[0]), weakref.ref(outputs[0].node)]
            gone.append(weakref.ref(outputs[0].node.edges[0]))
            del outputs
            assert [ref() for ref in gone] == [None] * 3
        finally:
            gc.enable()

    def test_retained_gradients(self):
        outputs = self.SumAndProduct.apply(leaf(2), leaf(2))
        outputs[0].retain_grad()
        (outputs[0] * 3).sum().backward()
        assert outputs[0].grad.numpy().tolist() == [3, 3]
        assert outputs[1].grad is None


class TestFunctions:
    @pytest.mark.parametrize(
        ("result", "kind"),
        [([1.0], "list"), (None, "NoneType"), (2.0, "float"), (Tensor([1.0]), "Tensor")],
    )
    def test_a_forward_that_returns_no_array_is_reported_by_name(self, result, kind):
        class Odd(Function):
            @staticmethod
            def forward(ctx, x):
                return result

        class Pair(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1, result

        for function in (Odd, Pair):
            with pytest.raises(TypeError, match=rf"{function.name}: expected forward.* got {kind}"):
                function.apply(leaf(1))

    @pytest.mark.parametrize(
        ("gradient", "kind"), [([1.0], "list"), (2.0, "float"), (Tensor([1.0]), "Tensor")]
    )
    def test_a_backward_that_returns_no_array_is_reported_by_name(self, gradient, kind):
        class Odd(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                return gradient

        with pytest.raises(RuntimeError, match=f"Odd: backward returned for input 0 a {kind}, exp"):
            Odd.apply(leaf(1)).backward()

    def test_what_a_function_lacks_is_reported_by_name(self):
        class Empty(Function):
            pass

        class OneWay(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

        with pytest.raises(NotImplementedError, match=r"Empty: defines no forward\(\)"):
            Empty.apply(leaf(1))
        with pytest.raises(NotImplementedError, match="OneWay: has no derivative"):
            OneWay.apply(leaf(1)).backward()
        with pytest.raises(TypeError, match=r"Empty: a Function is not instantiated; call Empt"):
            Empty()

    def test_an_elementwise_gradient_that_does_not_fit_is_reported_by_name(self):
        class Wide(Function):
            elementwise = True

            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                return np.ones((2, 3))

        with pytest.raises(RuntimeError, match=r"Wide: backward .* shape \(2, 3\).* expected \(2,"):
            Wide.apply(leaf(2)).sum().backward()

    def test_saved_tensors_is_saved_arrays(self):
        x = leaf(2)
        node = Cube.apply(x).node
        assert node.saved_tensors is node.saved_arrays
        assert node.saved_tensors[0] is x.data

    @given(st.integers(0, 3), st.integers(0, 3))
    def test_the_engine_sums_broadcast_gradients_of_elementwise_functions(self, m, n):
        x, y = leaf(m, n), leaf(1)
        (x * y).sum().backward()
        assert y.grad.shape == (1,)
        np.testing.assert_allclose(y.grad.numpy(), [x.numpy().sum()])

    def test_others_must_return_the_shape_of_their_input(self):
        class Wrong(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                return grad_output[None]

        with pytest.raises(
            RuntimeError, match=r"Wrong: backward .* shape \(1, 2\).* expected \(2,"
        ):
            Wrong.apply(leaf(2)).sum().backward()

    def test_the_number_of_gradients_is_checked(self):
        class TooMany(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                return grad_output, grad_output

        with pytest.raises(RuntimeError, match="TooMany: backward returned 2 gradients for 1"):
            TooMany.apply(leaf(2)).sum().backward()

    def test_dtypes_do_not_mix(self):
        with pytest.raises(TypeError, match="add: expected tensors of one dtype"):
            leaf(2) + Tensor(np.ones(2, np.float32))
        with pytest.raises(TypeError, match="one dtype"):
            Tensor(np.ones(2, np.float32)) * np.ones(2)

    def test_python_and_numpy_numbers_adopt_the_dtype(self):
        x = Tensor(np.ones(2, np.float32))
        for number in (2, 2.0, True, np.float64(2), np.int64(2), np.float32(2), np.bool_(True)):
            assert (x * number).dtype == np.float32
            assert (number / x).dtype == np.float32

    def test_a_function_needs_a_tensor(self):
        with pytest.raises(TypeError, match="exp: expected at least one Tensor"):
            F.exp(np.ones(2))
