"""The recorded graph: its order, its memory, and what it refuses."""

import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import Function, Tensor, is_grad_enabled, no_grad
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


class TestInPlace:
    def test_writing_into_a_saved_input_is_reported(self):
        x, y = leaf(2), Tensor(np.ones(2))
        z = (x * y).sum()
        y[0] = 5.0
        with pytest.raises(RuntimeError, match="multiply: an array that its backward pass needs"):
            z.backward()

    def test_writing_into_a_saved_result_is_reported(self):
        y = leaf(2).exp()
        y.detach()[0] = 5.0
        with pytest.raises(RuntimeError, match="exp: an array"):
            y.sum().backward()

    @pytest.mark.parametrize(
        "view", [lambda t: t.reshape(2, 1), lambda t: t[:1], lambda t: t.permute(0)]
    )
    def test_writing_through_a_view_is_reported(self, view):
        x, y = leaf(2), Tensor(np.ones(2))
        z = (x * y).sum()
        view(y)[0] = 5.0
        with pytest.raises(RuntimeError, match="multiply"):
            z.backward()

    def test_writing_into_the_base_of_a_saved_view_is_reported(self):
        x, y = leaf(1), Tensor(np.ones(2))
        z = (x * y[:1]).sum()
        y.copy_(np.zeros(2))
        with pytest.raises(RuntimeError, match="multiply"):
            z.backward()

    def test_writing_into_an_option_is_reported(self):
        x, condition = leaf(2), Tensor(np.array([True, False]))
        z = F.where(condition, x, 0.0).sum()
        condition[0] = False
        with pytest.raises(RuntimeError, match="where"):
            z.backward()

    def test_writing_into_what_nobody_saved_is_allowed(self):
        x, y = leaf(2), Tensor(np.ones(2))
        z = (x + y).sum()
        y[0] = 5.0
        z.backward()
        np.testing.assert_array_equal(x.grad.numpy(), [1, 1])

    def test_a_leaf_that_learns_is_written_only_without_recording(self):
        x = leaf(2)
        with pytest.raises(RuntimeError, match="cannot write in place into a leaf"):
            x[0] = 1.0
        with no_grad():
            x[0] = 1.0
        assert x.numpy()[0] == 1

    def test_a_recorded_result_is_never_written(self):
        y = leaf(2) * 2
        with no_grad(), pytest.raises(RuntimeError, match="a recorded result"):
            y[0] = 1.0


class TestFunctions:
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
