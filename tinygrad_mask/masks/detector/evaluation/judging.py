"""Ask a detector about annotated photographs, and compute all its figures."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.detector.evaluation.average_precision import (
    AnnotatedPhotograph,
    Estimate,
    Matchings,
)
from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.training.batches import face_arrays

LOWEST_SCORE = 0.02
"""The score down to which detections are ranked for the average precision."""


@dataclass(frozen=True, eq=False)
class DetectorJudgement:
    """What a detector found in some photographs, and how right it is.

    `estimates` are the figures of `Matchings.estimates`, with their intervals.
    """

    photographs: Sequence[Photograph]
    matchings: Matchings
    estimates: dict[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name, with intervals and numbers of faces, for `json.dumps`.

        What is not known, such as the precision of a label of no face, is None.
        """
        faces = self.matchings.faces()
        figures: dict[str, dict[str, Any]] = {}
        for name, estimate in self.estimates.items():
            ends = {
                end: value if value == value else None for end, value in asdict(estimate).items()
            }
            figures[name] = ends | ({"faces": faces[name]} if name in faces else {})
        return {"photographs": len(self.photographs), "figures": figures}


def find_faces(
    detector: Detector,
    photographs: Sequence[Photograph],
    before_each: Callable[[], None] = lambda: None,
) -> tuple[list[AnnotatedPhotograph], list[Detections]]:
    """Return what is known of each photograph and what the detector finds in it.

    On a terminal a progress bar is shown. `before_each` is called before each photograph, and may
    raise to stop. Raises `OSError` if a photograph cannot be read.
    """
    known: list[AnnotatedPhotograph] = []
    found: list[Detections] = []
    shown = sys.stderr.isatty()
    for photograph in tqdm(photographs, desc="evaluation", leave=False, disable=not shown):
        before_each()
        image = photograph.open()
        boxes, labels, ignored = face_arrays(photograph)
        known.append(AnnotatedPhotograph(image.size, boxes, labels, ignored))
        found.append(detector.find(image, LOWEST_SCORE))
    return known, found


def judge_detector(
    detector: Detector,
    photographs: Sequence[Photograph],
    *,
    resamples: int = 1000,
    before_each: Callable[[], None] = lambda: None,
) -> DetectorJudgement:
    """Return what a detector finds in photographs, and its figures with intervals."""
    matchings = Matchings(*find_faces(detector, photographs, before_each))
    return DetectorJudgement(photographs, matchings, matchings.estimates(resamples=resamples))


def format_judgement(judgement: DetectorJudgement) -> str:
    """Return the figures as a plain-text table."""
    content = judgement.to_json()
    lines = [
        f"{content['photographs']:,} photographs; average precision at an intersection over union "
        "of 0.5",
        f"{'':<26}{'':>7}   {'95 % interval':<16}{'faces':>7}",
    ]
    for name, estimate in judgement.estimates.items():
        value = "-" if estimate.value != estimate.value else f"{estimate.value:.3f}"
        known = estimate.low == estimate.low
        interval = f"{estimate.low:.3f} to {estimate.high:.3f}" if known else "-"
        faces = content["figures"][name].get("faces", "")
        lines.append(f"{name:<26}{value:>7}   {interval:<16}{faces:>7}".rstrip())
    return "\n".join(lines)
