"""Trajectories of every option of the optimisers and of every schedule, against PyTorch's."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_mask import Tensor, optim

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
lr_scheduler = torch.optim.lr_scheduler

RTOL, ATOL = 1e-10, 1e-13

rates = st.floats(1e-3, 0.5)
parts = st.floats(0, 0.95)
OPTIONS = {
    "SGD": (
        optim.SGD,
        torch.optim.SGD,
        st.one_of(
            st.fixed_dictionaries(
                {
                    "lr": rates,
                    "momentum": parts,
                    "dampening": st.floats(0, 1),
                    "weight_decay": st.sampled_from([0.0, 0.1]),
                    "maximize": st.booleans(),
                }
            ),
            st.fixed_dictionaries(
                {
                    "lr": rates,
                    "momentum": st.floats(0.1, 0.95),
                    "nesterov": st.just(True),
                    "weight_decay": st.sampled_from([0.0, 0.1]),
                    "maximize": st.booleans(),
                }
            ),
        ),
    ),
    **{
        name: (
            ours,
            theirs,
            st.fixed_dictionaries(
                {
                    "lr": rates,
                    "betas": st.tuples(parts, st.floats(0.1, 0.999)),
                    "eps": st.floats(1e-8, 1e-3),
                    "weight_decay": st.sampled_from([0.0, 0.1]),
                    "amsgrad": st.booleans(),
                    "maximize": st.booleans(),
                }
            ),
        )
        for name, ours, theirs in (
            ("Adam", optim.Adam, torch.optim.Adam),
            ("AdamW", optim.AdamW, torch.optim.AdamW),
        )
    },
    "RMSprop": (
        optim.RMSprop,
        torch.optim.RMSprop,
        st.fixed_dictionaries(
            {
                "lr": rates,
                "alpha": st.floats(0.1, 0.99),
                "eps": st.floats(1e-6, 1e-3),
                "weight_decay": st.sampled_from([0.0, 0.1]),
                "momentum": st.one_of(st.just(0.0), st.floats(0.1, 0.95)),
                "centered": st.booleans(),
                "maximize": st.booleans(),
            }
        ),
    ),
}


class Pair:
    """The same parameters, here and in PyTorch, given the same gradients at random."""

    def __init__(self, seed, shapes=((2, 3), (), (4,))):
        self.rng = np.random.default_rng(seed)
        start = [np.asarray(self.rng.standard_normal(shape)) for shape in shapes]
        self.ours = [Tensor(array, requires_grad=True) for array in start]
        self.theirs = [torch.tensor(array, requires_grad=True) for array in start]

    def step(self, ours, theirs, idle=()):
        for k, (mine, other) in enumerate(zip(self.ours, self.theirs, strict=True)):
            # Gradients that change their size, so that largest moments stay behind.
            gradient = np.asarray(self.rng.standard_normal(mine.shape) * self.rng.uniform(0.1, 2))
            mine.grad = None if k in idle else Tensor(gradient)
            other.grad = None if k in idle else torch.tensor(gradient)
        ours.step()
        theirs.step()

    def assert_same(self):
        for mine, other in zip(self.ours, self.theirs, strict=True):
            np.testing.assert_allclose(mine.numpy(), other.detach().numpy(), rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("name", OPTIONS)
@given(data=st.data(), seed=st.integers(0, 999))
@settings(max_examples=40)
def test_options(name, data, seed):
    build, torch_build, options = OPTIONS[name]
    chosen = data.draw(options)
    pair = Pair(seed)
    ours, theirs = build(pair.ours, **chosen), torch_build(pair.theirs, **chosen)
    for step in range(6):
        pair.step(ours, theirs, idle=(0,) if step in (0, 3) else ())
    pair.assert_same()


@pytest.mark.parametrize("name", OPTIONS)
@given(data=st.data(), seed=st.integers(0, 999))
@settings(max_examples=20)
def test_groups(name, data, seed):
    build, torch_build, options = OPTIONS[name]
    first, second, third = (data.draw(options) for _ in range(3))
    pair = Pair(seed)

    def made(build, tensors):
        groups = [{"params": tensors[:1], **first}, {"params": [tensors[1]], **second}]
        optimiser = build(copy.copy(groups), 0.1)
        optimiser.add_param_group({"params": tensors[2:], **third})
        return optimiser

    if any("nesterov" in o for o in (first, second, third)):
        first, second, third = ({"nesterov": False, **o} for o in (first, second, third))
    ours, theirs = made(build, pair.ours), made(torch_build, pair.theirs)
    for _ in range(4):
        pair.step(ours, theirs)
    pair.assert_same()


# --- schedules --------------------------------------------------------------------------------


def warmed(o, module):
    linear = {"total_steps": 4} if module is optim else {"total_iters": 4}
    warm_up = module.LinearLR(o, 0.25, 1.0, **linear)
    then = module.ExponentialLR(o, 0.8)
    return module.SequentialLR(o, [warm_up, then], milestones=[4])


def into_cosine(o, module):
    linear = {"total_steps": 3} if module is optim else {"total_iters": 3}
    warm_up = module.LinearLR(o, 0.1, **linear)
    then = optim.CosineLR(o, 12, 0.01) if module is optim else module.CosineAnnealingLR(o, 12, 0.01)
    return module.SequentialLR(o, [warm_up, then], milestones=[3])


SCHEDULES = {
    "StepLR": lambda o, m: m.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o, m: m.MultiStepLR(o, [2, 5, 5, 9], 0.5),
    "ExponentialLR": lambda o, m: m.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o, m: m.LambdaLR(o, lambda k: 0.9**k + 0.1),
    "LambdaLR, one per group": lambda o, m: m.LambdaLR(o, [lambda k: 1 / (1 + k), lambda k: 1.0]),
    "LinearLR": lambda o, m: (
        m.LinearLR(o, 0.5, 0.9, total_steps=7)
        if m is optim
        else m.LinearLR(o, 0.5, 0.9, total_iters=7)
    ),
    "SequentialLR, warm-up": warmed,
    "SequentialLR, cosine": into_cosine,
    "OneCycleLR": lambda o, m: m.OneCycleLR(o, 0.8, 15),
    "OneCycleLR, options": lambda o, m: m.OneCycleLR(
        o,
        0.8,
        epochs=5,
        steps_per_epoch=3,
        pct_start=0.5,
        base_momentum=0.6,
        max_momentum=0.9,
        div_factor=10,
        final_div_factor=100,
    ),
    "OneCycleLR, no cycle": lambda o, m: m.OneCycleLR(o, 0.8, 15, cycle_momentum=False),
}

OPTIMISERS = {
    "SGD": (optim.SGD, torch.optim.SGD, {"momentum": 0.9}),
    "AdamW": (optim.AdamW, torch.optim.AdamW, {"betas": (0.8, 0.99)}),
    "RMSprop": (optim.RMSprop, torch.optim.RMSprop, {"momentum": 0.9}),
}


def settings_of(optimiser):
    return [
        (group["lr"], group.get("momentum"), group.get("betas")) for group in optimiser.param_groups
    ]


def assert_same_settings(ours, theirs):
    for mine, other in zip(settings_of(ours), settings_of(theirs), strict=True):
        for a, b in zip(mine, other, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning:torch")  # of PyTorch's own SequentialLR
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule, optimiser):
    build, torch_build, options = OPTIMISERS[optimiser]
    make = SCHEDULES[schedule]
    pair = Pair(5)

    def groups(tensors):
        return [{"params": tensors[:1], "lr": 0.3}, {"params": tensors[1:]}]

    ours = build(groups(pair.ours), lr=0.1, **options)
    theirs = torch_build(groups(pair.theirs), lr=0.1, **options)
    mine, other = make(ours, optim), make(theirs, lr_scheduler)
    for step in range(14):
        assert_same_settings(ours, theirs)
        pair.step(ours, theirs)
        mine.step()
        other.step()
        if step == 6:  # resumed half way
            state, ours_state = mine.state_dict(), ours.state_dict()
            ours = build(groups(pair.ours), lr=0.1, **options)
            mine = make(ours, optim)
            ours.load_state_dict(ours_state)
            mine.load_state_dict(state)
    assert_same_settings(ours, theirs)
    pair.assert_same()


@given(
    data=st.data(),
    mode=st.sampled_from(["min", "max"]),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    threshold=st.sampled_from([0.0, 1e-4, 0.1, 0.5]),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 2),
    min_lr=st.sampled_from([0.0, 0.02]),
)
def test_reduce_lr_on_plateau(data, mode, threshold_mode, threshold, patience, cooldown, min_lr):
    values = data.draw(st.lists(st.floats(-2, 2), min_size=1, max_size=25))
    options = {
        "mode": mode,
        "factor": 0.3,
        "patience": patience,
        "threshold": threshold,
        "threshold_mode": threshold_mode,
        "cooldown": cooldown,
        "min_lr": min_lr,
    }
    ours = optim.SGD([Tensor(np.ones(2), requires_grad=True)], 0.5)
    theirs = torch.optim.SGD([torch.ones(2, requires_grad=True)], 0.5)
    mine = optim.ReduceLROnPlateau(ours, **options)
    other = lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for value in values:
        mine.step(value)
        other.step(value)
        assert mine.get_last_lr() == other.get_last_lr()


# --- names ------------------------------------------------------------------------------------


def test_every_optimiser_and_schedule_of_pytorch_is_here_or_names_what_to_use():
    public = [n for n in torch.optim.__all__ if n[0].isupper()]
    public += [n for n in lr_scheduler.__all__ if n[0].isupper()]
    for name in public:
        if name not in optim.__all__:
            with pytest.raises(
                AttributeError, match=rf"^tinygrad_mask\.optim has no {name}; "
            ) as e:
                getattr(optim, name)
            assert "\n" not in str(e.value)
