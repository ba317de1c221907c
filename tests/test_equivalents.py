"""Names of PyTorch, NumPy and Keras that do not exist here name what to use."""

import importlib
import inspect
import re

import numpy as np
import pytest

import tinygrad_mask as tg
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask.equivalents import (
    DATA,
    FUNCTIONS,
    MODULE,
    OPTIMIZER,
    PACKAGE,
    TENSOR,
    TRAINER,
    TRAINING,
)
from tinygrad_mask.operators import Operators


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


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("from tinygrad_mask import Variable", "use Tensor(data, requires_grad=True)"),
        ("from tinygrad_mask import Tensor, Adam", "use optim.Adam"),
        ("from tinygrad_mask.functions import clamp", "use functions.clip"),
        ("from tinygrad_mask.nn import LSTM", "there is none; recurrent networks are a loop"),
        ("from tinygrad_mask.optim import LBFGS as optimiser", "there is none; use optim.Adam"),
        ("from tinygrad_mask.data import RandomSampler", "use data.DataLoader(dataset, shuffle="),
        ("from tinygrad_mask.training import ModelCheckpoint", "use training.Checkpoint(path)"),
    ],
)
def test_a_name_that_is_imported(line, hint):
    name = line.split("import ")[1].split(", ")[-1].split(" as ")[0]
    module = line.split()[1]
    message = f"cannot import name '{name}' from '{module}'; {hint}"
    with pytest.raises(ImportError, match=f"^{re.escape(message)}") as caught:
        exec(line, {})
    assert caught.value.name == module
    # To look for a name is no import.
    assert not hasattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError):
        getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("package", ["", ".functions", ".nn", ".optim", ".data", ".training"])
def test_an_unknown_name_that_is_imported_is_missing_as_usual(package):
    with pytest.raises(ImportError, match=r"^cannot import name 'nosuch' from 'tinygrad_mask") as e:
        exec(f"from tinygrad_mask{package} import nosuch", {})
    assert ";" not in str(e.value)


def trainer():
    model = nn.Sequential(nn.Linear(2, 2))
    return tg.training.Trainer(
        model,
        optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        lambda model, x: model(x).sum(),
        [np.ones((3, 2), np.float32)],
        epochs=2,
    )


@pytest.mark.parametrize(
    ("make", "name", "hint"),
    [
        (trainer, "train", "use run()"),
        (trainer, "fit", "use run()"),
        (trainer, "predict", "call the model"),
        (lambda: nn.Linear(2, 2), "fit", "use training.Trainer("),
        (lambda: nn.Sequential(nn.ReLU()), "summary", "use print(model)"),
        (lambda: nn.Linear(2, 2), "half", "there is none; floats are float32 or float64"),
        (lambda: trainer().optimizer, "minimize", "use loss.backward(), then step()"),
    ],
)
def test_attributes_of_other_objects(make, name, hint):
    thing = make()
    message = f"{type(thing).__name__} has no attribute {name!r}; {hint}"
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}"):
        getattr(thing, name)
    assert name not in dir(thing)
    assert not hasattr(thing, name)


def test_a_user_may_define_what_does_not_exist_here():
    class Net(nn.Module):
        def predict(self, x):
            return x

    net = Net()
    assert net.predict(3) == 3
    assert "predict" in dir(net)
    net.summary = "short"
    net.half = nn.Linear(2, 2)
    assert net.summary == "short"
    assert [name for name, _ in net.named_children()] == ["half"]


@pytest.mark.parametrize("module", [tg, F, nn, optim, tg.training])
def test_dir_lists_what_can_be_used(module):
    """All of it, also what is loaded on first use, and none of what the module imports."""
    names = set(dir(module))
    assert set(module.__all__) <= names
    assert not names & {"Any", "TYPE_CHECKING", "importlib", "no_attribute", "annotations"}
    assert all(hasattr(module, name) for name in names)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (trainer, "Trainer(model=Sequential, optimizer=SGD, epochs=2, of which 0 are done)"),
        (lambda: trainer().optimizer, "SGD(2 tensors, lr=0.1, momentum=0.9)"),
        (
            lambda: optim.AdamW([{"params": [nn.Parameter([1.0])], "lr": 0.5}]),
            "AdamW(1 tensor, lr=0.5, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)",
        ),
        (lambda: optim.StepLR(trainer().optimizer, 3), "StepLR(step_count=0, lr=0.1)"),
        (lambda: tg.data.TensorDataset(tg.ones(5, 2)), "TensorDataset((5, 2))"),
        (
            lambda: tg.data.ArrayDataset(np.ones((5, 2)), np.ones(5)),
            "ArrayDataset((5, 2), (5,))",
        ),
        (lambda: tg.data.Subset([4, 5, 6], [0, 2]), "Subset(2 of 3 items)"),
        (
            lambda: tg.data.DataLoader([4, 5, 6], 2),
            "DataLoader(list of 3 items, batch_size=2, shuffle=False)",
        ),
    ],
)
def test_representation(make, text):
    assert repr(make()) == text


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
    source = inspect.getsource(Tensor) + inspect.getsource(Operators)
    defined = set(re.findall(r"^    def (\w+)\(", source, re.MULTILINE))
    assert "reshape" in defined
    assert not set(TENSOR) & defined
    for table, kind in (
        (MODULE, nn.Module),
        (OPTIMIZER, optim.Optimizer),
        (TRAINER, tg.training.Trainer),
    ):
        defined = re.findall(r"^    def (\w+)\(", inspect.getsource(kind), re.MULTILINE)
        assert "__init__" in defined
        assert not set(table) & set(defined)
    assert not set(DATA) & set(vars(tg.data))
    assert not set(TRAINING) & set(tg.training.__all__)


@pytest.mark.parametrize(
    "table", [PACKAGE, FUNCTIONS, TENSOR, MODULE, OPTIMIZER, TRAINER, DATA, TRAINING]
)
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
