"""Average precision at an intersection over union of 0.5, as pycocotools computes it.

Evaluators differ by several points in how they interpolate and how they treat ignored boxes, so the
COCO project's own code is used (the extra `coco`). Intervals are bootstrapped by photograph: the
faces of one photograph are alike, and resampling faces would make the intervals too narrow.
"""

import contextlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.errors import UsageError
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

RECALLS = np.linspace(0, 1, 101)
"""The recalls at which precision is looked at, as COCO's evaluation has them."""

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


ANY_FACE, MEAN, ONE_FALSE_ALARM = "any face", "mean", "recall at one false alarm"
"""The names of the figures that are not of one label or size."""


def evaluate_detections(
    photographs: Sequence[AnnotatedPhotograph],
    found: Sequence[Detections],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return the figures of a detector on annotated photographs; see `Matchings.estimates`."""
    return Matchings(photographs, found).estimates(resamples=resamples, seed=seed)


class Matchings:
    """Which detections found which faces: whatever their label, by size, and by label.

    Raises `UsageError` if pycocotools is not installed.
    """

    def __init__(
        self, photographs: Sequence[AnnotatedPhotograph], found: Sequence[Detections]
    ) -> None:
        check_pycocotools()
        self.photographs, self.found = photographs, found
        self.any_face = FaceMatching(photographs, found, None, _ANY_SIZE)
        self.by_size = {
            name: FaceMatching(photographs, found, None, size) for name, size in SIZES.items()
        }
        self.by_label = {
            name: FaceMatching(photographs, found, k, _ANY_SIZE) for k, name in enumerate(LABELS)
        }

    def estimates(self, *, resamples: int = 1000, seed: int = 0) -> dict[str, Estimate]:
        """Return all figures by name, with intervals of so many resamples.

        `any face` is the average precision of finding faces whatever their label, then by the sizes
        of `SIZES`; each label's is that of finding faces with that label, scored by the probability
        of a face times that of the label; `mean` is their mean; `recall at one false alarm` the
        share of faces found at the score at which there is one false alarm per photograph. A figure
        of no face is NaN, and so are the ends of an interval of no resamples.
        """
        count = len(self.photographs)
        draws = np.random.default_rng(seed).integers(count, size=(resamples, count))
        times = [np.bincount(draw, minlength=count) for draw in draws]
        named = {ANY_FACE: self.any_face, **self.by_size, **self.by_label}
        values = {name: matching.average_precision() for name, matching in named.items()}
        resampled = {
            name: [matching.average_precision_of(t) for t in times]
            for name, matching in named.items()
        }
        values[MEAN] = float(np.mean([values[name] for name in LABELS]))
        resampled[MEAN] = np.mean([resampled[name] for name in LABELS], axis=0).tolist()
        once = np.ones(count, np.int64)
        values[ONE_FALSE_ALARM] = self.any_face.recall_at_one_false_alarm(once)
        resampled[ONE_FALSE_ALARM] = [self.any_face.recall_at_one_false_alarm(t) for t in times]
        return {name: _estimate(values[name], resampled[name]) for name in values}

    def faces(self) -> dict[str, int]:
        """Return the number of faces that each average precision is of, by its name."""
        named = {ANY_FACE: self.any_face, **self.by_size, **self.by_label}
        return {name: int(matching.faces.sum()) for name, matching in named.items()}

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Return the precision at each of `RECALLS`, of any face and of each label with faces."""
        named = {ANY_FACE: self.any_face, **self.by_label}
        return {name: of.precision() for name, of in named.items() if of.faces.any()}


def check_pycocotools() -> None:
    """Raise `UsageError` if pycocotools is not installed."""
    if importlib.util.find_spec("pycocotools") is None:
        raise UsageError(
            "the average precision of a detector needs the package pycocotools: "
            "pip install 'tinygrad_mask[coco]'"
        )


def _estimate(value: float, resampled: Sequence[float]) -> Estimate:
    known = [figure for figure in resampled if np.isfinite(figure)]
    if not known:
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


class FaceMatching:
    """Which detection of one kind found which face, by pycocotools, once for all resamples.

    `faces` (photographs,) is the number of faces of each photograph. The detections that are not
    ignored, most certain first: `scores` (n,), whether each is `right` (n,), the position of its
    `photograph` (n,) and its `detection` (n,) among that photograph's. `found_by` has, for the
    photograph and the position of each face that was found, the score of what found it.
    """

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
            self._evaluation = COCOeval(known, results, "bbox")
            parameters = self._evaluation.params
            parameters.iouThrs = np.array([IOU])
            parameters.recThrs = RECALLS
            parameters.maxDets = [MOST_DETECTIONS]
            # Here 'area' is the square of a box's shorter side.
            parameters.areaRng = [[size[0] ** 2, np.nextafter(size[1] ** 2, 0)]]
            parameters.areaRngLbl = ["all"]
            self._evaluation.evaluate()
            self._by_photograph: list[Any] = list(self._evaluation.evalImgs)
            self._evaluation.accumulate()
        self.faces = np.zeros(len(photographs), np.int64)
        self.found_by: dict[tuple[int, int], float] = {}
        rows: list[tuple[float, bool, int, int]] = []
        place_of_face = {annotation["id"]: annotation["place"] for annotation in truth}
        place_of_detection = {annotation["id"]: annotation["place"] for annotation in detections}
        for k, matched in enumerate(self._by_photograph):
            if matched is None:
                continue
            self.faces[k] = np.count_nonzero(~np.asarray(matched["gtIgnore"], bool))
            score_of = dict(zip(matched["dtIds"], matched["dtScores"], strict=True))
            for face, by in zip(matched["gtIds"], matched["gtMatches"][0], strict=True):
                if by:
                    self.found_by[k, place_of_face[face]] = float(score_of[int(by)])
            rows += [
                (float(score), bool(face), k, place_of_detection[detection])
                for detection, score, face, ignored in zip(
                    matched["dtIds"],
                    matched["dtScores"],
                    matched["dtMatches"][0],
                    matched["dtIgnore"][0],
                    strict=True,
                )
                if not ignored
            ]
        rows.sort(key=lambda row: -row[0])
        self.scores = np.array([row[0] for row in rows])
        self.right = np.array([row[1] for row in rows], bool)
        self.photograph = np.array([row[2] for row in rows], np.int64)
        self.detection = np.array([row[3] for row in rows], np.int64)

    def precision(self) -> NDArray[np.float64]:
        """Return the precision at each of `RECALLS`, as pycocotools interpolates it."""
        precision: NDArray[np.float64] = self._evaluation.eval["precision"].ravel()
        return np.where(precision < 0, np.nan, precision)

    def average_precision(self) -> float:
        """Return the average precision as pycocotools computes it; NaN without faces."""
        return float(self.precision().mean())

    def average_precision_of(self, times: NDArray[np.int64]) -> float:
        """Return the average precision if each photograph were there so many `times`.

        The same as that of pycocotools for such a list of photographs, which takes far longer.
        """
        faces = int(times @ self.faces)
        if not faces:
            return float("nan")
        right = np.repeat(self.right, times[self.photograph])
        if not len(right):
            return 0.0
        found = np.cumsum(right)
        precision = found / (np.arange(1, len(right) + 1) + np.spacing(1))
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
        return float(best[np.searchsorted(found / faces, RECALLS, side="left")].mean())

    def recall_at_one_false_alarm(self, times: NDArray[np.int64]) -> float:
        """Return the share of faces found if one false alarm per photograph is accepted.

        Each photograph is there so many `times`.
        """
        faces = int(times @ self.faces)
        if not faces:
            return float("nan")
        right = np.repeat(self.right, times[self.photograph])
        allowed = np.cumsum(~right) <= times.sum()
        return float(right[allowed].sum() / faces)


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
        for places, boxes, ignore in (
            (np.flatnonzero(wanted), photograph.boxes, False),
            (np.arange(len(photograph.ignored)), photograph.ignored, True),
        ):
            truth += [
                _annotation(len(truth) + n, k, place, boxes[place], ignore)
                for n, place in enumerate(places.tolist(), 1)
            ]
        scores = faces.scores if label is None else faces.scores * faces.labels[:, label]
        detections += [
            {
                **_annotation(len(detections) + place + 1, k, place, box, False),
                "score": float(score),
            }
            for place, (box, score) in enumerate(zip(faces.boxes, scores, strict=True))
        ]
    return truth, detections


def _annotation(
    number: int, photograph: int, place: int, box: NDArray[np.float32], ignore: bool
) -> dict[str, Any]:
    left, top, right, bottom = (float(v) for v in box)
    return {
        "id": number,
        "place": place,
        "image_id": photograph,
        "category_id": 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": min(right - left, bottom - top) ** 2,
        "iscrowd": int(ignore),
    }
