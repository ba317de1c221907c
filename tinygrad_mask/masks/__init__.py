"""The application: from photographs to a classifier of how face masks are worn."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygrad_mask.masks.classifier.network.classifier import Classifier


def load_pretrained() -> "Classifier":
    """Return the classifier that ships with the package; docs/model_card.md says how good it is.

    Its `probabilities` take crops as `crops.crop_face` cuts them, uint8 (n, size, size, 3) in RGB,
    with its own settings, `classifier.crops`. Raises `UsageError` where this copy of the package
    has no weights.
    """
    # Not at the top: every module below would import the whole classifier first.
    from tinygrad_mask.masks.classifier.network.classifier import PRETRAINED, Classifier

    return Classifier.load(PRETRAINED)
