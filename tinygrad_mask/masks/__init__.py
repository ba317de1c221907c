"""The application: from photographs to a classifier of how face masks are worn."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygrad_mask.masks.classifier.network.classifier import Classifier


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
    from tinygrad_mask.masks.classifier.network.classifier import PRETRAINED, Classifier

    return Classifier.load(PRETRAINED)
