"""The operations of a training step of the reference network, one by one, and of other primitives.

The network: images of 64 x 64 x 3, three times a 3x3 convolution with ReLU (32, 64 and 128 outputs)
and 2x2 max-pooling, then dense layers of 128 outputs, with ReLU, and of 3; cross-entropy; SGD with
momentum. An operation is a call of one kernel of `Backend`, with arrays of its own.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from tinygrad_mask.backends.gpu.backend import GpuBackend
from tinygrad_mask.backends.interface import Array, Window

BATCH = 32
SIDE = 64
CHANNELS = (3, 32, 64, 128)
DENSE = (8 * 8 * 128, 128, 3)

_BYTES = 4  # of a float32

Shapes: TypeAlias = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Product:
    """An operation as a product of matrices.

    Args:
        rows: Rows of the result.
        columns: Columns of the result.
        left_bytes: What the left operand's elements take in memory, each where it stands in the
            matrix: one that stands there nine times counts nine times, padding does not.
        right_bytes: Likewise for the right operand.
    """

    rows: int
    columns: int
    left_bytes: int
    right_bytes: int

    def tiles_minimum(self, tile_rows: int, tile_columns: int) -> int:
        """Bytes that tiles read if each reads every element of its rows and columns once."""
        return self.left_bytes * math.ceil(self.columns / tile_columns) + (
            self.right_bytes * math.ceil(self.rows / tile_rows)
        )


@dataclass(frozen=True)
class Operation:
    """A call of a kernel of `Backend`.

    Args:
        layer: The layer, "conv2".
        direction: "forward", "grad_input", "grad_weight", ...
        shapes: The arrays that it gets, by name: float32, but for `taps` and `target`.
        call: What to call with a backend and these arrays; returns the results.
        updates: Names of the arrays that it also writes into.
        flops: Operations of the definition, a product and its addition as two; None where the
            definition does not say how to do it.
        product: The matrix product that it is, if it is one.
        in_step: Whether a training step has it.
        per_image: Whether it does the same for each image of the batch.
    """

    layer: str
    direction: str
    shapes: Shapes
    call: Callable[[GpuBackend, Mapping[str, Array]], Any]
    updates: tuple[str, ...] = ()
    flops: int | None = None
    product: Product | None = None
    in_step: bool = field(default=True, kw_only=True)
    per_image: bool = field(default=True, kw_only=True)

    @property
    def name(self) -> str:
        """Layer and direction."""
        return f"{self.layer} {self.direction}"

    def arrays(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return arrays to call it with."""
        return {name: _random(rng, name, shape) for name, shape in self.shapes.items()}

    def zeros(self) -> dict[str, Array]:
        """Return arrays of zeros to call it with."""
        return {
            name: np.zeros(shape, _DTYPES.get(name, np.float32))
            for name, shape in self.shapes.items()
        }


_DTYPES = {"taps": np.uint8, "target": np.int64}


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if name == "taps":
        return rng.integers(0, 4, shape, np.uint8)
    if name == "target":
        return rng.integers(0, DENSE[-1], shape)
    return rng.standard_normal(shape, np.float32)


# --- the reference network ------------------------------------------------------------------------


def reference_network(batch: int = BATCH) -> Iterator[Operation]:
    """Yield the operations of a training step, layer by layer.

    The gradient of the images, which a training step has no need of, is there too.
    """
    parameters: list[tuple[int, ...]] = []
    side = SIDE
    for k, (c, o) in enumerate(itertools.pairwise(CHANNELS), 1):
        yield from _convolution(f"conv{k}", batch, side, c, o)
        yield from _max_pooling(f"pool{k}", batch, side, o)
        parameters += [(3, 3, c, o), (o,)]
        side //= 2
    for k, (inputs, outputs) in enumerate(itertools.pairwise(DENSE), 1):
        yield from _dense(f"dense{k}", batch, inputs, outputs, relu=outputs != DENSE[-1])
        parameters += [(inputs, outputs), (outputs,)]
    yield Operation(
        "loss",
        "both ways",
        {"logits": (batch, DENSE[-1]), "target": (batch,)},
        lambda backend, a: backend.cross_entropy(a["logits"], a["target"], None, 0.0),
        per_image=False,
    )
    yield _sgd(parameters)


