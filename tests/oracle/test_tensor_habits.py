"""What people who know PyTorch or NumPy type on tensors and functions, compared with PyTorch."""

import math
import re

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor
from tinygrad_mask.autograd import grad
from tinygrad_mask.testing import check_gradients

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
TF = torch.nn.functional

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4))
X[0, 1, 2] = 0.0
Y = RNG.uniform(0.5, 2.0, (2, 3, 4))
PLACES = RNG.integers(0, 3, (2, 2, 4))
MASK = RNG.random((2, 3, 4)) < 0.5

# A line that works on tensors of both libraries, or one of ours and one of PyTorch's. They are
# evaluated with x, y (floats, which require a gradient), n, k (integers), mask, other (booleans).
LINES = """
x.view(6, 4)
x.view(-1, 12)
x.view((4, 6))
x.reshape(2, -1)
x.flatten()
x.flatten(1)
x.flatten(start_dim=0, end_dim=1)
x[:1].squeeze()
x[:1].squeeze(0)
x.squeeze(dim=1)
x.unsqueeze(0)
x.unsqueeze(-1)
x.unsqueeze(dim=1)
x.transpose(0, 2)
x.transpose(-1, 1)
x.permute(2, 0, 1)
x[:, :1].expand(2, 5, 4)
x[:, :1].expand(-1, 5, -1)
x.expand(3, 2, 3, 4)
x.clone()
x.min()
x.max()
x.argmin()
x.argmin(dim=1)
x.argmin(1, keepdim=True)
x.argmax(dim=-1, keepdim=True)
x.sum(dim=1, keepdim=True)
x.sum(dim=(0, 2))
x.mean(dim=-1)
x.mean(-1, True)
x.var(dim=1, correction=1)
x.std(dim=1, correction=0)
x.std(dim=(0, 1), keepdim=True, correction=1)
x.norm()
x.norm(dim=-1)
x.norm(2, dim=(0, 1), keepdim=True)
x.norm(p=1, dim=1)
x.norm(p=inf, dim=1)
x.prod()
x.prod(dim=1)
x.prod(dim=2, keepdim=True)
n.prod()
x.cumsum(0)
x.cumsum(dim=-1)
n.cumsum(dim=1)
x.gather(1, places)
x.gather(dim=1, index=places)
x.masked_fill(mask, 0.5)
x.masked_fill(x > 0, -1.0)
mask.any()
mask.any(dim=1)
mask.all(dim=1, keepdim=True)
x.any(dim=0)
x.round()
x.round(decimals=1)
x.softmax(dim=1)
n // k
n // 2
x % y
x % 0.5
n % k
n % 2
~mask
mask & other
mask | other
mask ^ other
mask & True
n & k
n | 1
~n
x.split(2, dim=1)
x.split([1, 2], dim=1)
x.chunk(2, dim=2)
x.chunk(3, dim=2)
x.tolist()
x.dim()
x.numel()
f"{x.sum():.3f}"
f"{x.mean():8.2e}"
"""

