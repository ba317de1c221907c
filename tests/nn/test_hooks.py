"""Hooks around the forward and backward passes of a module."""

import numpy as np
import pytest

from tinygrad_mask import Tensor, autograd, nn, no_grad


def normal(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_a_module_without_hooks_has_nothing_of_them():
    module = nn.ReLU()
    assert "_hooks" not in vars(module)
    handles = [module.register_forward_hook(print), module.register_forward_pre_hook(print)]
    for handle in handles:
        assert "_hooks" in vars(module)
        handle.remove()
        handle.remove()  # a second time does nothing
    assert "_hooks" not in vars(module)


def test_forward_hooks_see_arguments_and_output_in_their_order():
    module, seen = nn.Linear(3, 2), []
    module.register_forward_pre_hook(lambda *given: seen.append(("before", *given)))
    module.register_forward_hook(lambda *given: seen.append(("first", *given)))
    module.register_forward_hook(lambda *given: seen.append(("second", *given)))
    x = normal(4, 3)
    y = module(x)
    assert seen == [
        ("before", module, (x,)),
        ("first", module, (x,), y),
        ("second", module, (x,), y),
    ]


def test_what_a_forward_hook_returns_takes_the_place_of_arguments_and_output():
    module = nn.Flatten()
    module.register_forward_pre_hook(lambda module, args: args[0] * 2.0)
    module.register_forward_hook(lambda module, args, output: output + 1.0)
    assert module(Tensor([[1.0, 2.0]])).numpy().tolist() == [[3.0, 5.0]]


def test_a_handle_is_a_context():
    module, calls = nn.ReLU(), []
    with module.register_forward_hook(lambda *given: calls.append(1)):
        module(Tensor([1.0]))
    module(Tensor([1.0]))
    assert calls == [1]


@pytest.mark.parametrize("position", [0, 1])
def test_a_hook_within_a_sequential_is_called_though_activations_are_fused(position):
    model, seen = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), []
    x = normal(4, 3)
    expected = model(x).numpy()
    hook = model[position].register_forward_hook(lambda module, args, y: seen.append(y.numpy()))
    assert np.array_equal(model(x).numpy(), expected)
    assert len(seen) == 1
    assert (seen[0] >= 0).all() == (position == 1)
    hook.remove()
    assert model(x).node.function.name == "linear"


def test_a_backward_hook_sees_and_replaces_the_gradients():
    module, seen = nn.Tanh(), []

    def double(module, grad_input, grad_output):
        seen.append((module, grad_input[0].numpy().copy(), grad_output[0].numpy().copy()))
        return (grad_input[0] * 2.0,)

    handle = module.register_full_backward_hook(double)
    x = normal(3, 2).requires_grad_()
    y = module(x * 1.0)
    y.backward(np.full((3, 2), 3, np.float32))
    slope = 1 - np.tanh(x.numpy()) ** 2
    ((met, grad_input, grad_output),) = seen
    assert met is module
    np.testing.assert_allclose(grad_output, np.full((3, 2), 3))
    np.testing.assert_allclose(grad_input, 3 * slope, rtol=1e-5)
    np.testing.assert_allclose(x.grad.numpy(), 6 * slope, rtol=1e-5)
    handle.remove()
    assert module(x).node.function.name == "tanh"


def test_a_backward_hook_of_a_module_whose_input_needs_no_gradient_sees_none():
    module, seen = nn.Linear(3, 2), []
    module.register_full_backward_hook(lambda *given: seen.append(given[1:]))
    module(normal(4, 3)).sum().backward()
    (((grad_input,), (grad_output,)),) = seen
    assert grad_input is None
    assert grad_output.numpy().tolist() == [[1.0, 1.0]] * 4
    assert module.bias.grad.numpy().tolist() == [4.0, 4.0]
    with no_grad():
        module(normal(4, 3))
    assert len(seen) == 1


class Mix(nn.Module):
    """Two inputs of which one is a number's, two outputs."""

    def forward(self, x, factor, y, *, shift):
        return x * y * factor, y + shift


def test_gradients_of_several_inputs_and_outputs_have_their_positions():
    module, seen = Mix(), []
    module.register_full_backward_hook(lambda *given: seen.append(given[1:]))
    x, y = Tensor([2.0], requires_grad=True), Tensor([5.0], requires_grad=True)
    product, total = module(x, 3.0, y, shift=1.0)
    (product + 10.0 * total).backward()
    ((grad_input, grad_output),) = seen
    assert [g if g is None else g.item() for g in grad_input] == [15.0, None, 6.0 + 10.0]
    assert [g.item() for g in grad_output] == [1.0, 10.0]
    product, total = module(x, 3.0, y, shift=1.0)
    total.backward()
    assert seen[1][1][0] is None  # nothing used the product


def test_gradients_pass_hooks_in_a_recorded_backward_pass():
    module = nn.Tanh()
    module.register_full_backward_hook(lambda module, grad_input, grad_output: grad_input[0] * 2.0)
    x = Tensor(np.array([0.3]), requires_grad=True)
    (slope,) = autograd.grad(module(x), x, create_graph=True)
    (second,) = autograd.grad(slope, x)
    t = np.tanh(0.3)
    np.testing.assert_allclose(slope.item(), 2 * (1 - t**2), rtol=1e-12)
    # The derivative of the slope leads back through the module, and is doubled there again.
    np.testing.assert_allclose(second.item(), 2 * 2 * -2 * t * (1 - t**2), rtol=1e-12)


def test_hooks_that_cannot_work_say_so():
    with pytest.raises(TypeError, match=r"^Tanh: expected a hook to be a function, got int$"):
        nn.Tanh().register_forward_hook(3)

    class Dictionary(nn.Module):
        def forward(self, x):
            return {"x": x}

    module = Dictionary()
    module.register_full_backward_hook(print)
    with pytest.raises(TypeError, match=r"^Dictionary: expected forward\(\) to return a Tensor"):
        module(Tensor([1.0]))
    tanh = nn.Tanh()
    tanh.register_full_backward_hook(lambda *given: (None, None))
    with pytest.raises(ValueError, match=r"^Tanh: expected a backward hook to return 1 "):
        tanh(Tensor([1.0], requires_grad=True)).backward()
