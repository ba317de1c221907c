"""Parameter groups, NumPy scalars as options, and steps of which nothing or everything happens."""

import numpy as np
import pytest
from devices import needs_emulator

from tinygrad_mask import Tensor, nn, optim


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


def with_gradient(*values, dtype=np.float64):
    w = leaf(*values, dtype=dtype)
    w.grad = Tensor(np.ones(len(values), dtype))
    return w


OPTIMISERS = {
    "SGD": lambda p, **o: optim.SGD(p, 0.1, **o),
    "SGD, momentum": lambda p, **o: optim.SGD(p, 0.1, momentum=0.9, **o),
    "SGD, dampening": lambda p, **o: optim.SGD(p, 0.1, momentum=0.9, dampening=0.5, **o),
    "Adam": lambda p, **o: optim.Adam(p, 0.1, **o),
    "Adam, amsgrad": lambda p, **o: optim.Adam(p, 0.1, amsgrad=True, **o),
    "AdamW": lambda p, **o: optim.AdamW(p, 0.1, **o),
    "RMSprop": lambda p, **o: optim.RMSprop(p, 0.1, **o),
    "RMSprop, all": lambda p, **o: optim.RMSprop(p, 0.1, momentum=0.9, centered=True, **o),
}
each_optimiser = pytest.mark.parametrize("build", OPTIMISERS.values(), ids=OPTIMISERS)


# --- groups -----------------------------------------------------------------------------------


def test_each_group_moves_by_its_own_options():
    a, b, c = (with_gradient(1.0) for _ in range(3))
    groups = [{"params": [a], "lr": 0.5}, {"params": (b,), "weight_decay": 2.0}]
    optimiser = optim.SGD(groups, lr=0.1)
    optimiser.add_param_group({"params": iter([c]), "maximize": True})
    optimiser.step()
    np.testing.assert_allclose([a.item(), b.item(), c.item()], [0.5, 1 - 0.1 * 3, 1.1])
    assert optimiser.parameters == [a, b, c]
    assert [group["lr"] for group in optimiser.param_groups] == [0.5, 0.1, 0.1]
    assert optimiser.param_groups[0]["params"] == [a]


def test_the_rate_of_all_groups_is_set_at_once_and_of_one_in_its_group():
    a, b = with_gradient(1.0), with_gradient(1.0)
    optimiser = optim.SGD([{"params": [a], "lr": 0.5}, {"params": [b]}], 0.1)
    assert optimiser.lr == 0.5
    optimiser.param_groups[1]["lr"] = 0.25
    optimiser.step()
    assert (a.item(), b.item()) == (0.5, 0.75)
    optimiser.lr = 1.0
    assert [group["lr"] for group in optimiser.param_groups] == [1.0, 1.0]


def test_a_group_that_is_refused_is_not_added():
    optimiser = optim.SGD([leaf(1.0)], 0.1)
    for group in ({"params": [leaf(1.0)], "lr": -1.0}, {"params": [leaf(1.0), 3]}):
        with pytest.raises((TypeError, ValueError)):
            optimiser.add_param_group(group)
    assert len(optimiser.param_groups) == len(optimiser.parameters) == 1
    assert len(optimiser.step_counts) == 1


def test_a_group_may_have_state_that_others_have_not():
    a, b = with_gradient(1.0), with_gradient(1.0)
    groups = [{"params": [a]}, {"params": [b], "momentum": 0.5}]
    optimiser = optim.SGD(groups, 0.1)
    assert list(optimiser.state_dict()) == ["step_counts", "lr", "velocity.1"]
    for _ in range(2):
        optimiser.step()
    np.testing.assert_allclose([a.item(), b.item()], [0.8, 1 - 0.1 - 0.15])
    # Momentum that is given later starts from rest.
    optimiser.param_groups[0]["momentum"] = 0.5
    optimiser.step()
    np.testing.assert_allclose(a.item(), 0.7)
    assert "velocity.0" in optimiser.state_dict()


def test_zero_grad_may_fill_with_zeros():
    w = with_gradient(1.0, 2.0)
    optimiser = optim.SGD([w, leaf(1.0)], 0.1)
    optimiser.zero_grad(set_to_none=False)
    assert w.grad.numpy().tolist() == [0.0, 0.0]
    optimiser.zero_grad()
    assert w.grad is None


@each_optimiser
def test_the_state_of_groups_is_taken_over(build):
    def made():
        a, b = with_gradient(1.0, 2.0), with_gradient(3.0)
        return build([{"params": [a]}, {"params": [b], "weight_decay": 0.1}])

    one, two = made(), made()
    one.param_groups[1]["lr"] = 0.03
    for _ in range(3):
        one.step()
    for p, q in zip(one.parameters, two.parameters, strict=True):
        q.copy_(p.detach()) if not q.requires_grad else q.detach().copy_(p.detach())
    state = one.state_dict()
    assert state["lr"].tolist() == [0.1, 0.03]
    two.load_state_dict(state)
    assert [group["lr"] for group in two.param_groups] == [0.1, 0.03]
    for optimiser in (one, two):
        optimiser.step()
    for p, q in zip(one.parameters, two.parameters, strict=True):
        assert p.numpy().tobytes() == q.numpy().tobytes()
    with pytest.raises(ValueError, match="the state is not of this optimiser"):
        build([leaf(1.0, 2.0), leaf(3.0)]).load_state_dict(state)