# Names that differ: ours, and what it is in PyTorch.
PAIRS = {
    "F.cat([x, y], dim=1)": "torch.cat([x, y], dim=1)",
    "F.cat((x, y))": "torch.cat((x, y))",
    "F.stack([x, y], dim=1)": "torch.stack([x, y], dim=1)",
    "F.concatenate([x, y], axis=-1)": "torch.cat([x, y], dim=-1)",
    "F.split(x, 3, dim=2)": "torch.split(x, 3, dim=2)",
    "F.chunk(x, 2, dim=1)": "torch.chunk(x, 2, dim=1)",
    "F.einsum('bij,bij->', x, y)": "torch.einsum('bij,bij->', x, y)",
    "F.einsum('bij,bkj->bik', x, y)": "torch.einsum('bij,bkj->bik', x, y)",
    "F.einsum('bij,bik->jk', x, y)": "torch.einsum('bij,bik->jk', x, y)",
    "F.einsum('bij->jb', x)": "torch.einsum('bij->jb', x)",
    "F.einsum('...j,...j', x, y)": "torch.einsum('...j,...j', x, y)",
    "F.einsum('...ij->...ji', x)": "torch.einsum('...ij->...ji', x)",
    "F.einsum('bij,ckj,c->bi', x, y, x[0, :2, 0])": (
        "torch.einsum('bij,ckj,c->bi', x, y, x[0, :2, 0])"
    ),
    "F.einsum('ii->i', x[0, :3, :3])": "torch.einsum('ii->i', x[0, :3, :3])",
    "F.einsum('ii', x[0, :3, :3])": "torch.einsum('ii', x[0, :3, :3])",
    "F.einsum('i,j->ij', x[0, 0], y[0, 1])": "torch.einsum('i,j->ij', x[0, 0], y[0, 1])",
    "F.einsum('ba, ab', x[0], y[0].T)": "torch.einsum('ba, ab', x[0], y[0].T)",
    "F.one_hot(n)": "TF.one_hot(n)",
    "F.one_hot(n, 12)": "TF.one_hot(n, 12)",
    "F.one_hot(n, num_classes=-1)": "TF.one_hot(n, num_classes=-1)",
    "F.normalize(x, dim=1)": "TF.normalize(x, dim=1)",
    "F.normalize(x)": "TF.normalize(x, dim=-1)",
    "F.normalize(x, p=1, dim=2)": "TF.normalize(x, p=1, dim=2)",
    "F.min(x)": "torch.min(x)",
    "F.min(x, dim=(0, 2))": "torch.amin(x, dim=(0, 2))",
    "x.min(dim=1, keepdim=True)": "torch.amin(x, dim=1, keepdim=True)",
    "x.max(dim=1)": "torch.amax(x, dim=1)",
    "x.std()": "x.std(correction=0)",
    "x.prod((0, 2))": "x.prod(0).prod(1)",
    "x.flip(1)": "x.flip(1)",
    "x.flip(dim=(0, -1))": "x.flip(dims=(0, -1))",
    "F.flip(x)": "x.flip(dims=(0, 1, 2))",
    "x.take_along_axis(places, 1)": "torch.take_along_dim(x, places, 1)",
    "F.take_along_axis(x, places[:1, :, :1], axis=1)": (
        "torch.take_along_dim(x, places[:1, :, :1], 1)"
    ),
    "x.take_along_axis(places, None)": "torch.take_along_dim(x, places)",
    "F.logsumexp(x, dim=1, keepdim=True)": "torch.logsumexp(x, dim=1, keepdim=True)",
    "F.log_softmax(x, dim=1)": "torch.log_softmax(x, dim=1)",
    "F.pad(x, [(0, 0), (1, 2), (2, 1)])": "TF.pad(x, (2, 1, 1, 2))",
    "F.pad(x, [(0, 0), (0, 0), (2, 3)], mode='reflect')": "TF.pad(x, (2, 3), mode='reflect')",
    "F.pad(x, [(0, 0), (0, 0), (2, 5)], mode='replicate')": "TF.pad(x, (2, 5), mode='replicate')",
    "F.pad(x, [(0, 0), (0, 0), (4, 1)], mode='circular')": "TF.pad(x, (4, 1), mode='circular')",
    "F.pad(x, [(0, 0), (2, 1), (3, 2)], mode='reflect')": (
        "TF.pad(x[None], (3, 2, 2, 1), mode='reflect')[0]"
    ),
    "F.pad(x, [(0, 0), (2, 4), (3, 2)], mode='replicate')": (
        "TF.pad(x[None], (3, 2, 2, 4), mode='replicate')[0]"
    ),
    "F.pad(x, [(0, 0), (2, 3), (3, 0)], mode='circular')": (
        "TF.pad(x[None], (3, 0, 2, 3), mode='circular')[0]"
    ),
}
# The method or operator, and the function of the same name.
PAIRS |= {
    f"F.{name}(x{arguments})": f"x.{name}({arguments[2:]})"
    for name, arguments in {
        "flatten": ", 1",
        "squeeze": ", 1",
        "unsqueeze": ", 1",
        "transpose": ", 0, 1",
        "cumsum": ", dim=0",
        "prod": ", dim=0",
        "norm": ", dim=0",
        "std": ", dim=0, correction=0",
        "gather": ", 1, places",
        "masked_fill": ", mask, 1.0",
        "argmax": ", dim=1",
        "argmin": ", dim=1",
        "any": ", dim=1",
        "all": ", dim=1",
        "round": "",
    }.items()
}
# PyTorch's `//` has no derivative; its `div` has.
PAIRS |= {
    "x // y": "torch.div(x, y, rounding_mode='floor')",
    "x // 0.5": "torch.div(x, 0.5, rounding_mode='floor')",
    "3.0 // y": "torch.div(torch.full_like(y, 3.0), y, rounding_mode='floor')",
    "3.0 % y": "torch.remainder(torch.full_like(y, 3.0), y)",
    "F.floor_divide(x, y)": "torch.div(x, y, rounding_mode='floor')",
    "F.remainder(x, y)": "x % y",
}


