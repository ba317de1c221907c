"""A trained detector: the network and all that has to be known to ask it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask import Tensor, serialization
from tinygrad_mask.compiler import CompiledModel
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.crops import crop_face
from tinygrad_mask.masks.detector.network.architecture import (
    STRIDE,
    DetectorArchitecture,
    FaceDetector,
)
from tinygrad_mask.masks.detector.network.decoding import (
    Detections,
    decode,
    join,
    without_doubles,
)
from tinygrad_mask.masks.detector.network.input import InputSettings, Look, network_input
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.images import open_image
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.model_files import (
    check_format,
    check_labels,
    check_weights,
    hashes_from_text,
    hashes_to_text,
    read_model,
)
from tinygrad_mask.masks.schemas import decode_json

DETECTOR_FORMAT = "tinygrad_mask detector 1"
"""The format that a detector's file names in its metadata."""

PRETRAINED_FILE = Path(__file__).with_name("pretrained.safetensors")
"""The weights that ship with the package."""

LEAST_SCORE = 0.4
"""The score from which on something is taken for a face.

Measured on the 140 photographs of Larxel's that the shipped weights were not trained on:

    score                          0.25   0.30   0.35   0.40   0.45   0.50
    share of the faces found       0.94   0.92   0.91   0.88   0.86   0.81
    false alarms a photograph      3.43   2.01   1.15   0.65   0.41   0.21
"""

CONFIDENCE = 0.5
"""The probability below which a label is answered `unsure`."""

MIN_FACE = 8.0
"""The shorter side in pixels under which a face is too small to judge.

Measured with the shipped classifier on 540 faces of ILC 2021 of at least 32 pixels, reduced to a
size, with their annotated boxes: from 8 pixels on the answers are as good as of large faces; below,
masks worn improperly are taken for proper ones.

    shorter side, pixels       4      5      6      7      8     10     16     32
    recall of `proper`      0.94   0.94   0.95   0.93   0.93   0.94   0.96   0.94
    recall of `improper`    0.28   0.40   0.46   0.53   0.56   0.55   0.55   0.54
    recall of `none`        0.87   0.91   0.90   0.89   0.91   0.92   0.92   0.93
"""


UNSURE, TOO_SMALL = "unsure", "too small"
"""The answers that are no label."""


@dataclass(frozen=True)
class DetectedFace:
    """A face in a photograph.

    `box` is x1, y1, x2, y2 in pixels of the photograph. `score` is the probability that there is a
    face, `label` the most probable of `LABELS`, `probability` its probability and `probabilities`
    those of all labels, by name. `answer` is the label, or `UNSURE` if its probability is below
    what was asked for, or `TOO_SMALL` if too few pixels show the face to judge it.
    """

    box: tuple[float, float, float, float]
    score: float
    label: str
    probability: float
    probabilities: dict[str, float]
    answer: str

    def to_json(self) -> dict[str, Any]:
        """Return all fields as what `json.dumps` takes."""
        return {**asdict(self), "box": list(self.box)}


