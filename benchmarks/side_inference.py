"""The networks' answers, by this package and by ONNX Runtime: the sides of `inference.py`."""

from typing import Any

import numpy as np
from side_by_side import Side

import tinygrad_mask as tg
from tinygrad_mask.masks import load_detector, load_pretrained
from tinygrad_mask.masks.classifier.inference.onnx_export import to_onnx
from tinygrad_mask.masks.classifier.network.architecture import architecture_of, build_model
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.detector.inference.onnx_export import detector_network
from tinygrad_mask.masks.detector.network.architecture import LARGEST_STRIDE, FaceDetector
from tinygrad_mask.masks.onnx_graph import OnnxGraph, OnnxValue, translate

PHOTOGRAPH = (400, 267)  # pixels: the most frequent size in Larxel's data set


def make_classifier(network: str) -> Classifier:
    """Return the shipped classifier, or `reference`: the network of the training step."""
    if network == "classifier":
        return load_pretrained()
    model = build_model(architecture_of("cnn", 64), np.random.default_rng(0))
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3)
    return Classifier(model, architecture_of("cnn", 64), CropSettings(64), normalisation)


def faces(size: int, batch: int) -> np.ndarray:
    """Return crops of noise."""
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)


def photographs(batch: int) -> np.ndarray:
    """Return inputs of the detector's network, float32 (N, H, W, 3), of noise."""
    size = load_detector().settings.looks(*PHOTOGRAPH)[0].size(*PHOTOGRAPH)
    width, height = (-(-n // LARGEST_STRIDE) * LARGEST_STRIDE for n in size)
    return np.random.default_rng(0).uniform(-2, 2, (batch, height, width, 3)).astype(np.float32)


def exported_network(shape: tuple[int, ...]) -> bytes:
    """Return the detector's network as an ONNX file, from (N, 3, H, W) to (N, 8, H / 4, W / 4)."""
    batch, height, width, channels = shape
    graph = OnnxGraph({FaceDetector: detector_network})
    value = OnnxValue("x", "NCHW", height, width)
    output = translate(graph, load_detector().model, value)
    graph.node("Identity", output.name, result="y")
    number = graph.onnx.TensorProto.FLOAT
    return graph.model(
        {"x": (number, [batch, channels, height, width])},
        {"y": (number, [batch, None, height // 4, width // 4])},
        {},
        "",
    )


class InferenceSide(Side):
    """`prepare(("classifier", 8))` chooses a network and a number of faces or photographs."""

    def answers(self) -> np.ndarray:
        """Return the probabilities of the faces, or the detector's maps (N, H, W, 8)."""
        return np.asarray(self.run())


class Ours(InferenceSide):
    """This package: `Classifier` uses `tinygrad_mask.compile`."""

    def version(self) -> str:
        """Say what is measured."""
        return f"tinygrad_mask {tg.__version__}"

    def prepare(self, task: tuple[str, int]) -> None:
        """Get ready to answer."""
        network, batch = task
        tg.set_num_threads(self.threads)
        if network == "detector":
            images = tg.Tensor(photographs(batch))
            model = tg.compile(load_detector().model.eval())
            self.run = lambda: model(images).numpy()
            return
        classifier = make_classifier(network)
        crops = faces(classifier.crops.size, batch)
        self.run = lambda: classifier.probabilities(crops)


class OnnxRuntime(InferenceSide):
    """ONNX Runtime with the network's own export."""

    def answers(self) -> np.ndarray:
        """Return what the other side returns, with the axes in its order."""
        answer = super().answers()
        return answer.transpose(0, 2, 3, 1) if self.channels_last else answer

    def version(self) -> str:
        """Say what is measured."""
        import onnxruntime

        return f"ONNX Runtime {onnxruntime.__version__}"

    def prepare(self, task: tuple[str, int]) -> None:
        """Get ready to answer."""
        import onnxruntime

        network, batch = task
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        if network == "detector":
            images = photographs(batch)
            content = exported_network(images.shape)
            given = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        else:
            classifier = make_classifier(network)
            content = to_onnx(classifier)
            given = faces(classifier.crops.size, batch)
        session: Any = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        inputs = {session.get_inputs()[0].name: given}
        self.run = lambda: session.run(None, inputs)[0]
        self.channels_last = network == "detector"
