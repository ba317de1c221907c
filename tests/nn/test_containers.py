"""Sequential, and the lists and dicts of modules and parameters."""

import re

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


# --- Sequential -------------------------------------------------------------------------------


def test_sequential_hands_on_from_layer_to_layer():
    double, increase = Lambda(lambda x: x * 2.0), Lambda(lambda x: x + 1.0)
    x = Tensor([3.0])
    assert nn.Sequential(double, increase)(x).item() == 7.0
    assert nn.Sequential(increase, double)(x).item() == 8.0
    assert nn.Sequential()(x) is x


def test_sequential_is_a_sequence():
    layers = [nn.ReLU(), nn.Tanh(), nn.Flatten()]
    module = nn.Sequential(*layers)
    assert list(module) == layers
    assert len(module) == 3
    assert module[1] is layers[1]
    assert module[-1] is layers[2]
    with pytest.raises(IndexError):
        module[3]
    assert [name for name, _ in module.named_children()] == ["0", "1", "2"]


def test_sequential_takes_a_list_or_a_dict():
    layers = [nn.ReLU(), nn.Tanh()]
    for module in (nn.Sequential(layers), nn.Sequential(tuple(layers)), nn.Sequential(*layers)):
        assert list(module) == layers
    assert list(nn.Sequential(nn.ModuleList(layers))) == layers
    assert len(nn.Sequential([])) == 0
    named = nn.Sequential({"first": layers[0], "second": layers[1]})
    assert [name for name, _ in named.named_children()] == ["first", "second"]
    assert named.second is named[1] is layers[1]
    x = Tensor([-1.0, 0.5])
    np.testing.assert_allclose(named(x).numpy(), np.tanh([0, 0.5]), rtol=1e-6)


A_CLASS = "got the class ReLU; write ReLU(...)"