def names(kind):
    def floats(values):
        if kind == "torch":
            return torch.tensor(values, requires_grad=True)
        return Tensor(values, requires_grad=True)

    constant = torch.tensor if kind == "torch" else Tensor
    return {
        "F": F,
        "TF": TF,
        "inf": math.inf,
        "k": constant(RNG_INTEGERS[1]),
        "mask": constant(MASK),
        "n": constant(RNG_INTEGERS[0]),
        "other": constant(MASK[::-1].copy()),
        "places": constant(PLACES),
        "torch": torch,
        "x": floats(X),
        "y": floats(Y),
    }


RNG_INTEGERS = np.random.default_rng(1).integers(1, 10, (2, 2, 3))


def results(line, kind):
    """Evaluate a line, and differentiate what it returns if it can be."""
    given = names(kind)
    came = eval(line, given)
    parts = came if isinstance(came, tuple) else (came,)
    if not isinstance(parts[0], Tensor | torch.Tensor):
        return [came], []
    values = [p.detach().numpy() for p in parts]
    if not any(p.requires_grad for p in parts):
        return values, []
    rng = np.random.default_rng(2)
    total = 0.0
    for part in parts:
        weights = rng.standard_normal(tuple(part.shape))
        weights = torch.tensor(weights) if kind == "torch" else Tensor(weights)
        total = total + (part * weights).sum()
    total.backward()
    gradients = [given[name].grad for name in "xy"]
    return values, [np.zeros(X.shape) if g is None else g.numpy() for g in gradients]


@pytest.mark.parametrize(
    ("line", "theirs"),
    [*((line, line) for line in LINES.strip().splitlines()), *PAIRS.items()],
)
def test_the_line_means_what_it_does_in_pytorch(line, theirs):
    values, gradients = results(line, "ours")
    expected, expected_gradients = results(theirs, "torch")
    if not isinstance(expected[0], np.ndarray):
        assert values == expected
        return
    assert len(values) == len(expected)
    for came, wanted in zip(values, expected, strict=True):
        assert came.shape == wanted.shape
        assert came.dtype == wanted.dtype
        np.testing.assert_allclose(came, wanted, rtol=1e-12, atol=1e-12)
    assert bool(gradients) == bool(expected_gradients)
    for came, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(came, wanted, rtol=1e-10, atol=1e-10)


# --- one axis under two names -----------------------------------------------------------------

WITH_AXIS = ["sum", "mean", "max", "min", "var", "std", "prod", "norm"]
WITH_AXIS += ["argmax", "argmin", "any", "all"]


@pytest.mark.parametrize(
    ("form", "name"), [*(("method", n) for n in WITH_AXIS), *(("F", n) for n in WITH_AXIS)]
)
def test_dim_and_keepdim_are_axis_and_keepdims(form, name):
    x = Tensor(X)

    def call(**options):
        return getattr(F, name)(x, **options) if form == "F" else getattr(x, name)(**options)

    expected = call(axis=1, keepdims=True).numpy()
    for options in ({"dim": 1, "keepdim": True}, {"axis": 1, "keepdim": True}):
        assert np.array_equal(call(**options).numpy(), expected)
    for both in ({"axis": 1, "dim": 1}, {"axis": None, "dim": None}):
        with pytest.raises(TypeError, match=f"^{name}: expected axis or dim, got both; leave one"):
            call(**both)
    with pytest.raises(TypeError, match=f"^{name}: expected keepdims or keepdim, got both"):
        call(keepdims=True, keepdim=True)


