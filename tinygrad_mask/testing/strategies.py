"""Hypothesis strategies: for every primitive, inputs worth trying (`STRATEGIES[name]`).

Shapes have unlike lengths, axes of length 0 and 1, and broadcasting; images are higher than wide or
the reverse, with strides, dilations, paddings and groups of their own on each axis. Values come
from a seed that Hypothesis draws, and keep away from where a primitive has no derivative: those
that are compared with each other are all distinct, and at least 0.05 apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

import numpy as np
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask.backends import Array, Backend, FusedActivation
from tinygrad_mask.tensor import Tensor

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Case:
    """A call of the function `name`: float64 arrays to differentiate, and the other arguments."""

    name: str
    inputs: tuple[Array, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Call the function on tensors in place of the inputs."""
        function = getattr(F, self.name)
        if self.name in ("concatenate", "stack"):
            return function(tensors, **self.options)
        if self.name == "where":
            return function(self.options["condition"], *tensors)
        if self.name == "dropout":
            # A fresh generator, so that each call drops the same elements.
            generator = np.random.default_rng(self.options["seed"])
            return function(*tensors, self.options["p"], generator)
        if self.name in ("group_norm", "layer_norm"):
            options = dict(self.options)
            x, *affine = tensors
            sizes = options.pop("num_groups" if self.name == "group_norm" else "normalized_shape")
            return function(x, sizes, *affine, **options)
        return function(*tensors, **self.options)

    def to(self, device: str | Backend) -> "Case":
        """Return the same call with the tensors among its options on a device."""
        options = {
            key: value.to(device) if isinstance(value, Tensor) else value
            for key, value in self.options.items()
        }
        return Case(self.name, self.inputs, options)

    @property
    def __name__(self) -> str:
        shapes = ", ".join(str(x.shape) for x in self.inputs)
        return f"{self.name}({shapes}; {self.options})"


STRATEGIES: dict[str, st.SearchStrategy[Case]] = {}


def _strategy(*names: str) -> Callable[[Callable[..., Case]], Callable[..., Case]]:
    """Register `build(draw, name)` as the strategy of these primitives."""

    def register(build: Callable[..., Case]) -> Callable[..., Case]:
        for name in names:
            STRATEGIES[name] = st.composite(build)(name)
        return build

    return register


# --- shapes and values ------------------------------------------------------------------------


def shapes(min_dims: int = 0, max_dims: int = 4, min_side: int = 0) -> st.SearchStrategy[Any]:
    """Shapes of up to `max_dims` axes, of lengths from `min_side` to 4."""
    sides = st.integers(min_side, 4)
    return st.lists(sides, min_size=min_dims, max_size=max_dims).map(tuple)


