"""A classifier as an ONNX graph, for runtimes that know nothing of this framework.

The graph's input `faces` is uint8 (N, size, size, 3), RGB, as `crop_face` cuts them; its output
`probabilities` is float32 (N, 3) in the order of `LABELS`. Scaling, the mirror image where the
classifier asks about it, and the temperature are part of it. Its metadata are those of the
classifier's file.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import nn
from tinygrad_mask.functions.convolution import as_pair, make_window
from tinygrad_mask.masks.classifier.network.blocks import Residual
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS

OPSET = 17
"""The version of the operators; of 2022, so that older runtimes read it."""

_IR_VERSION = 8  # the file format that came with these operators


def to_onnx(classifier: Classifier) -> bytes:
    """Return the content of an ONNX file.

    Raises `UsageError` where the package onnx is not installed, and for a model with a layer that
    has no translation here.
    """
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            "exporting needs the package onnx: pip install 'tinygrad_mask[onnx]'"
        ) from error
    size = classifier.crops.size
    graph = _Graph(onnx.helper)
    faces = graph.node("Cast", "faces", to=onnx.TensorProto.FLOAT)
    scaled = graph.node("Mul", faces, graph.constant(classifier.scale))
    scaled = graph.node("Add", scaled, graph.constant(classifier.shift))
    value = _Value(scaled, "NHWC", size, size)
    if classifier.mirrored:
        # The mirror images follow the batch itself, and the scores of both halves are averaged.
        ends = [graph.constant(np.array([k])) for k in (-1, np.iinfo(np.int64).min, 2, -1)]
        mirrored = graph.node("Slice", scaled, *ends)
        value = replace(value, name=graph.node("Concat", scaled, mirrored, axis=0))
    scores = _translate(graph, classifier.model, value).name
    if classifier.mirrored:
        one, other = graph.nodes("Split", 2, scores, axis=0)
        half = graph.constant(np.array(0.5, np.float32))
        scores = graph.node("Mul", graph.node("Add", one, other), half)
    temperature = graph.constant(np.array(classifier.temperature, np.float32))
    graph.node("Softmax", graph.node("Div", scores, temperature), result="probabilities", axis=-1)

    info = onnx.helper.make_tensor_value_info
    faces_info = info("faces", onnx.TensorProto.UINT8, ["N", size, size, 3])
    result_info = info("probabilities", onnx.TensorProto.FLOAT, ["N", len(LABELS)])
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.made, "tinygrad_mask", [faces_info], [result_info], graph.constants
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="tinygrad_mask",
        doc_string=(__doc__ or "").strip(),
    )
    onnx.helper.set_model_props(model, classifier.metadata())
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@dataclass(frozen=True)
class _Value:
    """A result in the graph: its name, how its axes lie, and for images their height and width."""

    name: str
    layout: Literal["NHWC", "NCHW", "NC"]
    height: int = 1
    width: int = 1


class _Graph:
    """The nodes and constants made so far; every value has a name of its own."""

    def __init__(self, helper: Any) -> None:
        self.helper = helper
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

    def laid_out(self, value: _Value, layout: Literal["NHWC", "NCHW"]) -> _Value:
        """Return an image with its axes in this order."""
        if value.layout == layout:
            return value
        order = [0, 3, 1, 2] if layout == "NCHW" else [0, 2, 3, 1]
        return replace(value, name=self.node("Transpose", value.name, perm=order), layout=layout)


def _translate(graph: _Graph, module: nn.Module, value: _Value) -> _Value:
    """Add what a module does to a value."""
    translation = _TRANSLATIONS.get(type(module))
    if translation is None:
        raise UsageError(f"a layer {type(module).__name__} cannot be exported to ONNX")
    return translation(graph, module, value)


def _sequential(graph: _Graph, module: nn.Sequential, value: _Value) -> _Value:
    for layer in module:
        value = _translate(graph, layer, value)
    return value


def _residual(graph: _Graph, module: Residual, value: _Value) -> _Value:
    value = graph.laid_out(value, "NCHW")
    main = _translate(graph, module.main, value)
    beside = value if module.short_cut is None else _translate(graph, module.short_cut, value)
    total = graph.node("Add", main.name, beside.name)
    return replace(main, name=graph.node("Relu", total))


def _conv2d(graph: _Graph, module: nn.Conv2d, value: _Value) -> _Value:
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
    return _Value(name, "NCHW", rows, columns)


def _pooling(operator: str) -> Callable[[_Graph, Any, _Value], _Value]:
    def translate(graph: _Graph, module: nn.MaxPool2d | nn.AvgPool2d, value: _Value) -> _Value:
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
        return _Value(name, "NCHW", *window.output_size(value.height, value.width))

    return translate


def _pads(padding: tuple[tuple[int, int], tuple[int, int]]) -> list[int]:
    """((top, bottom), (left, right)) as ONNX has it: top, left, bottom, right."""
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]


def _global_avg_pool2d(graph: _Graph, module: nn.Module, value: _Value) -> _Value:
    value = graph.laid_out(value, "NCHW")
    pooled = graph.node("GlobalAveragePool", value.name)
    return _Value(graph.node("Flatten", pooled, axis=1), "NC")


def _flatten(graph: _Graph, module: nn.Flatten, value: _Value) -> _Value:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise UsageError("a Flatten of some of the axes cannot be exported to ONNX")
    if value.layout == "NC":
        return value
    # The features of a pixel lie together, as the weights behind expect.
    name = graph.laid_out(value, "NHWC").name
    return _Value(graph.node("Flatten", name, axis=1), "NC")


def _linear(graph: _Graph, module: nn.Linear, value: _Value) -> _Value:
    inputs = [value.name, graph.constant(module.weight.numpy())]
    if module.bias is not None:
        inputs.append(graph.constant(module.bias.numpy()))
    return replace(value, name=graph.node("Gemm", *inputs))


def _batch_norm(graph: _Graph, module: nn.BatchNorm, value: _Value) -> _Value:
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


def _elementwise(operator: str) -> Callable[[_Graph, Any, _Value], _Value]:
    return lambda graph, module, value: replace(value, name=graph.node(operator, value.name))


def _dropout(graph: _Graph, module: nn.Module, value: _Value) -> _Value:
    return value  # there is none in evaluation


_TRANSLATIONS: dict[type[nn.Module], Callable[[_Graph, Any, _Value], _Value]] = {
    nn.Sequential: _sequential,
    Residual: _residual,
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
