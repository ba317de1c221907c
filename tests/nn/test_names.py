"""Names of other frameworks are answered with what to use."""

import re

import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import nn, optim
from tinygrad_mask.nn.equivalents import EQUIVALENTS


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Conv1d", "use nn.Conv2d with kernel_size=(1, k) on x.reshape(N, 1, length, C)"),
        ("LSTM", "there is none; recurrent networks are a loop over nn.Linear in forward()"),
        ("Dense", "use nn.Linear(in_features, out_features)"),
        ("LazyLinear", "there is none; give the input size: nn.Linear"),
        ("MaxPool3d", "there is none; images are two-dimensional here"),
        ("Unfold", "there is none"),
    ],
)
def test_a_name_that_exists_elsewhere_names_what_to_use(name, hint):
    with pytest.raises(
        AttributeError, match=f"^{re.escape(f'tinygrad_mask.nn has no {name}; {hint}')}$"
    ):
        getattr(nn, name)


def test_another_name_is_missing_as_usual():
    with pytest.raises(AttributeError, match=r"^tinygrad_mask\.nn has no Liner$"):
        nn.Liner  # noqa: B018


def test_what_is_named_exists():
    """Every `nn.`, `functions.` and `optim.` name in a hint can be typed."""
    places = {"nn": nn, "functions": F, "optim": optim}
    for name, hint in EQUIVALENTS.items():
        assert name not in nn.__all__, name
        for place, what in re.findall(r"\b(nn|functions|optim)\.(\w+)", hint):
            assert hasattr(places[place], what), f"{name}: {place}.{what}"
