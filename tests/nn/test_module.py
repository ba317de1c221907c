"""Modules: names, modes, state, and what they look like."""

import re

import numpy as np
import pytest

from tinygrad_mask import Tensor, nn, optim


def rng(seed=0):
    return np.random.default_rng(seed)


class Scaled(nn.Module):
    """A module with something of everything: a parameter, a buffer and modules below."""

    def __init__(self, seed=0):
        super().__init__()
        self.scale = nn.Parameter(np.float32(2))
        self.body = nn.Sequential(
            nn.Linear(3, 4, rng=rng(seed)), nn.BatchNorm(4), nn.Dropout(0.5, rng=rng(seed))
        )
        self.head = nn.Linear(4, 2, rng=rng(seed), bias=False)
        self.offset: Tensor
        self.register_buffer("offset", Tensor(np.zeros(2, np.float32)))
        self.note = "not part of the state"
        self.constant = Tensor([1.0])

    def forward(self, x):
        return self.head(self.body(x)) * self.scale + self.offset


PARAMETERS = ["scale", "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]
PARAMETERS += ["head.weight"]
BUFFERS = ["offset", "body.1.running_mean", "body.1.running_var"]


# --- the tree ---------------------------------------------------------------------------------


def test_names_follow_the_attributes():
    module = Scaled()
    assert [name for name, _ in module.named_parameters()] == PARAMETERS
    assert [name for name, _ in module.named_buffers()] == BUFFERS
    assert [name for name, _ in module.children()] == ["body", "head"]
    assert dict(module.named_parameters())["body.0.weight"] is module.body[0].weight
    assert module.parameters()[-1] is module.head.weight


def test_modules_are_this_one_and_all_below():
    module = Scaled()
    assert list(module.modules()) == [module, module.body, *module.body, module.head]


def test_the_parameters_are_counted():
    assert Scaled().parameter_count() == 1 + 3 * 4 + 4 + 4 + 4 + 4 * 2
    assert nn.ReLU().parameter_count() == 0


def test_an_attribute_assigned_anew_takes_the_place_of_the_old():
    module = Scaled()
    module.head = nn.Linear(4, 5, rng=rng())
    assert dict(module.named_parameters())["head.weight"].shape == (4, 5)
    module.head = None
    assert not any(name.startswith("head") for name, _ in module.named_parameters())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.there = nn.Linear(2, 2, rng=rng(), bias=False)
        self.back = nn.Linear(2, 2, rng=rng(), bias=False)
        self.back.weight = self.there.weight

    def forward(self, x):
        return self.back(self.there(x))


def test_a_shared_weight_is_one_parameter():
    module = Tied()
    assert len(module.parameters()) == 1
    assert module.parameter_count() == 4


def test_a_shared_buffer_is_named_once():
    norm = nn.BatchNorm(2)
    names = [name for name, _ in nn.Sequential(norm, nn.ReLU(), norm).named_buffers()]
    assert names == ["0.running_mean", "0.running_var"]


def test_a_shared_weight_is_stepped_once():
    module = Tied()
    before = module.there.weight.numpy().copy()
    module(Tensor([[1.0, 2.0]])).sum().backward()
    gradient = module.there.weight.grad.numpy()
    optim.SGD(module.parameters(), 0.1).step()
    expected = before - 0.1 * gradient
    np.testing.assert_allclose(module.there.weight.numpy(), expected, rtol=1e-6)


def test_a_parameter_requires_a_gradient_unless_told_otherwise():
    assert nn.Parameter([1.0]).requires_grad
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad


def test_a_module_without_forward_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"^Empty defines no forward\(\)$"):
        Empty()(Tensor([1.0]))


# --- modes and gradients ----------------------------------------------------------------------


def test_modes_reach_every_module():
    module = Scaled()
    assert all(m.training for m in module.modules())
    assert module.eval() is module
    assert not any(m.training for m in module.modules())
    assert module.train() is module
    assert all(m.training for m in module.modules())
    assert not any(m.training for m in module.train(False).modules())


def test_zero_grad_forgets_and_backward_adds():
    module = nn.Linear(3, 2, rng=rng())
    x = Tensor(np.ones((1, 3), np.float32))
    module(x).sum().backward()
    module(x).sum().backward()
    assert module.bias.grad.numpy().tolist() == [2.0, 2.0]
    module.zero_grad()
    assert all(parameter.grad is None for parameter in module.parameters())


def test_to_keeps_the_tensors():
    module = Scaled()
    before, state = module.parameters(), module.state_dict()
    assert module.to("cpu") is module
    assert all(a is b for a, b in zip(before, module.parameters(), strict=True))
    for name, array in module.state_dict().items():
        assert np.array_equal(array, state[name])
    with pytest.raises(ValueError, match="device"):
        module.to("abacus")


# --- state ------------------------------------------------------------------------------------


def test_a_state_has_every_parameter_and_buffer():
    state = Scaled().state_dict()
    assert list(state) == PARAMETERS + BUFFERS
    assert {type(array) for array in state.values()} == {np.ndarray}
    assert state["scale"].shape == ()


def test_a_state_is_a_copy():
    module = Scaled()
    state = module.state_dict()
    state["head.weight"][...] = 7
    assert not (module.head.weight.numpy() == 7).any()
    module.load_state_dict(state)
    state["head.weight"][...] = 8
    assert (module.head.weight.numpy() == 7).all()


