"""What was found, as lines to read, as JSON and as detections in COCO's format."""

from collections.abc import Mapping
from typing import Any

from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.detector.network.detector import TOO_SMALL, UNSURE, DetectedFace
from tinygrad_mask.masks.file_names import printable, unicode_name
from tinygrad_mask.masks.labels import LABELS

ANSWERS = (*LABELS, UNSURE, TOO_SMALL)
"""All that can be said of a face."""


def face_line(name: str, face: DetectedFace) -> str:
    """Return the line of a face: where it is, and the answer."""
    where = ", ".join(f"{edge:.0f}" for edge in face.box)
    return f"{printable(name)}  ({where})  {answer_text(face)}"


def answer_text(face: DetectedFace) -> str:
    """Return the answer about a face with how sure it is."""
    every = ", ".join(f"{label} {of:.3f}" for label, of in face.probabilities.items())
    if face.answer in LABELS:
        return f"{face.answer} {face.probability:.3f}  ({every})"
    if face.answer == UNSURE:
        return f"{UNSURE}  ({every})"
    left, top, right, bottom = face.box
    return f"{TOO_SMALL}  ({min(right - left, bottom - top):.0f} pixels)"


def counts_text(counts: Mapping[str, int]) -> str:
    """Return how many faces or persons got each answer, `3 proper, 0 improper, 1 none`.

    The labels are always there, the other answers if somebody got them.
    """
    return ", ".join(
        f"{counts[answer]:,} {answer}" for answer in ANSWERS if answer in LABELS or counts[answer]
    )


def plural(count: int, what: str) -> str:
    """Return a number with its noun, `1 face` or `1,200 faces`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def coco_entries(image_id: str, found: Detections) -> list[dict[str, Any]]:
    """Return detections as COCO writes results, one entry per face and class.

    The category is the position of the label in `LABELS`, from 1, the box left, top, width, height
    in pixels, and the score the probability that there is a face times that of its label.
    """
    entries = []
    for box, score, labels in zip(found.boxes, found.scores, found.labels, strict=True):
        left, top, right, bottom = (float(edge) for edge in box)
        corners = [round(edge, 2) for edge in (left, top, right - left, bottom - top)]
        for k, probability in enumerate(labels):
            entries.append(
                {
                    "image_id": unicode_name(image_id),
                    "category_id": k + 1,
                    "bbox": corners,
                    "score": round(float(score * probability), 6),
                }
            )
    return entries