def generators() -> st.SearchStrategy[np.random.Generator]:
    """Random generators, from a drawn seed."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


def _normal(draw: Draw, shape: tuple[int, ...]) -> Array:
    return np.asarray(draw(generators()).standard_normal(shape))


def _positive(draw: Draw, shape: tuple[int, ...]) -> Array:
    return np.asarray(draw(generators()).uniform(0.3, 3, shape))


def _nonzero(draw: Draw, shape: tuple[int, ...]) -> Array:
    return _positive(draw, shape) * draw(generators()).choice([-1.0, 1.0], shape)


def _distinct(draw: Draw, *shapes: tuple[int, ...]) -> list[Array]:
    """Arrays whose elements, all taken together, and zero lie at least 0.05 apart."""
    sizes = [int(np.prod(s)) for s in shapes]
    total = sum(sizes)
    values = 0.1 * (np.arange(total) - total // 2) + 0.05
    draw(generators()).shuffle(values)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [part.reshape(s) for part, s in zip(parts, shapes, strict=True)]


def _broadcast_shapes(draw: Draw, count: int) -> list[tuple[int, ...]]:
    """Shapes that broadcast together: axes of length 1 here and there, leading ones missing."""
    full = draw(shapes())
    result = []
    for _ in range(count):
        ones = draw(st.lists(st.booleans(), min_size=len(full), max_size=len(full)))
        cut = draw(st.integers(0, len(full)))
        result.append(tuple(1 if one else n for one, n in zip(ones, full, strict=True))[cut:])
    return result


# --- elementwise ------------------------------------------------------------------------------


@_strategy("add", "subtract", "multiply")
def _arithmetic(draw: Draw, name: str) -> Case:
    return Case(name, tuple(_normal(draw, s) for s in _broadcast_shapes(draw, 2)))


@_strategy("divide")
def _divide(draw: Draw, name: str) -> Case:
    numerator, denominator = _broadcast_shapes(draw, 2)
    return Case(name, (_normal(draw, numerator), _nonzero(draw, denominator)))


@_strategy("power")
def _power(draw: Draw, name: str) -> Case:
    base, exponent = _broadcast_shapes(draw, 2)
    return Case(name, (_positive(draw, base), _normal(draw, exponent)))


@_strategy("negative", "exp", "sigmoid", "tanh", "silu", "erf")
def _smooth(draw: Draw, name: str) -> Case:
    return Case(name, (_normal(draw, draw(shapes())),))


@_strategy("log", "sqrt")
def _of_positive(draw: Draw, name: str) -> Case:
    return Case(name, (_positive(draw, draw(shapes())),))


@_strategy("abs", "relu")
def _kink_at_zero(draw: Draw, name: str) -> Case:
    return Case(name, (_nonzero(draw, draw(shapes())),))


@_strategy("leaky_relu")
def _leaky_relu(draw: Draw, name: str) -> Case:
    slope = draw(st.sampled_from([0.0, 0.01, 0.5, -0.3]))
    return Case(name, (_nonzero(draw, draw(shapes())),), {"negative_slope": slope})


@_strategy("elu")
def _elu(draw: Draw, name: str) -> Case:
    alpha = draw(st.sampled_from([1.0, 0.5, 2.0]))
    return Case(name, (_nonzero(draw, draw(shapes())),), {"alpha": alpha})


@_strategy("softplus")
def _softplus(draw: Draw, name: str) -> Case:
    # From 20 / beta on it is linear, with a step of 2e-9 there.
    options = {"beta": draw(st.sampled_from([1.0, 0.5, 3.0])), "threshold": 20.0}
    return Case(name, (2 * _normal(draw, draw(shapes())),), options)


@_strategy("clip")
def _clip(draw: Draw, name: str) -> Case:
    # Halfway between two of the values that _distinct gives out.
    low = draw(st.sampled_from([None, -0.5, 0.0]))
    high = draw(st.sampled_from([None, 0.0, 0.4]))
    return Case(name, tuple(_distinct(draw, draw(shapes()))), {"low": low, "high": high})


@_strategy("maximum", "minimum")
def _choice(draw: Draw, name: str) -> Case:
    return Case(name, tuple(_distinct(draw, *_broadcast_shapes(draw, 2))))


@_strategy("where")
def _where(draw: Draw, name: str) -> Case:
    condition, x, y = _broadcast_shapes(draw, 3)
    mask = np.asarray(draw(generators()).random(condition) < 0.5)
    return Case(name, (_normal(draw, x), _normal(draw, y)), {"condition": mask})


@_strategy("dropout")
def _dropout(draw: Draw, name: str) -> Case:
    options = {"p": draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])), "seed": draw(st.integers(0, 999))}
    return Case(name, (_normal(draw, draw(shapes())),), options)


@_strategy("round")
def _round(draw: Draw, name: str) -> Case:
    # Numbers that are far from where they jump to the next one.
    x = draw(generators()).integers(-9, 9, draw(shapes())) + 0.3
    decimals = draw(st.sampled_from([0, 1]))
    return Case(name, (np.asarray(x + (0.02 if decimals else 0.0)),), {"decimals": decimals})


@_strategy("floor_divide", "remainder")
def _division_by_steps(draw: Draw, name: str) -> Case:
    # No quotient of these is within 0.04 of an integer, where the result jumps.
    numerator, denominator = _broadcast_shapes(draw, 2)
    rng = draw(generators())
    x = rng.integers(-9, 9, numerator) + rng.uniform(0.1, 0.4, numerator)
    return Case(
        name, (np.asarray(x), np.asarray(rng.choice([-2, -1, -0.5, 0.5, 1, 2], denominator)))
    )


# --- reductions -------------------------------------------------------------------------------


@_strategy("sum", "mean", "max", "min", "var", "logsumexp")
def _reduction(draw: Draw, name: str) -> Case:
    shape = draw(shapes(min_side=0 if name == "sum" else 1))
    axes = draw(st.permutations(range(len(shape))))[: draw(st.integers(0, len(shape)))]
    signed = tuple(a - len(shape) if draw(st.booleans()) else a for a in axes)
    axis = draw(st.sampled_from([None, signed, *signed[:1]]))
    x = _distinct(draw, shape)[0] if name in ("max", "min") else _normal(draw, shape)
    options = {"axis": axis, "keepdims": draw(st.booleans())}
    if name == "var":
        reduced = range(len(shape)) if axis is None else np.atleast_1d(np.asarray(axis, int))
        count = int(np.prod([shape[a] for a in reduced]))
        options["correction"] = draw(st.integers(0, min(1, count - 1)))
    return Case(name, (x,), options)


@_strategy("cumsum")
def _cumsum(draw: Draw, name: str) -> Case:
    shape = draw(shapes(min_dims=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return Case(name, (_normal(draw, shape),), {"axis": axis})


@_strategy("softmax", "log_softmax")
def _softmax(draw: Draw, name: str) -> Case:
    shape = draw(shapes(min_dims=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return Case(name, (_normal(draw, shape),), {"axis": axis})


# --- shapes -----------------------------------------------------------------------------------


@_strategy("reshape")
def _reshape(draw: Draw, name: str) -> Case:
    shape = draw(shapes())
    # Split or merge: any order of the factors has the same product.
    wanted = [1, *draw(st.permutations(shape))]
    if len(wanted) > 2 and draw(st.booleans()):
        wanted[:2] = [wanted[0] * wanted[1]]
    if 0 not in wanted and draw(st.booleans()):
        wanted[draw(st.integers(0, len(wanted) - 1))] = -1
    return Case(name, (_normal(draw, shape),), {"shape": tuple(wanted)})


@_strategy("permute")
def _permute(draw: Draw, name: str) -> Case:
    shape = draw(shapes())
    axes = tuple(draw(st.permutations(range(len(shape)))))
    return Case(name, (_normal(draw, shape),), {"axes": axes})


@_strategy("broadcast_to")
def _broadcast_to(draw: Draw, name: str) -> Case:
    full = draw(shapes())
    ones = draw(st.lists(st.booleans(), min_size=len(full), max_size=len(full)))
    part = tuple(1 if one else n for one, n in zip(ones, full, strict=True))
    return Case(name, (_normal(draw, part[draw(st.integers(0, len(part))) :]),), {"shape": full})


@_strategy("concatenate")
def _concatenate(draw: Draw, name: str) -> Case:
    shape = draw(shapes(min_dims=1))
    axis = draw(st.integers(0, len(shape) - 1))
    lengths = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    arrays = [_normal(draw, (*shape[:axis], n, *shape[axis + 1 :])) for n in lengths]
    return Case(name, tuple(arrays), {"axis": axis - draw(st.sampled_from([0, len(shape)]))})


@_strategy("stack")
def _stack(draw: Draw, name: str) -> Case:
    shape = draw(shapes(max_dims=3))
    arrays = [_normal(draw, shape) for _ in range(draw(st.integers(1, 3)))]
    return Case(name, tuple(arrays), {"axis": draw(st.integers(-len(shape) - 1, len(shape)))})


@_strategy("pad")
def _pad(draw: Draw, name: str) -> Case:
    shape = draw(shapes())
    width = st.tuples(st.integers(0, 2), st.integers(0, 2))
    widths = draw(st.lists(width, min_size=len(shape), max_size=len(shape)))
    value = draw(st.sampled_from([0.0, -1.5]))
    return Case(name, (_normal(draw, shape),), {"widths": tuple(widths), "value": value})


@_strategy("getitem")
def _getitem(draw: Draw, name: str) -> Case:
    shape = draw(shapes(min_dims=1, max_dims=3, min_side=1))
    kind = draw(st.sampled_from(["basic", "integers", "pairs", "mask"]))
    rng = draw(generators())
    index: Any
    if kind == "basic":
        ends = st.one_of(st.none(), st.integers(-5, 5))
        steps = st.sampled_from([None, 1, 2, -1, -2])
        parts = [
            draw(st.one_of(st.integers(-n, n - 1), st.builds(slice, ends, ends, steps)))
            for n in shape[: draw(st.integers(1, len(shape)))]
        ]
        if draw(st.booleans()):
            parts.insert(draw(st.integers(0, len(parts))), None)
        if draw(st.booleans()):
            parts.append(Ellipsis)
        index = tuple(parts)
    elif kind == "integers":  # repeated ones add up in the gradient
        positions = rng.integers(-shape[-1], shape[-1], draw(shapes(1, 2)))
        index = (Ellipsis, positions)
    elif kind == "pairs":
        count = draw(st.integers(0, 5))
        index = tuple(rng.integers(n, size=count) for n in shape[:2])
    else:
        index = rng.random(shape[: draw(st.integers(1, len(shape)))]) < 0.5
    return Case(name, (_normal(draw, shape),), {"index": index})


@_strategy("matmul")
def _matmul(draw: Draw, name: str) -> Case:
    m, k, n = (draw(st.integers(0, 4)) for _ in range(3))
    left, right = (s[:2] for s in _broadcast_shapes(draw, 2))
    if draw(st.booleans()):  # the common case that takes a way of its own: one matrix for all
        right = ()
    try:
        np.broadcast_shapes(left, right)
    except ValueError:
        left = ()
    x = (k,) if draw(st.booleans()) and not left else (*left, m, k)
    y = (k,) if draw(st.booleans()) and not right else (*right, k, n)
    return Case(name, (_normal(draw, x), _normal(draw, y)))


@_strategy("linear")
def _linear(draw: Draw, name: str) -> Case:
    k, n = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    x = (*draw(shapes(max_dims=3)), k)
    bias = (_normal(draw, (n,)),) if draw(st.booleans()) else ()
    activation = draw(st.sampled_from(get_args(FusedActivation)))
    return Case(name, (_normal(draw, x), _normal(draw, (k, n)), *bias), {"activation": activation})


# --- images -----------------------------------------------------------------------------------


def _image_side(draw: Draw, taps: int, padding: int) -> int:
    """A length in which a window of so many pixels fits at least once."""
    least = max(taps - padding, 1)
    return draw(st.integers(least, least + 5))


@_strategy("conv2d")
def _conv2d(draw: Draw, name: str) -> Case:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kh, kw = draw(pair)
    dilation, stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 3))), draw(pair)
    side = st.integers(0, 2)
    padding = draw(
        st.one_of(
            side,
            st.tuples(side, side),
            st.tuples(st.tuples(side, side), st.tuples(side, side)),
            st.just("same"),
        )
    )
    rows, columns = _padding_sums(padding)
    h = _image_side(draw, dilation[0] * (kh - 1) + 1, rows)
    w = _image_side(draw, dilation[1] * (kw - 1) + 1, columns)
    groups = draw(st.integers(1, 3))
    n, channels, outputs = draw(st.integers(0, 2)), draw(st.integers(0, 3)), draw(st.integers(0, 2))
    options: dict[str, Any] = {"padding": padding, "groups": groups}
    options["activation"] = draw(st.sampled_from(get_args(FusedActivation)))
    options["stride"] = stride if draw(st.booleans()) else stride[0]
    options["dilation"] = dilation if dilation[0] != dilation[1] else dilation[0]
    x = _normal(draw, (n, h, w, groups * channels))
    weight = _normal(draw, (kh, kw, channels, groups * outputs))
    bias = (_normal(draw, (groups * outputs,)),) if draw(st.booleans()) else ()
    return Case(name, (x, weight, *bias), options)


def _padding_sums(padding: Any) -> tuple[int, int]:
    """How many pixels a padding adds at least to the height and to the width."""
    if padding == "same":
        return 99, 99
    if isinstance(padding, int):
        return 2 * padding, 2 * padding
    height, width = (2 * p if isinstance(p, int) else sum(p) for p in padding)
    return height, width


@_strategy("max_pool2d", "avg_pool2d")
def _pool2d(draw: Draw, name: str) -> Case:
    kh, kw = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    rows, columns = st.integers(0, kh // 2), st.integers(0, kw // 2)
    padding = draw(
        st.one_of(
            st.integers(0, min(kh, kw) // 2),
            st.tuples(rows, columns),
            st.tuples(st.tuples(rows, rows), st.tuples(columns, columns)),
            st.just("same"),
        )
    )
    sums = _padding_sums(padding)
    shape = (
        draw(st.integers(0, 2)),
        _image_side(draw, kh, sums[0]),
        _image_side(draw, kw, sums[1]),
        draw(st.integers(0, 3)),
    )
    stride = draw(st.one_of(st.none(), st.integers(1, 3), st.tuples(*[st.integers(1, 3)] * 2)))
    options = {"kernel_size": (kh, kw), "stride": stride, "padding": padding}
    if name == "max_pool2d":
        return Case(name, tuple(_distinct(draw, shape)), options)
    return Case(name, (_normal(draw, shape),), options | {"count_include_pad": draw(st.booleans())})


@_strategy("batch_norm")
def _batch_norm(draw: Draw, name: str) -> Case:
    shape = (draw(st.integers(2, 4)), *draw(shapes(max_dims=3, min_side=1)))
    shape = shape if len(shape) > 1 else (*shape, 3)
    channels = shape[-1:]
    options: dict[str, Any] = {"training": draw(st.booleans()), "eps": 1e-3}
    if not options["training"]:
        options["running_mean"] = Tensor(_normal(draw, channels))
        options["running_var"] = Tensor(_positive(draw, channels))
    inputs = _distinct(draw, shape)[0], _normal(draw, channels), _normal(draw, channels)
    return Case(name, inputs, options)


@_strategy("group_norm")
def _group_norm(draw: Draw, name: str) -> Case:
    groups, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    inner = draw(shapes(max_dims=2, min_side=1))
    if width * int(np.prod(inner)) == 1:  # of one value the variance is 0, and eps all there is
        width = 2
    channels = (groups * width,)
    x = _distinct(draw, (draw(st.integers(0, 3)), *inner, *channels))[0]
    affine = [_normal(draw, channels) for _ in range(draw(st.integers(0, 2)))]
    return Case(name, (x, *affine), {"num_groups": groups, "eps": 1e-3})


@_strategy("layer_norm")
def _layer_norm(draw: Draw, name: str) -> Case:
    normalized = draw(shapes(min_dims=1, max_dims=3, min_side=1))
    normalized = (*normalized[:-1], normalized[-1] + 1)
    x = _distinct(draw, (*draw(shapes(max_dims=2)), *normalized))[0]
    affine = [_normal(draw, normalized) for _ in range(draw(st.integers(0, 2)))]
    return Case(name, (x, *affine), {"normalized_shape": normalized, "eps": 1e-3})


@_strategy("interpolate")
def _interpolate(draw: Draw, name: str) -> Case:
    side = st.integers(1, 6)
    shape = (draw(st.integers(0, 2)), draw(side), draw(side), draw(st.integers(0, 3)))
    options: dict[str, Any] = {"mode": draw(st.sampled_from(["nearest", "bilinear"]))}
    if options["mode"] == "bilinear":
        options["align_corners"] = draw(st.sampled_from([None, False, True]))
    if draw(st.booleans()):
        options["size"] = draw(st.one_of(side, st.tuples(side, side)))
    else:
        options["scale_factor"] = draw(st.sampled_from([1, 2, 3.0, 1.5, (2, 1), (1.25, 3)]))
    return Case(name, (_normal(draw, shape),), options)


# --- losses -----------------------------------------------------------------------------------


@_strategy("squared_error")
def _squared_error(draw: Draw, name: str) -> Case:
    shape = (draw(st.integers(1, 4)), *draw(shapes(max_dims=2)))
    return Case(name, (_normal(draw, shape), _normal(draw, shape)))


@_strategy("cross_entropy")
def _cross_entropy(draw: Draw, name: str) -> Case:
    n, classes = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    weight = _positive(draw, (classes,)) if draw(st.booleans()) else None
    smoothing = draw(st.sampled_from([0.0, 0.1, 1.0]))
    target = draw(generators()).integers(classes, size=n)
    options = {"target": target, "weight": weight, "label_smoothing": smoothing}
    return Case(name, (_normal(draw, (n, classes)),), options)


@_strategy("binary_cross_entropy_with_logits")
def _binary_cross_entropy(draw: Draw, name: str) -> Case:
    # The loss bends at 0 in its stable form's parts, but they cancel: any logits will do.
    shape = draw(shapes(min_side=1))
    target = np.asarray(draw(generators()).random(shape))
    return Case(name, (3 * _normal(draw, shape),), {"target": target})
