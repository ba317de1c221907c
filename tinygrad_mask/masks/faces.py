"""One pass over photographs that cuts out every face, for the classifier to learn from."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinygrad_mask.data import DataLoader
from tinygrad_mask.masks.crops import CropSettings, box_size, crop_with_border
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.duplicates import HASH_WORDS, perceptual_hash
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS

MIN_FACE = 4.0
"""The default of the smallest face worth learning from: the shorter side of its box, in pixels.

Chosen on Larxel's data set, where half of the faces are under 22 pixels, 31% under 16, 17% under
12, 6% under 8 and 10 of 3325 under 4. The default network, trained for 20 epochs on four fifths of
the photographs without the faces under a size, and judged on all faces of the others:

    without those under   accuracy   balanced accuracy   macro-F1
                   0 px      0.965               0.905      0.872
                   8 px      0.956               0.893      0.854
                  12 px      0.948               0.850      0.818
                  16 px      0.942               0.839      0.807

Another split gave macro-F1 0.864 and 0.843 for the first two rows. Small faces help; left out is
only what no longer shows a face.
"""

_BATCH = 8  # photographs


@dataclass(frozen=True, eq=False)
class FaceSet:
    """The faces of `photographs`, n in all, in the order of photographs and of faces in each.

    `photographs` are those, out of the ones given, that could be read. `cuts` is uint8
    (n, size + 2 border, size + 2 border, 3), read-only, in a temporary file that vanishes with it:
    the faces' crops with `border` pixels of what is round them on each side. `labels` (n,) are
    positions in `LABELS`; `photograph` (n,) positions in `photographs`; `face` (n,) positions in
    that photograph's `faces`: all int64. `sizes` (n,), float32, are the shorter sides in pixels of
    the clipped boxes, or of the pictures. `hashes`, uint64 (len(photographs), HASH_WORDS), are the
    photographs' perceptual hashes.
    """

    photographs: tuple[Photograph, ...]
    cuts: NDArray[np.uint8]
    labels: NDArray[np.int64]
    photograph: NDArray[np.int64]
    face: NDArray[np.int64]
    sizes: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    border: int = 0

    @property
    def crops(self) -> NDArray[np.uint8]:
        """What a model sees of each face, (n, size, size, 3): the cuts without their borders."""
        inside = slice(self.border, self.cuts.shape[1] - self.border)
        return self.cuts[:, inside, inside]

    @property
    def sources(self) -> NDArray[np.int64]:
        """The data set of each face, (n,), as a number; all 0 where no photographs are known.

        Painted photographs are one data set, whatever they were painted on.
        """
        if not self.photographs:
            return np.zeros(len(self), np.int64)
        names = [
            "painted" if photograph.source.startswith("painted_") else photograph.source
            for photograph in self.photographs
        ]
        numbers: NDArray[np.int64] = np.unique(names, return_inverse=True)[1]
        return numbers[self.photograph]

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.labels)

    def labels_by_photograph(self) -> list[list[str]]:
        """Return for each photograph the labels of its faces, none where all were dropped."""
        labels: list[list[str]] = [[] for _ in self.photographs]
        for index, label in zip(self.photograph, self.labels, strict=True):
            labels[index].append(LABELS[label])
        return labels


def crop_faces(
    photographs: Sequence[Photograph],
    settings: CropSettings,
    issues: DataIssues,
    *,
    min_face: float,
    border: int = 0,
    workers: int,
    progress: bool,
) -> FaceSet:
    """Cut every face out of the photographs, each decoded once, by `workers` threads (0: none).

    `border` pixels of what is round the crop are kept, for augmentation to turn and shift into it.
    Memory does not grow with the data set. Photographs that cannot be read and boxes without area
    inside theirs are faults; faces whose shorter side is under `min_face` pixels are dropped and
    counted. `progress` shows a bar on standard error.

    Raises `UsageError` where no face is left or there is no room for the crops.
    """
    loader = DataLoader(
        _FaceCropper(photographs, settings, min_face, border),
        _BATCH,
        workers=workers,
        collate=list,
    )
    read: list[Photograph] = []
    hashes: list[NDArray[np.uint64]] = []
    rows: list[tuple[int, int, int, float]] = []  # label, photograph, face, size
    side = settings.size + 2 * border
    with (
        tempfile.TemporaryFile(prefix="tinygrad_mask-") as file,
        tqdm(total=len(photographs), desc="faces", unit="photo", disable=not progress) as bar,
    ):
        for index, cut in enumerate(item for batch in loader for item in batch):
            bar.update()
            name = f"{photographs[index].source}/{photographs[index].name}"
            if cut.unreadable:
                issues.warn("photograph cannot be read", name, cut.unreadable)
                continue
            for fault in cut.outside:
                issues.warn("box outside its photograph", name, fault)
            for _ in range(cut.small):
                issues.count(f"face smaller than {min_face:g} pixels", name)
            for pixels in cut.pixels:
                _append(file, pixels)
            rows += [(label, len(read), face, size) for label, face, size in cut.faces]
            read.append(photographs[index])
            hashes.append(cut.hash)
        if not rows:
            raise UsageError(
                f"no face of at least {min_face:g} pixels in {len(photographs)} photographs"
            )
        file.flush()
        cuts = np.memmap(file, dtype=np.uint8, mode="r", shape=(len(rows), side, side, 3))
    labels, photograph, face, sizes = zip(*rows, strict=True)
    return FaceSet(
        tuple(read),
        cuts,
        np.array(labels, dtype=np.int64),
        np.array(photograph, dtype=np.int64),
        np.array(face, dtype=np.int64),
        np.array(sizes, dtype=np.float32),
        np.array(hashes, dtype=np.uint64).reshape(-1, HASH_WORDS),
        border,
    )


@dataclass
class _CroppedPhotograph:
    """What became of one photograph; `faces` holds (label, face, size) of each face's pixels."""

    unreadable: str
    hash: NDArray[np.uint64]
    pixels: list[NDArray[np.uint8]]
    faces: list[tuple[int, int, float]]
    outside: list[str]
    small: int


class _FaceCropper:
    """The data set whose item i is what is cut out of photograph i."""

    def __init__(
        self,
        photographs: Sequence[Photograph],
        settings: CropSettings,
        min_face: float,
        border: int,
    ) -> None:
        self.photographs = photographs
        self.settings = settings
        self.min_face = min_face
        self.border = border

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> _CroppedPhotograph:
        cut = _CroppedPhotograph("", np.zeros(HASH_WORDS, dtype=np.uint64), [], [], [], 0)
        try:
            photograph = self.photographs[index].open()
        except OSError as error:
            cut.unreadable = str(error)
            return cut
        cut.hash = perceptual_hash(photograph)
        for number, face in enumerate(self.photographs[index].faces):
            try:
                size = box_size(photograph, face.box)
                if size < self.min_face:
                    cut.small += 1
                    continue
                cut.pixels.append(
                    crop_with_border(photograph, face.box, self.settings, self.border)
                )
            except ValueError as error:
                cut.outside.append(str(error))
                continue
            cut.faces.append((LABELS.index(face.label), number, size))
        return cut


def _append(file: IO[bytes], pixels: NDArray[np.uint8]) -> None:
    try:
        file.write(pixels.tobytes())
    except OSError as error:
        raise UsageError(
            f"{tempfile.gettempdir()}: no room for the faces' crops ({error.strerror}); "
            "the environment variable TMPDIR names another folder"
        ) from error
