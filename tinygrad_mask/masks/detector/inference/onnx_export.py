"""A detector as an ONNX graph with its decoding, for runtimes that know nothing of this framework.

The graph is one look at a photograph: `Detector.find` resizes the photograph for each of
`InputSettings.looks`, and joins what they find. The input `image` is uint8 (H, W, 3), RGB, of any
size; the input `least_score` is the score, float32 (), down to which faces are wanted. The outputs,
most certain first, are `boxes`, float32 (N, 4), x1, y1, x2, y2 in pixels of `image`, not clipped to
it; `scores` (N,), the probabilities of a face; and `labels` (N, 3), the probabilities of each of
`LABELS` if there is one. Grey round the image, scaling of the pixels, the choice of cells and
non-maximum suppression are part of the graph; the second stage, if the detector has one, is not.
Its metadata are those of the detector's file.
"""

import numpy as np

from tinygrad_mask.masks.detector.network.architecture import (
    BOX,
    FACE,
    LABEL,
    LARGEST_STRIDE,
    STRIDE,
    FaceDetector,
)
from tinygrad_mask.masks.detector.network.decoding import (
    LOG_DISTANCE,
    MOST_CELLS,
    NMS_THRESHOLD,
)
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.network.input import GREY, PIXEL_MEAN, PIXEL_SCALE
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.onnx_graph import OnnxGraph, OnnxValue, translate


def detector_to_onnx(detector: Detector) -> bytes:
    """Return the content of an ONNX file.

    Raises `UsageError` if the package onnx is not installed.
    """
    graph = OnnxGraph({FaceDetector: detector_network})
    types = graph.onnx.TensorProto
    height, width = (_extent(graph, axis) for axis in (0, 1))
    pixels = graph.node("Cast", "image", to=types.FLOAT)
    pixels = graph.node("Transpose", pixels, perm=[2, 0, 1])
    pixels = graph.node("Unsqueeze", pixels, graph.constant(np.array([0])))
    fills = [_to_multiple(graph, extent) for extent in (height, width)]
    pads = graph.node("Concat", graph.constant(np.zeros(6, np.int64)), *fills, axis=0)
    pixels = graph.node("Pad", pixels, pads, _float(graph, GREY), mode="constant")
    pixels = graph.node("Sub", pixels, _float(graph, PIXEL_MEAN))
    pixels = graph.node("Div", pixels, _float(graph, PIXEL_SCALE))
    # The padding of the layers is the same for all multiples of the largest stride.
    value = OnnxValue(pixels, "NCHW", 2 * LARGEST_STRIDE, 2 * LARGEST_STRIDE)
    output = translate(graph, detector.model, value).name
    # Cells that lie in the image only: (1, 8, ceil(H / 4), ceil(W / 4)).
    cells = [_cells(graph, extent) for extent in (height, width)]
    ends = graph.node("Concat", *cells, axis=0)
    starts, axes = graph.constant(np.zeros(2, np.int64)), graph.constant(np.array([2, 3]))
    output = graph.node("Slice", output, starts, ends, axes)
    _decode(graph, output)
    return graph.model(
        {"image": (types.UINT8, ["H", "W", 3]), "least_score": (types.FLOAT, [])},
        {
            "boxes": (types.FLOAT, ["N", 4]),
            "scores": (types.FLOAT, ["N"]),
            "labels": (types.FLOAT, ["N", len(LABELS)]),
        },
        detector.metadata(),
        __doc__ or "",
    )


