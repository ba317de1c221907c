"""An ONNX graph built node by node, and what the layers of this framework are in ONNX."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import nn
from tinygrad_mask.functions.convolution import as_pair, make_window
from tinygrad_mask.masks.errors import UsageError

OPSET = 17
"""The version of the operators; of 2022, so that older runtimes read it."""

_IR_VERSION = 8  # the file format that came with these operators


@dataclass(frozen=True)
class OnnxValue:
    """A result in the graph: its name, how its axes lie, and for images their height and width."""

    name: str
    layout: Literal["NHWC", "NCHW", "NC"]
    height: int = 1
    width: int = 1


class OnnxGraph:
    """The nodes and constants made so far; every value has a name of its own.

    `translations` add to those that are here, by the type of the layer. Raises `UsageError` if the
    package onnx is not installed.
    """

    def __init__(self, translations: "Mapping[type[nn.Module], Translation] | None" = None) -> None:
        try:
            import onnx
        except ImportError as error:
            raise UsageError(
                "exporting needs the package onnx: pip install 'tinygrad_mask[onnx]'"
            ) from error
        self.onnx = onnx
        self.helper = onnx.helper
        self.translations = {**_TRANSLATIONS, **(translations or {})}
        self.made: list[Any] = []
        self.constants: list[Any] = []

    def node(
        self, operator: str, *inputs: str, result: str | None = None, **attributes: Any
    ) -> str:
        """Add a node and return the name of its only result, which may be given."""
        return self.nodes(operator, [result or self._fresh(operator)], *inputs, **attributes)[0]

    def nodes(
        self, operator: str, results: list[str] | int, *inputs: str, **attributes: Any
    ) -> list[str]:
        """Add a node and return the names of its results, which are given or as many as this."""
        if isinstance(results, int):
            results = [f"{self._fresh(operator)}_{k}" for k in range(results)]
        self.made.append(self.helper.make_node(operator, inputs, results, **attributes))
        return results

    def _fresh(self, operator: str) -> str:
        return f"{operator.lower()}_{len(self.made)}"

    def constant(self, array: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self.constants)}"
        dtype = self.helper.np_dtype_to_tensor_dtype(array.dtype)
        content = np.ascontiguousarray(array).tobytes()
        self.constants.append(self.helper.make_tensor(name, dtype, array.shape, content, raw=True))
        return name

    def model(
        self,
        inputs: Mapping[str, tuple[int, Sequence[int | str]]],
        results: Mapping[str, tuple[int, Sequence[int | str]]],
        metadata: Mapping[str, str],
        description: str,
    ) -> bytes:
        """Return the content of an ONNX file; inputs and results by name, with type and shape."""
        ins, outs = (
            [self.helper.make_tensor_value_info(name, *of) for name, of in values.items()]
            for values in (inputs, results)
        )
        model = self.helper.make_model(
            self.helper.make_graph(self.made, "tinygrad_mask", ins, outs, self.constants),
            opset_imports=[self.helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="tinygrad_mask",
            doc_string=description.strip(),
        )
        self.helper.set_model_props(model, dict(metadata))
        self.onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def laid_out(self, value: OnnxValue, layout: Literal["NHWC", "NCHW"]) -> OnnxValue:
        """Return an image with its axes in this order."""
        if value.layout == layout:
            return value
        order = [0, 3, 1, 2] if layout == "NCHW" else [0, 2, 3, 1]
        return replace(value, name=self.node("Transpose", value.name, perm=order), layout=layout)


Translation = Callable[["OnnxGraph", Any, OnnxValue], OnnxValue]
"""Adds what a layer does to a value to a graph, and returns the result."""


def translate(graph: OnnxGraph, module: nn.Module, value: OnnxValue) -> OnnxValue:
    """Add what a module does to a value; raises `UsageError` for a layer without translation."""
    translation = graph.translations.get(type(module))
    if translation is None:
        raise UsageError(f"a layer {type(module).__name__} cannot be exported to ONNX")
    return translation(graph, module, value)


def _sequential(graph: OnnxGraph, module: nn.Sequential, value: OnnxValue) -> OnnxValue:
    for layer in module:
        value = translate(graph, layer, value)
    return value


def _conv2d(graph: OnnxGraph, module: nn.Conv2d, value: OnnxValue) -> OnnxValue:
    value = graph.laid_out(value, "NCHW")
    weight = module.weight.numpy()
    height, width = weight.shape[:2]
    window = make_window(
        "Conv2d",
        (value.height, value.width),
        (height, width),
        module.stride,
        module.padding,
        module.dilation,
    )
    inputs = [value.name, graph.constant(weight.transpose(3, 2, 0, 1))]
    if module.bias is not None:
        inputs.append(graph.constant(module.bias.numpy()))
    rows, columns = window.output_size(value.height, value.width)
    name = graph.node(
        "Conv",
        *inputs,
        group=module.groups,
        strides=as_pair("Conv2d", "stride", module.stride),
        dilations=as_pair("Conv2d", "dilation", module.dilation),
        pads=_pads(window.padding),
    )
    return OnnxValue(name, "NCHW", rows, columns)


def _pooling(operator: str) -> Translation:
    def translation(
        graph: OnnxGraph, module: nn.MaxPool2d | nn.AvgPool2d, value: OnnxValue
    ) -> OnnxValue:
        others = [getattr(module, k, None) for k in ("ceil_mode", "divisor_override")]
        if any(others) or getattr(module, "dilation", 1) != 1:
            raise UsageError(
                f"{module.describe()}: pooling with dilation, ceil_mode or divisor_override cannot "
                "be exported to ONNX"
            )
        value = graph.laid_out(value, "NCHW")
        size = as_pair(operator, "kernel_size", module.kernel_size)
        stride = size if module.stride is None else as_pair(operator, "stride", module.stride)
        window = make_window(operator, (value.height, value.width), size, stride, module.padding)
        more: dict[str, Any] = (
            {"count_include_pad": int(module.count_include_pad)}
            if isinstance(module, nn.AvgPool2d)
            else {}
        )
        name = graph.node(
            operator,
            value.name,
            kernel_shape=size,
            strides=stride,
            pads=_pads(window.padding),
            **more,
        )
        return OnnxValue(name, "NCHW", *window.output_size(value.height, value.width))

    return translation


def _pads(padding: tuple[tuple[int, int], tuple[int, int]]) -> list[int]:
    """((top, bottom), (left, right)) as ONNX has it: top, left, bottom, right."""
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]


def _global_avg_pool2d(graph: OnnxGraph, module: nn.Module, value: OnnxValue) -> OnnxValue:
    value = graph.laid_out(value, "NCHW")
    pooled = graph.node("GlobalAveragePool", value.name)
    return OnnxValue(graph.node("Flatten", pooled, axis=1), "NC")


def _flatten(graph: OnnxGraph, module: nn.Flatten, value: OnnxValue) -> OnnxValue:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise UsageError("a Flatten of some of the axes cannot be exported to ONNX")
    if value.layout == "NC":
        return value
    # The features of a pixel lie together, as the weights behind expect.
    name = graph.laid_out(value, "NHWC").name
    return OnnxValue(graph.node("Flatten", name, axis=1), "NC")


def _linear(graph: OnnxGraph, module: nn.Linear, value: OnnxValue) -> OnnxValue:
    inputs = [value.name, graph.constant(module.weight.numpy())]
    if module.bias is not None:
        inputs.append(graph.constant(module.bias.numpy()))
    return replace(value, name=graph.node("Gemm", *inputs))


def _batch_norm(graph: OnnxGraph, module: nn.BatchNorm, value: OnnxValue) -> OnnxValue:
    if value.layout != "NC":
        value = graph.laid_out(value, "NCHW")
    if module.running_mean is None or module.running_var is None:
        raise UsageError("a BatchNorm without running statistics cannot be exported to ONNX")
    mean, variance = module.running_mean.numpy(), module.running_var.numpy()
    weight = np.ones_like(mean) if module.weight is None else module.weight.numpy()
    bias = np.zeros_like(mean) if module.bias is None else module.bias.numpy()
    constants = [graph.constant(array) for array in (weight, bias, mean, variance)]
    name = graph.node("BatchNormalization", value.name, *constants, epsilon=module.eps)
    return replace(value, name=name)


def _elementwise(operator: str) -> Translation:
    return lambda graph, module, value: replace(value, name=graph.node(operator, value.name))


def _dropout(graph: OnnxGraph, module: nn.Module, value: OnnxValue) -> OnnxValue:
    return value  # there is none in evaluation


_TRANSLATIONS: dict[type[nn.Module], Translation] = {
    nn.Sequential: _sequential,
    nn.Conv2d: _conv2d,
    nn.MaxPool2d: _pooling("MaxPool"),
    nn.AvgPool2d: _pooling("AveragePool"),
    nn.GlobalAvgPool2d: _global_avg_pool2d,
    nn.Flatten: _flatten,
    nn.Linear: _linear,
    nn.BatchNorm: _batch_norm,
    nn.ReLU: _elementwise("Relu"),
    nn.Sigmoid: _elementwise("Sigmoid"),
    nn.Tanh: _elementwise("Tanh"),
    nn.Dropout: _dropout,
}
