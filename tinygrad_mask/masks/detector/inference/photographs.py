"""Find the faces in many photographs: decoded in threads, drawn, answered one by one."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tinygrad_mask.data import DataLoader
from tinygrad_mask.files import write_file
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.detector.inference.sources import UNREADABLE, Source
from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.detector.network.detector import (
    CONFIDENCE,
    LEAST_SCORE,
    MIN_FACE,
    DetectedFace,
    Detector,
    answers,
)
from tinygrad_mask.masks.detector.report.drawing import draw_faces, legible_scale
from tinygrad_mask.masks.file_names import printable
from tinygrad_mask.masks.images import read_image

LOWEST_SCORE = 0.02
"""The score down to which faces are written to a file of detections, for precision and recall."""

_WORKERS = 2  # threads that decode photographs
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class AnswerSettings:
    """What is taken for a face, and when it is judged; see `Detector.detect`."""

    least_score: float = LEAST_SCORE
    confidence: float = CONFIDENCE
    min_face: float = MIN_FACE


@dataclass(frozen=True, eq=False)
class AnsweredPhotograph:
    """A photograph (width, height) with its faces; `found` has those of low scores as well."""

    source: Source
    size: tuple[int, int]
    faces: list[DetectedFace]
    found: Detections


def answer_photographs(
    detector: Detector,
    sources: Sequence[Source],
    settings: AnswerSettings,
    issues: DataIssues,
    *,
    lowest_score: float | None = None,
    out: Path | None = None,
) -> Iterator[AnsweredPhotograph]:
    """Yield each photograph with its faces, in the order of the sources.

    Photographs that cannot be read are told to `issues` and passed over. `found` goes down to
    `lowest_score`, if that is given and below the least score of an answer. In the folder `out`
    each photograph is drawn with its faces before it is yielded. Memory does not grow with the
    photographs.
    """
    lowest = settings.least_score
    if lowest_score is not None:
        lowest = min(lowest, lowest_score)
    loader = DataLoader(_PhotographReader(sources), workers=_WORKERS, collate=list)
    for [(source, image)] in loader:
        if isinstance(image, str):
            issues.warn(UNREADABLE, printable(source.name), image)
            continue
        found = detector.find(image, lowest)
        faces = answers(
            found[np.flatnonzero(found.scores >= settings.least_score)],
            confidence=settings.confidence,
            min_face=settings.min_face,
        )
        if out is not None:
            drawn = draw_faces(image, faces, scale=legible_scale(image.size))
            write_file(out / source.drawn, _jpeg(drawn))
        yield AnsweredPhotograph(source, image.size, faces, found)


class _PhotographReader:
    """The data set whose item i is photograph i, or why it cannot be read."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[Source, Image.Image | str]:
        source = self.sources[index]
        try:
            return source, read_image(str(source.place))
        except OSError as error:
            return source, str(error).removeprefix(f"{source.name}: ")


def _jpeg(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return content.getvalue()
