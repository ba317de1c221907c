"""Find and follow the faces in a video: persons with a number, whose answers do not flicker."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tinygrad_mask.masks.detector.inference.photographs import AnswerSettings
from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.detector.network.detector import (
    TOO_SMALL,
    UNSURE,
    DetectedFace,
    Detector,
    answers,
)
from tinygrad_mask.masks.detector.report.drawing import draw_faces
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.tracking import SeenPerson, TrackedFace, Tracker
from tinygrad_mask.masks.video import Frame, VideoSource, VideoWriter

_FRAMES_PER_SECOND = 25.0  # of a source that does not say


@dataclass(frozen=True, eq=False)
class AnsweredFrame:
    """A frame with its faces; `persons` are the numbers of the persons that they are of.

    `found` has the faces of low scores as well; they are not followed.
    """

    frame: Frame
    faces: list[DetectedFace]
    persons: list[int]
    found: Detections


@dataclass
class VideoTiming:
    """Where the time of a video goes, in seconds, and how many frames it was spent on."""

    frames: int = 0
    reading: float = 0.0
    finding: float = 0.0
    drawing: float = 0.0
    total: float = 0.0

    @property
    def frames_per_second(self) -> float:
        """The frames in a second, end to end."""
        return self.frames / self.total if self.total else 0.0


@dataclass
class VideoFaces:
    """Iterate over a video: finds, follows and draws the faces frame by frame.

    `answer_of` says what a person of its `tracker` is answered with. In the file `out` the frames
    are drawn with their faces; it is complete when the iteration ends, for whatever reason.
    """

    detector: Detector
    video: VideoSource
    settings: AnswerSettings
    lowest_score: float | None = None
    out: Path | None = None
    tracker: Tracker = field(default_factory=Tracker)
    timing: VideoTiming = field(default_factory=VideoTiming)

    def __iter__(self) -> Iterator[AnsweredFrame]:
        """Yield the frames with their faces."""
        if self.out is None:
            yield from self._frames(None)
            return
        with VideoWriter(self.out, self.video.frames_per_second or _FRAMES_PER_SECOND) as writer:
            yield from self._frames(writer)

    def answer_of(self, person: SeenPerson) -> str:
        """Return the answer about a person: a label, `UNSURE` or `TOO_SMALL`."""
        if person.size < self.settings.min_face:
            return TOO_SMALL
        sure = person.probabilities[person.label] >= self.settings.confidence
        return LABELS[person.label] if sure else UNSURE

    def _frames(self, writer: VideoWriter | None) -> Iterator[AnsweredFrame]:
        start = asked = time.perf_counter()
        first = None  # a stream may have run for days
        for frame in self.video:
            first = frame.seconds if first is None else first
            frame = replace(frame, seconds=frame.seconds - first)
            came = time.perf_counter()
            answered = self._answer(frame)
            found = time.perf_counter()
            if writer is not None:
                image = draw_faces(frame.image, answered.faces, answered.persons)
                writer.write(image, frame.seconds)
            drawn = time.perf_counter()
            self.timing.frames += 1
            self.timing.reading += came - asked
            self.timing.finding += found - came
            self.timing.drawing += drawn - found
            self.timing.total = drawn - start
            yield answered
            asked = time.perf_counter()

    def _answer(self, frame: Frame) -> AnsweredFrame:
        least = self.settings.least_score
        lowest = least if self.lowest_score is None else min(least, self.lowest_score)
        found = self.detector.find(frame.image, lowest)
        followed = found[np.flatnonzero(found.scores >= least)]
        faces = answers(
            followed, confidence=self.settings.confidence, min_face=self.settings.min_face
        )
        tracked = self.tracker.update(followed.boxes, followed.labels, frame.seconds)
        return AnsweredFrame(
            frame,
            [self._smoothed(faces[known.detection], known) for known in tracked],
            [known.track for known in tracked],
            found,
        )

    def _smoothed(self, face: DetectedFace, known: TrackedFace) -> DetectedFace:
        """Return a face with the label and the probabilities of its person."""
        probabilities = known.probabilities.tolist()
        label, probability = LABELS[known.label], float(probabilities[known.label])
        answer = face.answer
        if answer != TOO_SMALL:
            answer = label if probability >= self.settings.confidence else UNSURE
        by_name = dict(zip(LABELS, probabilities, strict=True))
        return replace(
            face, label=label, probability=probability, probabilities=by_name, answer=answer
        )
