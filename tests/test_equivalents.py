"""Names of PyTorch, NumPy and Keras that do not exist here name what to use."""

import inspect
import re

import numpy as np
import pytest

import tinygrad_mask as tg
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask.equivalents import FUNCTIONS, PACKAGE, TENSOR


@pytest.mark.parametrize(
    ("owner", "name", "hint"),
    [
        (tg, "cuda", "use device='cuda', or 'auto'"),
        (tg, "Variable", "use Tensor(data, requires_grad=True)"),
        (tg, "float32", "use numpy.float32"),
        (tg, "grad", "use autograd.grad(outputs, inputs)"),
        (tg, "relu", "use functions.relu"),
        (tg, "stack", "use functions.stack"),
        (tg, "clamp", "use functions.clip"),
        (tg, "Linear", "use nn.Linear"),
        (tg, "Dense", "use nn.Linear(in_features, out_features)"),
        (tg, "Adam", "use optim.Adam"),
        (tg, "Adagrad", "there is none; use optim.RMSprop"),
        (tg, "DataLoader", "use data.DataLoader"),
        (tg, "Trainer", "use training.Trainer"),
        (F, "clamp", "use functions.clip"),
        (F, "binary_cross_entropy", "use functions.binary_cross_entropy_with_logits"),
        (nn, "functional", "use tinygrad_mask.functions"),
    ],
)
def test_a_name_of_a_module(owner, name, hint):
    with pytest.raises(AttributeError, match=re.escape(f"; {hint}")) as caught:
        getattr(owner, name)
    assert str(caught.value).count(name) >= 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", [tg, F])
@pytest.mark.parametrize("name", ["nosuch", "Nosuch", "__nosuch__"])
def test_an_unknown_name_is_missing_as_usual(module, name):
    message = f"^module '{re.escape(module.__name__)}' has no attribute '{name}'$"
    with pytest.raises(AttributeError, match=message):
        getattr(module, name)


@pytest.mark.parametrize("x", [tg.zeros(2), nn.Parameter(np.zeros(2, np.float32))])
def test_attributes_of_tensors(x):
    kind = type(x).__name__
    with pytest.raises(AttributeError, match=rf"^{kind} has no attribute 'mul_'; write x \*= y$"):
        x.mul_(2)
    with pytest.raises(AttributeError, match="use device == 'cuda'"):
        x.is_cuda  # noqa: B018
    assert not any(hasattr(x, name) for name in TENSOR)
    assert not set(TENSOR) & set(dir(x))
    with pytest.raises(AttributeError, match=f"^'{kind}' object has no attribute 'nosuch'$"):
        x.nosuch  # noqa: B018


def test_attributes_of_tensors_cost_the_others_nothing():
    """`__getattr__` or `__getattribute__` on the class would slow every access."""
    for kind in (Tensor, nn.Parameter):
        assert not hasattr(kind, "__getattr__")
        assert kind.__getattribute__ is object.__getattribute__


def test_no_name_exists_here_after_all():
    assert not set(PACKAGE) & set(tg.__all__)
    assert not set(FUNCTIONS) & set(F.__all__)
    defined = set(re.findall(r"^    def (\w+)\(", inspect.getsource(Tensor), re.MULTILINE))
    assert "reshape" in defined
    assert not set(TENSOR) & defined


@pytest.mark.parametrize("table", [PACKAGE, FUNCTIONS, TENSOR])
def test_what_is_named_exists(table):
    places = {"nn": nn, "functions": F, "optim": optim, "data": tg.data, "training": tg.training}
    places |= {"autograd": tg.autograd, "tinygrad_mask": tg, "numpy": np}
    names = "|".join(places)
    for name, hint in table.items():
        for place, what in re.findall(rf"\b({names})\.(\w+)", hint):
            assert hasattr(places[place], what), f"{name}: {place}.{what}"


def test_cpu_and_cuda_are_to(monkeypatch):
    x = tg.ones(2)
    assert x.cpu() is x
    monkeypatch.setattr(Tensor, "to", lambda self, device: device)
    assert (x.cpu(), x.cuda()) == ("cpu", "cuda")