def _convolution(layer: str, n: int, side: int, c: int, o: int) -> Iterator[Operation]:
    """A 3x3 convolution with ReLU that keeps the size, and its gradients."""
    window = Window((3, 3), padding=((1, 1), (1, 1)))
    image, weight, result = (n, side, side, c), (3, 3, c, o), (n, side, side, o)
    pairs = n * (3 * side - 2) ** 2  # of a pixel and a tap that does not meet padding
    weight_bytes, result_bytes = _BYTES * 9 * c * o, _BYTES * n * side * side * o
    flops = 2 * n * side * side * 9 * c * o
    gate = 2  # each gradient comes with the output of ReLU
    yield Operation(
        layer,
        "forward",
        {"x": image, "weight": weight, "bias": (o,)},
        lambda backend, a: backend.conv2d(a["x"], a["weight"], a["bias"], window, 1, "relu"),
        flops=flops,
        product=Product(n * side * side, o, _BYTES * pairs * c, weight_bytes),
    )
    yield Operation(
        layer,
        "grad_input",
        {"grad_output": result, "weight": weight, "y": result},
        lambda backend, a: backend.conv2d_grad_input(
            a["grad_output"], a["weight"], image, window, 1, "relu", a["y"]
        ),
        flops=flops,
        product=Product(n * side * side, c, gate * _BYTES * pairs * o, weight_bytes),
        in_step=c != CHANNELS[0],
    )
    yield Operation(
        layer,
        "grad_weight",
        {"grad_output": result, "x": image, "y": result},
        lambda backend, a: backend.conv2d_grad_weight(
            a["grad_output"], a["x"], weight, window, 1, "relu", a["y"]
        ),
        flops=flops,
        product=Product(9 * c, o, _BYTES * pairs * c, gate * result_bytes),
    )


def _max_pooling(
    layer: str, n: int, side: int, c: int, window: Window | None = None, *, in_step: bool = True
) -> Iterator[Operation]:
    window = window or Window((2, 2), (2, 2))
    image, result = (n, side, side, c), (n, *window.output_size(side, side), c)
    yield Operation(
        layer,
        "forward",
        {"x": image},
        lambda backend, a: backend.max_pool2d(a["x"], window),
        in_step=in_step,
    )
    yield Operation(
        layer,
        "grad_input",
        {"grad_output": result, "taps": result},
        lambda backend, a: backend.max_pool2d_grad(a["grad_output"], a["taps"], image, window),
        in_step=in_step,
    )


def _dense(layer: str, n: int, inputs: int, outputs: int, *, relu: bool) -> Iterator[Operation]:
    activation: Any = "relu" if relu else "none"
    x, weight, result = (n, inputs), (inputs, outputs), (n, outputs)
    x_bytes, weight_bytes, result_bytes = (_BYTES * math.prod(s) for s in (x, weight, result))
    flops = 2 * n * inputs * outputs
    grads: Shapes = {"grad_output": result, **({"y": result} if relu else {})}
    grad_bytes = (1 + relu) * result_bytes
    unused = {"x": np.empty(x, np.float32), "weight": np.empty(weight, np.float32)}

    def gradients(
        needed: tuple[bool, bool, bool],
    ) -> Callable[[GpuBackend, Mapping[str, Array]], Any]:
        def call(backend: GpuBackend, arrays: Mapping[str, Array]) -> Any:
            a = {**unused, **arrays}
            return backend.linear_grad(
                a["grad_output"], a["x"], a["weight"], activation, a.get("y"), needed
            )

        return call

    yield Operation(
        layer,
        "forward",
        {"x": x, "weight": weight, "bias": (outputs,)},
        lambda backend, a: backend.linear(a["x"], a["weight"], a["bias"], activation),
        flops=flops,
        product=Product(n, outputs, x_bytes, weight_bytes),
    )
    yield Operation(
        layer,
        "grad_input",
        {**grads, "weight": weight},
        gradients((True, False, False)),
        flops=flops,
        product=Product(n, inputs, grad_bytes, weight_bytes),
    )
    yield Operation(
        layer,
        "grad_weight",
        {**grads, "x": x},
        gradients((False, True, True)),
        flops=flops,
        product=Product(inputs, outputs, x_bytes, grad_bytes),
    )


def _numbered(name: str, shapes: list[tuple[int, ...]]) -> Shapes:
    return {f"{name}{k}": shape for k, shape in enumerate(shapes)}


def _of(name: str, a: Mapping[str, Array]) -> list[Array]:
    """The numbered arrays of a name."""
    return [array for key, array in a.items() if key.rstrip("0123456789") == name]


def _sgd(parameters: list[tuple[int, ...]]) -> Operation:
    shapes: Shapes = {}
    for name in ("parameter", "gradient", "velocity"):
        shapes |= _numbered(name, parameters)
    return Operation(
        "sgd",
        "update",
        shapes,
        lambda backend, a: backend.sgd_update(
            _of("parameter", a),
            _of("gradient", a),
            _of("velocity", a),
            lr=0.1,
            momentum=0.9,
            nesterov=False,
            weight_decay=1e-4,
        ),
        updates=tuple(name for name in shapes if not name.startswith("gradient")),
        per_image=False,
    )


