"""Layers, optimisers, schedules and clipping against PyTorch's, over several steps in float64."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn, optim

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")

STEPS = 5
RTOL = ATOL = 1e-9


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small gain nothing from PyTorch's threads, and wait for them on a busy CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- the same network twice -------------------------------------------------------------------


class Flatten(torch.nn.Module):
    """Flatten PyTorch's NCHW in the order of this project's NHWC."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class SpatialMean(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


def cnn(rng):
    ours, theirs, channels = [], [], 3
    for outputs in (4, 6, 8):
        ours += [nn.Conv2d(channels, outputs, 3, padding="same", rng=rng), nn.ReLU()]
        ours += [nn.MaxPool2d(2)]
        theirs += [torch.nn.Conv2d(channels, outputs, 3, padding="same"), torch.nn.ReLU()]
        theirs += [torch.nn.MaxPool2d(2)]
        channels = outputs
    ours += [nn.Flatten(), nn.Linear(8 * 2 * 1, 10, rng=rng), nn.ReLU(), nn.Linear(10, 3, rng=rng)]
    theirs += [Flatten(), torch.nn.Linear(8 * 2 * 1, 10)]
    theirs += [torch.nn.ReLU(), torch.nn.Linear(10, 3)]
    return nn.Sequential(*ours), torch.nn.Sequential(*theirs)


def mlp(rng):
    ours = nn.Sequential(
        nn.Flatten(),
        nn.Linear(16 * 10 * 3, 12, rng=rng, bias=False, init=nn.init.glorot_uniform),
        nn.Sigmoid(),
        nn.Linear(12, 3, rng=rng, bias=False, init=nn.init.glorot_normal),
    )
    theirs = torch.nn.Sequential(
        Flatten(),
        torch.nn.Linear(16 * 10 * 3, 12, bias=False),
        torch.nn.Sigmoid(),
        torch.nn.Linear(12, 3, bias=False),
    )
    return ours, theirs


def depthwise(rng):
    # No bias before batch norm: it has no effect, and Adam would blow its rounding errors up.
    ours = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False, rng=rng),
        nn.BatchNorm(6),
        nn.SiLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False, rng=rng),
        nn.BatchNorm(6, momentum=0.3, eps=1e-3),
        nn.LeakyReLU(0.2),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, (1, 3), dilation=(1, 2), padding=((0, 0), (2, 2)), groups=2, rng=rng),
        nn.Tanh(),
        nn.GlobalAvgPool2d(),
        nn.Linear(8, 3, rng=rng),
    )
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
        torch.nn.BatchNorm2d(6),
        torch.nn.SiLU(),
        torch.nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
        torch.nn.BatchNorm2d(6, momentum=0.3, eps=1e-3),
        torch.nn.LeakyReLU(0.2),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(6, 8, (1, 3), dilation=(1, 2), padding=(0, 2), groups=2),
        torch.nn.Tanh(),
        SpatialMean(),
        torch.nn.Linear(8, 3),
    )
    return ours, theirs


def as_theirs(array):
    """A weight of shape (..., inputs, outputs) as PyTorch has it: (outputs, inputs, ...)."""
    axes = (array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))
    return array.transpose(axes) if array.ndim > 1 else array


def tensors_of(ours):
    return dict([*ours.named_parameters(), *ours.named_buffers()])


def state_of(theirs):
    state = theirs.state_dict()
    return {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}


def make_pair(network):
    """Return this project's and PyTorch's network, in float64, with the same weights."""
    ours, theirs = network(np.random.default_rng(7))
    for tensor in tensors_of(ours).values():
        tensor.data = tensor.data.astype(np.float64)
    theirs.double()
    state = state_of(theirs)
    for name, array in ours.state_dict().items():
        state[name].copy_(torch.from_numpy(as_theirs(array).copy()))
    return ours, theirs


def assert_same_state(ours, theirs):
    state, expected = ours.state_dict(), state_of(theirs)
    assert set(state) == set(expected)
    for name, array in state.items():
        np.testing.assert_allclose(
            as_theirs(array), expected[name].numpy(), rtol=RTOL, atol=ATOL, err_msg=name
        )


def batches():
    rng = np.random.default_rng(11)
    for _ in range(STEPS):
        yield rng.standard_normal((6, 16, 10, 3)), rng.integers(3, size=6)


