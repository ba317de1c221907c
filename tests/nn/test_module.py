"""Modules: names, modes, state, and what they look like."""

import re

import numpy as np
import pytest

from tinygrad_mask import Tensor, nn, no_grad, optim


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
    assert [name for name, _ in module.named_children()] == ["body", "head"]
    assert list(module.children()) == [module.body, module.head]
    assert dict(module.named_parameters())["body.0.weight"] is module.body[0].weight
    assert module.parameters()[-1] is module.head.weight


def test_modules_are_this_one_and_all_below():
    module = Scaled()
    assert list(module.modules()) == [module, module.body, *module.body, module.head]


def test_modules_have_names_and_each_is_met_once():
    shared = nn.ReLU()
    module = nn.Sequential(shared, nn.Sequential(shared, nn.Tanh()))
    names = [name for name, _ in module.named_modules()]
    assert names == ["", "0", "1", "1.1"]
    assert [name for name, _ in module.named_modules("net")] == ["net", "net.0", "net.1", "net.1.1"]
    assert list(module.modules()) == [module, shared, module[1], module[1][1]]
    twice = nn.Sequential(shared, shared)
    assert list(twice.children()) == [shared]
    assert [name for name, _ in twice.named_children()] == ["0"]
    assert repr(twice).count("ReLU") == 2


def test_apply_meets_children_before_their_parent():
    module, met = Scaled(), []
    assert module.apply(met.append) is module
    assert met == [*module.body, module.body, module.head, module]


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


def test_requires_grad_freezes_and_thaws():
    module = Scaled()
    assert module.requires_grad_(False) is module
    assert not any(p.requires_grad for p in module.parameters())
    module.requires_grad_()
    assert all(p.requires_grad for p in module.parameters())


def test_zero_grad_may_fill_with_zeros():
    module = nn.Linear(3, 2)
    module(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    module.zero_grad(set_to_none=False)
    assert module.weight.grad.numpy().tolist() == [[0.0, 0.0]] * 3


def test_double_and_float_convert_what_is_floating_and_keep_the_tensors():
    module = Scaled()
    module.register_buffer("count", Tensor([3]))
    module.body(Tensor(np.ones((4, 3), np.float32))).sum().backward()
    tensors, state = module.parameters() + module.buffers(), module.state_dict()
    assert module.double() is module
    dtypes = {name: array.dtype for name, array in module.state_dict().items()}
    assert dtypes.pop("count") == np.int64
    assert set(dtypes.values()) == {np.dtype(np.float64)}
    assert module.body[0].weight.grad.dtype == np.float64
    assert module(Tensor(np.ones((4, 3)))).dtype == np.float64
    assert module.float() is module
    for name, array in module.state_dict().items():
        assert array.dtype == state[name].dtype
    assert all(a is b for a, b in zip(tensors, module.parameters() + module.buffers(), strict=True))
    assert module.to(np.float64).scale.dtype == module.to("cpu").scale.dtype == np.float64
    assert module.to("cpu", np.float32).scale.dtype == np.float32
    with pytest.raises(TypeError, match=r"^Scaled\.to: expected a dtype of float32 or "):
        module.to(np.int64)


def test_a_graph_from_before_a_conversion_is_stale_and_says_so():
    module = nn.Linear(3, 2)
    loss = module(Tensor(np.ones((1, 3), np.float32), requires_grad=True)).sum()
    module.double()
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()


# --- attributes -------------------------------------------------------------------------------


class Net(nn.Module):
    """Takes anything as an attribute."""

    def __init__(self, **attributes):
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x, *more, scale=1.0):
        return sum((y * scale for y in more), x * scale)


def test_a_module_may_take_any_number_of_inputs():
    one, two = Tensor([1.0]), Tensor([2.0])
    assert Net()(one, two, two, scale=3.0).item() == 15.0


def test_a_parameter_gives_way_to_a_parameter_or_none_only():
    model = nn.Sequential(nn.Linear(2, 3))
    model[0].weight = replaced = nn.Parameter(np.ones((2, 3), np.float32))
    assert model.parameters()[0] is replaced
    model[0].bias = None
    assert [name for name, _ in model.named_parameters()] == ["0.weight"]
    # None is remembered as an absent parameter.
    with pytest.raises(TypeError, match=r"^Linear\.bias: expected a Parameter or None, got"):
        model[0].bias = Tensor([1.0])
    with pytest.raises(TypeError, match=r"^Linear\.bias: expected a Parameter or None, got"):
        nn.Linear(2, 3, bias=False).bias = Tensor([1.0])
    model[0].bias = nn.Parameter(np.zeros(3, np.float32))
    assert len(model.parameters()) == 2


@pytest.mark.parametrize(
    "value", [Tensor(np.ones((2, 3), np.float32)), np.ones((2, 3)), 1.0, [1.0]], ids=type
)
def test_what_is_no_parameter_cannot_take_the_place_of_one(value):
    layer = nn.Linear(2, 3)
    weight = layer.weight
    with pytest.raises(TypeError, match=r"^Linear\.weight: expected a Parameter or None, "):
        layer.weight = value
    assert layer.weight is weight
    assert "weight" in layer.state_dict()


