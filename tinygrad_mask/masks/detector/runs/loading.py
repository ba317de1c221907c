"""Load data sets whose faces have boxes, and find the copies among their photographs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from tinygrad_mask.data import DataLoader
from tinygrad_mask.masks.crops import box_size
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_datasets
from tinygrad_mask.masks.datasets.records import Box, Face, Photograph
from tinygrad_mask.masks.duplicates import HASH_WORDS, duplicate_groups, perceptual_hash
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.summary import summarise

_WORKERS = 2  # threads that decode photographs
_BATCH = 8  # photographs


@dataclass(frozen=True)
class BoxedPhotograph:
    """A photograph all of whose faces have boxes with an area inside of it."""

    of: Photograph
    faces: tuple[Face, ...]

    @property
    def source(self) -> str:
        """The data set it is of."""
        return self.of.source

    @property
    def name(self) -> str:
        """Its name, unique within the data set."""
        return self.of.name

    @property
    def ignored(self) -> tuple[Box, ...]:
        """Regions that are neither a labelled face nor background."""
        return self.of.ignored

    def open(self) -> Image.Image:
        """Return its pixels, upright and in RGB; raises `OSError` if they cannot be read."""
        return self.of.open()


@dataclass(frozen=True, eq=False)
class DetectorData:
    """The photographs of some data sets, which of them are copies, and what was left out.

    `groups` (n,), int64, has the same number for photographs that must not be separated: copies by
    their pixels (see `duplicate_groups`), and those of one name in several data sets, such as a
    photograph at two resolutions. `hashes` (n, HASH_WORDS) are their perceptual hashes.
    """

    photographs: tuple[BoxedPhotograph, ...]
    hashes: NDArray[np.uint64]
    groups: NDArray[np.int64]
    issues: DataIssues

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels of all faces, positions in `LABELS`, int64."""
        return np.array(
            [LABELS.index(f.label) for p in self.photographs for f in p.faces], np.int64
        )

    @property
    def photograph(self) -> NDArray[np.int64]:
        """The position of each face's photograph, int64."""
        counts = [len(photograph.faces) for photograph in self.photographs]
        return np.repeat(np.arange(len(counts)), counts)

    @property
    def summary(self) -> str:
        """What there is to learn from, as a table."""
        return summarise(self, self.groups, self.issues)

    def labels_by_photograph(self) -> list[list[str]]:
        """Return for each photograph the labels of its faces."""
        return [[face.label for face in photograph.faces] for photograph in self.photographs]


def load_photographs(
    paths: Sequence[str],
    *,
    classes: Mapping[str, str] | None = None,
    other_coverings: str | None = None,
    seed: int,
) -> DetectorData:
    """Open data sets and read each photograph once, to know its copies and check its boxes.

    Photographs that cannot be read and boxes without area inside theirs are faults. Photographs
    with a face that has no box are left out. See `open_dataset` for the arguments.

    Raises `UsageError` if no face with a box is left.
    """
    issues = DataIssues()
    opened = open_datasets(
        paths, issues, classes=classes, other_coverings=other_coverings, seed=seed
    )
    loader = DataLoader(_Reader(opened), _BATCH, workers=_WORKERS, collate=list)
    photographs: list[BoxedPhotograph] = []
    hashes: list[NDArray[np.uint64]] = []
    with tqdm(total=len(opened), desc="photographs", leave=False, disable=None) as bar:
        for index, found in enumerate(item for batch in loader for item in batch):
            bar.update()
            name = f"{opened[index].source}/{opened[index].name}"
            if found.unreadable:
                issues.warn("photograph cannot be read", name, found.unreadable)
                continue
            if found.without_box:
                issues.count("photograph with a face that has no box", name)
                continue
            for fault in found.outside:
                issues.warn("box outside its photograph", name, fault)
            photographs.append(BoxedPhotograph(opened[index], tuple(found.faces)))
            hashes.append(found.hash)
    if not any(photograph.faces for photograph in photographs):
        raise UsageError(
            f"{', '.join(map(str, paths))}: expected photographs whose faces have boxes, such as "
            f"Larxel's, got none among {len(opened)}"
        )
    array = np.array(hashes, np.uint64).reshape(-1, HASH_WORDS)
    names = [photograph.name for photograph in photographs]
    return DetectorData(tuple(photographs), array, _joined(duplicate_groups(array), names), issues)


def _joined(groups: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """Join the groups of photographs that have the same name; number them from 0 without gap."""
    groups = groups.copy()
    first: dict[str, int] = {}
    for k, name in enumerate(names):
        groups[groups == groups[k]] = groups[first.setdefault(name, k)]
    numbered: NDArray[np.int64] = np.unique(groups, return_inverse=True)[1]
    return numbered


@dataclass
class _ReadPhotograph:
    """What was found in one photograph."""

    unreadable: str
    hash: NDArray[np.uint64]
    faces: list[Face]
    outside: list[str]
    without_box: bool


class _Reader:
    """The data set whose item i is what was found in photograph i."""

    def __init__(self, photographs: Sequence[Photograph]) -> None:
        self.photographs = photographs

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> _ReadPhotograph:
        photograph = self.photographs[index]
        found = _ReadPhotograph("", np.zeros(HASH_WORDS, np.uint64), [], [], False)
        try:
            image = photograph.open()
        except OSError as error:
            found.unreadable = str(error)
            return found
        found.hash = perceptual_hash(image)
        for face in photograph.faces:
            if face.box is None:
                found.without_box = True
                continue
            try:
                box_size(image, face.box)
            except ValueError as error:
                found.outside.append(str(error))
                continue
            found.faces.append(face)
        return found
