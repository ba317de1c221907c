"""A trained classifier: the network and all that has to be known to ask it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import Tensor, nn, serialization
from tinygrad_mask.compiler import CompiledModel
from tinygrad_mask.data import Rows
from tinygrad_mask.masks.classifier.inference.answers import Prediction
from tinygrad_mask.masks.classifier.network.architecture import Architecture, build_model
from tinygrad_mask.masks.colour_order import warn_if_exchanged
from tinygrad_mask.masks.crops import CropSettings, box_size, crop_face
from tinygrad_mask.masks.datasets.records import Box
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

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = "str | Path | Image.Image | NDArray[Any]"
"""A picture in any of its forms: a path, an image of Pillow's, an array (height, width, 3)."""

PRETRAINED_FILE = Path(__file__).with_name("pretrained.safetensors")
"""The shipped weights."""

_FORMAT = "tinygrad_mask classifier 1"
_BATCH = 128


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each colour, of pixels from 0 to 1; what a model subtracts."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse what nothing can be scaled by."""
        if not (all(map(math.isfinite, self.mean)) and all(0 < s < math.inf for s in self.std)):
            raise ValueError(
                "normalisation: expected finite means and deviations above 0, got "
                f"{self.mean} and {self.std}"
            )

    @classmethod
    def of(cls, crops: NDArray[np.uint8] | Rows) -> "Normalisation":
        """Measure them on crops (n, size, size, 3), a block at a time."""
        total, squares = np.zeros(3), np.zeros(3)
        for start in range(0, len(crops), _BATCH):
            block = crops[start : start + _BATCH].astype(np.float64) / 255
            total += block.sum(axis=(0, 1, 2))
            squares += (block**2).sum(axis=(0, 1, 2))
        count = math.prod(crops.shape[:3])
        mean = total / count
        # A set of plain black pictures has no deviation to divide by.
        std = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
        return cls(tuple(mean.tolist()), tuple(std.tolist()))