REFUSED = {
    "a class": (
        lambda: nn.Sequential(nn.ReLU),
        "at position 0, got the class ReLU; write ReLU(...)",
    ),
    "a function": (
        lambda: nn.Sequential(nn.Tanh(), F.relu),
        "at position 1, got the function relu; use the layer of its name, or call it in a Module's "
        "forward()",
    ),
    "a function in a list": (
        lambda: nn.Sequential([F.relu]),
        "at position 0, got the function relu; use the layer of its name, or call it in a Module's "
        "forward()",
    ),
    "a number": (lambda: nn.Sequential(nn.Tanh(), 3), "at position 1, got int"),
    "None": (lambda: nn.Sequential(None, nn.Tanh()), "at position 0, got NoneType"),
    "two lists": (lambda: nn.Sequential([nn.Tanh()], [nn.Tanh()]), "at position 0, got list"),
    "in a dict": (
        lambda: nn.Sequential({"a": nn.ReLU}),
        f"as 'a', {A_CLASS}",
    ),
    "assigned": (lambda: nn.Sequential(nn.Tanh()).__setitem__(0, 3), "at position 0, got int"),
    "appended": (lambda: nn.Sequential(nn.Tanh()).append(3), "at position 1, got int"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_sequential_refuses_what_is_no_module(call, message):
    message = re.escape(f"Sequential: expected a Module {message}")
    with pytest.raises(TypeError, match=f"^{message}$"):
        call()


def test_a_part_of_a_sequential_keeps_its_names():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    part = module[1:]
    assert type(part) is nn.Sequential
    assert list(part) == [module[1], module[2]]
    assert [name for name, _ in part.named_children()] == ["1", "2"]
    part.append(nn.Sigmoid())
    assert [name for name, _ in part.named_children()] == ["1", "2", "3"]
    assert len(module) == 3


def test_a_sequential_can_be_changed():
    a, b, c, d = (Lambda(lambda x, k=k: x * 10.0 + k) for k in range(1, 5))
    module = nn.Sequential(a, b)
    assert module.append(d) is module
    module.insert(2, c)
    assert module(Tensor([0.0])).item() == 1234
    module[3] = a
    del module[1]
    assert module(Tensor([0.0])).item() == 131
    module[0] = d
    assert [name for name, _ in module.named_children()] == ["0", "1", "2"]


def test_an_activation_is_fused_with_the_layer_before_it():
    layers = [nn.Linear(3, 4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Sigmoid()]
    x = Tensor(np.random.default_rng(0).standard_normal((2, 5, 5, 3)).astype(np.float32))
    y = nn.Sequential(layers)(x)
    assert y.node.function.name == "conv2d"
    expected = x
    for layer in layers:
        expected = layer(expected)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-6)


# --- lists ------------------------------------------------------------------------------------


class Stack(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(count))
        self.scales = nn.ParameterList([nn.Parameter([1.0]) for _ in range(count)])

    def forward(self, x):
        for layer, scale in zip(self.layers, self.scales, strict=True):
            x = layer(x) * scale
        return x


def test_what_is_in_a_list_belongs_to_the_module():
    net = Stack(2)
    names = ["layers.0.weight", "layers.1.weight", "scales.0", "scales.1"]
    assert list(net.state_dict()) == names
    net(Tensor([[1.0, 2.0]])).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.eval()
    assert not any(m.training for m in net.modules())


def test_a_module_list_is_a_list():
    a, b, c, d = (nn.Linear(1, 1) for _ in range(4))
    layers = nn.ModuleList([a])
    assert layers.append(b) is layers
    layers.extend([c])
    layers += [d]
    assert list(layers) == [a, b, c, d]
    assert (len(layers), layers[-1], a in layers) == (4, d, True)
    assert isinstance(layers[1:3], nn.ModuleList)
    assert list(layers[1:3]) == [b, c]
    layers[0] = d
    del layers[1:3]
    layers.insert(0, c)
    assert list(layers) == [c, d, d]
    assert [name for name, _ in layers.named_parameters()] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
    ]
    with pytest.raises(IndexError):
        layers[3]
    with pytest.raises(NotImplementedError, match=r"^ModuleList defines no forward"):
        layers(Tensor([1.0]))


def test_lists_take_what_they_are_for_only():
    with pytest.raises(TypeError, match=r"^ModuleList: expected a Module at position 1, got "):
        nn.ModuleList([nn.ReLU(), nn.ReLU])
    layers = nn.ModuleList([nn.ReLU()])
    with pytest.raises(TypeError, match=r"^ModuleList: expected a Module at position 2, got int$"):
        layers.extend([nn.ReLU(), 3])
    assert len(layers) == 1
    message = r"^ParameterList: expected a Parameter at position 0, got Tensor; wrap it in nn.Param"
    with pytest.raises(TypeError, match=message):
        nn.ParameterList([Tensor([1.0])])


# --- dicts ------------------------------------------------------------------------------------


def test_what_is_in_a_dict_belongs_to_the_module():
    left, right = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    branches = nn.ModuleDict({"left": left})
    branches["right"] = right
    assert list(branches.state_dict()) == ["left.weight", "right.weight"]
    assert branches["left"] is branches.left is left
    assert ("left" in branches, "middle" in branches, len(branches)) == (True, False, 2)
    assert list(branches) == list(branches.keys()) == ["left", "right"]
    assert list(branches.values()) == [left, right]
    assert dict(branches.items()) == {"left": left, "right": right}
    assert branches.pop("left") is left
    branches.update({"middle": left})
    del branches["right"]
    assert list(branches) == ["middle"]
    for use in (lambda: branches["right"], lambda: branches.pop("right")):
        with pytest.raises(KeyError, match="right"):
            use()
    scales = nn.ParameterDict({"a": nn.Parameter([1.0])})
    assert list(scales.state_dict()) == ["a"]


@pytest.mark.parametrize("name", ["keys", "forward", "a.b", ""])
def test_a_dict_refuses_names_that_would_hide_its_own(name):
    with pytest.raises(ValueError, match=r"^ModuleDict: expected a name"):
        nn.ModuleDict({name: nn.ReLU()})


def test_dicts_take_what_they_are_for_only():
    with pytest.raises(TypeError, match=r"^ModuleDict: expected a Module as 'a', got "):
        nn.ModuleDict({"a": F.relu})
    with pytest.raises(TypeError, match=r"^ParameterDict: expected a Parameter as 'a', got float$"):
        nn.ParameterDict({"a": 1.0})


# --- pop and + ----------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [nn.ModuleList, lambda items: nn.Sequential(*items)])
def test_pop_and_plus_are_those_of_a_list(container):
    layers = [nn.ReLU(), nn.Tanh(), nn.Flatten()]
    items = container(layers)
    assert items.pop() is layers[2]
    assert items.pop(0) is layers[0]
    assert [name for name, _ in items.named_children()] == ["0"]
    with pytest.raises(IndexError):
        items.pop(1)
    both = items + container(layers[::2])
    assert list(both) == [layers[1], layers[0], layers[2]]
    assert type(both) is type(items)
    assert list(items) == [layers[1]]
    assert list(items + layers[:1]) == layers[1::-1]
    with pytest.raises(TypeError, match="unsupported operand"):
        items + 3
    with pytest.raises(TypeError, match="expected a Module at position 1, got int"):
        items + range(3, 4)


def test_plus_keeps_names_and_lists_of_parameters_add_too():
    named = nn.Sequential({"first": nn.ReLU()}) + nn.Sequential(nn.Tanh())
    assert [name for name, _ in named.named_children()] == ["first", "1"]
    scales = nn.ParameterList([nn.Parameter([1.0])]) + nn.ParameterList([nn.Parameter([2.0])])
    assert [name for name, _ in scales.named_parameters()] == ["0", "1"]
    assert scales.pop().item() == 2.0