def detector_network(graph: OnnxGraph, module: FaceDetector, value: OnnxValue) -> OnnxValue:
    """Add the network, as `FaceDetector.forward` computes it."""

    def double(of: OnnxValue) -> OnnxValue:
        scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
        name = graph.node(
            "Resize",
            of.name,
            "",
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return OnnxValue(name, "NCHW", 2 * of.height, 2 * of.width)

    def total(one: OnnxValue, other: OnnxValue) -> OnnxValue:
        return OnnxValue(graph.node("Add", one.name, other.name), "NCHW", one.height, one.width)

    map4 = translate(graph, module.stage4, translate(graph, module.stem, value))
    map8 = translate(graph, module.stage8, map4)
    map16 = translate(graph, module.stage16, map8)
    map32 = translate(graph, module.stage32, map16)
    from32 = double(translate(graph, module.lateral32, map32))
    up16 = translate(
        graph, module.merge16, total(translate(graph, module.lateral16, map16), from32)
    )
    up8 = translate(
        graph, module.merge8, total(translate(graph, module.lateral8, map8), double(up16))
    )
    up4 = total(translate(graph, module.lateral4, map4), double(up8))
    return translate(graph, module.predict, translate(graph, module.head, up4))


def _decode(graph: OnnxGraph, output: str) -> None:
    """Add what `decode` does with an output map (1, 8, rows, columns)."""
    types = graph.onnx.TensorProto
    logits = _channels(graph, output, FACE, axis=1)
    score = graph.node("Sigmoid", logits)
    highest = graph.node("MaxPool", score, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    peaks = graph.node("GreaterOrEqual", score, highest)
    certain = graph.node("GreaterOrEqual", score, "least_score")
    chosen = graph.node("NonZero", graph.node("And", peaks, certain))  # (4, n)
    places = graph.node("Transpose", chosen, perm=[1, 0])
    scores = graph.node("GatherND", score, places)

    # The most certain cells, in order.
    count = graph.node("Shape", scores)
    most = graph.node("Min", count, graph.constant(np.array([MOST_CELLS])))
    scores, order = graph.nodes("TopK", 2, scores, most, axis=0)
    places = graph.node("Gather", places, order, axis=0)
    rows_columns = _channels(graph, places, slice(2, 4), axis=1)
    by_cell = graph.node("Transpose", output, perm=[0, 2, 3, 1])
    by_cell = graph.node("Squeeze", by_cell, graph.constant(np.array([0])))
    cells = graph.node("GatherND", by_cell, rows_columns)  # (n, 8)

    low, high = (_float(graph, limit) for limit in LOG_DISTANCE)
    distance = graph.node("Exp", graph.node("Clip", _channels(graph, cells, BOX), low, high))
    distance = graph.node("Mul", distance, _float(graph, STRIDE))
    columns_rows = graph.node("Gather", rows_columns, graph.constant(np.array([1, 0])), axis=1)
    centre = graph.node("Cast", columns_rows, to=types.FLOAT)
    centre = graph.node("Add", centre, _float(graph, 0.5))
    centre = graph.node("Mul", centre, _float(graph, STRIDE))
    corners = [
        graph.node(operator, centre, _channels(graph, distance, side))
        for operator, side in (("Sub", slice(0, 2)), ("Add", slice(2, 4)))
    ]
    boxes = graph.node("Concat", *corners, axis=1)
    labels = graph.node("Softmax", _channels(graph, cells, LABEL), axis=1)

    kept = graph.node(
        "NonMaxSuppression",
        graph.node("Unsqueeze", boxes, graph.constant(np.array([0]))),
        graph.node("Unsqueeze", scores, graph.constant(np.array([0, 1]))),
        graph.constant(np.array([MOST_CELLS])),
        graph.constant(np.array([NMS_THRESHOLD], np.float32)),
    )  # (N, 3): image, class, box
    index = graph.node(
        "Squeeze", _channels(graph, kept, slice(2, 3)), graph.constant(np.array([1]))
    )
    for name, values in (("boxes", boxes), ("scores", scores), ("labels", labels)):
        graph.node("Gather", values, index, result=name, axis=0)


def _channels(graph: OnnxGraph, value: str, which: slice, axis: int = 1) -> str:
    ends = [graph.constant(np.array([k])) for k in (which.start, which.stop, axis)]
    return graph.node("Slice", value, *ends)


def _float(graph: OnnxGraph, number: float) -> str:
    return graph.constant(np.array(number, np.float32))


def _extent(graph: OnnxGraph, axis: int) -> str:
    """Return the image's extent along an axis, int64 (1,)."""
    shape = graph.node("Shape", "image")
    return graph.node("Gather", shape, graph.constant(np.array([axis])))


def _to_multiple(graph: OnnxGraph, extent: str) -> str:
    """Return how many pixels an extent lacks to a multiple of the largest stride, int64 (1,)."""
    stride = graph.constant(np.array([LARGEST_STRIDE]))
    lacking = graph.node("Sub", stride, graph.node("Mod", extent, stride))
    return graph.node("Mod", lacking, stride)


def _cells(graph: OnnxGraph, extent: str) -> str:
    """Return how many cells hold an extent of pixels, int64 (1,)."""
    stride = graph.constant(np.array([STRIDE]))
    more = graph.node("Add", extent, graph.constant(np.array([STRIDE - 1])))
    return graph.node("Div", more, stride)
