"""The recorded graph: its order, its memory, and what it refuses."""

import gc
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import (
    Function,
    Tensor,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from tinygrad_mask.autograd import grad
from tinygrad_mask.testing import GradientError, check_gradients


def leaf(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


class TestBackward:
    def test_a_value_used_twice_gets_both_gradients(self):
        x = leaf(3)
        y = x * x + x
        y.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy() + 1)

    def test_a_diamond_is_walked_once_per_node(self):
        calls = []

        class Count(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                calls.append(grad_output)
                return grad_output

        x = leaf(2)
        y = Count.apply(x)
        for _ in range(10):  # 2 ** 10 paths lead to x
            y = Count.apply(y + y)
        y.sum().backward()
        assert len(calls) == 11
        np.testing.assert_array_equal(x.grad.numpy(), [1024, 1024])

    def test_a_chain_of_100_000_nodes(self):
        x = leaf(1)
        y = x
        for _ in range(100_000):
            y = y + 1.0
        y.backward()
        assert x.grad.item() == 1
        y = x
        for _ in range(100_000):
            y = y + 1.0
        del y  # freeing it must not recurse either

    def test_backward_gets_arrays_also_of_no_axes(self):
        kinds = []

        class Watch(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                kinds.append(type(grad_output))
                return grad_output

        y = Watch.apply(Tensor(np.array(2.0), requires_grad=True))
        (y * 2.0 + y * y).backward()
        (Watch.apply(y.detach().requires_grad_()) * 2.0).backward()
        assert kinds == [np.ndarray, np.ndarray]

    def test_gradients_accumulate_over_calls(self):
        x = leaf(2)
        (x * 2).sum().backward()
        (x * 3).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), [5, 5])

    def test_gradients_of_two_leaves_do_not_share_memory(self):
        x, y = leaf(2), leaf(2, seed=1)
        (x + y).sum().backward()
        assert not np.shares_memory(x.grad.data, y.grad.data)

    def test_the_given_gradient_is_not_kept(self):
        x, given = leaf(2), np.ones(2)
        (x + 0.0).backward(given)
        given[:] = 7
        np.testing.assert_array_equal(x.grad.numpy(), [1, 1])

    def test_a_leaf_is_its_own_gradient(self):
        x = leaf(2)
        x.backward(np.array([2.0, 3.0]))
        np.testing.assert_array_equal(x.grad.numpy(), [2, 3])

    def test_retain_grad_fills_in_a_result(self):
        x = leaf(2)
        y = (x * 3).retain_grad()
        (y * y).sum().backward()
        np.testing.assert_allclose(y.grad.numpy(), 2 * y.numpy())

    def test_a_second_call_says_so_and_changes_nothing(self):
        x = leaf(2)
        y = x.exp()
        (y * y).sum().backward()
        before = x.grad.numpy().copy()
        with pytest.raises(RuntimeError, match=r"backward\(\) was already called on this graph"):
            y.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), before)

    def test_retain_graph_allows_a_second_call(self):
        x = leaf(2)
        y = (x * x).sum()
        y.backward(retain_graph=True)
        y.backward()
        np.testing.assert_allclose(x.grad.numpy(), 4 * x.numpy())

    def test_a_failure_leaves_all_leaves_as_they_were(self):
        class Fails(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                raise ArithmeticError

        x, y = leaf(2), leaf(2, seed=1)
        with pytest.raises(ArithmeticError):
            (y * 2 + Fails.apply(x)).sum().backward()
        assert x.grad is None
        assert y.grad is None

    def test_no_gradient_flows_to_what_asked_for_none(self):
        x, y = leaf(2), Tensor(np.ones(2))
        (x * y).sum().backward()
        assert y.grad is None

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: Tensor([1.0]).backward(), "requires a gradient"),
            (lambda: leaf(2).backward(), "expected a gradient for a tensor of"),
            (lambda: leaf(2).backward(np.ones(3)), r"gradient of shape \(2,\)"),
            (lambda: leaf(2).backward(np.ones(2, np.float32)), "float64"),
        ],
    )
    def test_errors(self, call, message):
        with pytest.raises((RuntimeError, ValueError), match=message):
            call()


