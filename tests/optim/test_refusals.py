"""What optimisers, schedules and clipping refuse, at construction, and in one line."""

import math
import re

import numpy as np
import pytest

from tinygrad_mask import Tensor, nn, optim


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


W = leaf(1.0, 2.0)
MODEL = nn.Linear(2, 1)
OPTIMISERS = {
    "SGD": optim.SGD,
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "RMSprop": optim.RMSprop,
}
each_optimiser = pytest.mark.parametrize("build", OPTIMISERS.values(), ids=OPTIMISERS)

PARAMETERS = {
    "a tensor": (W, TypeError, "expected an iterable of tensors, got a Tensor; write [tensor]"),
    "a module": (
        MODEL,
        TypeError,
        "expected an iterable of tensors, got a Linear; pass its parameters()",
    ),
    "modules": (
        nn.Sequential(MODEL),
        TypeError,
        "expected tensors, got Linear at position 0; pass model.parameters()",
    ),
    "pairs": (
        list(MODEL.named_parameters()),
        TypeError,
        "expected tensors, got tuple at position 0; pass model.parameters() instead of pairs of "
        "name and tensor",
    ),
    "an array": (
        np.ones(3),
        TypeError,
        "expected an iterable of tensors, got ndarray; pass model.parameters()",
    ),
    "arrays": (
        [W, np.ones(3)],
        TypeError,
        "expected tensors, got ndarray at position 1; make it a Tensor with requires_grad=True",
    ),
    "None": (
        None,
        TypeError,
        "expected an iterable of tensors, got NoneType; pass model.parameters()",
    ),
    "a state": (
        MODEL.state_dict(),
        TypeError,
        "expected tensors or a list of parameter groups, got a dict; pass a list of its values",
    ),
    "one group": (
        {"params": [W]},
        TypeError,
        "expected tensors or a list of parameter groups, got a dict; write [group]",
    ),
    "a result": (
        [W, W * 2.0],
        ValueError,
        "expected leaf tensors, got one made by multiply at position 1; pass the tensors it was "
        "computed from, or detach() it",
    ),
    "integers": (
        [Tensor([1, 2])],
        TypeError,
        "expected tensors of a floating dtype, got int64 at position 0",
    ),
    "nothing": ((), ValueError, "expected at least one parameter, got none"),
    "an empty group": (
        [{"params": []}],
        ValueError,
        "expected at least one parameter in a group, got none",
    ),
    "a group without params": (
        [{"lr": 1.0}],
        TypeError,
        "expected a parameter group to be a dict with 'params', got {'lr': 1.0}",
    ),
    "a tensor in a group": (
        [{"params": W}],
        TypeError,
        "expected an iterable of tensors, got a Tensor; write [tensor]",
    ),
    "one in two groups": (
        [{"params": [W]}, {"params": [leaf(3.0), W]}],
        ValueError,
        "expected each parameter once, got one twice",
    ),
}


