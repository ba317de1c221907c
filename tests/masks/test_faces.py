import gc
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygrad_mask.masks.crops import CropSettings, crop_face, crop_with_border
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import Box, Face, Photograph
from tinygrad_mask.masks.duplicates import perceptual_hash
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.faces import FaceSet, crop_faces
from tinygrad_mask.masks.labels import LABELS

SETTINGS = CropSettings(size=12)


@dataclass
class Noise:
    """A photograph in memory, with one picture per name."""

    name: str
    faces: tuple[Face, ...]
    source: str = "noise"
    ignored: tuple[Box, ...] = ()
    opened: list[str] = field(default_factory=list)

    def open(self) -> Image.Image:
        self.opened.append(self.name)
        if self.name == "broken":
            raise OSError("broken.jpg: image file is truncated")
        rng = np.random.default_rng(list(self.name.encode()))
        return Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))


def cut(photographs: Sequence[Photograph], issues: DataIssues, **options: float) -> FaceSet:
    return crop_faces(
        photographs,
        SETTINGS,
        issues,
        min_face=options.get("min_face", 0),
        workers=int(options.get("workers", 0)),
        progress=False,
    )


def some(count: int) -> list[Noise]:
    rng = np.random.default_rng(0)
    return [
        Noise(
            f"p{index}",
            tuple(
                Face(LABELS[rng.integers(3)], (x, y, x + 20.0, y + 25.0))
                for x, y in rng.integers(0, 30, (rng.integers(4), 2))
            ),
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("workers", [0, 3])
def test_every_face_is_cut_in_order_and_every_photograph_opened_once(workers: int) -> None:
    photographs = some(30)
    issues = DataIssues()
    faces = cut(photographs, issues, workers=workers)
    row = 0
    for index, photograph in enumerate(photographs):
        assert photograph.opened == [photograph.name]
        picture = photograph.open()
        np.testing.assert_array_equal(faces.hashes[index], perceptual_hash(picture))
        for number, face in enumerate(photograph.faces):
            expected = crop_face(picture, face.box, SETTINGS)
            np.testing.assert_array_equal(faces.crops[row], expected)
            assert LABELS[faces.labels[row]] == face.label
            assert (faces.photograph[row], faces.face[row]) == (index, number)
            assert faces.sizes[row] == 20
            row += 1
    assert row == len(faces) == len(faces.crops)
    assert faces.labels_by_photograph() == [[f.label for f in p.faces] for p in photographs]
    assert issues.counts() == {}


def test_cuts_are_the_crops_with_their_borders() -> None:
    photographs = some(9)
    faces = crop_faces(
        photographs, SETTINGS, DataIssues(), min_face=0, border=3, workers=0, progress=False
    )
    plain = cut(photographs, DataIssues())
    np.testing.assert_array_equal(faces.crops, plain.crops)
    np.testing.assert_array_equal(plain.cuts, plain.crops)
    assert faces.cuts.shape == (len(faces), 18, 18, 3)
    face = photographs[faces.photograph[0]].faces[0]
    expected = crop_with_border(photographs[faces.photograph[0]].open(), face.box, SETTINGS, 3)
    np.testing.assert_array_equal(faces.cuts[0], expected)


def test_kinds_of_the_arrays() -> None:
    faces = cut(some(9), DataIssues())
    kinds = [a.dtype.name for a in (faces.labels, faces.photograph, faces.face)]
    assert kinds == ["int64"] * 3
    assert (faces.sizes.dtype.name, faces.hashes.dtype.name) == ("float32", "uint64")
    assert (faces.crops.dtype.name, *faces.crops.shape[1:]) == ("uint8", 12, 12, 3)
    with pytest.raises(ValueError, match="read-only"):
        faces.crops[0, 0, 0, 0] = 1


def test_photograph_that_cannot_be_read_is_counted_and_left_out() -> None:
    one = (Face("proper", (0, 0, 20, 20)),)
    issues = DataIssues()
    faces = cut([Noise("a", one), Noise("broken", one), Noise("b", one)], issues)
    assert issues.items == {"photograph cannot be read": ["noise/broken"]}
    assert [photograph.name for photograph in faces.photographs] == ["a", "b"]
    assert faces.photograph.tolist() == [0, 1]
    assert len(faces.hashes) == 2


def test_box_outside_and_small_face_are_counted_and_the_rest_is_kept() -> None:
    photograph = Noise(
        "a",
        (
            Face("proper", (80, 0, 99, 20)),
            Face("improper", (0, 0, 9, 30)),
            Face("none", (70, 10, 90, 40)),  # 10 pixels wide once clipped
            Face("none", None),
        ),
    )
    issues = DataIssues()
    faces = cut([photograph], issues, min_face=10)
    assert issues.counts() == {
        "box outside its photograph": 1,
        "face smaller than 10 pixels": 1,
    }
    assert faces.face.tolist() == [2, 3]
    assert faces.sizes.tolist() == [10, 60]


def test_no_face_left_is_an_error() -> None:
    with pytest.raises(UsageError, match="no face of at least 21 pixels in 30 photographs"):
        cut(some(30), DataIssues(), min_face=21)
    with pytest.raises(UsageError, match="no face"):
        cut([], DataIssues())


def test_temporary_file_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    faces = cut(some(9), DataIssues())
    assert isinstance(faces.crops, np.memmap)
    del faces
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_the_crops_is_an_error() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", lambda **_: full.open("wb", buffering=0))
        with pytest.raises(UsageError, match="no room for the faces' crops"):
            cut(some(9), DataIssues())