class TestMemory:
    def test_the_graph_has_no_reference_cycle(self):
        gc.collect()
        gc.disable()
        try:
            x = leaf(4, 4)
            y = F.softmax(F.batch_norm(x.exp(), leaf(4), leaf(4), training=True)).sum()
            gone = [weakref.ref(y), weakref.ref(y.node)]
            del y
            assert [ref() for ref in gone] == [None, None]
        finally:
            gc.enable()

    def test_the_graph_of_gradients_has_no_reference_cycle(self):
        gc.collect()
        gc.disable()
        try:
            x = leaf(4, 4)
            y = F.softmax(F.batch_norm(x.exp(), leaf(4), leaf(4), training=True)).var()
            (slope,) = grad(y, x, create_graph=True)
            total = (slope * slope).sum()
            gone = [weakref.ref(v) for v in (y, y.node, slope, slope.node, total)]
            del y, slope, total
            assert [ref() for ref in gone] == [None] * 5
        finally:
            gc.enable()

    def test_what_was_saved_is_freed_as_it_is_consumed(self):
        x = leaf(3)
        y = x.exp()
        node, saved = y.node, weakref.ref(y.data)
        z = y.sum()
        del y
        assert saved() is not None
        z.backward()
        assert saved() is None
        assert node.edges == ()

    def test_nothing_is_saved_without_recording(self):
        with no_grad():
            y = leaf(3).exp()
        assert y.node is None
        assert not y.requires_grad


class TestNoGrad:
    def test_nests_and_ends_with_an_exception(self):
        def fails():
            with no_grad():
                with no_grad():
                    assert not is_grad_enabled()
                assert not is_grad_enabled()
                raise KeyError

        with pytest.raises(KeyError):
            fails()
        assert is_grad_enabled()

    def test_decorates(self):
        assert not no_grad()(is_grad_enabled)()
        assert is_grad_enabled()

    def test_is_of_one_thread(self):
        seen = []
        with no_grad():
            thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
            thread.start()
            thread.join()
        assert seen == [True]


class TestEnableGrad:
    def test_undoes_no_grad(self):
        with no_grad():
            with enable_grad():
                assert (leaf(2) * 2).requires_grad
            assert not is_grad_enabled()
            assert enable_grad()(is_grad_enabled)()
            assert not is_grad_enabled()

    def test_set_grad_enabled_is_a_function(self):
        set_grad_enabled(False)
        try:
            assert not is_grad_enabled()
        finally:
            set_grad_enabled(True)
        assert is_grad_enabled()

    def test_set_grad_enabled_is_a_context(self):
        for mode in (False, True):
            with set_grad_enabled(mode), set_grad_enabled(not mode):
                assert is_grad_enabled() is not mode
            assert is_grad_enabled()
        context = set_grad_enabled(False)
        with context:
            with context:
                assert not is_grad_enabled()
            assert not is_grad_enabled()
        assert is_grad_enabled()

    def test_set_grad_enabled_is_a_decorator(self):
        function = set_grad_enabled(False)(is_grad_enabled)
        assert is_grad_enabled()
        assert not function()
        assert not function()
        assert is_grad_enabled()

    def test_a_generator_is_switched_while_it_runs(self):
        @no_grad()
        def generator():
            yield is_grad_enabled()
            yield is_grad_enabled()

        for enabled in generator():
            assert not enabled
            assert is_grad_enabled()


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


class TestThreads:
    def test_backward_passes_that_reach_one_leaf_lose_no_gradient(self):
        x = leaf(3)
        threads, passes = 8, 800

        def run(barrier):
            barrier.wait()
            for _ in range(passes):
                (x * 1.0).sum().backward()

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            barrier = threading.Barrier(threads)
            running = [threading.Thread(target=run, args=(barrier,)) for _ in range(threads)]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()
        finally:
            sys.setswitchinterval(before)
        np.testing.assert_array_equal(x.grad.numpy(), np.full(3, threads * passes))


