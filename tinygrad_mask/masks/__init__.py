"""The application: from photographs to how the face masks in them are worn."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygrad_mask.masks.classifier.network.classifier import Classifier
    from tinygrad_mask.masks.detector.network.detector import Detector


def load_pretrained() -> "Classifier":
    """Return the classifier that ships with the package; docs/model_card.md says how good it is.

    `predict` takes a path, a picture or an array and says how the mask in it is worn. Raises
    `UsageError` if this copy of the package has no weights.

    Example:
        >>> classifier = load_pretrained()
        >>> classifier.predict("face.jpg").label
        'proper'
    """
    # Not at the top: every module below would import the whole classifier first.
    from tinygrad_mask.masks.classifier.network.classifier import Classifier
    from tinygrad_mask.masks.model_files import PRETRAINED

    return Classifier.load(PRETRAINED)


def load_detector() -> "Detector":
    """Return the detector that ships with the package, with its classifier behind it.

    `detect` takes a path, a picture or an array, finds the faces in it, and says of each how its
    mask is worn. Raises `UsageError` if this copy of the package has no weights.

    Example:
        >>> detector = load_detector()
        >>> [(face.label, face.box) for face in detector.detect("street.jpg")]
        [('proper', (201.5, 88.2, 239.9, 137.0))]
    """
    from tinygrad_mask.masks.classifier.network.classifier import Classifier
    from tinygrad_mask.masks.detector.network.detector import Detector
    from tinygrad_mask.masks.model_files import PRETRAINED

    return Detector.load(PRETRAINED, Classifier.load(PRETRAINED))
