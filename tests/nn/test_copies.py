"""Copies and pickles of models, optimisers and schedules, alone and together."""

import copy
import multiprocessing
import operator
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, manual_seed, nn, optim

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}
each_copy = pytest.mark.parametrize("clone", COPIES.values(), ids=COPIES)

OPTIMISERS = {
    "SGD": lambda p: optim.SGD(p, 0.1, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, 0.1, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, 0.1),
    "RMSprop": lambda p: optim.RMSprop(p, 0.1, centered=True),
}

SCHEDULES = {
    "StepLR": lambda o: optim.StepLR(o, 2),
    "MultiStepLR": lambda o: optim.MultiStepLR(o, [2]),
    "ExponentialLR": lambda o: optim.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: optim.LambdaLR(o, float),
    "LinearLR": lambda o: optim.LinearLR(o),
    "CosineLR": lambda o: optim.CosineLR(o, 9),
    "OneCycleLR": lambda o: optim.OneCycleLR(o, 2.0, 9),
    "SequentialLR": lambda o: optim.SequentialLR(o, [optim.LinearLR(o), optim.CosineLR(o, 9)], [2]),
}


def network():
    manual_seed(0)
    shared = nn.Linear(4, 4)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding="same"),
        nn.BatchNorm(4, momentum=None),
        nn.ReLU(),
        nn.GlobalAvgPool2d(),
        nn.ModuleDict({"unused": nn.ModuleList([shared])})["unused"][0],
        nn.Dropout(0.5, rng=np.random.default_rng(1)),
        shared,
        nn.LayerNorm(4),
    )


def images():
    return Tensor(np.random.default_rng(2).standard_normal((3, 5, 5, 2)).astype(np.float32))


def train(model, optimiser, schedule, steps=3):
    """Train, and return the bits of the model's state."""
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(model(images()), np.array([0, 1, 2])).backward()
        optimiser.step()
        schedule.step()
    return [array.tobytes() for array in model.state_dict().values()]


@each_copy
def test_a_copied_model_is_the_same_and_apart(clone):
    model = network()
    model(images()).sum().backward()
    twin = clone(model)
    for (name, one), (other, two) in zip(
        model.named_parameters(), twin.named_parameters(), strict=True
    ):
        assert (type(two), name) == (nn.Parameter, other)
        assert np.array_equal(one.numpy(), two.numpy())
        assert np.array_equal(one.grad.numpy(), two.grad.numpy())
        assert not np.shares_memory(one.numpy(), two.numpy())
    assert twin[4] is twin[6]  # what was shared still is
    assert repr(twin) == repr(model)
    # The generator of the dropout was copied as it stood.
    assert np.array_equal(model(images()).numpy(), twin(images()).numpy())
    with pytest.raises(TypeError, match=r"^Linear\.weight: expected a Parameter or None"):
        twin[4].weight = Tensor([1.0])
    assert clone(nn.Dropout(0.5)).rng is nn.Dropout(0.5).rng  # the default one stays the default


@each_copy
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_copied_together_they_train_on_with_the_same_bits(optimiser, schedule, clone):
    model = network()
    step = OPTIMISERS[optimiser](model.parameters())
    trio = model, step, SCHEDULES[schedule](step)
    train(*trio)
    twins = clone(trio)
    assert twins[2].optimizer is twins[1]
    assert all(a is b for a, b in zip(twins[1].parameters, twins[0].parameters(), strict=True))
    assert twins[1].param_groups[0]["params"] == twins[1].parameters
    before = [array.tobytes() for array in model.state_dict().values()]
    after = train(*twins)
    assert after != before
    assert [array.tobytes() for array in model.state_dict().values()] == before
    assert train(*trio) == after


@each_copy
def test_an_optimiser_alone_takes_its_parameters_along(clone):
    w = Tensor([1.0, 2.0], requires_grad=True)
    w.grad = Tensor([1.0, 1.0])
    one = optim.Adam([w], 0.1)
    two = clone(one)
    two.step()
    assert w.numpy().tolist() == [1.0, 2.0]
    one.step()
    assert two.parameters[0].numpy().tobytes() == w.numpy().tobytes()


@each_copy
def test_a_plateau_schedule_is_copied_where_it_stands(clone):
    schedule = optim.ReduceLROnPlateau(optim.SGD([Tensor([1.0], requires_grad=True)], 1.0))
    for loss in (3.0, 3.0):
        schedule.step(loss)
    twin = clone(schedule)
    for _ in range(12):
        schedule.step(3.0)
        twin.step(3.0)
        assert twin.get_last_lr() == schedule.get_last_lr()
    assert twin.optimizer.lr < 1


def test_models_optimisers_and_schedules_travel_to_another_process(monkeypatch):
    # Otherwise the process that is started runs the script that started the tests again.
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    context = multiprocessing.get_context("spawn")
    model = network()
    optimiser = optim.AdamW(model.parameters(), 0.1)
    trio = model, optimiser, optim.OneCycleLR(optimiser, 0.2, 9)
    train(*trio)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        twins = pool.submit(copy.deepcopy, trio).result()  # there, and back again
        state = pool.submit(operator.methodcaller("state_dict"), model).result()
    for name, array in model.state_dict().items():
        assert np.array_equal(array, state[name])
    with context.Pool(1) as pool:
        (described,) = pool.map(repr, [model])
    assert described == repr(model)
    assert train(*twins) == train(*trio)