# --- numbers of NumPy -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [np.float64, np.float32, np.array], ids=lambda n: n.__name__)
def test_numbers_of_numpy_are_python_numbers(number):
    if number is np.array:
        with pytest.raises(TypeError, match=r"^SGD: expected lr to be a number, got array"):
            optim.SGD([leaf(1.0)], number(0.5))
        return
    n = number
    for build in (
        lambda p: optim.SGD(p, n(0.5), n(0.5), n(0.5), n(0.5), nesterov=np.bool_(False)),
        lambda p: optim.Adam(p, n(0.5), (n(0.5), n(0.75)), n(0.25), n(0.5), np.bool_(True)),
        lambda p: optim.AdamW(p, n(0.5), (n(0.5), n(0.75)), n(0.25), n(0.5)),
        lambda p: optim.RMSprop(p, n(0.5), n(0.5), n(0.25), n(0.5), n(0.5), np.bool_(True)),
    ):
        w = with_gradient(1.0, 2.0, dtype=np.float32)
        optimiser = build([w])
        optimiser.step()
        optimiser.lr = n(0.25)
        optimiser.step()
        assert w.dtype == np.float32
        assert type(optimiser.lr) is float
        for value in optimiser.param_groups[0].values():
            assert not isinstance(value, np.generic)
        arrays = optimiser.state_dict()
        assert all(a.dtype == np.float32 for name, a in arrays.items() if name.endswith(".0"))


def test_clipping_takes_a_single_tensor_and_numbers_of_numpy():
    w = with_gradient(1.0, 2.0, dtype=np.float32)
    w.grad = Tensor(np.array([3.0, 4.0], np.float32))
    assert optim.clip_grad_norm(w, np.float64(1.0)) == 5.0
    np.testing.assert_allclose(w.grad.numpy(), [0.6, 0.8], rtol=1e-6)
    optim.clip_grad_value(w, np.float64(0.7))
    np.testing.assert_allclose(w.grad.numpy(), [0.6, 0.7], rtol=1e-6)
    assert w.grad.dtype == np.float32
    optim.clip_grad_value((p for p in [w]), np.int64(0))
    assert w.grad.numpy().tolist() == [0.0, 0.0]


# --- all or nothing ---------------------------------------------------------------------------


def state_of(optimiser):
    parameters = [p.numpy().tobytes() for p in optimiser.parameters]
    state = {name: array.tobytes() for name, array in optimiser.state_dict().items()}
    return parameters, state, [p.version.count for p in optimiser.parameters]


@each_optimiser
@pytest.mark.parametrize("grouped", [False, True])
def test_a_step_that_raises_has_moved_nothing_and_counted_nothing(build, grouped):
    first, second = with_gradient(1.0, 2.0), with_gradient(3.0, 4.0)
    optimiser = build([{"params": [first]}, {"params": [second]}] if grouped else [first, second])
    optimiser.step()
    before = state_of(optimiser)
    second.grad.data = np.ones(3)  # past the check at the assignment
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(2,\) and dtype float64"):
        optimiser.step()
    assert state_of(optimiser) == before
    second.grad.data = np.ones(2, np.float32)
    with pytest.raises(ValueError, match=r"for parameter 1, got \(2,\) and float32; nothing was m"):
        optimiser.step()
    assert state_of(optimiser) == before
    optimiser.param_groups[-1]["lr"] = float("nan")
    with pytest.raises(ValueError, match=r"expected lr >= 0, got nan$"):
        optimiser.step()
    optimiser.param_groups[-1]["lr"] = 0.1
    assert state_of(optimiser) == before


@each_optimiser
def test_a_model_that_was_converted_needs_another_optimiser(build):
    model = nn.Linear(3, 2)
    optimiser = build(model.parameters())
    model.double()
    model(Tensor(np.ones((1, 3)))).sum().backward()
    before = model.state_dict()
    if optimiser._slots(optimiser.param_groups[0]):
        with pytest.raises(RuntimeError, match=r"make the optimiser after converting"):
            optimiser.step()
        for name, array in model.state_dict().items():
            assert np.array_equal(array, before[name])
    else:  # nothing is kept that does not fit
        optimiser.step()
        assert model.weight.dtype == np.float64
        assert not np.array_equal(model.weight.numpy(), before["weight"])


@each_optimiser
def test_an_array_put_in_the_place_of_the_old_one_is_moved(build):
    w = with_gradient(1.0)
    optimiser = build([w])
    w.data = np.array([10.0])
    optimiser.step()
    assert 8.9 < w.item() < 10


@needs_emulator
@each_optimiser
@pytest.mark.parametrize("maximize", [False, True])
def test_a_device_moves_as_the_cpu_does(build, maximize):
    found = []
    for device in ("cpu", "emulator"):
        tensors = [Tensor([1.0, -2.0], device=device), Tensor(3.0, device=device)]
        for tensor in tensors:
            tensor.requires_grad_()
        optimiser = build(tensors, weight_decay=0.1, maximize=maximize)
        for k in range(3):
            for tensor in tensors:
                tensor.grad = Tensor(np.full(tensor.shape, k + 0.5, np.float32), device=device)
            optimiser.step()
        found.append([tensor.numpy() for tensor in tensors])
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW])
def test_a_parameter_that_cannot_be_written_moves_none_of_the_others(kind):
    first, second = (nn.Parameter(np.ones(3, np.float32)) for _ in range(2))
    for parameter in (first, second):
        parameter.grad = Tensor(np.ones(3, np.float32))
    optimizer = kind([first, second], 0.1)
    second.data.flags.writeable = False
    with pytest.raises(ValueError, match="parameter"):
        optimizer.step()
    assert first.numpy().tolist() == [1, 1, 1]