def test_a_positional_axis_and_dim_are_two():
    with pytest.raises(TypeError, match=r"^sum: expected axis or dim, got both"):
        Tensor(X).sum(1, dim=1)
    with pytest.raises(TypeError, match=r"^softmax: expected axis or dim, got both"):
        F.softmax(Tensor(X), 1, dim=1)


# --- where gradients have corners -------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [F.normalize, lambda x: x.norm(dim=-1), lambda x: x.std(dim=-1), lambda x: x.norm()],
    ids=["normalize", "norm", "std", "norm of all"],
)
def test_the_gradient_at_the_zero_vector_is_zero(function):
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    result = function(x)
    assert not result.numpy().any()
    (slope,) = grad(result.sum(), [x], create_graph=True)
    assert not slope.numpy().any()
    (second,) = grad((slope * slope).sum(), [x], allow_unused=True)
    assert second is None or not second.numpy().any()


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e22, 3e37])
def test_a_norm_neither_overflows_nor_underflows(scale):
    x = Tensor(np.array([3.0, 4.0], np.float32) * np.float32(scale), requires_grad=True)
    length = x.norm()
    assert length.item() == pytest.approx(5 * scale, rel=1e-6)
    length.backward()
    np.testing.assert_allclose(x.grad.numpy(), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_a_product_has_its_derivatives_where_factors_are_zero(zeros):
    values = np.array([0.5, -2.0, 3.0, 0.7, 1.1])
    values[:zeros] = 0.0
    x, t = Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    (slope,) = grad(x.prod(), [x], create_graph=True)
    # The product of the other factors, spelt out.
    others = torch.stack([torch.cat([t[:k], t[k + 1 :]]).prod() for k in range(len(values))])
    np.testing.assert_allclose(slope.numpy(), others.detach().numpy(), rtol=1e-14)
    weights = np.arange(1.0, 6.0)
    (second,) = grad((slope * weights).sum(), [x])
    pairs = [
        sum(weights[i] * np.prod(np.delete(values, [i, j])) for i in range(5) if i != j)
        for j in range(5)
    ]
    np.testing.assert_allclose(second.numpy(), pairs, rtol=1e-13)


def test_a_product_of_no_elements_is_one_and_has_a_gradient():
    x = Tensor(np.zeros((3, 0)), requires_grad=True)
    assert x.prod(dim=1).tolist() == [1.0, 1.0, 1.0]
    x.prod().backward()
    assert x.grad.shape == (3, 0)


def test_a_cumulative_sum_adds_up_in_double_precision():
    x = np.full(1_000_000, 0.1, np.float32)
    expected = np.cumsum(x, dtype=np.float64)
    found = Tensor(x).cumsum(0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7)


COMPOSED = {
    "std": lambda x: x.std(dim=1),
    "norm": lambda x: x.norm(dim=1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "prod": lambda x: x.prod(dim=1),
    "gather": lambda x: x.gather(1, PLACES),
    "take_along_axis": lambda x: x.take_along_axis(PLACES[:1], 1),
    "einsum": lambda x: F.einsum("bij,bkj,bkl->il", x, x, x),
    "reflect": lambda x: F.pad(x, [(0, 1), (2, 1), (0, 3)], mode="reflect"),
    "replicate": lambda x: F.pad(x, [(0, 1), (2, 1), (0, 3)], mode="replicate"),
    "circular": lambda x: F.pad(x, [(0, 1), (2, 1), (0, 3)], mode="circular"),
    "masked_fill": lambda x: x.masked_fill(MASK, 0.3),
    "split": lambda x: x.split(2, dim=2)[1],
    "flip": lambda x: x.flip(1),
}


@pytest.mark.parametrize("device", ["cpu", "emulator"])
@pytest.mark.parametrize("name", sorted(COMPOSED))
def test_compositions_have_the_gradients_of_finite_differences(name, device):
    x = RNG.standard_normal((2, 3, 4))
    check_gradients(COMPOSED[name], x, device=device)


def test_a_gradient_is_never_dropped_silently():
    x = Tensor(X, requires_grad=True)
    (x.round() + x // 2.0).sum().backward()
    assert np.array_equal(x.grad.numpy(), np.zeros(X.shape))


def test_a_masked_value_gets_its_gradient():
    x, value = Tensor(X, requires_grad=True), Tensor(0.5, dtype=np.float64, requires_grad=True)
    x.masked_fill(MASK, value).sum().backward()
    assert value.grad.item() == MASK.sum()
    assert np.array_equal(x.grad.numpy(), (~MASK).astype(float))


@pytest.mark.parametrize("symbol", ["//", "%", "&", "|", "^"])
@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_the_new_operators_write_in_place(symbol, device):
    x = Tensor([9, 14, 7], device=device)
    same, expected = x, eval(f"x {symbol} 4", {"x": np.array([9, 14, 7])})
    scope = {"x": x}
    exec(f"x {symbol}= 4", scope)
    assert scope["x"] is same
    assert same.tolist() == expected.tolist()


@pytest.mark.parametrize("symbol", ["//", "%", "&", "|", "^"])
def test_operators_take_a_number_or_an_array_on_the_left(symbol):
    x = np.array([9, 14, 7])
    for left in (4, np.array([4, 5, 6])):
        found = eval(f"left {symbol} x", {"left": left, "x": Tensor(x)})
        assert found.tolist() == eval(f"left {symbol} x", {"left": left, "x": x}).tolist()


LESS_USUAL = {
    "any": lambda x: x.any(dim=1),
    "argmin": lambda x: x.argmin(dim=1),
    "bits": lambda x: ~((x > 0) & (x < 1) | (x == 0)),
    "cumsum": lambda x: x.cumsum(1),
    "floor_divide": lambda x: x // 0.5,
    "one_hot": lambda x: F.one_hot(x.argmin(dim=1), 5),
    "remainder": lambda x: 0.7 % (x + 10),
    "round": lambda x: x.round(decimals=1),
}


@pytest.mark.parametrize("name", sorted(LESS_USUAL))
def test_values_are_those_of_the_cpu_on_the_emulator(name):
    expected, found = (LESS_USUAL[name](Tensor(X, device=d)) for d in ("cpu", "emulator"))
    assert found.device == "emulator"
    assert np.array_equal(found.numpy(), expected.numpy())


def test_a_clone_does_not_share_memory():
    x = Tensor([1.0, 2.0])
    copy = x.clone()
    x[0] = 5.0
    assert copy.tolist() == [1.0, 2.0]


# --- what they refuse -------------------------------------------------------------------------

V, N, B = Tensor(X), Tensor(RNG_INTEGERS[0]), Tensor(MASK)

ERRORS = {
    "flatten": (lambda: V.flatten(2, 1), ValueError, "flatten: expected start_dim <= end_dim"),
    "unsqueeze": (lambda: V.unsqueeze(4), ValueError, "unsqueeze: axis 4 does not exist in a"),
    "transpose": (lambda: V.transpose(0, 3), ValueError, "transpose: axis 3 does not exist in a"),
    "expand": (lambda: V.expand(-1, 2, 3, 4), ValueError, r"expand: shape \(2, 3, 4\) does not"),
    "expand to fewer": (lambda: V.expand(3, 4), ValueError, r"expand: shape \(2, 3, 4\) does not"),
    "split by 0": (lambda: V.split(0), ValueError, "split: expected a size >= 1, got 0"),
    "split lengths": (
        lambda: V.split([1, 1], dim=1),
        ValueError,
        r"split: expected lengths >= 0 that add up to 3, got \[1, 1\]",
    ),
    "split by a float": (lambda: V.split(1.5), TypeError, "split: expected the size to be integ"),
    "chunk": (lambda: V.chunk(0), ValueError, "chunk: expected at least 1 part, got 0"),
    "min": (
        lambda: Tensor(np.zeros((2, 0))).min(dim=1),
        ValueError,
        "min: cannot reduce axis 1 of length 0",
    ),
    "argmin": (
        lambda: Tensor(np.zeros((2, 0))).argmin(dim=1),
        ValueError,
        r"argmin: expected at least one element, got shape \(2, 0\)",
    ),
    "std": (lambda: V.std(dim=0, correction=2), ValueError, "var: expected more than 2 elements"),
    "norm": (lambda: V.norm(3), ValueError, "norm: expected p to be 1, 2, 'fro' or infinity"),
    "norm of integers": (lambda: N.norm(), TypeError, "norm: expected a floating dtype, got int64"),
    "cumsum": (lambda: V.cumsum(None), TypeError, "cumsum: expected one axis, an integer, got No"),
    "gather": (
        lambda: V.gather(1, np.zeros((3, 1, 4), int)),
        ValueError,
        r"gather: expected an index that fits shape \(2, 3, 4\) along every axis but 1",
    ),
    "gather by floats": (
        lambda: V.gather(1, np.zeros((2, 1, 4))),
        TypeError,
        "gather: expected integer indices, got dtype float64",
    ),
    "gather outside": (lambda: V.gather(1, np.full((2, 1, 4), 3)), IndexError, "out of bounds"),
    "take_along_axis": (
        lambda: V.take_along_axis(np.zeros(3, int), 1),
        ValueError,
        "take_along_axis: expected indices that broadcast with shape",
    ),
    "masked_fill": (
        lambda: V.masked_fill(N, 0.0),
        TypeError,
        "masked_fill: expected a boolean mask, got dtype int64",
    ),
    "masked_fill by many": (
        lambda: V.masked_fill(B, np.zeros(4)),
        ValueError,
        "masked_fill: expected a mask that broadcasts to shape",
    ),
    "one_hot": (
        lambda: F.one_hot(Tensor([0, 3]), 3),
        ValueError,
        r"one_hot: expected indices in 0\.\.2 and at least one class, got indices 0\.\.3",
    ),
    "one_hot of an array": (
        lambda: F.one_hot(np.array([1])),
        TypeError,
        r"one_hot: expected a Tensor of integers, got ndarray; write one_hot\(Tensor\(indices\)\)",
    ),
    "pad mode": (
        lambda: F.pad(V, [(0, 0)] * 3, mode="mirror"),
        ValueError,
        "pad: expected mode to be one of constant, reflect, replicate, circular, got 'mirror'",
    ),
    "pad by reflection": (
        lambda: F.pad(V, [(0, 0), (3, 0), (0, 0)], mode="reflect"),
        ValueError,
        "pad: expected widths <= 2 for mode 'reflect' and axis 1 of length 3",
    ),
    "pad in a circle": (
        lambda: F.pad(V, [(0, 0), (4, 0), (0, 0)], mode="circular"),
        ValueError,
        "pad: expected widths <= 3 for mode 'circular' and axis 1 of length 3",
    ),
    "einsum operands": (lambda: F.einsum("ij,jk", V), ValueError, "einsum: expected 2 operands"),
    "einsum letters": (
        lambda: F.einsum("ij->i", V),
        ValueError,
        r"einsum: expected one letter per axis in 'ij->i', got shape \(2, 3, 4\)",
    ),
    "einsum lengths": (
        lambda: F.einsum("iij->j", V),
        ValueError,
        "einsum: axis 'i' of 'iij->j' has lengths 2 and 3",
    ),
    "einsum result": (
        lambda: F.einsum("ijk->z", V),
        ValueError,
        "einsum: expected distinct letters of the operands in the result of 'ijk->z'",
    ),
    "einsum of nothing": (lambda: F.einsum("i->i"), TypeError, "einsum: expected tensors after"),
    "// of booleans": (lambda: B // 2, TypeError, "floor_divide: expected numbers, got dtype bool"),
    "// by 0": (lambda: N // 0, ZeroDivisionError, "floor_divide: expected divisors other than 0"),
    "% by 0": (lambda: N % Tensor([0, 1, 1]), ZeroDivisionError, "remainder: expected divisors"),
    "// of two dtypes": (lambda: V // N, TypeError, "floor_divide: expected tensors of one dtype"),
    "& of floats": (lambda: V & B, TypeError, "bitwise_and: expected booleans or integers, got d"),
    "& of two dtypes": (lambda: B & 1, TypeError, "bitwise_and: expected a boolean for a tensor"),
    "| of shapes": (
        lambda: B | Tensor([True, False]),
        ValueError,
        r"bitwise_or: shapes \(2, 3, 4\), \(2,\) do not broadcast",
    ),
    "~ of floats": (lambda: ~V, TypeError, "invert: expected booleans or integers, got dtype flo"),
    "& of a number that wraps": (
        lambda: Tensor(np.zeros(2, np.uint8)) & 256,
        OverflowError,
        "bitwise_and: expected a number from 0 to 255 for a tensor of dtype uint8, got 256",
    ),
    "& of integers": (
        lambda: N & Tensor(np.zeros(3, np.int32)),
        TypeError,
        "bitwise_and: expected tensors of one dtype, got int64 and int32",
    ),
    "floats in a list": (
        lambda: N - [0.5, 1.0, 2.0],
        TypeError,
        "subtract: floats do not fit a tensor",
    ),
    "an array in a list": (
        lambda: V - [np.zeros((3, 4), np.float32)] * 2,
        TypeError,
        "subtract: expected tensors of one dtype, got float64 and float32",
    ),
    "a list that wraps": (
        lambda: Tensor(np.zeros(2, np.uint8)) - [1, 256],
        OverflowError,
        "subtract: expected a number from 0 to 255 for a tensor of dtype uint8, got 256",
    ),
    "format": (lambda: f"{V:.3f}", ValueError, "item: expected a tensor of one element"),
}


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_what_does_not_fit_is_refused_in_one_line(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


# Lists of numbers adopt the dtype of the tensor, as numbers do: `t` is float32, `i` int32.
LISTS = """
t + [0.1, 2]
[0.1, 2.0] - t
t * (1.0, 2.0)
t @ [0.1, 0.2]
[1, 2] @ t
i + [1, 2]
i & [1, 3]
t == [0.1, 0.3]
t <= [0.1, 0.3]
i == [1.0, 2.5]
F.maximum(t, [[0.0, 1], [3, 0]])
F.mse_loss(t, [0.5, 0.25])
F.smooth_l1_loss(t, [0, 1])
F.binary_cross_entropy_with_logits(t, [0, 1])
F.binary_cross_entropy_with_logits(t, [0.0, 1.0], weight=[1, 2], pos_weight=[0.5, 2.0])
F.cross_entropy(t[None], [1], weight=[0.5, 2.0])
F.nll_loss(t[None], [1], weight=[0.5, 2.0])
"""


@pytest.mark.parametrize("line", LISTS.strip().splitlines())
def test_a_list_of_numbers_has_the_dtype_of_the_tensor(line):
    """It gives what an array of the tensor's dtype gives, which is compared with PyTorch above."""
    tensors = {"t": Tensor(np.float32([0.1, 0.2])), "i": Tensor(np.int32([1, 2]))}
    dtype = np.int32 if line.startswith("i") and "." not in line else np.float32

    def as_array(match):
        return match[0] if match[0] == "[1]" else f"array({match[0]})"

    lists = r"(?<!t)\[\[.*?\]\]|(?<!t)\[.*?\]|(?<=\* )\(.*?\)"
    names = tensors | {"F": F, "array": lambda numbers: np.array(numbers, dtype)}
    if line.startswith("i =="):
        names["array"] = np.array
    with_arrays = re.sub(lists, as_array, line)
    assert with_arrays.count("array(") >= 1
    given, expected = eval(line, names), eval(with_arrays, names)
    assert given.dtype == expected.dtype
    np.testing.assert_array_equal(given.numpy(), expected.numpy())


def test_size_is_the_number_of_elements_and_called_the_shape():
    ours, theirs = Tensor(X), torch.tensor(X)
    assert ours.size == 24
    assert ours.size * 2 == 48
    assert isinstance(ours.size, int)
    assert repr(ours.size) == "24"
    assert ours.size() == theirs.size()
    for axis in (0, 1, -1):
        assert ours.size(axis) == ours.size(dim=axis) == theirs.size(axis)


@pytest.mark.parametrize(
    "line",
    [
        "x.to(float32)",
        "x.to('cpu', float32)",
        "x.to(dtype=float32)",
        "x.to(device='cpu')",
        "x.cpu()",
    ],
)
def test_to_takes_a_dtype(line):
    ours = eval(line, {"x": Tensor(X), "float32": np.float32})
    theirs = eval(line, {"x": torch.tensor(X), "float32": torch.float32})
    assert ours.dtype == theirs.numpy().dtype
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    x = Tensor(X, requires_grad=True)
    (x.to(np.float32) * 2).sum().backward()
    assert (x.grad.numpy() == 2).all()
    assert x.to(np.float64) is x