@each_optimiser
@pytest.mark.parametrize(("parameters", "error", "message"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameters(build, parameters, error, message):
    name = re.escape(build.__name__)
    with pytest.raises(error, match=f"^{name}: {re.escape(message)}$"):
        build(parameters, 0.1)


def test_a_read_only_array_is_refused():
    array = np.ones(3)
    array.flags.writeable = False
    with pytest.raises(ValueError, match=r"^SGD: expected parameters that can be written"):
        optim.SGD([Tensor.from_array(array).requires_grad_()], 0.1)


def test_a_group_with_an_unknown_option_says_which_there_are():
    message = (
        "SGD: expected the options lr, momentum, dampening, weight_decay, nesterov, maximize in a "
        "parameter group, got 'learning_rate'"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        optim.SGD([{"params": [W], "learning_rate": 0.1}], 0.1)


@each_optimiser
@pytest.mark.parametrize("option", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [-0.1, math.nan, np.float64("nan")])
def test_rates_out_of_range(build, option, value):
    for make in (
        lambda: build([W], **{option: value}),
        lambda: build([{"params": [W], option: value}]),
    ):
        with pytest.raises(ValueError, match=rf"^{build.__name__}: expected lr and weight_d"):
            make()


@each_optimiser
@pytest.mark.parametrize("value", ["0.1", None, True, [0.1], Tensor(0.1)], ids=type)
def test_rates_that_are_no_numbers(build, value):
    for option in ("lr", "weight_decay"):
        message = rf"^{build.__name__}: expected {option} to be a number, got [^\n]+$"
        with pytest.raises(TypeError, match=message):
            build([W], **{option: value})
    optimiser = build([W])
    with pytest.raises(TypeError, match=rf"^{build.__name__}: expected lr to be a number"):
        optimiser.lr = value


OPTIONS = {
    "SGD: momentum": (
        lambda: optim.SGD([W], momentum=math.nan),
        "SGD: expected 0 <= momentum < 1, and > 0 with Nesterov's, got nan",
    ),
    "SGD: momentum, a text": (
        lambda: optim.SGD([W], momentum="0.9"),
        "SGD: expected momentum to be a number, got '0.9'",
    ),
    "SGD: momentum, a flag": (
        lambda: optim.SGD([W], momentum=True),
        "SGD: expected momentum to be a number, got True",
    ),
    "SGD: nesterov, a number": (
        lambda: optim.SGD([W], momentum=0.9, nesterov=0.9),
        "SGD: expected nesterov to be True or False, got 0.9",
    ),
    "SGD: maximize, a number": (
        lambda: optim.SGD([W], maximize=1),
        "SGD: expected maximize to be True or False, got 1",
    ),
    "SGD: dampening": (
        lambda: optim.SGD([W], momentum=0.9, dampening=-0.1),
        "SGD: expected 0 <= dampening <= 1, and 0 with Nesterov's, got -0.1",
    ),
    "SGD: dampening with Nesterov's": (
        lambda: optim.SGD([W], momentum=0.9, dampening=0.1, nesterov=True),
        "SGD: expected 0 <= dampening <= 1, and 0 with Nesterov's, got 0.1",
    ),
    "Adam: eps": (lambda: optim.Adam([W], eps=-1e-8), "Adam: expected eps >= 0, got -1e-08"),
    "AdamW: eps": (lambda: optim.AdamW([W], eps=math.nan), "AdamW: expected eps >= 0, got nan"),
    "RMSprop: eps": (lambda: optim.RMSprop([W], eps=-1.0), "RMSprop: expected eps >= 0, got -1.0"),
    "Adam: one beta": (
        lambda: optim.Adam([W], betas=(0.9,)),
        "Adam: expected betas to be two numbers, got (0.9,)",
    ),
    "Adam: three betas": (
        lambda: optim.Adam([W], betas=(0.9, 0.99, 0.999)),
        "Adam: expected betas to be two numbers, got (0.9, 0.99, 0.999)",
    ),
    "Adam: betas, a number": (
        lambda: optim.Adam([W], betas=0.9),
        "Adam: expected betas to be two numbers, got 0.9",
    ),
    "Adam: betas, texts": (
        lambda: optim.Adam([W], betas=("0.9", 0.999)),
        "Adam: expected betas to be a number, got '0.9'",
    ),
    "Adam: beta": (
        lambda: optim.Adam([W], betas=(math.nan, 0.999)),
        "Adam: expected 0 <= beta < 1, got (nan, 0.999)",
    ),
    "Adam: a group's beta": (
        lambda: optim.Adam([{"params": [W], "betas": (0.9, 1.0)}]),
        "Adam: expected 0 <= beta < 1, got (0.9, 1.0)",
    ),
    "Adam: amsgrad": (
        lambda: optim.Adam([W], amsgrad="yes"),
        "Adam: expected amsgrad to be True or False, got 'yes'",
    ),
    "RMSprop: alpha": (
        lambda: optim.RMSprop([W], alpha=1.0),
        "RMSprop: expected 0 <= alpha < 1, got 1.0",
    ),
    "RMSprop: momentum": (
        lambda: optim.RMSprop([W], momentum=-0.1),
        "RMSprop: expected 0 <= momentum < 1, got -0.1",
    ),
    "schedule: no optimiser": (
        lambda: optim.StepLR(MODEL, 3),
        "StepLR: expected an Optimizer, got Linear",
    ),
    "schedule: half a step": (
        lambda: optim.StepLR(optim.SGD([W]), 0.5),
        "StepLR: expected step_size to be an integer, got 0.5",
    ),
    "schedule: gamma": (
        lambda: optim.ExponentialLR(optim.SGD([W]), math.nan),
        "ExponentialLR: expected gamma >= 0, got nan",
    ),
    "LambdaLR: a number": (
        lambda: optim.LambdaLR(optim.SGD([W]), 0.9),
        "LambdaLR: expected lr_lambda to be a function, got 0.9",
    ),
    "LambdaLR: too many": (
        lambda: optim.LambdaLR(optim.SGD([W]), [math.sqrt, math.sqrt]),
        "LambdaLR: expected a function or one per parameter group, got 2 for 1 groups",
    ),
    "OneCycleLR: no steps": (
        lambda: optim.OneCycleLR(optim.SGD([W]), 1.0, epochs=3),
        "OneCycleLR: expected total_steps, or epochs and steps_per_epoch, got neither",
    ),
    "OneCycleLR: momentum": (
        lambda: optim.OneCycleLR(optim.SGD([W]), 1.0, 9, base_momentum=0.99),
        "OneCycleLR: expected 0 <= base_momentum <= max_momentum < 1, got 0.99 and 0.95",
    ),
    "OneCycleLR: factor": (
        lambda: optim.OneCycleLR(optim.SGD([W]), 1.0, 9, div_factor=0),
        "OneCycleLR: expected div_factor and final_div_factor > 0, got 0 and 10000.0",
    ),
    "ReduceLROnPlateau: mode": (
        lambda: optim.ReduceLROnPlateau(optim.SGD([W]), "lowest"),
        "ReduceLROnPlateau: expected mode 'min' or 'max', got 'lowest'",
    ),
    "ReduceLROnPlateau: factor": (
        lambda: optim.ReduceLROnPlateau(optim.SGD([W]), factor=1.0),
        "ReduceLROnPlateau: expected 0 <= factor < 1, got 1.0",
    ),
    "ReduceLROnPlateau: nothing measured": (
        lambda: optim.ReduceLROnPlateau(optim.SGD([W])).step(),
        "ReduceLROnPlateau: expected the measured value, got nothing; call step(validation_loss)",
    ),
    "ReduceLROnPlateau: a step": (
        lambda: optim.ReduceLROnPlateau(optim.SGD([W])).skip_to(3),
        "ReduceLROnPlateau: expected load_state_dict() to resume; the rate at a step depends on "
        "the values measured before",
    ),
    "SequentialLR: milestones": (
        lambda: optim.SequentialLR(*stepped(), []),
        "SequentialLR: expected one milestone between two schedules, got 0 for 2 schedules",
    ),
    "SequentialLR: order": (
        lambda: optim.SequentialLR(*stepped(3), [5, 5]),
        "SequentialLR: expected rising milestones, got [5, 5]",
    ),
    "SequentialLR: another optimiser": (
        lambda: optim.SequentialLR(optim.SGD([W]), stepped()[1], [5]),
        "SequentialLR: expected schedules of its own optimiser, got a StepLR of another",
    ),
    "SequentialLR: plateau": (
        lambda: optim.SequentialLR(*with_plateau(), [5]),
        "SequentialLR: expected schedules that need the step alone, got a ReduceLROnPlateau",
    ),
    "clip_grad_norm: NaN": (
        lambda: optim.clip_grad_norm([W], math.nan),
        "clip_grad_norm: expected max_norm >= 0, got nan",
    ),
    "clip_grad_value: negative": (
        lambda: optim.clip_grad_value([W], -1.0),
        "clip_grad_value: expected max_value >= 0, got -1.0",
    ),
    "clip_grad_norm: a text": (
        lambda: optim.clip_grad_norm([W], "1"),
        "clip_grad_norm: expected max_norm to be a number, got '1'",
    ),
    "clip_grad_norm: arrays": (
        lambda: optim.clip_grad_norm([np.ones(3)], 1.0),
        "clip_grad_norm: expected tensors, got ndarray at position 0; make it a Tensor with "
        "requires_grad=True",
    ),
    "clip_grad_value: a module": (
        lambda: optim.clip_grad_value(MODEL, 1.0),
        "clip_grad_value: expected an iterable of tensors, got a Linear; pass its parameters()",
    ),
}


def stepped(count=2):
    optimiser = optim.SGD([W])
    return optimiser, [optim.StepLR(optimiser, 3) for _ in range(count)]


def with_plateau():
    optimiser = optim.SGD([W])
    return optimiser, [optim.StepLR(optimiser, 3), optim.ReduceLROnPlateau(optimiser)]


@pytest.mark.parametrize(("call", "message"), OPTIONS.values(), ids=OPTIONS)
def test_options(call, message):
    with pytest.raises((TypeError, ValueError, RuntimeError), match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("LBFGS", "there is none; "),
        ("lr_scheduler", "schedules are in optim itself, for instance optim.StepLR"),
        ("CosineAnnealingLR", "use optim.CosineLR"),
        ("clip_grad_norm_", "use optim.clip_grad_norm"),
    ],
)
def test_names_of_other_frameworks_name_what_to_use(name, hint):
    with pytest.raises(AttributeError, match=rf"^tinygrad_mask\.optim has no {name}; {hint}"):
        getattr(optim, name)


def test_other_names_are_missing_as_usual():
    with pytest.raises(AttributeError, match=r"^tinygrad_mask\.optim has no Sdg$"):
        optim.Sdg  # noqa: B018
    assert not hasattr(optim, "__wrapped__")
