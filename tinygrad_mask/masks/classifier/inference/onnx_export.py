"""A classifier as an ONNX graph, for runtimes that know nothing of this framework.

The graph's input `faces` is uint8 (N, size, size, 3), RGB, as `crop_face` cuts them; its output
`probabilities` is float32 (N, 3) in the order of `LABELS`. Scaling, the mirror image where the
classifier asks about it, and the temperature are part of it. Its metadata are those of the
classifier's file.
"""

from dataclasses import replace

import numpy as np

from tinygrad_mask.masks.classifier.network.blocks import Residual
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.onnx_graph import OnnxGraph, OnnxValue, translate


def to_onnx(classifier: Classifier) -> bytes:
    """Return the content of an ONNX file.

    Raises `UsageError` where the package onnx is not installed, and for a model with a layer that
    has no translation here.
    """
    graph = OnnxGraph({Residual: _residual})
    types, size = graph.onnx.TensorProto, classifier.crops.size
    faces = graph.node("Cast", "faces", to=types.FLOAT)
    scaled = graph.node("Mul", faces, graph.constant(classifier.scale))
    scaled = graph.node("Add", scaled, graph.constant(classifier.shift))
    value = OnnxValue(scaled, "NHWC", size, size)
    if classifier.mirrored:
        # The mirror images follow the batch itself, and the scores of both halves are averaged.
        ends = [graph.constant(np.array([k])) for k in (-1, np.iinfo(np.int64).min, 2, -1)]
        mirrored = graph.node("Slice", scaled, *ends)
        value = replace(value, name=graph.node("Concat", scaled, mirrored, axis=0))
    scores = translate(graph, classifier.model, value).name
    if classifier.mirrored:
        one, other = graph.nodes("Split", 2, scores, axis=0)
        half = graph.constant(np.array(0.5, np.float32))
        scores = graph.node("Mul", graph.node("Add", one, other), half)
    temperature = graph.constant(np.array(classifier.temperature, np.float32))
    graph.node("Softmax", graph.node("Div", scores, temperature), result="probabilities", axis=-1)
    return graph.model(
        {"faces": (types.UINT8, ["N", size, size, 3])},
        {"probabilities": (types.FLOAT, ["N", len(LABELS)])},
        classifier.metadata(),
        __doc__ or "",
    )


def _residual(graph: OnnxGraph, module: Residual, value: OnnxValue) -> OnnxValue:
    value = graph.laid_out(value, "NCHW")
    main = translate(graph, module.main, value)
    beside = value if module.short_cut is None else translate(graph, module.short_cut, value)
    total = graph.node("Add", main.name, beside.name)
    return replace(main, name=graph.node("Relu", total))
