"""Merge operations that one kernel can do at once.

- Batch norm scales and shifts channels: it becomes part of the weight and bias of the convolution
  or linear map before it.
- A convolution adds another value (a residual) to its result.
- An activation is applied by the kernel that makes its input.

Each is possible where the value between the two operations has no other reader.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tinygrad_mask.backends import Array
from tinygrad_mask.compiler.trace import Graph, Op

FUSED_ACTIVATIONS = ("relu", "sigmoid", "tanh")
"""What a convolution or a linear map can end with."""

_TAKES_ACTIVATION = ("conv2d", "linear", "add", "scale_channels")


def fuse(graph: Graph) -> Graph:
    """Return the graph with its operations merged as far as possible."""
    fused = Graph(
        _without_aliases(graph),
        graph.input_shape,
        graph.outputs,
        graph.output_shapes,
        graph.structure,
    )
    fused.outputs = [_alias_root(graph, value) for value in graph.outputs]
    # In this order: a batch norm must be gone before the addition behind it is looked at.
    for merge in (_fold_scale, _fuse_add, _fuse_activation):
        fused.ops = _merged(fused, merge)
    return fused


def _alias_root(graph: Graph, value: int) -> int:
    """The value that holds the elements of a reshaped one."""
    aliases = {op.output: op.inputs[0] for op in graph.ops if op.kind == "alias"}
    while value in aliases:
        value = aliases[value]
    return value


def _without_aliases(graph: Graph) -> list[Op]:
    return [
        replace(op, inputs=[_alias_root(graph, v) for v in op.inputs])
        for op in graph.ops
        if op.kind != "alias"
    ]


def _merged(graph: Graph, merge: Callable[[Op, Op], Op | None]) -> list[Op]:
    """Offer each operation together with one that made its input; keep what `merge` returns."""
    readers = Counter(v for op in graph.ops for v in op.inputs)
    readers.update(graph.outputs)
    done: list[Op] = []
    for op in graph.ops:
        made = {earlier.output: k for k, earlier in enumerate(done)}
        for value in dict.fromkeys(op.inputs):
            if value not in made or readers[value] != 1:
                continue
            merged = merge(done[made[value]], op)
            if merged is not None:
                # Where the later one stood: all that it reads is there by then.
                del done[made[value]]
                op = merged
                break
        done.append(op)
    return done


def _fold_scale(before: Op, op: Op) -> Op | None:
    """A scale and shift of channels behind a convolution or linear map without activation."""
    if op.kind != "scale_channels" or before.kind not in ("conv2d", "linear"):
        return None
    scale, shift = op.const["scale"], op.const["shift"]
    weight, bias = before.const["weight"], before.const["bias"]
    assert scale is not None
    assert shift is not None
    assert weight is not None
    if before.options["activation"] != "none" or weight.shape[-1] != len(scale):
        return None
    folded = shift if bias is None else shift + bias * scale
    return replace(
        before,
        output=op.output,
        shape=op.shape,
        const={"weight": weight * scale, "bias": folded},
    )


def _fuse_add(before: Op, op: Op) -> Op | None:
    """An addition of another value to the result of a convolution."""
    if op.kind != "add" or before.kind != "conv2d" or len(before.inputs) > 1:
        return None
    depthwise = before.options["groups"] > 1
    if depthwise or before.options["activation"] != "none" or before.shape != op.shape:
        return None
    (other,) = [v for v in op.inputs if v != before.output]
    return replace(
        before,
        inputs=[*before.inputs, other],
        shapes=[*before.shapes, op.shape],
        output=op.output,
        shape=op.shape,
    )


def _fuse_activation(before: Op, op: Op) -> Op | None:
    """An activation behind an operation whose kernel can apply it."""
    if op.kind != "activation" or before.kind not in _TAKES_ACTIVATION:
        return None
    if op.options["name"] not in FUSED_ACTIVATIONS or before.options["activation"] != "none":
        return None
    return replace(
        before,
        output=op.output,
        shape=op.shape,
        options={**before.options, "activation": op.options["name"]},
    )


def as_float32(value: Array | None) -> Array | None:
    """Return a weight as the kernels take it: float32, dense, a copy of its own."""
    return None if value is None else np.array(value, np.float32, order="C")