class Detector:
    """Finds faces in photographs of any size, and says how their masks are worn.

    With a `classifier` the probabilities of the labels are the mean of the network's own and of
    those that the classifier gives for the faces' crops. `trained_on` are the perceptual hashes of
    the photographs that the weights were trained on, uint64 (n, HASH_WORDS) as of
    `duplicates.perceptual_hash`; None if that is not known.

    Example:
        >>> detector = Detector(FaceDetector(DetectorArchitecture(), np.random.default_rng(0)),
        ...                     DetectorArchitecture(), InputSettings())
        >>> detector.detect(np.zeros((60, 80, 3), np.uint8), least_score=0.5)
        []
    """

    def __init__(
        self,
        model: FaceDetector,
        architecture: DetectorArchitecture,
        settings: InputSettings,
        classifier: Classifier | None = None,
        *,
        trained_on: NDArray[np.uint64] | None = None,
    ) -> None:
        self.model = model
        self.architecture = architecture
        self.settings = settings
        self.classifier = classifier
        self.trained_on = trained_on
        self._compiled: CompiledModel | None = None

    def detect(
        self,
        image: str | Path | Image.Image | NDArray[np.uint8],
        *,
        bgr: bool = False,
        least_score: float = LEAST_SCORE,
        confidence: float = CONFIDENCE,
        min_face: float = MIN_FACE,
    ) -> list[DetectedFace]:
        """Return the faces in a photograph, most certain first.

        `image` is a path, a PIL image or an RGB array, uint8 (H, W, 3); with `bgr=True` an array
        whose channels are in OpenCV's order. Faces with a score below `least_score` are left out;
        a label of a probability below `confidence` is answered `unsure`, a face whose shorter side
        is under `min_face` pixels `too small`. Raises `OSError` for a file that cannot be read,
        `TypeError` for what is no picture, and `ValueError` for an array of another shape or dtype.
        """
        found = self.find(_to_image(image, bgr), least_score)
        return answers(found, confidence=confidence, min_face=min_face)

    def find(self, image: Image.Image, least_score: float) -> Detections:
        """Return the faces in an RGB image down to a score, in its pixels, clipped to it."""
        device = next(parameter.device for parameter in self.model.parameters())
        looks = [
            self._look(image, look, least_score, device)
            for look in self.settings.looks(*image.size)
        ]
        found = looks[0] if len(looks) == 1 else without_doubles(join(looks))
        if self.classifier is None or not len(found):
            return found
        crops = [
            crop_face(image, tuple(box.tolist()), self.classifier.crops) for box in found.boxes
        ]
        second = self.classifier.probabilities(np.stack(crops), device)
        return Detections(found.boxes, found.scores, (found.labels + second) / np.float32(2))

    def _look(self, image: Image.Image, look: Look, least_score: float, device: str) -> Detections:
        """Return the faces that are seen at one size, in pixels of the photograph."""
        width, height = look.size(*image.size)
        self.model.eval()
        if self._compiled is None or self._compiled.model is not self.model:
            self._compiled = CompiledModel(self.model)
        pixels = Tensor.from_array(network_input(image, (width, height))).to(device)
        output = self._compiled(pixels).numpy()[0]
        found = decode(output[: -(-height // STRIDE), : -(-width // STRIDE)], least_score)
        side = (found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1)
        found = found[(side >= look.least) & (side < look.most)]
        factor = np.tile([image.width / width, image.height / height], 2).astype(np.float32)
        limits = np.tile(np.array(image.size, np.float32), 2)
        boxes = np.clip(found.boxes * factor, 0, limits)
        inside = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        return Detections(boxes, found.scores, found.labels)[inside]

    # --- files ------------------------------------------------------------------------------

    def metadata(self) -> dict[str, str]:
        """Return all but the weights, as texts by name."""
        content = {
            "format": DETECTOR_FORMAT,
            "labels": json.dumps(LABELS),
            "architecture": json.dumps(asdict(self.architecture)),
            "input": json.dumps(asdict(self.settings)),
        }
        if self.trained_on is not None:
            content["trained_on"] = hashes_to_text(self.trained_on)
        return content

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write weights and metadata to a safetensors file; see `serialization.save`."""
        serialization.save(path, self.model.state_dict(), self.metadata(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path, classifier: Classifier | None = None) -> "Detector":
        """Read a detector from its file or run folder, and give it a classifier if wanted.

        The text `pretrained` stands for the shipped weights. Raises `UsageError` if there is no
        detector.
        """
        path, arrays, metadata = read_model(path, PRETRAINED_FILE)
        check_format(path, metadata, DETECTOR_FORMAT)
        try:
            check_labels(metadata["labels"])
            architecture = decode_json(metadata["architecture"], DetectorArchitecture)
            settings = decode_json(metadata["input"], InputSettings)
            trained_on = None
            if "trained_on" in metadata:
                trained_on = hashes_from_text(metadata["trained_on"])
            check_weights(architecture.least_weights(), arrays)
            model = FaceDetector(architecture, np.random.default_rng(0))
            model.load_state_dict(arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: not a detector as it is saved here ({error})") from error
        return cls(model, architecture, settings, classifier, trained_on=trained_on)


def answers(
    found: Detections, *, confidence: float = CONFIDENCE, min_face: float = MIN_FACE
) -> list[DetectedFace]:
    """Return the answer about each detection, in their order; see `Detector.detect`."""
    faces = []
    for box, score, probabilities in zip(found.boxes, found.scores, found.labels, strict=True):
        label, probability = LABELS[int(probabilities.argmax())], float(probabilities.max())
        left, top, right, bottom = box.tolist()
        answer = label if probability >= confidence else UNSURE
        if min(right - left, bottom - top) < min_face:
            answer = TOO_SMALL
        by_name = dict(zip(LABELS, probabilities.tolist(), strict=True))
        corners = (left, top, right, bottom)
        faces.append(DetectedFace(corners, float(score), label, probability, by_name, answer))
    return faces


def _to_image(image: str | Path | Image.Image | NDArray[np.uint8], bgr: bool) -> Image.Image:
    if not isinstance(image, np.ndarray):
        return open_image(image, bgr=bgr)  # a path, upright; or a PIL image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"detect: expected an array uint8 (H, W, 3), got {image.dtype} of shape {image.shape}"
        )
    return open_image(image, bgr=bgr)