def test_a_loaded_state_gives_the_same_results():
    one, two = Scaled(1), Scaled(2)
    x = Tensor(rng().standard_normal((5, 3)).astype(np.float32))
    one(x)  # moves the running statistics
    one.offset.copy_(np.array([3, 4], np.float32))
    parameters = two.parameters()
    two.load_state_dict(one.state_dict())
    assert np.array_equal(one.eval()(x).numpy(), two.eval()(x).numpy())
    # The tensors are the same ones, so that an optimiser made before goes on with them.
    assert all(a is b for a, b in zip(parameters, two.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in two.parameters())


def test_loading_makes_a_stale_graph_raise():
    module = nn.Linear(3, 2, rng=rng())
    x = Tensor(np.ones((1, 3), np.float32), requires_grad=True)
    loss = module(x).sum()
    module.load_state_dict(module.state_dict())
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()


def changed(**arrays):
    """Return a function that takes a state and gives one with these changes; None takes away."""

    def change(state):
        state = state | arrays
        return {name: array for name, array in state.items() if array is not None}

    return change


MISFITS = {
    "missing": (changed(**{"head.weight": None}), "missing: head.weight"),
    "missing buffer": (changed(offset=None), "missing: offset"),
    "unexpected": (changed(tail=np.zeros(1)), "unexpected: tail"),
    "shape": (
        changed(**{"body.0.bias": np.zeros(5, np.float32)}),
        "body.0.bias: expected (4,) float32, got (5,) float32",
    ),
    "shape that would broadcast": (
        changed(**{"body.0.bias": np.zeros((), np.float32)}),
        "body.0.bias: expected (4,) float32, got () float32",
    ),
    "dtype": (
        changed(scale=np.float64(1)),
        "scale: expected () float32, got () float64",
    ),
    "all at once": (
        changed(scale=None, tail=np.zeros(1), offset=np.zeros(2)),
        "missing: scale; unexpected: tail; offset: expected (2,) float32, got (2,) float64",
    ),
}


@pytest.mark.parametrize(("change", "faults"), MISFITS.values(), ids=MISFITS)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, faults):
    module, other = Scaled(1), Scaled(2)
    before = module.state_dict()
    with pytest.raises(ValueError, match="the state does not fit") as raised:
        module.load_state_dict(change(other.state_dict()))
    assert str(raised.value) == f"Scaled: the state does not fit: {faults}"
    for name, array in module.state_dict().items():
        assert np.array_equal(array, before[name]), name


# --- Sequential -------------------------------------------------------------------------------


def test_sequential_hands_on_from_layer_to_layer():
    double, increase = Lambda(lambda x: x * 2.0), Lambda(lambda x: x + 1.0)
    x = Tensor([3.0])
    assert nn.Sequential(double, increase)(x).item() == 7.0
    assert nn.Sequential(increase, double)(x).item() == 8.0
    assert nn.Sequential()(x) is x


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_sequential_is_a_sequence():
    layers = [nn.ReLU(), nn.Tanh(), nn.Flatten()]
    module = nn.Sequential(*layers)
    assert list(module) == layers
    assert len(module) == 3
    assert module[1] is layers[1]
    assert module[-1] is layers[2]
    with pytest.raises(IndexError):
        module[3]
    assert [name for name, _ in module.children()] == ["0", "1", "2"]


# --- what it looks like -----------------------------------------------------------------------

NETWORK = """\
Sequential()
  (0) Conv2d(3 -> 32, 3x3, padding=same)           weight 3x3x3x32, bias 32          896
  (1) BatchNorm(32)                                weight 32, bias 32                 64
  (2) ReLU()
  (3) MaxPool2d(2)
  (4) Sequential()
    (0) Conv2d(32 -> 32, 3x3, groups=32, no bias)  weight 3x3x1x32                   288
    (1) Dropout(0.5)
  (5) GlobalAvgPool2d()
  (6) Linear(32 -> 3)                              weight 32x3, bias 3                99
parameters                                                                         1,347"""


def test_the_representation_of_a_network():
    module = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding="same", rng=rng()),
        nn.BatchNorm(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(
            nn.Conv2d(32, 32, 3, groups=32, bias=False, rng=rng()), nn.Dropout(0.5, rng=rng())
        ),
        nn.GlobalAvgPool2d(),
        nn.Linear(32, 3, rng=rng()),
    )
    assert repr(module) == NETWORK


def test_the_representation_of_a_module_with_a_parameter_of_its_own():
    lines = repr(Scaled()).splitlines()
    assert lines[0].split() == ["Scaled()", "scale", "1"]
    assert lines[1].split() == ["(body)", "Sequential()"]
    assert " ".join(lines[2].split()) == "(0) Linear(3 -> 4) weight 3x4, bias 4 16"
    assert lines[-1].split() == ["parameters", "33"]


def test_the_representation_of_a_layer_is_one_line():
    assert repr(nn.ReLU()) == "ReLU()"
    shown = repr(nn.Linear(2, 3, rng=rng()))
    assert re.fullmatch(r"Linear\(2 -> 3\) +weight 2x3, bias 3 +9", shown)


def test_a_module_without_parameters_has_no_columns():
    assert repr(nn.Sequential(nn.ReLU())).splitlines()[:2] == ["Sequential()", "  (0) ReLU()"]
