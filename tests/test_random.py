"""The default generator: what seeding reaches, and what is refused as a generator."""

import re

import numpy as np
import pytest

import tinygrad_mask as tg
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn


def drawn():
    """What every layer and function that needs no `rng` draws, as bytes."""
    ones = Tensor(np.ones((8, 8), np.float32))
    arrays = [
        nn.Linear(3, 4).weight,
        nn.Conv2d(3, 4, 3).weight,
        nn.Dropout(0.5)(ones),
        F.dropout(ones),
    ]
    return [array.numpy().tobytes() for array in arrays]


def test_a_seed_decides_every_draw():
    tg.manual_seed(1)
    first, second = drawn(), drawn()
    tg.manual_seed(1)
    again = drawn()
    tg.manual_seed(2)
    other = drawn()
    assert first == again
    for one, two in ((first, second), (first, other)):
        assert not any(a == b for a, b in zip(one, two, strict=True))


def test_the_numbers_are_those_of_numpy_for_the_seed():
    tg.manual_seed(7)
    expected = nn.init.he_normal((3, 4), np.random.default_rng(7))
    assert nn.Linear(3, 4).weight.numpy().tobytes() == expected.tobytes()


def test_a_layer_made_before_follows_a_later_seed():
    layer, ones = nn.Dropout(0.5), Tensor(np.ones(64, np.float32))
    tg.manual_seed(3)
    first = layer(ones).numpy()
    layer(ones)
    assert tg.manual_seed(3) is tg.default_generator() is layer.rng
    assert layer(ones).numpy().tobytes() == first.tobytes()


def test_an_explicit_generator_leaves_the_default_one_alone():
    tg.manual_seed(4)
    before = tg.default_generator().bit_generator.state
    rng = np.random.default_rng(0)
    nn.Linear(3, 4, rng=rng)
    nn.Dropout(0.5, rng=rng)(Tensor([1.0]))
    F.dropout(Tensor([1.0]), 0.5, rng)
    assert tg.default_generator().bit_generator.state == before


def test_a_seed_may_be_an_integer_of_numpy():
    assert tg.manual_seed(np.int64(5)).random() == np.random.default_rng(5).random()


@pytest.mark.parametrize(
    ("seed", "error", "got"),
    [
        (-1, ValueError, " >= 0, got -1"),
        (0.5, TypeError, ", got 0.5"),
        (None, TypeError, ", got None"),
    ],
)
def test_what_is_no_seed_is_refused(seed, error, got):
    with pytest.raises(error, match=f"^{re.escape('manual_seed: expected an integer' + got)}$"):
        tg.manual_seed(seed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.Linear(2, 3, rng=42), "Linear: {}, got 42; pass rng={}(42), {}(42) first"),
        (lambda: nn.Conv2d(2, 3, 3, rng=0), "Conv2d: {}, got 0; pass rng={}(0), {}(0) first"),
        (lambda: nn.Dropout(rng=0), "Dropout: {}, got 0; pass rng={}(0), {}(0) first"),
        (
            lambda: F.dropout(Tensor([1.0]), 0.5, 42),
            "dropout: {}, got 42; pass rng={}(42), {}(42) first",
        ),
    ],
    ids=["Linear", "Conv2d", "Dropout", "dropout"],
)
def test_a_seed_in_place_of_a_generator_is_answered_with_the_right_form(call, message):
    message = message.format(
        "expected rng to be a numpy.random.Generator",
        "np.random.default_rng",
        "or leave it out and call manual_seed",
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        call()