# --- other primitives -----------------------------------------------------------------------------


def other_primitives(batch: int = BATCH) -> Iterator[Operation]:
    """Yield operations on arrays that the reference network does not have."""
    side, c = SIDE // 2, CHANNELS[2]
    image = (batch, side, side, c)
    yield from _activation("sigmoid", image, GpuBackend.sigmoid, GpuBackend.sigmoid_grad)
    yield from _activation("silu", image, GpuBackend.silu, GpuBackend.silu_grad)
    overlapping = Window((3, 3), (2, 2), ((1, 1), (1, 1)))
    yield from _max_pooling("max_pool 3x3", batch, side, c, overlapping, in_step=False)
    window = Window((2, 2), (2, 2))
    yield Operation(
        "avg_pool 2x2",
        "forward",
        {"x": image},
        lambda backend, a: backend.avg_pool2d(a["x"], window, True),
        in_step=False,
    )
    yield Operation(
        "avg_pool 2x2",
        "grad_input",
        {"grad_output": (batch, side // 2, side // 2, c)},
        lambda backend, a: backend.avg_pool2d_grad(a["grad_output"], image, window, True),
        in_step=False,
    )
    yield from _depthwise(image)
    yield from _batch_norm(image)
    yield _adam([(3, 3, c, c), (c,)])


def _activation(
    name: str,
    image: tuple[int, ...],
    forward: Callable[[GpuBackend, Array], Array],
    backward: Callable[[GpuBackend, Array, Array], Array],
) -> Iterator[Operation]:
    yield Operation(
        name, "forward", {"x": image}, lambda backend, a: forward(backend, a["x"]), in_step=False
    )
    yield Operation(
        name,
        "grad_input",
        {"grad_output": image, "kept": image},
        lambda backend, a: backward(backend, a["grad_output"], a["kept"]),
        in_step=False,
    )


def _depthwise(image: tuple[int, ...]) -> Iterator[Operation]:
    """A 3x3 convolution of each channel by itself, with ReLU, and its gradients."""
    n, side, _, c = image
    window, weight = Window((3, 3), padding=((1, 1), (1, 1))), (3, 3, 1, c)
    flops = 2 * 9 * n * side * side * c
    yield Operation(
        "depthwise",
        "forward",
        {"x": image, "weight": weight, "bias": (c,)},
        lambda backend, a: backend.conv2d(a["x"], a["weight"], a["bias"], window, c, "relu"),
        flops=flops,
        in_step=False,
    )
    yield Operation(
        "depthwise",
        "grad_input",
        {"grad_output": image, "weight": weight, "y": image},
        lambda backend, a: backend.conv2d_grad_input(
            a["grad_output"], a["weight"], image, window, c, "relu", a["y"]
        ),
        flops=flops,
        in_step=False,
    )
    yield Operation(
        "depthwise",
        "grad_weight",
        {"grad_output": image, "x": image, "y": image},
        lambda backend, a: backend.conv2d_grad_weight(
            a["grad_output"], a["x"], weight, window, c, "relu", a["y"]
        ),
        flops=flops,
        in_step=False,
    )


def _batch_norm(image: tuple[int, ...]) -> Iterator[Operation]:
    channels = image[-1:]
    kept = {"weight": channels, "mean": channels, "inverse_std": channels}
    yield Operation(
        "batch_norm",
        "statistics",
        {"x": image},
        lambda backend, a: backend.batch_norm_statistics(a["x"]),
        in_step=False,
    )
    yield Operation(
        "batch_norm",
        "forward",
        {"x": image, "bias": channels, **kept},
        lambda backend, a: backend.batch_norm(
            a["x"], a["weight"], a["bias"], a["mean"], a["inverse_std"]
        ),
        in_step=False,
    )
    yield Operation(
        "batch_norm",
        "gradients",
        {"grad_output": image, "x": image, **kept},
        lambda backend, a: backend.batch_norm_grad(
            a["grad_output"], a["x"], a["weight"], a["mean"], a["inverse_std"], True
        ),
        in_step=False,
    )


def _adam(parameters: list[tuple[int, ...]]) -> Operation:
    shapes: Shapes = {}
    for name in ("parameter", "gradient", "first", "second"):
        shapes |= _numbered(name, parameters)
    return Operation(
        "adam",
        "update",
        shapes,
        lambda backend, a: backend.adam_update(
            _of("parameter", a),
            _of("gradient", a),
            _of("first", a),
            _of("second", a),
            steps=[1] * len(parameters),
            lr=1e-3,
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=0.0,
            decoupled=False,
        ),
        updates=tuple(name for name in shapes if not name.startswith("gradient")),
        per_image=False,
        in_step=False,
    )