def test_an_operator_that_makes_a_new_tensor_does_not_lose_the_parameter():
    model = nn.Sequential(nn.Linear(2, 3))
    before = model[0].weight.numpy().copy()
    with pytest.raises((TypeError, RuntimeError)):
        model[0].weight += 1
    with pytest.raises(
        TypeError, match=r"^Linear\.weight: expected a Parameter or None, got Tensor"
    ):
        model[0].weight = model[0].weight * 2.0
    assert set(model.state_dict()) == {"0.weight", "0.bias"}
    with no_grad():
        model[0].weight += 1
    assert np.array_equal(model.state_dict()["0.weight"], before + 1)


def test_a_buffer_gives_way_to_a_tensor_or_none_only():
    norm = nn.BatchNorm(2)
    norm.running_mean = Tensor(np.full(2, 5, np.float32))
    assert norm.state_dict()["running_mean"].tolist() == [5, 5]
    with pytest.raises(TypeError, match=r"^BatchNorm\.running_mean: expected a Tensor or None"):
        norm.running_mean = np.zeros(2)
    norm.running_mean = None
    assert "running_mean" not in norm.state_dict()


def test_a_module_gives_way_to_a_module_or_none_only():
    net = Net(layer=nn.Linear(2, 3))
    with pytest.raises(TypeError, match=r"^Net\.layer: expected a Module or None, got function; "):
        net.layer = lambda x: x
    del net.layer
    net.layer = "free again"


@pytest.mark.parametrize(
    ("value", "container"),
    [
        ([nn.ReLU()], "ModuleList"),
        ((nn.ReLU(), 1), "ModuleList"),
        ([[nn.ReLU()]], "ModuleList"),
        ({"a": nn.ReLU()}, "ModuleDict"),
        ([nn.Parameter([1.0])], "ParameterList"),
        ({"a": nn.Parameter([1.0])}, "ParameterDict"),
    ],
    ids=str,
)
def test_a_plain_collection_of_modules_or_parameters_is_refused_with_the_right_one(
    value, container
):
    with pytest.raises(TypeError, match=rf"^Net\.layers: expected nn\.{container} for [^\n]+$"):
        Net(layers=value)


def test_a_list_that_was_filled_later_is_found_when_parameters_are_asked_for():
    net = Net(layers=[], table={})
    net.layers.append(nn.Linear(2, 3))
    for walk in (net.parameters, net.state_dict, net.buffers):
        with pytest.raises(TypeError, match=r"^Net\.layers: expected nn\.ModuleList for modules"):
            walk()
    net.layers.clear()
    net.table["a"] = nn.Parameter([1.0])
    with pytest.raises(TypeError, match=r"^Net\.table: expected nn\.ParameterDict for parameters"):
        net.parameters()


def test_a_collection_of_what_is_registered_already_may_be_kept():
    net = Net(one=nn.Linear(2, 3), two=nn.Linear(3, 3))
    net.order = [net.two, net.one]
    net.weights = (net.one.weight,)
    net.sizes = [(2, 3), {"a": [1]}]
    assert len(net.parameters()) == 4


def test_attributes_before_init_say_what_is_missing():
    class Hasty(nn.Module):
        def __init__(self):
            self.layer = nn.ReLU()

    with pytest.raises(RuntimeError, match=r"^Hasty\.layer: expected super\(\)\.__init__\(\)"):
        Hasty()


def test_modules_parameters_and_buffers_may_have_computed_names():
    net = Net()
    for k in range(2):
        net.add_module(f"layer{k}", nn.Linear(2, 2, bias=False))
    net.register_parameter("scale", nn.Parameter([1.0]))
    net.register_parameter("shift", None)
    net.register_buffer("offset", Tensor([1.0]))
    net.register_buffer("later", None)
    assert list(net.state_dict()) == ["scale", "layer0.weight", "layer1.weight", "offset"]
    net.later = Tensor([2.0])
    assert list(net.state_dict())[-1] == "later"
    for name, value in (("shift", Tensor([1.0])), ("later", 5)):
        with pytest.raises(TypeError, match=rf"^Net\.{name}: expected a "):
            setattr(net, name, value)


@pytest.mark.parametrize("name", ["", "a.b", 3, "forward", "training"], ids=repr)
def test_names_that_cannot_be_found_again_are_refused(name):
    net = Net()
    for call in (
        lambda: net.add_module(name, nn.ReLU()),
        lambda: net.register_parameter(name, nn.Parameter([1.0])),
        lambda: net.register_buffer(name, Tensor([1.0])),
    ):
        with pytest.raises(ValueError, match=rf"^Net: expected a name [^\n]*{name!r}[^\n]*$"):
            call()


def test_add_module_takes_modules_only():
    with pytest.raises(TypeError, match=r"^Net\.x: expected a Module or None, got the class ReLU"):
        Net().add_module("x", nn.ReLU)


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


def test_without_strict_the_names_that_both_have_are_loaded():
    module, other = Scaled(1), Scaled(2)
    state = other.state_dict() | {"tail": np.zeros(1)}
    del state["offset"]
    keys = module.load_state_dict(state, strict=False)
    assert keys == (["offset"], ["tail"])
    assert (keys.missing_keys, keys.unexpected_keys) == keys
    assert np.array_equal(module.head.weight.numpy(), other.head.weight.numpy())
    assert module.load_state_dict(other.state_dict()) == ([], [])
    state["scale"] = np.zeros(3)
    with pytest.raises(ValueError, match="the state does not fit: scale: expected"):
        module.load_state_dict(state, strict=False)


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