# --- losses, by name: this project's and PyTorch's --------------------------------------------


def cross_entropy(logits, target):
    return F.cross_entropy(logits, target)


def squared_error(prediction, target):
    return F.squared_error(prediction, np.eye(3)[target])


def torch_cross_entropy(logits, target):
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(target))


def torch_squared_error(prediction, target):
    wanted = torch.eye(3, dtype=torch.float64)[torch.from_numpy(target)]
    return torch.nn.functional.mse_loss(prediction, wanted, reduction="sum") / (2 * len(target))


NETWORKS = {
    "cnn": (cnn, cross_entropy, torch_cross_entropy),
    "depthwise": (depthwise, cross_entropy, torch_cross_entropy),
    "mlp": (mlp, squared_error, torch_squared_error),
}

OPTIMISERS = {
    "SGD": (optim.SGD, torch.optim.SGD, {"lr": 0.1}),
    "SGD, weight decay": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.05}),
    "SGD, momentum": (
        optim.SGD,
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    ),
    "SGD, Nesterov": (
        optim.SGD,
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ),
    "Adam": (optim.Adam, torch.optim.Adam, {}),
    "Adam, weight decay": (
        optim.Adam,
        torch.optim.Adam,
        {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1},
    ),
    "AdamW": (optim.AdamW, torch.optim.AdamW, {}),
    "AdamW, weight decay": (
        optim.AdamW,
        torch.optim.AdamW,
        {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.3},
    ),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_training_takes_the_same_course(network, optimiser):
    build, loss_of, torch_loss_of = NETWORKS[network]
    ours, theirs = make_pair(build)
    mine, other, options = OPTIMISERS[optimiser]
    step, torch_step = mine(ours.parameters(), **options), other(theirs.parameters(), **options)
    for x, target in batches():
        step.zero_grad()
        loss = loss_of(ours(Tensor(x)), target)
        loss.backward()
        step.step()
        torch_step.zero_grad()
        torch_loss = torch_loss_of(theirs(torch.from_numpy(x).permute(0, 3, 1, 2)), target)
        torch_loss.backward()
        torch_step.step()
        assert math.isclose(loss.item(), torch_loss.item(), rel_tol=RTOL)
    assert_same_state(ours, theirs)
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(ours(Tensor(x)).numpy(), expected, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_parameter_that_is_idle_for_some_steps_takes_the_same_course(optimiser):
    # As when a layer is frozen at first: Adam's corrections must count its own steps.
    mine, other, options = OPTIMISERS[optimiser]
    options = {"lr": 0.1} | options
    rng = np.random.default_rng(3)
    start = rng.standard_normal((2, 4))
    ours = [Tensor(row, requires_grad=True) for row in start]
    theirs = [torch.tensor(row, requires_grad=True) for row in start]
    step, torch_step = mine(ours, **options), other(theirs, **options)
    for active in ((0,), (0,), (0, 1), (1,), (0, 1)):
        step.zero_grad()
        torch_step.zero_grad()
        for k in active:
            gradient = rng.standard_normal(4)
            ours[k].grad, theirs[k].grad = Tensor(gradient), torch.from_numpy(gradient)
        step.step()
        torch_step.step()
    for came, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(came.numpy(), expected.detach().numpy(), rtol=RTOL, atol=ATOL)


# --- schedules --------------------------------------------------------------------------------


def rates(schedule_of, torch_schedule_of, steps, lr=0.5):
    """Return the learning rates of so many steps, here and in PyTorch."""
    weight, torch_weight = Tensor(np.zeros(1), requires_grad=True), torch.zeros(1)
    step, torch_step = optim.SGD([weight], lr), torch.optim.SGD([torch_weight], lr)
    schedule, torch_schedule = schedule_of(step), torch_schedule_of(torch_step)
    ours, theirs = [step.lr], [torch_step.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        step.step()
        schedule.step()
        torch_step.step()
        torch_schedule.step()
        ours.append(step.lr)
        theirs.append(torch_step.param_groups[0]["lr"])
    return ours, theirs


@given(step_size=st.integers(1, 6), gamma=st.floats(0.01, 1.5))
def test_step_lr(step_size, gamma):
    ours, theirs = rates(
        lambda o: optim.StepLR(o, step_size, gamma),
        lambda o: torch.optim.lr_scheduler.StepLR(o, step_size, gamma),
        steps=20,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@given(total_steps=st.integers(1, 40), final_lr=st.floats(0, 0.5))
def test_cosine_lr(total_steps, final_lr):
    # PyTorch's goes up again after T_max steps, this project's stays: compared up to there.
    ours, theirs = rates(
        lambda o: optim.CosineLR(o, total_steps, final_lr),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, total_steps, final_lr),
        steps=total_steps + 1,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@given(
    total_steps=st.one_of(st.integers(1, 5), st.integers(6, 60)),
    pct_start=st.one_of(st.sampled_from([0.01, 0.3, 0.99]), st.floats(0.001, 0.999)),
    div_factor=st.floats(1, 100),
    final_div_factor=st.floats(1, 1e5),
)
def test_one_cycle_lr(total_steps, pct_start, div_factor, final_div_factor):
    if pct_start * total_steps == 1:  # PyTorch divides by zero where the first step is the peak
        pct_start /= 2
    shape = {"div_factor": div_factor, "final_div_factor": final_div_factor}
    ours, theirs = rates(
        lambda o: optim.OneCycleLR(o, 0.8, total_steps, pct_start=pct_start, **shape),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 0.8, total_steps, pct_start=pct_start, cycle_momentum=False, **shape
        ),
        steps=total_steps,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


# --- clipping ---------------------------------------------------------------------------------


def with_gradients(seed):
    rng = np.random.default_rng(seed)
    ours, theirs = [], []
    for shape in ((3, 4), (), (5,), (0, 2), (2,)):
        ours.append(Tensor(np.zeros(shape), requires_grad=True))
        theirs.append(torch.zeros(shape, dtype=torch.float64, requires_grad=True))
        if shape != (2,):  # the last has none
            gradient = np.asarray(rng.standard_normal(shape))
            ours[-1].grad, theirs[-1].grad = Tensor(gradient), torch.tensor(gradient)
    return ours, theirs


def assert_same_gradients(ours, theirs, rtol):
    assert ours[-1].grad is None
    for came, expected in zip(ours[:-1], theirs[:-1], strict=True):
        np.testing.assert_allclose(came.grad.numpy(), expected.grad.numpy(), rtol=rtol)


@given(seed=st.integers(0, 99), max_norm=st.floats(0.1, 10))
def test_clip_grad_norm(seed, max_norm):
    ours, theirs = with_gradients(seed)
    norm = optim.clip_grad_norm(ours, max_norm)
    torch_norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert math.isclose(norm, float(torch_norm), rel_tol=1e-12)
    # PyTorch divides by the norm plus 1e-6, and the norm of so many normal numbers is above 1.
    assert_same_gradients(ours, theirs, rtol=1e-6)


@given(seed=st.integers(0, 99), max_value=st.floats(0.1, 3))
def test_clip_grad_value(seed, max_value):
    ours, theirs = with_gradients(seed)
    optim.clip_grad_value(ours, max_value)
    torch.nn.utils.clip_grad_value_(theirs, max_value)
    assert_same_gradients(ours, theirs, rtol=0)


# --- the loss that trains the classifier ------------------------------------------------------


@given(
    seed=st.integers(0, 9999),
    rows=st.integers(1, 64),
    classes=st.integers(1, 12),
    smoothing=st.floats(0, 1),
    weighted=st.booleans(),
    scale=st.sampled_from([1.0, 30.0, 1000.0]),
)
def test_cross_entropy_with_class_weights_and_smoothing(
    seed, rows, classes, smoothing, weighted, scale
):
    rng = np.random.default_rng(seed)
    logits, target = scale * rng.standard_normal((rows, classes)), rng.integers(classes, size=rows)
    weight = rng.uniform(0.1, 5, classes) if weighted else None
    ours = Tensor(logits, requires_grad=True)
    loss = F.cross_entropy(ours, target, weight=weight, label_smoothing=smoothing)
    loss.backward()
    theirs = torch.tensor(logits, requires_grad=True)
    torch_loss = torch.nn.functional.cross_entropy(
        theirs,
        torch.from_numpy(target),
        None if weight is None else torch.from_numpy(weight),
        label_smoothing=smoothing,
    )
    torch_loss.backward()
    np.testing.assert_allclose(loss.item(), torch_loss.item(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-10, atol=1e-13)
