"""Optimisers against their formulas; what they leave alone; their state; what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_mask import Tensor, optim

OPTIMISERS = {
    "SGD": lambda p: optim.SGD(p, 0.1),
    "SGD, momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    "SGD, Nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, 0.1, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, 0.1),
}


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


def step_with(optimiser, *gradients):
    """Set the gradients of its parameters, None for none, and step."""
    for parameter, gradient in zip(optimiser.parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else Tensor(np.asarray(gradient))
    optimiser.step()


# --- steps by hand ----------------------------------------------------------------------------


def test_sgd_steps_against_the_gradient():
    w = leaf(1.0, -2.0)
    step_with(optim.SGD([w], 0.5), [2.0, 4.0])
    np.testing.assert_allclose(w.numpy(), [0.0, -4.0], rtol=1e-15)


def test_sgd_adds_weight_decay_to_the_gradient():
    w = leaf(1.0, -2.0)
    step_with(optim.SGD([w], 0.5, weight_decay=0.1), [2.0, 4.0])
    np.testing.assert_allclose(w.numpy(), [1 - 0.5 * 2.1, -2 - 0.5 * 3.8], rtol=1e-15)


def test_momentum_gathers_speed():
    w = leaf(0.0)
    sgd = optim.SGD([w], 1.0, momentum=0.5)
    positions = []
    for _ in range(3):
        step_with(sgd, [1.0])
        positions.append(w.item())
    assert positions == [-1.0, -1.0 - 1.5, -2.5 - 1.75]


def test_nesterov_looks_ahead():
    w = leaf(0.0)
    sgd = optim.SGD([w], 1.0, momentum=0.5, nesterov=True)
    positions = []
    for _ in range(2):
        step_with(sgd, [1.0])
        positions.append(w.item())
    # v = 1, then 1.5; each step is 1 + v / 2.
    assert positions == [-1.5, -1.5 - 1.75]


@pytest.mark.parametrize("gradient", [1e-3, -7.0, 1e4])
@pytest.mark.parametrize("optimiser", [optim.Adam, optim.AdamW])
def test_the_first_step_of_adam_has_the_length_of_the_learning_rate(optimiser, gradient):
    w = leaf(3.0)
    step_with(optimiser([w], 0.1, eps=0.0, weight_decay=0.0), [gradient])
    assert math.isclose(w.item(), 3.0 - math.copysign(0.1, gradient), rel_tol=1e-12)


def test_the_second_step_of_adam():
    w = leaf(0.0)
    adam = optim.Adam([w], 0.1, betas=(0.5, 0.75), eps=0.25)
    step_with(adam, [2.0])
    first = -0.1 * 2 / (2 + 0.25)
    assert math.isclose(w.item(), first, rel_tol=1e-12)
    step_with(adam, [-1.0])
    mean = (0.5 * 1.0 + 0.5 * -1.0) / (1 - 0.5**2)
    square = (0.75 * 1.0 + 0.25 * 1.0) / (1 - 0.75**2)
    expected = first - 0.1 * mean / (math.sqrt(square) + 0.25)
    assert math.isclose(w.item(), expected, rel_tol=1e-12)


def test_weight_decay_is_part_of_the_gradient_for_adam_and_apart_from_it_for_adamw():
    coupled, decoupled = leaf(2.0), leaf(2.0)
    step_with(optim.Adam([coupled], 0.1, eps=0.0, weight_decay=0.5), [0.0])
    step_with(optim.AdamW([decoupled], 0.1, weight_decay=0.5), [0.0])
    assert math.isclose(coupled.item(), 2.0 - 0.1, rel_tol=1e-12)
    assert math.isclose(decoupled.item(), 2.0 * (1 - 0.1 * 0.5), rel_tol=1e-12)


@pytest.mark.parametrize("build", OPTIMISERS.values(), ids=OPTIMISERS)
def test_float32_parameters_stay_float32_whatever_the_type_of_the_rate(build):
    w, scalar = leaf(1.0, dtype=np.float32), Tensor(np.float32(1), requires_grad=True)
    optimiser = build([w, scalar])
    optimiser.lr = np.float64(0.1)
    step_with(optimiser, np.ones(1, np.float32), np.float32(1))
    assert w.dtype == scalar.dtype == np.float32
    assert scalar.shape == ()
    assert scalar.item() == w.item() != 1.0


# --- what is left alone -----------------------------------------------------------------------


@pytest.mark.parametrize("build", OPTIMISERS.values(), ids=OPTIMISERS)
def test_a_parameter_without_gradient_stays_as_it_is(build):
    moving, idle = leaf(1.0, 2.0), leaf(3.0, 4.0)
    optimiser = build([moving, idle])
    for gradient in (None, [0.5, 0.5], None):
        step_with(optimiser, gradient, None)
    assert idle.numpy().tolist() == [3.0, 4.0]
    assert idle.version.count == 0
    assert moving.version.count == 1
    assert moving.numpy().tolist() != [1.0, 2.0]


@pytest.mark.parametrize("build", OPTIMISERS.values(), ids=OPTIMISERS)
def test_a_step_does_not_change_the_gradients(build):
    w = leaf(1.0, 2.0)
    optimiser = build([w])
    for _ in range(2):
        step_with(optimiser, [0.5, -0.5])
        assert w.grad.numpy().tolist() == [0.5, -0.5]


def test_zero_grad_forgets_all_gradients():
    w = leaf(1.0)
    sgd = optim.SGD([w], 0.1)
    step_with(sgd, [1.0])
    sgd.zero_grad()
    assert w.grad is None


@pytest.mark.parametrize("build", OPTIMISERS.values(), ids=OPTIMISERS)
def test_a_graph_from_before_the_step_is_stale_and_says_so(build):
    w = leaf(1.0, 2.0)
    optimiser = build([w])
    loss = (w * w).sum()
    step_with(optimiser, [1.0, 1.0])
    with pytest.raises(RuntimeError, match=r"multiply: .* written in place"):
        loss.backward()


def test_the_gradient_that_was_handed_in_is_not_the_one_that_is_kept():
    w, given_in = leaf(1.0), np.ones(1)
    w.backward(given_in)
    optim.clip_grad_norm([w], 0.5)
    assert w.grad.item() == 0.5
    assert given_in.item() == 1.0


# --- state ------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", OPTIMISERS.values(), ids=OPTIMISERS)
@given(seed=st.integers(0, 999), before=st.integers(0, 3))
def test_a_loaded_state_continues_with_the_same_bits(build, seed, before):
    rng = np.random.default_rng(seed)
    start = [rng.standard_normal(s).astype(np.float32) for s in ((2, 3), ())]
    gradients = [
        [rng.standard_normal(a.shape).astype(np.float32) for a in start] for _ in range(before + 3)
    ]

    def fresh(arrays):
        return build([Tensor(a, requires_grad=True) for a in arrays])

    one = fresh(start)
    for given_now in gradients[:before]:
        step_with(one, *given_now)
    one.lr = 0.03
    two = fresh([p.numpy() for p in one.parameters])
    two.load_state_dict(one.state_dict())
    assert (two.lr, two.step_counts) == (0.03, [before, before])
    for given_now in gradients[before:]:
        step_with(one, *given_now)
        step_with(two, *given_now)
    for a, b in zip(one.parameters, two.parameters, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
    for name, array in one.state_dict().items():
        assert array.tobytes() == two.state_dict()[name].tobytes()


@pytest.mark.parametrize("build", OPTIMISERS.values(), ids=OPTIMISERS)
def test_a_state_is_a_copy(build):
    optimiser = build([leaf(1.0)])
    step_with(optimiser, [1.0])
    state = optimiser.state_dict()
    kept = {name: array.copy() for name, array in state.items()}
    step_with(optimiser, [1.0])
    for name, array in kept.items():
        assert np.array_equal(state[name], array)


@pytest.mark.parametrize(
    "state",
    [
        {},
        optim.SGD([leaf(1.0)], 0.5).state_dict(),
        optim.Adam([leaf(1.0)], 0.5).state_dict(),
        optim.Adam([leaf(1.0, 2.0), leaf(1.0)], 0.5).state_dict(),
    ],
    ids=["nothing", "another optimiser", "another shape", "another parameter"],
)
def test_a_state_that_does_not_fit_changes_nothing(state):
    adam = optim.Adam([leaf(1.0, 2.0)], 0.1)
    step_with(adam, [1.0, 1.0])
    before = adam.state_dict()
    with pytest.raises(ValueError, match=r"^Adam: [^\n]+$"):
        adam.load_state_dict(state)
    for name, array in adam.state_dict().items():
        assert np.array_equal(array, before[name])


# --- schedules --------------------------------------------------------------------------------


def sgd(lr):
    return optim.SGD([leaf(0.0)], lr)


def test_a_schedule_sets_the_rate_of_the_optimiser():
    optimiser = sgd(0.8)
    schedule = optim.StepLR(optimiser, 2, gamma=0.5)
    rates = []
    for _ in range(5):
        rates.append(optimiser.lr)
        schedule.step()
    assert rates == [0.8, 0.8, 0.4, 0.4, 0.2]


def test_the_cosine_stays_at_its_end():
    schedule = optim.CosineLR(sgd(1.0), 4, final_lr=0.2)
    came = [schedule.lr_at(k) for k in (0, 2, 4, 5, 100)]
    np.testing.assert_allclose(came, [1.0, 0.6, 0.2, 0.2, 0.2], rtol=1e-12)


def test_one_cycle_rises_to_its_peak_and_falls_to_its_end():
    schedule = optim.OneCycleLR(
        sgd(1.0), 2.0, 11, pct_start=6 / 11, div_factor=4, final_div_factor=10
    )
    came = [schedule.lr_at(k) for k in (0, 5, 10, 11, 100)]
    np.testing.assert_allclose(came, [0.5, 2.0, 0.05, 0.05, 0.05], rtol=1e-9)


@pytest.mark.parametrize(("total_steps", "pct_start"), [(2, 0.5), (4, 0.25)])
def test_one_cycle_may_begin_at_its_peak(total_steps, pct_start):
    optimiser = sgd(1.0)
    optim.OneCycleLR(optimiser, 2.0, total_steps, pct_start=pct_start)
    assert optimiser.lr == 2.0


SCHEDULES = {
    "StepLR": lambda o: optim.StepLR(o, 3),
    "CosineLR": lambda o: optim.CosineLR(o, 9),
    "OneCycleLR": lambda o: optim.OneCycleLR(o, 2.0, 9),
}


@pytest.mark.parametrize("build", SCHEDULES.values(), ids=SCHEDULES)
def test_skipping_to_a_step_is_walking_to_it(build):
    walking, skipping = sgd(1.0), sgd(1.0)
    walked, skipped = build(walking), build(skipping)
    for _ in range(5):
        walked.step()
    skipped.skip_to(5)
    assert skipping.lr == walking.lr
    walked.step()
    skipped.step()
    assert skipping.lr == walking.lr


# --- clipping ---------------------------------------------------------------------------------


def with_gradients(*gradients):
    tensors = [leaf(*np.zeros(len(g))) for g in gradients]
    for tensor, gradient in zip(tensors, gradients, strict=True):
        tensor.grad = Tensor(np.array(gradient))
    return [*tensors, leaf(0.0)]


def test_a_norm_over_the_limit_is_scaled_to_it():
    tensors = with_gradients([3.0, 0.0], [4.0])
    assert optim.clip_grad_norm(tensors, 1.0) == 5.0
    np.testing.assert_allclose(tensors[0].grad.numpy(), [0.6, 0.0], rtol=1e-15)
    np.testing.assert_allclose(tensors[1].grad.numpy(), [0.8], rtol=1e-15)
    assert tensors[2].grad is None


@pytest.mark.parametrize("max_norm", [5.0, math.inf])
def test_a_norm_within_the_limit_is_left_alone(max_norm):
    tensors = with_gradients([3.0, 0.0], [4.0])
    assert optim.clip_grad_norm(iter(tensors), max_norm) == 5.0
    assert tensors[0].grad.numpy().tolist() == [3.0, 0.0]


def test_the_norm_of_no_gradients_is_0():
    assert optim.clip_grad_norm([leaf(1.0)], 1.0) == 0.0


def test_the_norm_of_float32_gradients_does_not_overflow():
    w = leaf(0.0, dtype=np.float32)
    w.grad = Tensor(np.array([1e30], np.float32))
    assert math.isclose(optim.clip_grad_norm([w], 1.0), 1e30, rel_tol=1e-6)
    assert w.grad.dtype == np.float32
    assert math.isclose(w.grad.item(), 1.0, rel_tol=1e-6)


def test_clipping_by_value_limits_both_sides():
    tensors = with_gradients([3.0, -0.1, -7.0], [0.5])
    optim.clip_grad_value(iter(tensors), 0.5)
    assert tensors[0].grad.numpy().tolist() == [0.5, -0.1, -0.5]
    assert tensors[1].grad.numpy().tolist() == [0.5]
    assert tensors[2].grad is None


@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value])
def test_clipping_the_gradient_of_a_number_leaves_a_tensor(clip):
    w = Tensor(np.float32(1), requires_grad=True)
    (w * 3.0).backward()
    clip([w], 0.5)
    assert w.grad.numpy() == np.float32(0.5)
    assert w.grad.dtype == np.float32


# --- what is refused --------------------------------------------------------------------------

W = leaf(1.0)

REFUSED = {
    "no parameters": (
        lambda: optim.Adam([], 1.0),
        "Adam: expected at least one parameter, got none",
    ),
    "a negative rate": (
        lambda: optim.SGD([W], -1.0),
        r"SGD: expected lr and weight_decay >= 0, got -1\.0 and 0\.0",
    ),
    "a rate that is no number": (
        lambda: optim.SGD([W], math.nan),
        r"SGD: expected lr and weight_decay >= 0, got nan and 0\.0",
    ),
    "negative weight decay": (
        lambda: optim.AdamW([W], 1.0, weight_decay=-0.1),
        r"AdamW: expected lr and weight_decay >= 0, got 1\.0 and -0\.1",
    ),
    "momentum 1": (
        lambda: optim.SGD([W], 1.0, momentum=1.0),
        r"SGD: expected 0 <= momentum < 1, .*got 1\.0",
    ),
    "Nesterov's without momentum": (
        lambda: optim.SGD([W], 1.0, nesterov=True),
        r"SGD: expected .* > 0 with Nesterov's, got 0\.0",
    ),
    "beta 1": (
        lambda: optim.AdamW([W], betas=(0.9, 1.0)),
        r"AdamW: expected 0 <= beta < 1, got \(0\.9, 1\.0\)",
    ),
    "StepLR without steps": (
        lambda: optim.StepLR(sgd(1.0), 0),
        "StepLR: expected step_size >= 1, got 0",
    ),
    "CosineLR without steps": (
        lambda: optim.CosineLR(sgd(1.0), 0),
        "CosineLR: expected total_steps >= 1, got 0",
    ),
    "OneCycleLR without steps": (
        lambda: optim.OneCycleLR(sgd(1.0), 1.0, 0),
        "OneCycleLR: expected total_steps >= 1, got 0",
    ),
    "OneCycleLR without a descent": (
        lambda: optim.OneCycleLR(sgd(1.0), 1.0, 9, pct_start=1.0),
        r"OneCycleLR: expected 0 < pct_start < 1, got 1\.0",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_in_one_line(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


def test_a_parameter_given_twice_is_refused():
    weight = Tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"^SGD: expected each parameter once, got one twice$"):
        optim.SGD([weight, weight], 0.1)
