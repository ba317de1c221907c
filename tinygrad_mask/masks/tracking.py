"""Follow faces over the frames of a video: a person keeps an id, and the label does not flicker.

A simple IoU tracker (Bochinski et al. 2017): a track and a detection belong together if their boxes
overlap, most overlapping pairs first. Between two frames a track is expected to move on as it moved
before. A track's probabilities are an exponential average over its frames, and its label changes
only when another is clearly more probable.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.datasets.records import Box
from tinygrad_mask.masks.labels import LABELS


@dataclass(frozen=True)
class TrackedFace:
    """A person in one frame.

    `track` is the person's number, from 1. `box` is that of this frame, x1, y1, x2, y2 in pixels.
    `probabilities` (3,) are smoothed over the person's frames, and `label`, a position in `LABELS`,
    is what they have been called for; `detection` is the position of the face among those of the
    frame.
    """

    track: int
    box: Box
    label: int
    probabilities: NDArray[np.float32]
    detection: int


@dataclass(frozen=True, eq=False)
class SeenPerson:
    """Somebody who was seen in a video.

    `track` is the person's number; `label`, a position in `LABELS`, and `probabilities` (3,) are
    those that the person ended with, or has now. `first` and `last` are the times between which
    they were seen, in `frames` frames; `size` is the shorter side of the largest of their boxes, in
    pixels.
    """

    track: int
    label: int
    probabilities: NDArray[np.float32]
    first: float
    last: float
    frames: int
    size: float


class _Track:
    def __init__(
        self, number: int, time: float, box: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> None:
        self.number = number
        self.first = self.last = time
        self.size = _shorter_side(box)
        self.box = box
        self.velocity = np.zeros(4, np.float32)  # pixels per frame, of each edge
        self.probabilities = labels
        self.label = int(labels.argmax())
        self.frames = 1
        self.missed = 0

    @property
    def expected(self) -> NDArray[np.float32]:
        return self.box + self.velocity * (self.missed + 1)

    def person(self) -> SeenPerson:
        return SeenPerson(
            track=self.number,
            label=self.label,
            probabilities=self.probabilities,
            first=self.first,
            last=self.last,
            frames=self.frames,
            size=self.size,
        )


class Tracker:
    """Give the faces of successive frames the numbers of the persons that they are of.

    `overlap` is the least intersection over union of a face with the place where its person is
    expected, `patience` how many frames a person may be hidden before they count as gone,
    `smoothing` in [0, 1) how much of the probabilities so far a frame leaves, `margin` by how much
    another label must be more probable before a person is called that. A person counts from their
    frame number `confirmed` on: what was seen once may be a false alarm.

    Example:
        >>> tracker = Tracker()
        >>> boxes, labels = np.array([[10, 10, 50, 60]]), np.array([[0.9, 0.05, 0.05]])
        >>> [face.track for face in tracker.update(boxes, labels)]
        [1]
        >>> [face.track for face in tracker.update(boxes + 3, labels)]
        [1]
    """

    def __init__(
        self,
        *,
        overlap: float = 0.3,
        patience: int = 15,
        smoothing: float = 0.8,
        margin: float = 0.1,
        confirmed: int = 3,
    ) -> None:
        if not (0 < overlap <= 1 and 0 <= smoothing < 1 and patience >= 0 and confirmed >= 1):
            raise ValueError(
                "Tracker: expected 0 < overlap <= 1, 0 <= smoothing < 1, patience >= 0 and "
                f"confirmed >= 1, got {overlap}, {smoothing}, {patience} and {confirmed}"
            )
        self.overlap = overlap
        self.patience = patience
        self.smoothing = smoothing
        self.margin = margin
        self.confirmed = confirmed
        self._tracks: list[_Track] = []
        self._persons = 0
        self._frames = 0
        self._gone: Counter[int] = Counter()
        self._departed: list[SeenPerson] = []

    def update(
        self,
        boxes: NDArray[np.floating],
        labels: NDArray[np.floating],
        time: float | None = None,
    ) -> list[TrackedFace]:
        """Take the faces of the next frame and return them as persons, in the same order.

        `boxes` (n, 4) are x1, y1, x2, y2 in pixels, `labels` (n, 3) the probabilities of `LABELS`;
        `time` is when the frame was taken, by default its number from 0.
        """
        time = float(self._frames) if time is None else time
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        labels = np.asarray(labels, np.float32).reshape(-1, len(LABELS))
        self._frames += 1
        track_of = self._match(boxes)
        for known in self._tracks:
            if known not in track_of.values():
                known.missed += 1
        faces = []
        for k, (box, probabilities) in enumerate(zip(boxes, labels, strict=True)):
            track = track_of.get(k)
            if track is None:
                self._persons += 1
                track = _Track(self._persons, time, box, probabilities)
                self._tracks.append(track)
            else:
                self._follow(track, time, box, probabilities)
            left, top, right, bottom = box.tolist()
            faces.append(
                TrackedFace(
                    track.number, (left, top, right, bottom), track.label, track.probabilities, k
                )
            )
        for lost in [known for known in self._tracks if known.missed > self.patience]:
            self._tracks.remove(lost)
            if lost.frames >= self.confirmed:
                self._gone[lost.label] += 1
                self._departed.append(lost.person())
        return faces

    def departed(self) -> list[SeenPerson]:
        """Return the persons who went away since this was last asked; they are then forgotten."""
        departed, self._departed = self._departed, []
        return departed

    def present(self) -> list[SeenPerson]:
        """Return the persons who have not gone away."""
        return [track.person() for track in self._tracks if track.frames >= self.confirmed]

    def counts(self) -> dict[str, int]:
        """Return how many persons have been seen so far, by the label that they ended with."""
        counts = self._gone + Counter(
            track.label for track in self._tracks if track.frames >= self.confirmed
        )
        return {name: counts[k] for k, name in enumerate(LABELS)}

    def _follow(
        self,
        track: _Track,
        time: float,
        box: NDArray[np.float32],
        probabilities: NDArray[np.float32],
    ) -> None:
        moved = (box - track.box) / np.float32(track.missed + 1)
        track.velocity = (track.velocity + moved) / np.float32(2)
        keep = np.float32(self.smoothing)
        track.probabilities = keep * track.probabilities + (1 - keep) * probabilities
        best = int(track.probabilities.argmax())
        if track.probabilities[best] > track.probabilities[track.label] + self.margin:
            track.label = best
        track.box, track.missed, track.last = box, 0, time
        track.size = max(track.size, _shorter_side(box))
        track.frames += 1

    def _match(self, boxes: NDArray[np.float32]) -> dict[int, _Track]:
        """Return the track of each box that has one, most overlapping pairs first."""
        if not (len(boxes) and self._tracks):
            return {}
        expected = np.stack([track.expected for track in self._tracks])
        overlaps = pairwise_iou(boxes, expected)
        track_of: dict[int, _Track] = {}
        taken: set[int] = set()
        for flat in np.argsort(-overlaps, axis=None, kind="stable"):
            box, track = divmod(int(flat), len(expected))
            if overlaps[box, track] < self.overlap:
                break
            if box not in track_of and track not in taken:
                track_of[box] = self._tracks[track]
                taken.add(track)
        return track_of


def _shorter_side(box: NDArray[np.float32]) -> float:
    return float((box[2:] - box[:2]).min())


def pairwise_iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of boxes (n, 4) with boxes (m, 4), as (n, m)."""
    corner = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inside = np.maximum(corner - np.maximum(first[:, None, :2], second[None, :, :2]), 0)
    both = inside.prod(axis=-1)
    areas = [np.maximum(b[:, 2:] - b[:, :2], 0).prod(axis=-1) for b in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - both
    return np.where(union > 0, both / np.maximum(union, np.finfo(np.float32).tiny), 0)
