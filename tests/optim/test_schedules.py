"""Schedules: their state, groups, momentum, and how they follow one another."""

import numpy as np
import pytest

from tinygrad_mask import Tensor, optim


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


def sgd(lr=1.0, **options):
    return optim.SGD([leaf(0.0)], lr, **options)


def warmed(optimiser):
    warm_up = optim.LinearLR(optimiser, 0.1, total_steps=3)
    return optim.SequentialLR(optimiser, [warm_up, optim.CosineLR(optimiser, 6)], [3])


SCHEDULES = {
    "StepLR": lambda o: optim.StepLR(o, 2),
    "MultiStepLR": lambda o: optim.MultiStepLR(o, [5, 2]),
    "ExponentialLR": lambda o: optim.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: optim.LambdaLR(o, lambda k: 1 / (k + 1)),
    "LinearLR": lambda o: optim.LinearLR(o),
    "CosineLR": lambda o: optim.CosineLR(o, 9),
    "OneCycleLR": lambda o: optim.OneCycleLR(o, 2.0, 9),
    "SequentialLR": warmed,
}
each_schedule = pytest.mark.parametrize("build", SCHEDULES.values(), ids=SCHEDULES)


def walked(schedule, steps):
    """The rates and momenta of the steps to come."""
    found = []
    for _ in range(steps):
        schedule.step()
        found.append([(g["lr"], g["momentum"]) for g in schedule.optimizer.param_groups])
    return found


@each_schedule
def test_a_state_continues_the_walk(build):
    one = build(sgd(momentum=0.9))
    walked(one, 4)
    state = one.state_dict()
    # Resumed as from a file: the optimiser's rate is not the one to start from any more.
    two = build(sgd(0.123, momentum=0.9))
    two.load_state_dict({name: np.array(array.tolist()) for name, array in state.items()})
    assert two.step_count == 4
    assert two.optimizer.param_groups[0]["lr"] == one.optimizer.param_groups[0]["lr"]
    assert walked(two, 4) == walked(one, 4)


@each_schedule
def test_a_state_is_a_copy_of_plain_arrays(build):
    schedule = build(sgd())
    state = schedule.state_dict()
    before = {name: array.copy() for name, array in state.items()}
    walked(schedule, 3)
    for name, array in state.items():
        assert isinstance(array, np.ndarray)
        assert array.dtype.kind in "if"
        assert np.array_equal(array, before[name])


@each_schedule
def test_a_state_of_something_else_changes_nothing(build):
    schedule = build(sgd())
    schedule.step()
    for state in (
        {},
        optim.ReduceLROnPlateau(sgd()).state_dict(),
        schedule.state_dict() | {"base_lrs": np.ones(2)},
    ):
        lr, count = schedule.optimizer.lr, schedule.step_count
        name = type(schedule).__name__
        with pytest.raises(ValueError, match=rf"^{name}: the state is not of such a schedule"):
            schedule.load_state_dict(state)
        assert (schedule.optimizer.lr, schedule.step_count) == (lr, count)


@each_schedule
def test_skipping_is_walking_backwards_too(build):
    schedule = build(sgd(momentum=0.9))
    groups = [[dict(g) for g in schedule.optimizer.param_groups]]
    for _ in range(6):
        schedule.step()
        groups.append([dict(g) for g in schedule.optimizer.param_groups])
    for step in (6, 0, 3):
        schedule.skip_to(step)
        assert schedule.step_count == step
        assert schedule.optimizer.param_groups == groups[step]
        assert schedule.get_last_lr() == [schedule.lr_at(step)]


def test_each_group_starts_from_its_own_rate():
    optimiser = optim.SGD([{"params": [leaf(1.0)], "lr": 0.5}, {"params": [leaf(1.0)]}], 0.1)
    schedule = optim.StepLR(optimiser, 1, 0.5)
    schedule.step()
    assert schedule.get_last_lr() == [0.25, 0.05]
    functions = optim.LambdaLR(optimiser, [lambda k: 1.0, lambda k: 10.0])
    assert functions.get_last_lr() == [0.5, 1.0]
    optimiser.add_param_group({"params": [leaf(1.0)]})
    with pytest.raises(RuntimeError, match="expected 2 parameter groups, as when it was made"):
        schedule.step()


def test_a_rate_that_is_set_is_the_one_to_start_from():
    optimiser = sgd(1.0)
    optim.StepLR(optimiser, 1, 0.5).step()
    assert optim.StepLR(optimiser, 1, 0.5).get_last_lr() == [1.0]
    optimiser.lr = 0.3
    assert optim.StepLR(optimiser, 1, 0.5).get_last_lr() == [0.3]


def test_a_warm_up_hands_over_to_the_next_schedule():
    schedule = warmed(sgd(1.0))
    rates = [schedule.optimizer.lr, *(rate for [(rate, _)] in walked(schedule, 9))]
    half = [(1 + np.cos(np.pi * k / 6)) / 2 for k in range(7)]
    np.testing.assert_allclose(rates, [0.1, 0.4, 0.7, *half], atol=1e-12)