class Classifier:
    """A network, how its crops are cut, how their pixels are scaled, and how sure it may be.

    `model` maps scaled crops (N, size, size, 3) to scores (N, 3), in the order of `LABELS`. Where
    `mirrored` holds it is asked about each crop and about its mirror image.
    `temperature`, positive, is what scores are divided by before the softmax; `threshold` is the
    probability below which `predict` answers `unsure`. `scale` and `shift`
    (3,), float32, make of pixels from 0 to 255 what the model takes: pixel * scale + shift.
    `trained_on` are the perceptual hashes of the photographs that the weights were trained on,
    uint64 (n, HASH_WORDS) as of `duplicates.perceptual_hash`; None if that is not known.
    """

    def __init__(
        self,
        model: nn.Module,
        architecture: Architecture,
        crops: CropSettings,
        normalisation: Normalisation,
        temperature: float = 1.0,
        *,
        mirrored: bool = False,
        trained_on: NDArray[np.uint64] | None = None,
        threshold: float = 0.0,
    ) -> None:
        self.model = model
        self.architecture = architecture
        self.crops = crops
        self.normalisation = normalisation
        self.temperature = temperature
        self.mirrored = mirrored
        self.trained_on = trained_on
        self.threshold = threshold
        mean, std = (np.array(v, np.float32) for v in (normalisation.mean, normalisation.std))
        self.scale, self.shift = 1 / (255 * std), -mean / std
        self._compiled: CompiledModel | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of scores and probabilities."""
        return LABELS

    def __repr__(self) -> str:
        size = self.crops.size
        return (
            f"Classifier({self.architecture.kind}, {self.model.parameter_count():,} parameters, "
            f"crops of {size} x {size} pixels, labels {', '.join(self.labels)})"
        )

    # --- whole pictures ---------------------------------------------------------------------

    @overload
    def predict(
        self, image: list[Picture] | tuple[Picture, ...], *, bgr: bool = False
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self, image: Picture, *, bgr: bool = False, boxes: Sequence[Box]
    ) -> list[Prediction]: ...
    @overload
    def predict(self, image: Picture, *, bgr: bool = False) -> Prediction: ...
    def predict(
        self, image: Any, *, bgr: bool = False, boxes: Sequence[Box] | None = None
    ) -> Prediction | list[Prediction]:
        """Say how the mask in a picture of one face is worn, or in each of several pictures.

        Computed on the device that the model is on.

        Args:
            image: a path, an image of Pillow's, or an array of uint8: RGB (height, width, 3), RGBA
                or grey; or a list of these.
            bgr: whether arrays have their colours in the order blue, green, red, as OpenCV reads
                them. A model that is given them as RGB answers nonsense; if an array looks like
                that, a `ColourOrderWarning` says so.
            boxes: where the faces are in a single photograph, `(x1, y1, x2, y2)` in its pixels.
                Without them the whole picture is one face with a little round it.

        Returns:
            A `Prediction` with `label`, `probability` and `probabilities`; a list of them for a
            list of pictures and for boxes. Its label is `unsure`, with a `reason`, for a picture
            that cannot show a face, and where no label is as probable as the `threshold`.

        Raises:
            OSError: a file cannot be read.
            TypeError: something else than a picture.
            ValueError: an array of another shape, a box outside the photograph.

        Example:
            >>> classifier = load_pretrained()
            >>> classifier.predict("face.jpg").label
            'proper'
            >>> frame = cv2.imread("door.jpg")
            >>> [face.label for face in classifier.predict(frame, bgr=True, boxes=found)]
            ['proper', 'none']
        """
        several = isinstance(image, list | tuple) or getattr(image, "ndim", 0) == 4
        if several and boxes is not None:
            raise ValueError(
                f"predict: expected one picture with boxes, got {len(image)}; call it for each"
            )
        faces: list[tuple[str | None, Box | None, NDArray[np.uint8], float]] = []
        of_arrays: list[NDArray[np.uint8]] = []
        for one in image if several else [image]:
            picture = open_image(one, bgr=bgr)
            name = str(one) if isinstance(one, str | Path) else None
            for box in [None] if boxes is None else boxes:
                crop = crop_face(picture, box, self.crops)
                faces.append((name, box, crop, box_size(picture, box)))
                if isinstance(one, np.ndarray):
                    of_arrays.append(crop)
        if of_arrays:
            warn_if_exchanged(np.stack(of_arrays), bgr=bgr)
        crops = np.zeros((len(faces), self.crops.size, self.crops.size, 3), np.uint8)
        for k, (_, _, crop, _) in enumerate(faces):
            crops[k] = crop
        device = next((p.device for p in self.model.parameters()), "cpu")
        answers = [
            Prediction.of(name, box, of, crop, size, self.threshold)
            for (name, box, crop, size), of in zip(
                faces, self.probabilities(crops, device), strict=True
            )
        ]
        return answers if several or boxes is not None else answers[0]

    # --- crops ------------------------------------------------------------------------------

    def inputs(self, crops: NDArray[np.uint8], device: str = "cpu") -> Tensor:
        """Scale crops, uint8 (n, size, size, 3), to what the model takes, float32.

        Raises `ValueError` for others: most networks would take any, and say something of them.
        """
        expected = (self.crops.size, self.crops.size, 3)
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != expected:
            raise ValueError(
                f"classifier: expected crops as uint8 of shape (n, {expected[0]}, {expected[0]}, "
                f"3), got {crops.dtype} of shape {crops.shape}"
            )
        scaled = crops * self.scale
        scaled += self.shift
        return Tensor.from_array(scaled).to(device)

    def scores(self, crops: NDArray[np.uint8] | Rows, device: str = "cpu") -> NDArray[np.float32]:
        """Return the model's outputs, (n, 3), batch by batch, without recording a graph.

        Where each crop is asked about twice they are the mean of both answers.
        """
        self.model.eval()
        if self._compiled is None or self._compiled.model is not self.model:
            self._compiled = CompiledModel(self.model)
        parts = [
            self._scores(self._compiled, crops[start : start + _BATCH], device)
            for start in range(0, len(crops), _BATCH)
        ]
        return np.concatenate([np.zeros((0, len(LABELS)), np.float32), *parts])

    def _scores(
        self, compiled: CompiledModel, crops: NDArray[np.uint8], device: str
    ) -> NDArray[np.float32]:
        if not self.mirrored:
            return compiled(self.inputs(crops, device)).numpy()
        both = np.concatenate([crops, crops[:, :, ::-1]])
        scores = compiled(self.inputs(both, device)).numpy()
        return (scores[: len(crops)] + scores[len(crops) :]) / 2

    def probabilities(
        self, crops: NDArray[np.uint8] | Rows, device: str = "cpu"
    ) -> NDArray[np.float32]:
        """Return the softmax of the scores divided by the temperature, (n, 3)."""
        return self.to_probabilities(self.scores(crops, device))

    def to_probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what `probabilities` makes of the model's outputs, both (n, 3).

        The perceptron of the slides aims its outputs at 0 and 1 and knows no softmax: until a
        temperature was fitted, of its numbers only the order means something.
        """
        return Tensor(scores / np.float32(self.temperature)).softmax().numpy()

    # --- files ------------------------------------------------------------------------------

    def metadata(self) -> dict[str, str]:
        """Return all but the weights as texts, for the file."""
        content = {
            "format": _FORMAT,
            "labels": json.dumps(LABELS),
            "architecture": json.dumps(asdict(self.architecture)),
            "crops": json.dumps(asdict(self.crops)),
            "normalisation": json.dumps(asdict(self.normalisation)),
            "temperature": json.dumps(self.temperature),
            "mirrored": json.dumps(self.mirrored),
            "threshold": json.dumps(self.threshold),
        }
        if self.trained_on is not None:
            content["trained_on"] = hashes_to_text(self.trained_on)
        return content

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write weights and metadata to a safetensors file; see `serialization.save`."""
        serialization.save(path, self.model.state_dict(), self.metadata(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> "Classifier":
        """Read a classifier from its file, or from the run folder that holds it.

        The text `pretrained` stands for the shipped weights. Raises `UsageError` where there is no
        classifier.
        """
        return cls.from_state(*read_model(path, PRETRAINED_FILE))

    @classmethod
    def from_state(
        cls, path: Path, arrays: dict[str, NDArray[np.float32]], metadata: dict[str, str]
    ) -> "Classifier":
        """Build a classifier from what a file, here called `path`, holds."""
        check_format(path, metadata, _FORMAT)
        try:
            check_labels(metadata["labels"])
            architecture = decode_json(metadata["architecture"], Architecture)
            crops = decode_json(metadata["crops"], CropSettings)
            normalisation = decode_json(metadata["normalisation"], Normalisation)
            temperature = decode_json(metadata.get("temperature", "1"), float)
            if not (math.isfinite(temperature) and temperature > 0):
                raise ValueError(f"its temperature is {temperature}")
            threshold = decode_json(metadata.get("threshold", "0"), float)
            if not 0 <= threshold < 1:
                raise ValueError(f"its threshold is {threshold}")
            mirrored = decode_json(metadata.get("mirrored", "false"), bool)
            trained_on = None
            if "trained_on" in metadata:
                trained_on = hashes_from_text(metadata["trained_on"])
            if crops.size != architecture.image_size:
                raise ValueError(
                    f"its crops have {crops.size} pixels, its network {architecture.image_size}"
                )
            check_weights(architecture.least_weights(), arrays)
            model = build_model(architecture, np.random.default_rng(0))
            model.load_state_dict(arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: not a classifier as it is saved here ({error})") from error
        return cls(
            model,
            architecture,
            crops,
            normalisation,
            temperature,
            mirrored=mirrored,
            trained_on=trained_on,
            threshold=threshold,
        )
