"""Families of functions that are loaded on first use."""

import subprocess
import sys

import pytest

import tinygrad_mask.functions as F
from tinygrad_mask.functions.elementwise import Exp

CODE = """
import tinygrad_mask.functions as F
function = F.{name}
assert callable(function) and function.__name__ == "{name}"
assert F.{name} is function
"""


@pytest.mark.parametrize("name", sorted(F._ON_FIRST_USE))
def test_a_function_is_there_on_first_use(name):
    subprocess.run([sys.executable, "-c", CODE.format(name=name)], check=True)


def test_every_name_is_listed_and_there():
    assert set(F.__all__) <= set(dir(F))
    for name in F.__all__:
        assert getattr(F, name) is not None
    assert set(F._ON_FIRST_USE) <= set(F.__all__)


def test_no_module_takes_the_place_of_a_function():
    assert not set(F._ON_FIRST_USE) & set(F._ON_FIRST_USE.values())


def test_an_unknown_name_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = F.nothing


def test_the_primitives_are_those_of_the_package():
    code = """
import tinygrad_mask.functions as F
from tinygrad_mask import Function
from tinygrad_mask.functions.elementwise import Exp
class Own(Function):
    pass
class Special(Exp):
    pass
assert F.PRIMITIVES["exp"] is Exp
assert not {"Own", "Special"} & set(F.PRIMITIVES)
assert {"conv2d", "cross_entropy", "batch_norm", "max_pool2d"} < set(F.PRIMITIVES)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert F.PRIMITIVES["exp"] is Exp
