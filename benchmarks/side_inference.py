"""A classifier's answers, by this package and by ONNX Runtime: the sides of `inference.py`."""

from typing import Any

import numpy as np
from side_by_side import Side

import tinygrad_mask as tg
from tinygrad_mask.masks import load_pretrained
from tinygrad_mask.masks.classifier.inference.onnx_export import to_onnx
from tinygrad_mask.masks.classifier.network.architecture import architecture_of, build_model
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.crops import CropSettings


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


class InferenceSide(Side):
    """`prepare(("classifier", 8))` chooses a network and a number of faces."""

    def answers(self) -> np.ndarray:
        """Return the probabilities of the faces."""
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
        classifier = make_classifier(network)
        crops = faces(classifier.crops.size, batch)
        self.run = lambda: classifier.probabilities(crops)


class OnnxRuntime(InferenceSide):
    """ONNX Runtime with the classifier's own export."""

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
        classifier = make_classifier(network)
        session: Any = onnxruntime.InferenceSession(
            to_onnx(classifier), options, providers=["CPUExecutionProvider"]
        )
        inputs = {session.get_inputs()[0].name: faces(classifier.crops.size, batch)}
        self.run = lambda: session.run(None, inputs)[0]
