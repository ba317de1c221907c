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

    def test_decorates_without_parentheses(self):
        @no_grad
        def without():
            return is_grad_enabled()

        @enable_grad
        def enabled():
            return is_grad_enabled()

        assert not without()
        with no_grad():
            assert enabled()
        assert without.__name__ == "without"
        with pytest.raises(TypeError, match="no_grad: expected a function to decorate, got 5"):
            no_grad(5)

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

        check_gradients(watch, np.ones((3, 2)), noncontiguous=True)
        assert not any(seen)
        seen.clear()
        check_gradients(watch, np.ones((3, 2)), noncontiguous=False)
        assert all(seen)
        seen.clear()
        check_gradients(watch, np.ones((3, 2)))
        assert any(seen)
        assert not all(seen)

    def test_moves_away_from_a_kink(self):
        check_gradients(F.relu, np.zeros((2, 3)))
        check_gradients(F.abs, np.array([1e-5, 0.0, -3e-5]))

    def test_gives_up_where_kinks_are_everywhere(self):
        def takagi(x):  # continuous, and nowhere differentiable
            parts = [x * 2.0**k for k in range(45)]
            saws = [F.abs(part - part.numpy().round()) for part in parts]
            return F.stack([saw * 0.5**k for k, saw in enumerate(saws)]).sum(axis=0)

        with pytest.raises(GradientError, match="a kink was met on each of 20 lines"):
            check_gradients(takagi, np.array([0.3]))

    @given(st.floats(-2.9e-4, 2.9e-4))
    def test_a_kink_anywhere_on_the_line_is_noticed(self, place):
        # A wrong estimate would contradict the right gradient and raise.
        check_gradients(lambda x: F.maximum(x, place), np.zeros(1), directions=1, entries=1)

    def test_float32_results_are_refused(self):
        with pytest.raises(GradientError, match="float64 result"):
            check_gradients(lambda x: x.astype(np.float32), np.ones(2))
