"""One run of the command `detect`: what it prints, what it writes, and what it adds up."""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tinygrad_mask.files import write_file
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.detector.inference.photographs import (
    LOWEST_SCORE,
    AnsweredPhotograph,
    AnswerSettings,
    answer_photographs,
)
from tinygrad_mask.masks.detector.inference.results import (
    ANSWERS,
    coco_entries,
    counts_text,
    face_line,
    plural,
)
from tinygrad_mask.masks.detector.inference.sources import UNREADABLE, Kind, Source
from tinygrad_mask.masks.detector.inference.videos import AnsweredFrame, VideoFaces
from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.file_names import printable, unicode_name
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.tracking import SeenPerson
from tinygrad_mask.masks.video import VideoSource

_BROKEN_OFF = "ended too early"


class Session:
    """Answers sources one after the other; `finish` prints the sums and writes the detections.

    `as_json` prints JSON lines instead of text, `out` is the folder to draw into, `detections` the
    file to write; see the command's help.
    """

    def __init__(
        self,
        detector: Detector,
        settings: AnswerSettings,
        issues: DataIssues,
        *,
        as_json: bool = False,
        out: Path | None = None,
        detections: Path | None = None,
    ) -> None:
        self.detector = detector
        self.settings = settings
        self.issues = issues
        self.as_json = as_json
        self.out = out
        self.detections = detections
        self._lowest = None if detections is None else LOWEST_SCORE
        self._entries: list[str] = []  # in JSON already, a tenth of the memory
        self._faces: Counter[str] = Counter()
        self._persons: Counter[str] = Counter()
        self._photographs = self._videos = 0
        self._photograph_seconds = 0.0

    @property
    def complete(self) -> bool:
        """Whether everything could be read to its end."""
        return not (self.issues.items.get(UNREADABLE) or self.issues.items.get(_BROKEN_OFF))

    def answer_photographs(self, sources: Sequence[Source]) -> None:
        """Print and draw the faces of photographs."""
        if not sources:
            return
        start = time.perf_counter()
        answered = answer_photographs(
            self.detector,
            sources,
            self.settings,
            self.issues,
            lowest_score=self._lowest,
            out=self.out,
        )
        with _bar(len(sources), "photo") as bar:
            for photograph in answered:
                bar.update()
                self._photograph(photograph)
        self._photograph_seconds = time.perf_counter() - start

    def answer_video(self, source: Source) -> None:
        """Print and draw the persons in a video or a live source, to its end or until Ctrl-C.

        Ctrl-C is how one ends a live source; while a file is read it stops everything. What was
        drawn until then is complete in both cases.
        """
        try:
            video = VideoSource(source.place)
        except UsageError as error:
            reason = str(error).removeprefix(f"{source.name}: ")
            self.issues.warn(UNREADABLE, printable(source.name), reason)
            return
        out = None if self.out is None else self.out / source.drawn
        faces = VideoFaces(self.detector, video, self.settings, self._lowest, out)
        persons: Counter[str] = Counter()
        stopped = False
        with video, _bar(video.frame_count, "frame") as bar:
            try:
                for frame in faces:
                    bar.update(frame.frame.number + 1 - bar.n)
                    self._frame(source, frame)
                    for person in faces.tracker.departed():
                        self._person(source, faces, person, persons)
            except KeyboardInterrupt:
                if source.kind is not Kind.LIVE:
                    raise
                stopped = True
        if faces.timing.frames == 0 and not stopped:
            reason = video.failure or "no frame of it can be decoded"
            self.issues.warn(UNREADABLE, printable(source.name), reason)
            return
        for person in faces.tracker.present():
            self._person(source, faces, person, persons)
        self._videos += 1
        self._persons += persons
        self._video_summary(source, faces, persons)
        if video.failure is not None:
            self.issues.warn(_BROKEN_OFF, printable(source.name), video.failure)

    def finish(self) -> None:
        """Write the file of detections and print the sums.

        Raises `UsageError` if nothing could be read.
        """
        unreadable = len(self.issues.items.get(UNREADABLE, []))
        if not (self._photographs or self._videos):
            raise UsageError(
                f"none of the photographs and videos can be read ({plural(unreadable, 'failure')})"
            )
        if self.detections is not None:
            write_file(self.detections, f"[{', '.join(self._entries)}]\n".encode())
        if self.as_json:
            self._print_json(
                "summary",
                photographs=self._photographs,
                faces=_by_answer(self._faces),
                videos=self._videos,
                persons=_by_answer(self._persons),
                not_read={
                    kind: list(map(unicode_name, v)) for kind, v in self.issues.items.items()
                },
            )
        elif self._photographs:
            _print(self._photographs_summary())
        if unreadable:
            print(f"{plural(unreadable, 'path')} could not be read", file=sys.stderr)

    # --- photographs ------------------------------------------------------------------------

    def _photograph(self, photograph: AnsweredPhotograph) -> None:
        source = photograph.source
        self._photographs += 1
        self._faces.update(face.answer for face in photograph.faces)
        self._keep(source.stem, photograph.found)
        if self.as_json:
            width, height = photograph.size
            faces = [face.to_json() for face in photograph.faces]
            self._print_json(
                "photograph",
                name=unicode_name(source.name),
                width=width,
                height=height,
                faces=faces,
            )
            return
        for face in photograph.faces:
            _print(face_line(source.name, face))
        if not photograph.faces:
            _print(f"{printable(source.name)}  no face")

    def _photographs_summary(self) -> str:
        count, seconds = self._photographs, self._photograph_seconds
        faces = self._faces.total()
        found = f"{plural(faces, 'face')}: {counts_text(self._faces)}" if faces else "no face"
        return (
            f"{plural(count, 'photograph')}, {found}; {seconds:.1f} s, "
            f"{count / max(seconds, 1e-9):.1f} a second"
        )

    # --- videos -----------------------------------------------------------------------------

    def _frame(self, source: Source, answered: AnsweredFrame) -> None:
        frame = answered.frame
        self._keep(f"{source.stem}/{frame.number}", answered.found)
        if self.as_json:
            faces = [
                {"person": number, **face.to_json()}
                for number, face in zip(answered.persons, answered.faces, strict=True)
            ]
            self._print_json(
                "frame",
                name=unicode_name(source.name),
                number=frame.number,
                seconds=round(frame.seconds, 3),
                faces=faces,
            )
        if source.kind is Kind.LIVE:
            sys.stdout.flush()  # whoever reads it wants to know now

    def _person(
        self, source: Source, faces: VideoFaces, person: SeenPerson, counts: Counter[str]
    ) -> None:
        answer = faces.answer_of(person)
        counts[answer] += 1
        probabilities = dict(zip(LABELS, person.probabilities.tolist(), strict=True))
        if self.as_json:
            self._print_json(
                "person",
                name=unicode_name(source.name),
                person=person.track,
                answer=answer,
                probabilities=probabilities,
                first=round(person.first, 3),
                last=round(person.last, 3),
                frames=person.frames,
            )
            return
        sure = f" {probabilities[answer]:.3f}" if answer in LABELS else ""
        _print(
            f"{printable(source.name)}  person {person.track}  {answer}{sure}  "
            f"({person.first:.1f} to {person.last:.1f} s, {plural(person.frames, 'frame')})"
        )

    def _video_summary(self, source: Source, faces: VideoFaces, persons: Counter[str]) -> None:
        timing, video = faces.timing, faces.video
        if self.as_json:
            self._print_json(
                "video",
                name=unicode_name(source.name),
                frames=timing.frames,
                frames_per_second=round(timing.frames_per_second, 2),
                broken=video.broken,
                dropped=video.dropped,
                persons=_by_answer(persons),
            )
            return
        parts = [f"{plural(timing.frames, 'frame')}, {timing.frames_per_second:.1f} a second"]
        if timing.total:
            spent = {
                "finding": timing.finding,
                "drawing": timing.drawing if self.out is not None else 0.0,
                "reading": timing.reading,
            }
            shares = [f"{of / timing.total:.0%} {what}" for what, of in spent.items() if of]
            parts[0] += f" ({', '.join(shares)})"
        if video.broken:
            parts.append(f"{video.broken:,} broken and skipped")
        if video.dropped:
            parts.append(f"{video.dropped:,} dropped to keep up")
        total = persons.total()
        parts.append(f"{plural(total, 'person')}: {counts_text(persons)}" if total else "no person")
        _print(f"{printable(source.name)}: {'; '.join(parts)}")

    # --- output -----------------------------------------------------------------------------

    def _keep(self, image_id: str, found: Detections) -> None:
        if self.detections is not None:
            self._entries += [json.dumps(entry) for entry in coco_entries(image_id, found)]

    def _print_json(self, kind: str, **content: Any) -> None:
        _print(json.dumps({"kind": kind, **content}, ensure_ascii=False))


def _by_answer(counts: Mapping[str, int]) -> dict[str, int]:
    return {answer: counts.get(answer, 0) for answer in ANSWERS}


def _bar(total: int | None, unit: str) -> Any:
    return tqdm(total=total, unit=unit, leave=False, disable=not sys.stderr.isatty())


def _print(line: str) -> None:
    """Print a line above the progress bar, if there is one."""
    tqdm.write(line, file=sys.stdout)
