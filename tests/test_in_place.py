"""Writing in place: what is overwritten, what is recorded, what is refused."""

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn, no_grad
from tinygrad_mask.nn import Parameter

OPERATORS = {
    "+=": (lambda x, y: x.__iadd__(y), lambda x, y: x + y),
    "-=": (lambda x, y: x.__isub__(y), lambda x, y: x - y),
    "*=": (lambda x, y: x.__imul__(y), lambda x, y: x * y),
    "/=": (lambda x, y: x.__itruediv__(y), lambda x, y: x / y),
    "**=": (lambda x, y: x.__ipow__(y), lambda x, y: x**y),
}
each_operator = pytest.mark.parametrize(
    ("in_place", "plain"), OPERATORS.values(), ids=OPERATORS.keys()
)


def leaf(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).uniform(1, 2, shape), requires_grad=True)


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


class TestOperators:
    @each_operator
    @pytest.mark.parametrize("other", [2.0, np.array([2.0, 3.0]), Tensor(np.array([2.0, 3.0]))])
    def test_a_parameter_is_updated_in_its_memory_within_no_grad(self, in_place, plain, other):
        parameter = Parameter(np.array([3.0, 4.0]))
        memory, before = parameter.data, parameter.data.copy()
        with no_grad():
            assert in_place(parameter, other) is parameter
        assert parameter.data is memory
        assert parameter.requires_grad
        assert parameter.is_leaf
        operand = other.numpy() if isinstance(other, Tensor) else other
        np.testing.assert_array_equal(parameter.numpy(), plain(before, operand))

    def test_the_first_thing_people_type_trains(self):
        layer = nn.Linear(2, 1, rng=np.random.default_rng(0))
        x = Tensor(np.ones((1, 2), np.float32))
        before = layer(x).item()
        layer(x).sum().backward()
        with no_grad():
            for p in layer.parameters():
                p -= 0.1 * p.grad
        assert layer(x).item() == pytest.approx(before - 0.3)  # the gradient is 1, 1 and 1

    @each_operator
    def test_a_leaf_that_requires_a_gradient_is_refused(self, in_place, plain):
        x = leaf(2)
        before = x.numpy().copy()
        with pytest.raises(RuntimeError, match=r"=: cannot write in place into a leaf that requir"):
            in_place(x, 2.0)
        np.testing.assert_array_equal(x.numpy(), before)

    @each_operator
    def test_a_constant_is_updated_in_its_memory(self, in_place, plain):
        x = Tensor(np.array([3.0, 4.0]))
        view = x[:1]
        before = x.numpy().copy()
        in_place(x, 2.0)
        np.testing.assert_array_equal(x.numpy(), plain(before, 2.0))
        np.testing.assert_array_equal(view.numpy(), x.numpy()[:1])

    @each_operator
    @pytest.mark.parametrize("other", ["number", "leaf"])
    def test_a_recorded_result_becomes_the_next_result(self, in_place, plain, other):
        a, b, c, d = leaf(3), leaf(3), leaf(3, seed=1), leaf(3, seed=1)
        y = a.exp()  # which saves its result for its own backward pass
        same = y
        in_place(y, c if other == "leaf" else 2.0)
        expected = plain(b.exp(), d if other == "leaf" else 2.0)
        assert same is y
        np.testing.assert_array_equal(y.numpy(), expected.numpy())
        (y * y).sum().backward()
        (expected * expected).sum().backward()
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy())
        if other == "leaf":
            np.testing.assert_allclose(c.grad.numpy(), d.grad.numpy())

    def test_losses_add_up(self):
        x = leaf(3)
        total = Tensor(np.zeros(()))
        for k in range(3):
            total += (x * float(k)).sum()
        total.backward()
        np.testing.assert_array_equal(x.grad.numpy(), [3, 3, 3])

    def test_what_was_computed_before_keeps_its_gradient(self):
        x = leaf(2)
        y = x * 2
        z = (y * y).sum()
        y *= 100.0
        z.backward()
        np.testing.assert_allclose(x.grad.numpy(), 8 * x.numpy())

    def test_a_retained_gradient_is_that_of_the_new_result(self):
        x = leaf(2)
        y = (x * 2).retain_grad()
        y += 1.0
        (y * y).sum().backward()
        np.testing.assert_allclose(y.grad.numpy(), 2 * y.numpy())

    @pytest.mark.parametrize(
        "share", [lambda t: t[:1], lambda t: t.detach(), lambda t: t.reshape(2, 1)]
    )
    def test_a_recorded_result_with_views_is_refused(self, share):
        y = leaf(2) * 2
        view = share(y)
        for tensor in (y, view):
            if tensor.requires_grad:
                with pytest.raises(RuntimeError, match=r"\+=: this tensor shares its memory"):
                    tensor += 1.0
        y = y + 1.0  # as the message says

    def test_borrowed_memory_is_not_left_behind(self):
        array = np.zeros(2)
        total = Tensor.from_array(array)
        with pytest.raises(RuntimeError, match=r"from_array\(\)"):
            total += leaf(2)
        total += 1.0
        np.testing.assert_array_equal(array, [1, 1])

    def test_a_parameter_never_becomes_a_result(self):
        frozen = Parameter(np.ones(2), requires_grad=False)
        with pytest.raises(RuntimeError, match="cannot write in place into a leaf"):
            frozen += leaf(2)

    def test_a_write_into_what_was_saved_is_reported(self):
        x, y = leaf(2), Tensor(np.ones(2))
        z = (x * y).sum()
        y *= 2.0
        with pytest.raises(RuntimeError, match="multiply: an array that its backward pass needs"):
            z.backward()

    @pytest.mark.parametrize(
        ("write", "error", "message"),
        [
            (lambda: Tensor([1.0]).__iadd__(np.ones((2, 1))), TypeError, "one dtype"),
            (
                lambda: Tensor(np.ones(1)).__iadd__(np.ones((2, 1))),
                ValueError,
                r"\+=: expected a result of shape \(1,\) .*, got \(2, 1\)",
            ),
            (lambda: Tensor([1]).__iadd__(0.5), TypeError, "a float does not fit"),
            (lambda: Tensor([1]).__itruediv__(2), TypeError, "floating dtype"),
            (
                lambda: Tensor([1.0]).broadcast_to(2).__iadd__(1.0),
                ValueError,
                "read-only view, as broadcast_to",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(self, write, error, message):
        with pytest.raises(error, match=message):
            write()


class TestItems:
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (2.7, "setitem: a float does not fit a tensor of dtype int64"),
            (np.float32(2.0), "setitem: a float does not fit"),
            ([2.7, 1], "setitem: floats do not fit a tensor of dtype int64"),
            (np.array([1.0, 2.0]), "setitem: expected tensors of one dtype, got int64 and float64"),
            (Tensor([1.0, 2.0]), "setitem: expected tensors of one dtype, got int64 and float32"),
            (np.array([1, 2], np.int32), "got int64 and int32"),
            ("a", "setitem: expected tensors of one dtype"),
        ],
    )
    def test_what_does_not_fit_integers_is_refused(self, value, message):
        x = Tensor([1, 2, 3])
        with pytest.raises(TypeError, match=message):
            x[:2] = value
        assert x.numpy().tolist() == [1, 2, 3]

    def test_arrays_of_another_dtype_are_refused(self):
        with pytest.raises(TypeError, match="got float32 and float64; convert"):
            Tensor([1.0])[:] = np.ones(1)

    def test_numbers_and_lists_adopt_the_dtype(self):
        x = Tensor([1.0, 2.0, 3.0])
        x[0], x[1:], x[np.array([2])] = 5, [6, 7.5], True
        assert x.numpy().tolist() == [5, 6, 1]
        y = Tensor(np.zeros(2, np.uint8))
        y[:] = [1, 2]
        assert (y.dtype, y.numpy().tolist()) == (np.uint8, [1, 2])

    def test_a_number_that_wraps_is_refused(self):
        with pytest.raises(OverflowError, match="300"):
            Tensor(np.zeros(2, np.uint8))[0] = 300


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"]
)
def test_every_operator_has_its_form_in_place(name):
    # Without one Python would rebind the name, and the tensor would stay as it was.
    if f"__{name}__" in vars(Tensor):
        assert f"__i{name}__" in vars(Tensor)
