"""The faces that a detector misses and what it takes for faces, worst first."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.detector.evaluation.average_precision import Matchings


@dataclass(frozen=True, eq=False)
class DetectionMistake:
    """A face that was missed, or something that was taken for one.

    `photograph` is the position of the photograph and `box` (4,) x1, y1, x2, y2 in its pixels.
    `score` is that of the detection: of a missed face's best one, 0 if there is none. `label` is
    the face's, or the one that the detector gives what is no face, a position in `LABELS`.
    """

    photograph: int
    box: NDArray[np.float32]
    score: float
    label: int


def missed_faces(matchings: Matchings, least_score: float) -> list[DetectionMistake]:
    """Return the faces that no detection of at least this score finds, the largest first."""
    missed = []
    for k, photograph in enumerate(matchings.photographs):
        for face, box in enumerate(photograph.boxes):
            score = matchings.any_face.found_by.get((k, face), 0.0)
            if score < least_score:
                missed.append(DetectionMistake(k, box, score, int(photograph.labels[face])))
    return sorted(missed, key=lambda of: -float(min(of.box[2:] - of.box[:2])))


def false_alarms(matchings: Matchings, least_score: float) -> list[DetectionMistake]:
    """Return the detections of at least this score that are no face, the most certain first."""
    matching = matchings.any_face
    alarms = []
    for i in np.flatnonzero(~matching.right & (matching.scores >= least_score)).tolist():
        k, detection = int(matching.photograph[i]), int(matching.detection[i])
        found = matchings.found[k]
        label = int(found.labels[detection].argmax())
        alarms.append(DetectionMistake(k, found.boxes[detection], float(matching.scores[i]), label))
    return alarms
