"""What the data sets of the world call their classes, and what those are called here."""

import re
from collections.abc import Mapping

from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS

USUAL_NAMES: dict[str, str] = {
    **dict.fromkeys(
        ("proper", "correct", "correct_mask", "correctly_masked", "mask", "masked", "with_mask"),
        "proper",
    ),
    **dict.fromkeys(("withmask", "mask_weared_correct", "mask_worn_correctly"), "proper"),
    **dict.fromkeys(
        ("improper", "incorrect", "incorrect_mask", "incorrectly_masked", "with_incorrect_mask"),
        "improper",
    ),
    **dict.fromkeys(("mask_weared_incorrect", "mask_worn_incorrectly"), "improper"),
    **dict.fromkeys(
        ("none", "no_mask", "nomask", "unmasked", "without", "without_mask", "withoutmask"),
        "none",
    ),
}
"""From a class name (in lower case, words joined by underscores) to its label."""


def label_of(name: str, classes: Mapping[str, str]) -> str | None:
    """Return the label of a class name, or None where it is not known.

    `classes` maps names, just as the data set spells them, to labels; what it does not hold is
    looked up in `USUAL_NAMES`.
    """
    if name in classes:
        return classes[name]
    return USUAL_NAMES.get(re.sub(r"[\W_]+", "_", name.strip().lower()).strip("_"))


def parse_classes(text: str) -> dict[str, str]:
    """Read `--classes`: `with_incorrect_mask=improper,bare=none` gives a dict of name to label.

    Raises `UsageError` for a part that is not NAME=LABEL, a label that there is not, or a name
    that is given two labels.
    """
    classes: dict[str, str] = {}
    for part in text.split(","):
        name, equals, label = (piece.strip() for piece in part.rpartition("="))
        if not (name and equals):
            raise UsageError(f"--classes expects NAME=LABEL,..., got '{part.strip()}'")
        if label not in LABELS:
            raise UsageError(
                f"--classes expects one of the labels {', '.join(LABELS)}, got '{part.strip()}'"
            )
        if classes.setdefault(name, label) != label:
            raise UsageError(f"--classes gives '{name}' two labels, {classes[name]} and {label}")
    return classes


def unknown_classes(where: str, names: list[str]) -> UsageError:
    """Return the error for a data set none of whose class names is known."""
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return UsageError(
        f"{where}: no class name is known, it has {shown}; "
        f"say what they mean: --classes '{names[0]}=proper,...' (labels: {', '.join(LABELS)})"
    )