class TestAssignedGradients:
    @pytest.mark.parametrize(
        ("gradient", "error", "message"),
        [
            (5, TypeError, "grad: expected a Tensor or None, got int"),
            (np.ones(2), TypeError, "grad: expected a Tensor or None, got ndarray"),
            (Tensor(np.ones(3)), ValueError, r"grad: expected the tensor's shape \(2,\), got \(3"),
            (Tensor(np.ones((1, 2))), ValueError, r"the tensor's shape \(2,\), got \(1, 2\)"),
            (Tensor([1.0, 2.0]), TypeError, "the tensor's dtype float64, got float32; convert"),
        ],
    )
    def test_what_is_no_gradient_is_refused(self, gradient, error, message):
        x = leaf(2)
        with pytest.raises(error, match=message):
            x.grad = gradient
        assert x.grad is None

    @pytest.mark.usefixtures("emulator")
    def test_one_of_another_device_is_refused(self):
        with pytest.raises(ValueError, match="grad: expected the tensor's device 'cpu', got 'emu"):
            leaf(2).grad = Tensor(np.ones(2), device="emulator")

    def test_a_tensor_and_none_are_accepted(self):
        x, gradient = leaf(2), Tensor(np.ones(2))
        x.grad = gradient
        assert x.grad is gradient
        (x * 2).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), [3, 3])
        x.grad = None
        assert x.grad is None


class TestGrad:
    """`autograd.grad`, and the derivatives of derivatives."""

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


class TestCheckGradients:
    """The checker must find what is wrong, or nothing that it passes means anything."""

    @staticmethod
    def scaled(by):
        class Scaled(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, grad_output):
                return by(grad_output)

        return Scaled.apply

    def test_passes_what_is_right(self):
        check_gradients(self.scaled(lambda g: g * 2), np.ones((3, 2)))

    @pytest.mark.parametrize("factor", [0.0, -2.0, 2.001])
    def test_finds_a_wrong_factor(self, factor):
        with pytest.raises(GradientError, match="finite differences give"):
            check_gradients(self.scaled(lambda g: g * factor), np.ones((3, 2)))

    def test_finds_one_wrong_entry_among_many(self):
        def one_off(g):
            g = g * 2
            g[2, 3] = 0
            return g

        with pytest.raises(GradientError):
            check_gradients(self.scaled(one_off), np.ones((20, 20)))

    def test_finds_a_function_that_writes_into_its_input(self):
        class Overwrites(Function):
            @staticmethod
            def forward(ctx, x):
                x += 1
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                return grad_output

        with pytest.raises(GradientError, match="input 0 was changed"):
            check_gradients(Overwrites.apply, np.ones(3))

    def test_finds_a_function_that_writes_into_grad_output(self):
        class Overwrites(Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, grad_output):
                result = grad_output.copy()
                grad_output *= 2
                return result

        with pytest.raises(GradientError, match="handed to the backward pass was changed"):
            check_gradients(Overwrites.apply, np.ones(3))

    def test_hands_in_noncontiguous_arrays(self):
        seen = []

        def watch(x):
            seen.append(x.data.flags.c_contiguous or x.data.flags.f_contiguous)
            return x * 1

        check_gradients(watch, np.ones((3, 2)))
        assert not any(seen)
        check_gradients(watch, np.ones((3, 2)), noncontiguous=False)
        assert seen[-1]

    def test_moves_away_from_a_kink(self):
        check_gradients(F.relu, np.zeros((2, 3)))
        check_gradients(F.abs, np.array([1e-5, 0.0, -3e-5]))

    def test_gives_up_where_kinks_are_everywhere(self):
        with pytest.raises(GradientError, match="a kink was met on each of 20 lines"):
            check_gradients(lambda x: F.abs(x * 1e4 - (x * 1e4).numpy().round()), np.ones(50))

    @given(st.floats(-2.9e-4, 2.9e-4))
    def test_a_kink_anywhere_on_the_line_is_noticed(self, place):
        # A wrong estimate would contradict the right gradient and raise.
        check_gradients(lambda x: F.maximum(x, place), np.zeros(1), directions=1, entries=1)

    def test_float32_results_are_refused(self):
        with pytest.raises(GradientError, match="float64 result"):
            check_gradients(lambda x: x.astype(np.float32), np.ones(2))
