"""Record what a model computes: a list of operations, each on values of the ones before it.

All shapes are per image: a traced value has as many elements for each image of the batch, one image
after the other. An operation for which that does not hold, or which is not among those listed here,
raises `NotCompilableError`; the model then runs as it is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_mask.autograd import Function, no_grad
from tinygrad_mask.autograd.modes import recording
from tinygrad_mask.backends import Array
from tinygrad_mask.functions.activation import (
    LeakyReLUFunction,
    ReLUFunction,
    SigmoidFunction,
    SiLUFunction,
    TanhFunction,
)
from tinygrad_mask.functions.convolution import Conv2dFunction
from tinygrad_mask.functions.elementwise import Add
from tinygrad_mask.functions.linear import LinearFunction
from tinygrad_mask.functions.normalisation import BatchNormFunction
from tinygrad_mask.functions.pooling import AvgPool2dFunction, MaxPool2dFunction
from tinygrad_mask.functions.reduction import Mean
from tinygrad_mask.functions.resizing import InterpolateFunction
from tinygrad_mask.functions.shape import BroadcastTo, Concatenate, GetItem, Permute, Reshape
from tinygrad_mask.tensor import Tensor

IMAGES = 2
"""Images in the batch that a model is traced with."""


class NotCompilableError(Exception):
    """What a model does cannot be compiled; the message says what."""


@dataclass
class Op:
    """One operation: its kind, the values that it reads and the one that it makes.

    `shape` is that of the result, `shapes` are those of the inputs, all with the batch's axis.
    `const` are arrays (weights), `options` everything else.
    """

    kind: str
    inputs: list[int]
    output: int
    shape: tuple[int, ...]
    shapes: list[tuple[int, ...]]
    const: dict[str, Array | None] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """The operations in the order in which they ran; value 0 is the input."""

    ops: list[Op]
    input_shape: tuple[int, ...]
    outputs: list[int]
    output_shapes: list[tuple[int, ...]]
    structure: str
    """How the model returned its outputs: `tensor`, `tuple` or `list`."""


def trace(model: Callable[[Tensor], Any], x: Tensor) -> Graph:
    """Run `model` on x, (`IMAGES`, ...), and return what it did.

    Raises `NotCompilableError` for what cannot be compiled.
    """
    recorder = _Recorder(x)
    before = recording.observer
    with no_grad():
        recording.observer = recorder
        try:
            result = model(x)
        finally:
            recording.observer = before
    structure = type(result).__name__ if isinstance(result, tuple | list) else "tensor"
    outputs = list(result) if structure != "tensor" else [result]
    if structure not in ("tensor", "tuple", "list"):  # a named tuple
        raise NotCompilableError(f"a result of type {structure}")
    places = [recorder.values.get(id(tensor)) for tensor in outputs]
    if not places or None in places:
        raise NotCompilableError("a result that is no tensor made of the input by functions")
    return Graph(
        recorder.ops,
        x.shape,
        [p for p in places if p is not None],
        [tensor.shape for tensor in outputs],
        structure,
    )


class _Recorder:
    """Called with each function that is applied."""

    def __init__(self, x: Tensor) -> None:
        self.values = {id(x): 0}
        self.kept: list[Any] = [x]  # so that no other object gets its id
        self.ops: list[Op] = []

    def __call__(
        self,
        function: type[Function],
        inputs: tuple[Any, ...],
        options: dict[str, Any],
        result: Any,
    ) -> None:
        traced = [v for v in inputs if id(v) in self.values]
        arrays = {id(value.data) for value in self.kept}
        if any(id(option) in arrays for option in options.values()):
            raise NotCompilableError(f"{function.name} with a computed option")
        if not traced:
            return  # of constants: a constant
        describe = _DESCRIBE.get(function)
        if describe is None:
            raise NotCompilableError(function.name)
        if result.dtype != np.float32:
            raise NotCompilableError(f"{function.name} of {result.dtype}")
        op = describe(inputs, options, result)
        op.inputs = [self._value(v) for v in op.inputs]
        op.output = len(self.kept)
        op.shape = result.shape
        for shape in (op.shape, *op.shapes):
            if not shape or math.prod(shape) == 0 or shape[0] % IMAGES:
                raise NotCompilableError(f"{function.name} across the images of a batch")
        self.values[id(result)] = op.output
        self.kept.append(result)
        self.ops.append(op)

    def _value(self, tensor: Any) -> int:
        if id(tensor) not in self.values:
            raise NotCompilableError("an operation of a computed and a constant value")
        return self.values[id(tensor)]


# --- one description per function ---------------------------------------------------------------


def _op(kind: str, traced: tuple[Any, ...], **options: Any) -> Op:
    return Op(kind, list(traced), -1, (), [v.shape for v in traced], options=options)


def _constant(value: Any) -> Array | None:
    if value is None:
        return None
    return value.data if isinstance(value, Tensor) else np.asarray(value)


def _images(name: str, shape: tuple[int, ...]) -> None:
    if shape[0] != IMAGES:
        raise NotCompilableError(f"{name} of something else than a batch of images")


def _conv2d(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
    x, weight, bias = inputs
    _images("conv2d", x.shape)
    op = _op("conv2d", (x,), window=options["window"], groups=options["groups"])
    op.const = {"weight": _constant(weight), "bias": _constant(bias)}
    op.options["activation"] = options["activation"]
    return op


def _linear(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
    x, weight, bias = inputs
    op = _op("linear", (x,), activation=options["activation"])
    op.const = {"weight": _constant(weight), "bias": _constant(bias)}
    return op


def _batch_norm(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
    if options["of_this_batch"]:
        raise NotCompilableError("batch_norm with the statistics of the batch")
    x, weight, bias = inputs
    mean, variance = (np.asarray(options[k], np.float64) for k in ("mean", "variance"))
    scale = _constant(weight) / np.sqrt(variance + options["eps"])
    op = _op("scale_channels", (x,), activation="none")
    op.const = {"scale": scale, "shift": _constant(bias) - mean * scale}
    return op


def _activation(name: str) -> Callable[..., Op]:
    def describe(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
        return _op("activation", inputs[:1], name=name, slope=options.get("negative_slope", 0.0))

    return describe


def _pooling(kind: str) -> Callable[..., Op]:
    def describe(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
        _images(kind, inputs[0].shape)
        return _op(kind, inputs[:1], **options)

    return describe


def _mean(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
    (x,) = inputs
    if x.ndim != 4 or tuple(options["axes"]) != (1, 2):
        raise NotCompilableError("mean over other axes than the rows and columns of images")
    _images("mean", x.shape)
    return _op("mean_of_pixels", inputs)


def _interpolate(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
    _images("interpolate", inputs[0].shape)
    return _op("interpolate", inputs, resize=options["resize"])


def _add(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
    x, y = inputs
    if getattr(x, "shape", None) != result.shape or getattr(y, "shape", None) != result.shape:
        raise NotCompilableError("an addition that broadcasts")
    return _op("add", inputs, activation="none")


def _reshape(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
    return _op("alias", inputs)


def _view(function: type[Function]) -> Callable[..., Op]:
    """A function whose result is a view of its input: found by applying it to an array."""

    def describe(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
        (x,) = inputs
        dense = np.empty(x.shape, np.float32)
        context: Any = _Context()
        view = function.forward(context, dense, **options)
        if not np.shares_memory(view, dense) or view.shape[0] != IMAGES or x.shape[0] != IMAGES:
            raise NotCompilableError(f"{function.name} that is no view of the images of a batch")
        offset = view.__array_interface__["data"][0] - dense.__array_interface__["data"][0]
        if view.strides[0] != dense.strides[0] or not 0 <= offset < dense.strides[0]:
            raise NotCompilableError(f"{function.name} across the images of a batch")
        return _op(
            "copy",
            inputs,
            offset=offset // 4,
            view=view.shape[1:],
            strides=tuple(s // 4 for s in view.strides[1:]),
        )

    return describe


class _Context:
    """Takes whatever a forward pass sets or saves."""

    xp = np

    def save_for_backward(self, *arrays: Any) -> None:
        """Keep nothing."""


def _concatenate(inputs: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> Op:
    axis = options["axis"] % result.ndim
    if axis == 0:
        raise NotCompilableError("concatenate along the batch")
    _images("concatenate", result.shape)
    return _op("concatenate", inputs, axis=axis)


_DESCRIBE: dict[type[Function], Callable[..., Op]] = {
    Conv2dFunction: _conv2d,
    LinearFunction: _linear,
    BatchNormFunction: _batch_norm,
    ReLUFunction: _activation("relu"),
    SigmoidFunction: _activation("sigmoid"),
    TanhFunction: _activation("tanh"),
    LeakyReLUFunction: _activation("leaky_relu"),
    SiLUFunction: _activation("silu"),
    MaxPool2dFunction: _pooling("max_pool2d"),
    AvgPool2dFunction: _pooling("avg_pool2d"),
    Mean: _mean,
    InterpolateFunction: _interpolate,
    Add: _add,
    Reshape: _reshape,
    Permute: _view(Permute),
    BroadcastTo: _view(BroadcastTo),
    GetItem: _view(GetItem),
    Concatenate: _concatenate,
}
