"""Which photographs a detector learns from, and which of them must not be separated."""

from pathlib import Path

import numpy as np
import pytest
from boxed_photographs import boxed_photographs, has_boxes, write_voc

from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs
from tinygrad_mask.masks.detector.runs.loading import load_photographs
from tinygrad_mask.masks.errors import UsageError


def test_copies_by_pixels_and_by_name_have_one_group(tmp_path):
    photographs = boxed_photographs(4, 5)
    plain = write_voc(tmp_path / "plain", photographs)
    large = write_voc(tmp_path / "large", photographs[:3], enlarged=2)
    # Of the same name as the plain folder's third photograph, but with other pixels.
    other = photographs[3].open().transpose(0)
    other.resize((400, 320)).save(large / "images" / "2.png")
    data = load_photographs([str(plain), str(large)], seed=0)
    assert len(data.photographs) == 7
    assert len(data.hashes) == 7
    assert data.groups.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert len(data.labels) == len(data.photograph) == sum(len(p.faces) for p in data.photographs)
    assert data.photograph[-1] == 6
    assert "together" in data.summary


def test_what_cannot_be_learned_from_is_left_out_and_told(tmp_path, caplog):
    folder = write_voc(tmp_path / "voc", boxed_photographs(3, 5))
    (folder / "images" / "0.png").write_bytes(b"no picture")
    annotation = folder / "annotations" / "1.xml"
    outside = "<object><name>with_mask</name><bndbox><xmin>900</xmin><ymin>900</ymin>"
    outside += "<xmax>950</xmax><ymax>950</ymax></bndbox></object>"
    text = annotation.read_text()
    annotation.write_text(text.replace("<annotation>", f"<annotation>{outside}"))
    data = load_photographs([str(folder)], seed=0)
    assert [photograph.name for photograph in data.photographs] == ["1", "2"]
    for photograph in data.photographs:
        assert all(face.box is not None and face.box[2] < 400 for face in photograph.faces)
    assert data.issues.counts() == {
        "photograph cannot be read": 1,
        "box outside its photograph": 1,
    }
    assert len(caplog.records) == 2


def test_faces_without_boxes_are_refused(tmp_path):
    for label in ("with_mask", "without_mask"):
        folder = Path(tmp_path / label)
        folder.mkdir()
        for photograph in synthetic_photographs(2, 1):
            photograph.open().save(folder / f"{label}-{photograph.index}.png")
    with pytest.raises(UsageError, match=r"expected photographs whose faces have boxes.*among 4"):
        load_photographs([str(tmp_path)], seed=0)


def test_drawn_photographs_are_read_as_they_are_but_for_close_ups():
    data = load_photographs(["synthetic:12"], seed=7)
    drawn = synthetic_photographs(12, 7)
    scenes = [photograph for photograph in drawn if has_boxes(photograph)]
    assert 0 < len(scenes) < 12
    for photograph, expected in zip(data.photographs, scenes, strict=True):
        assert photograph.faces == expected.faces
        assert photograph.source == "synthetic"
        assert photograph.ignored == ()
        assert (np.asarray(photograph.open()) == np.asarray(expected.open())).all()
    assert data.issues.counts() == {
        "photograph with a face that has no box": 12 - len(scenes),
    }
