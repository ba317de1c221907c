"""A fused graph as a `Program` of the compiled kernels, see kernels/cpu/program.h."""

from typing import Any

from tinygrad_mask.backends import Array
from tinygrad_mask.compiler.fusion import as_float32
from tinygrad_mask.compiler.memory import elements, plan_memory
from tinygrad_mask.compiler.trace import Graph, NotCompilableError, Op


def build_program(graph: Graph, kernels: Any) -> Any:
    """Return the program of a graph. Weights are copied: the model may change."""
    places, arena = plan_memory(graph)
    if 0 in graph.outputs or len(set(graph.outputs)) != len(graph.outputs):
        raise NotCompilableError("a model that returns its input, or a value twice")
    where: dict[int, tuple[str, int]] = {0: ("input", 0)}
    where.update({value: ("arena", at) for value, at in places.items()})
    where.update({value: ("output", k) for k, value in enumerate(graph.outputs)})
    sizes = [elements(shape) for shape in graph.output_shapes]
    program = kernels.Program(elements(graph.input_shape), arena, sizes)
    for op in graph.ops:
        _STEPS[op.kind](program, op, [where[v] for v in op.inputs], where[op.output])
    return program


_Place = tuple[str, int]


def _weights(op: Op, *names: str) -> list[Array | None]:
    return [as_float32(op.const[name]) for name in names]


def _conv2d(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    addend = inputs[1] if len(inputs) > 1 else None
    weight, bias = _weights(op, "weight", "bias")
    _, stride, padding, dilation = op.options["window"]
    rest = (stride, padding, dilation, op.options["groups"], op.options["activation"])
    program.conv2d(inputs[0], op.shapes[0][1:], weight, bias, addend, *rest, output)


def _linear(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    weight, bias = _weights(op, "weight", "bias")
    assert weight is not None
    rows = elements(op.shapes[0]) // weight.shape[0]
    if rows * weight.shape[0] != elements(op.shapes[0]):
        raise NotCompilableError("linear across the images of a batch")
    program.linear(inputs[0], rows, weight, bias, op.options["activation"], output)


def _scale_channels(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    scale, shift = _weights(op, "scale", "shift")
    rows = elements(op.shape) // op.shape[-1]
    program.scale_channels(inputs[0], rows, scale, shift, op.options["activation"], output)


def _add(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    first, second = inputs[0], inputs[-1]
    program.add(first, second, elements(op.shape), op.options["activation"], output)


def _activation(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    name, slope = op.options["name"], op.options["slope"]
    program.activation(name, slope, inputs[0], elements(op.shape), output)


def _max_pool2d(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    program.max_pool2d(inputs[0], op.shapes[0][1:], *op.options["window"], output)


def _avg_pool2d(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    window, padded = op.options["window"], op.options["count_include_pad"]
    program.avg_pool2d(inputs[0], op.shapes[0][1:], *window, padded, output)


def _interpolate(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    program.interpolate(inputs[0], op.shapes[0][1:], *op.options["resize"], output)


def _mean_of_pixels(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    _, height, width, channels = op.shapes[0]
    program.mean_of_pixels(inputs[0], height * width, channels, output)


def _copy(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    offset, view, strides = (op.options[k] for k in ("offset", "view", "strides"))
    program.copy(inputs[0], elements(op.shapes[0]), offset, view, strides, output)


def _concatenate(program: Any, op: Op, inputs: list[_Place], output: _Place) -> None:
    axis, step = op.options["axis"], 1
    for side in op.shape[axis:]:
        step *= side
    blocks, offset = elements(op.shape) // step, 0
    for place, shape in zip(inputs, op.shapes, strict=True):
        size = elements(shape) // blocks
        program.copy_blocks(place, blocks, size, output, offset, step)
        offset += size


_STEPS = {
    "conv2d": _conv2d,
    "linear": _linear,
    "scale_channels": _scale_channels,
    "add": _add,
    "activation": _activation,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "interpolate": _interpolate,
    "mean_of_pixels": _mean_of_pixels,
    "copy": _copy,
    "concatenate": _concatenate,
}
