"""`autograd.grad`, and derivatives of derivatives."""

import numpy as np
import pytest

from tinygrad_mask import Function, Tensor, no_grad
from tinygrad_mask.autograd import grad


def leaf(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


class Cube(Function):
    """Elementwise x ** 3 with a second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * 3 * x**2

    differentiable_backward = backward


class TestGrad:
    def test_returns_gradients_and_stores_none(self):
        x, y = leaf(2), leaf(2, seed=1)
        dx, dy = grad((x * y).sum(), [x, y])
        np.testing.assert_array_equal(dx.numpy(), y.numpy())
        np.testing.assert_array_equal(dy.numpy(), x.numpy())
        assert x.grad is None
        assert not dx.requires_grad

    def test_of_results_and_of_several_outputs(self):
        x = leaf(2)
        y = x * 3
        z = y * y
        given = Tensor(np.array([1.0, 10.0]))
        dy, dx = grad([z.sum(), z, y], [y, x], [None, given, Tensor(np.ones(2))])
        expected = 2 * y.numpy() * (1 + given.numpy()) + 1
        np.testing.assert_allclose(dy.numpy(), expected)
        np.testing.assert_allclose(dx.numpy(), 3 * expected)

    def test_of_an_output_with_respect_to_itself(self):
        x = leaf(2)
        y = x * 2
        (dx,) = grad(x, x, Tensor(np.array([1.0, 2.0])))
        (dy,) = grad(y, y, Tensor(np.array([3.0, 4.0])))
        assert (dx.numpy().tolist(), dy.numpy().tolist()) == ([1, 2], [3, 4])

    def test_an_input_that_is_not_used(self):
        x, y = leaf(2), leaf(2)
        with pytest.raises(RuntimeError, match="grad: no output depends on input 1; pass allow_un"):
            grad(x.sum(), [x, y])
        dx, dy = grad(x.sum(), [x, y], allow_unused=True)
        assert dx.numpy().tolist() == [1, 1]
        assert dy is None

    def test_only_what_leads_to_an_input_is_visited(self):
        visited = []

        class Seen(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                visited.append(grad_output)
                return grad_output

        x, y = leaf(2), leaf(2)
        total = (Seen.apply(x) * y).sum()
        grad(total, y, retain_graph=True)
        assert visited == []
        grad(total, x)
        assert len(visited) == 1

    def test_frees_the_graph_unless_told_otherwise(self):
        x = leaf(2)
        y = (x * x).sum()
        grad(y, x, retain_graph=True)
        grad(y, x)
        with pytest.raises(RuntimeError, match="freed"):
            grad(y, x)

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: grad(leaf(1), Tensor([1.0])), RuntimeError, "input 0 does not require a grad"),
            (lambda: grad(Tensor([1.0]), leaf(1)), RuntimeError, "output 0: this tensor does not"),
            (lambda: grad(leaf(2), leaf(2)), RuntimeError, "output 0: expected a gradient for a"),
            (lambda: grad([leaf(1)], leaf(1), [None] * 2), ValueError, "got 2 for 1 outputs"),
            (lambda: grad(leaf(1), 3), TypeError, "expected inputs to be a Tensor or a list of"),
            (lambda: grad(leaf(2), leaf(2), np.ones(3)), ValueError, r"gradient of shape \(2,\)"),
        ],
    )
    def test_errors(self, call, error, message):
        with pytest.raises(error, match=message):
            call()

    def test_a_chain_of_20_000_nodes(self):
        x = leaf(1)
        y = x
        for _ in range(20_000):
            y = y + 1.0
        assert grad(y, x)[0].item() == 1

    def test_derivatives_of_any_order(self):
        x = Tensor(np.array([2.0, -1.0]), requires_grad=True)
        y = Cube.apply(x)
        derivatives = []
        for _ in range(4):
            y = grad(y.sum(), x, create_graph=True)[0]
            derivatives.append(y.numpy().tolist())
            if not y.requires_grad:
                break
        assert derivatives[:3] == [[12, 3], [12, -6], [6, 6]]

    def test_backward_with_create_graph_records_the_gradient(self):
        x = Tensor(np.array([2.0]), requires_grad=True)
        Cube.apply(x).backward(create_graph=True)
        first = x.grad
        assert first.requires_grad
        x.grad = None
        first.backward()
        assert x.grad.item() == 12

    def test_the_gradient_of_the_gradient_reaches_grad_output(self):
        x, v = leaf(2), leaf(2, seed=1)
        (g,) = grad(Cube.apply(x), x, v, create_graph=True)
        (dv,) = grad(g.sum(), v)
        np.testing.assert_allclose(dv.numpy(), 3 * x.numpy() ** 2)

    def test_a_function_without_a_second_derivative_says_so_by_name(self):
        class First(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, grad_output):
                return grad_output * 2

        x = leaf(2)
        with pytest.raises(NotImplementedError, match="First: has no second derivative"):
            First.apply(x).sum().backward(create_graph=True)

    def test_what_forward_computed_on_the_way_is_refused(self):
        class Lost(Function):
            @staticmethod
            def forward(ctx, x):
                slope = 3 * x**2
                ctx.save_for_backward(slope)
                return x**3

            @staticmethod
            def backward(ctx, grad_output):
                (slope,) = ctx.saved_tensors
                return grad_output * slope

            differentiable_backward = backward

        x = leaf(2)
        (g,) = grad(Lost.apply(x), x, np.ones(2))
        np.testing.assert_allclose(g.numpy(), 3 * x.numpy() ** 2)
        with pytest.raises(RuntimeError, match="Lost: saved array 0 is neither an input nor an"):
            grad(Lost.apply(x), x, np.ones(2), create_graph=True)

    def test_an_attribute_with_an_array_is_refused(self):
        class Lost(Function):
            @staticmethod
            def forward(ctx, x):
                ctx.slope = 3 * x**2
                return x**3

            @staticmethod
            def backward(ctx, grad_output):
                return grad_output * ctx.slope

            differentiable_backward = backward

        x = leaf(2)
        grad(Lost.apply(x), x, np.ones(2))
        with pytest.raises(RuntimeError, match=r"Lost: ctx\.slope is an array, so its deri"):
            grad(Lost.apply(x), x, np.ones(2), create_graph=True)

    def test_a_deep_graph_of_gradients(self):
        x = Tensor(np.array([2.0]), requires_grad=True)
        y = x * x * x
        for _ in range(5_000):
            y = y * 1.0
        (slope,) = grad(y, x, create_graph=True)
        (curvature,) = grad(slope, x, create_graph=True)
        assert (slope.item(), curvature.item()) == (12, 12)
        del y, slope, curvature  # freeing them must not recurse either

    def test_one_array_of_a_variable_and_a_constant(self):
        class Product(Function):
            @staticmethod
            def forward(ctx, x, y):
                ctx.save_for_backward(x, y)
                return x * y

            @staticmethod
            def backward(ctx, grad_output):
                x, y = ctx.saved_tensors
                return grad_output * y, grad_output * x

            differentiable_backward = backward

        x = Tensor(np.array([2.0]), requires_grad=True)
        (g,) = grad(Product.apply(x.detach(), x), x, create_graph=True)
        assert not g.requires_grad
        np.testing.assert_array_equal(g.numpy(), x.numpy())
        (g,) = grad(Product.apply(x, x), x, create_graph=True)
        assert grad(g, x)[0].item() == 2

    def test_a_write_between_the_derivatives_is_reported(self):
        x, y = leaf(2), Tensor(np.ones(2))
        (g,) = grad(Cube.apply(x) * Cube.apply(y), x, np.ones(2), create_graph=True)
        with no_grad():
            x[0] = 5.0
        with pytest.raises(RuntimeError, match="written in place"):
            g.sum().backward()
