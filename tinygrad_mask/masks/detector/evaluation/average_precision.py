"""Average precision at an intersection over union of 0.5, as pycocotools computes it.

Evaluators differ by several points in how they interpolate and how they treat ignored boxes, so the
COCO project's own code is used (the extra `coco`). Intervals are bootstrapped by photograph: the
faces of one photograph are alike, and resampling faces would make the intervals too narrow.
"""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.labels import LABELS

IOU = 0.5
MOST_DETECTIONS = 300
"""How many detections of a photograph are looked at, the most certain ones."""

SIZES: Mapping[str, tuple[float, float]] = {
    "under 16 px": (0, 16),
    "16 to 32 px": (16, 32),
    "32 px and more": (32, float("inf")),
}
"""Sizes of faces: the shorter side of the box in pixels of the photograph, from and below."""

_ANY_SIZE = (0.0, float("inf"))


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval, bootstrapped by photograph."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the figure with its interval, `0.870 (0.840 to 0.900)`."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class AnnotatedPhotograph:
    """What is known of a photograph: its size (width, height) in pixels and its faces.

    `boxes` (n, 4) are x1, y1, x2, y2 in pixels, `labels` (n,) positions in `LABELS`, `ignored`
    (m, 4) regions in which a detection is neither right nor wrong.
    """

    size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.float32]


def evaluate_detections(
    photographs: Sequence[AnnotatedPhotograph],
    found: Sequence[Detections],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return the figures of a detector on annotated photographs, by name.

    `any face` is the average precision of finding faces whatever their label, then by the sizes of
    `SIZES`; each label's is that of finding faces with that label, scored by the probability of a
    face times that of the label; `mean` is their mean; `recall at one false alarm` the share of
    faces found at the score at which there is one false alarm per photograph. A figure of no face
    is NaN.
    """
    rng = np.random.default_rng(seed)
    count = len(photographs)
    draws = rng.integers(count, size=(resamples, count))
    any_face = _Matching(photographs, found, None, _ANY_SIZE)
    by_label = [_Matching(photographs, found, k, _ANY_SIZE) for k in range(len(LABELS))]
    figures: dict[str, Callable[[NDArray[np.int64]], float]] = {
        "any face": any_face.average_precision
    }
    for name, limits in SIZES.items():
        matching = _Matching(photographs, found, None, limits)
        figures[name] = matching.average_precision
    for name, matching in zip(LABELS, by_label, strict=True):
        figures[name] = matching.average_precision
    figures["mean"] = lambda chosen: float(
        np.mean([matching.average_precision(chosen) for matching in by_label])
    )
    figures["recall at one false alarm"] = any_face.recall_at_one_false_alarm
    everything = np.arange(count)
    return {
        name: _estimate(figure(everything), [figure(draw) for draw in draws])
        for name, figure in figures.items()
    }


def _estimate(value: float, resampled: Sequence[float]) -> Estimate:
    known = [figure for figure in resampled if np.isfinite(figure)]
    if not known:
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


class _Matching:
    """Which detection of one kind found which face, by pycocotools, once for all resamples."""

    def __init__(
        self,
        photographs: Sequence[AnnotatedPhotograph],
        found: Sequence[Detections],
        label: int | None,
        size: tuple[float, float],
    ) -> None:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        truth, detections = _annotations(photographs, found, label)
        images = [
            {"id": k, "width": p.size[0], "height": p.size[1]} for k, p in enumerate(photographs)
        ]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            known, results = COCO(), COCO()
            for data, annotations in ((known, truth), (results, detections)):
                data.dataset = {
                    "images": images,
                    "annotations": annotations,
                    "categories": [{"id": 1, "name": "face"}],
                }
                data.createIndex()
            self.evaluation = COCOeval(known, results, "bbox")
            parameters = self.evaluation.params
            parameters.iouThrs = np.array([IOU])
            parameters.maxDets = [MOST_DETECTIONS]
            # Here 'area' is the square of a box's shorter side.
            parameters.areaRng = [[size[0] ** 2, np.nextafter(size[1] ** 2, 0)]]
            parameters.areaRngLbl = ["all"]
            self.evaluation.evaluate()
        self._by_photograph: list[Any] = list(self.evaluation.evalImgs)

    def average_precision(self, chosen: NDArray[np.int64]) -> float:
        """Return the average precision over the chosen photographs, one maybe several times."""
        self.evaluation.evalImgs = [self._by_photograph[k] for k in chosen]
        with contextlib.redirect_stdout(io.StringIO()):
            self.evaluation.accumulate()
        precision = self.evaluation.eval["precision"].ravel()
        known = precision[precision > -1]
        return float(known.mean()) if len(known) else float("nan")

    def recall_at_one_false_alarm(self, chosen: NDArray[np.int64]) -> float:
        """Return the share of faces found if one false alarm per photograph is accepted."""
        matched = [self._by_photograph[k] for k in chosen if self._by_photograph[k] is not None]
        if not matched:
            return float("nan")
        scores = np.concatenate([m["dtScores"] for m in matched])
        right = np.concatenate([m["dtMatches"][0] > 0 for m in matched])
        counted = ~np.concatenate([m["dtIgnore"][0] for m in matched]).astype(bool)
        faces = int(sum((~np.asarray(m["gtIgnore"], bool)).sum() for m in matched))
        order = np.argsort(-scores[counted], kind="stable")
        right = right[counted][order]
        allowed = np.cumsum(~right) <= len(chosen)
        return float(right[allowed].sum() / faces) if faces else float("nan")


def _annotations(
    photographs: Sequence[AnnotatedPhotograph], found: Sequence[Detections], label: int | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return faces and detections in COCO's form; `label` None takes them whatever their label."""
    truth: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for k, (photograph, faces) in enumerate(zip(photographs, found, strict=True)):
        wanted = (
            np.ones(len(photograph.labels), bool) if label is None else photograph.labels == label
        )
        for boxes, ignore in ((photograph.boxes[wanted], False), (photograph.ignored, True)):
            truth += [_annotation(len(truth) + n, k, box, ignore) for n, box in enumerate(boxes, 1)]
        scores = faces.scores if label is None else faces.scores * faces.labels[:, label]
        detections += [
            {**_annotation(len(detections) + n, k, box, False), "score": float(score)}
            for n, (box, score) in enumerate(zip(faces.boxes, scores, strict=True), 1)
        ]
    return truth, detections


def _annotation(
    number: int, photograph: int, box: NDArray[np.float32], ignore: bool
) -> dict[str, Any]:
    left, top, right, bottom = (float(v) for v in box)
    return {
        "id": number,
        "image_id": photograph,
        "category_id": 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": min(right - left, bottom - top) ** 2,
        "iscrowd": int(ignore),
    }