def test_three_schedules_in_a_row():
    optimiser = sgd(1.0)
    parts = [optim.LambdaLR(optimiser, lambda k, f=f: f + k / 10) for f in (1, 2, 3)]
    schedule = optim.SequentialLR(optimiser, parts, [2, 3])
    rates = [rate for [(rate, _)] in walked(schedule, 5)]
    np.testing.assert_allclose(rates, [1.1, 2.0, 3.0, 3.1, 3.2])


@pytest.mark.parametrize(
    ("build", "momentum"),
    [
        (lambda w: optim.SGD(w, 0.1, momentum=0.9), lambda g: g["momentum"]),
        (lambda w: optim.RMSprop(w, 0.1, momentum=0.9), lambda g: g["momentum"]),
        (lambda w: optim.Adam(w, 0.1, betas=(0.9, 0.99)), lambda g: g["betas"][0]),
        (lambda w: optim.AdamW(w, 0.1, betas=(0.9, 0.99)), lambda g: g["betas"][0]),
    ],
    ids=["SGD", "RMSprop", "Adam", "AdamW"],
)
def test_one_cycle_turns_the_momentum_the_other_way(build, momentum):
    optimiser = build([leaf(1.0)])
    schedule = optim.OneCycleLR(
        optimiser, 2.0, 11, pct_start=6 / 11, base_momentum=0.5, max_momentum=0.75
    )
    (group,) = optimiser.param_groups
    found = [momentum(group)]
    for _ in range(10):
        schedule.step()
        found.append(momentum(group))
    np.testing.assert_allclose([found[k] for k in (0, 5, 10)], [0.75, 0.5, 0.75])
    assert found[:6] == sorted(found[:6], reverse=True)
    assert found[5:] == sorted(found[5:])
    assert group.get("betas", (0, 0.99))[1] == 0.99


def test_one_cycle_leaves_momentum_alone_where_there_is_none_or_it_is_told_to():
    still = sgd(0.1)
    optim.OneCycleLR(still, 2.0, 11)
    assert still.param_groups[0]["momentum"] == 0
    told = sgd(0.1, momentum=0.9)
    optim.OneCycleLR(told, 2.0, 11, cycle_momentum=False).step()
    assert told.param_groups[0]["momentum"] == 0.9


def test_one_cycle_counts_steps_from_epochs():
    schedule = optim.OneCycleLR(sgd(), 2.0, epochs=3, steps_per_epoch=4)
    assert schedule.total_steps == 12


def test_training_that_is_resumed_in_the_middle_of_a_cycle_has_the_same_bits():
    def fresh():
        w = Tensor(np.array([1.0, -2.0], np.float32), requires_grad=True)
        optimiser = optim.Adam([w], 0.1)
        return w, optimiser, optim.OneCycleLR(optimiser, 0.3, 12)

    def train(w, optimiser, schedule, steps):
        for _ in range(steps):
            optimiser.zero_grad()
            (w * w).sum().backward()
            optimiser.step()
            schedule.step()

    whole = fresh()
    train(*whole, 10)
    first = fresh()
    train(*first, 5)
    second = fresh()
    second[0].detach().copy_(first[0].detach())
    second[1].load_state_dict(first[1].state_dict())
    second[2].load_state_dict(first[2].state_dict())
    train(*second, 5)
    assert second[0].numpy().tobytes() == whole[0].numpy().tobytes()


# --- plateau ----------------------------------------------------------------------------------


def test_the_rate_falls_when_nothing_has_improved_for_long_enough():
    optimiser = sgd(1.0)
    schedule = optim.ReduceLROnPlateau(optimiser, factor=0.5, patience=1)
    rates = []
    for loss in (3.0, 2.0, Tensor(2.0), 2.5, 1.0, 1.5, 1.5, float("nan")):
        schedule.step(loss)
        rates.append(optimiser.lr)
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert schedule.step_count == 8


def test_a_plateau_schedule_is_resumed_where_it_stood():
    def fresh():
        return optim.ReduceLROnPlateau(sgd(1.0), factor=0.5, patience=2, cooldown=1)

    losses = [3.0, 3.0, 3.0, 3.0, 3.0, 2.0, 2.5, 2.5, 2.5, 2.5]
    for cut in range(len(losses)):
        one, two = fresh(), fresh()
        for loss in losses[:cut]:
            one.step(loss)
        two.load_state_dict(one.state_dict())
        for loss in losses[cut:]:
            one.step(loss)
            two.step(loss)
            assert two.get_last_lr() == one.get_last_lr()
    with pytest.raises(RuntimeError, match=r"^ReduceLROnPlateau: expected the current step 10"):
        one.lr_at(3)
