import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import Face, open_dataset
from tinygrad_mask.masks.datasets.larxel import CLASSES, is_larxel
from tinygrad_mask.masks.datasets.pascal_voc import read_pascal_voc
from tinygrad_mask.masks.errors import UsageError

Item = tuple[str, tuple[object, object, object, object]]


def xml(*items: Item, filename: str = "other.png") -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in items
    )
    return f"<annotation><filename>{filename}</filename>{objects}</annotation>"


MASK: Item = ("with_mask", (10, 20, 30, 50))


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """Add a photograph of 100 x 80 and its annotation; return the data set's folder."""
    folder = tmp_path / "voc"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()

    def add(stem: str, content: str | None = None, suffix: str = ".png") -> Path:
        Image.new("RGB", (100, 80)).save(folder / "images" / f"{stem}{suffix}")
        (folder / "annotations" / f"{stem}.xml").write_text(content or xml(MASK))
        return folder

    return add


def read(folder: Path, **classes: str) -> tuple[dict[str, tuple[Face, ...]], dict[str, int]]:
    issues = DataIssues()
    found = read_pascal_voc(folder, issues, source="voc", classes=classes)
    return {photograph.name: photograph.faces for photograph in found}, issues.counts()


def test_image_is_matched_by_stem_whatever_its_suffix(add: Callable[..., Path]) -> None:
    add("a")
    add("b", suffix=".jpg")
    folder = add("c", suffix=".JPEG")
    assert read(folder) == (dict.fromkeys("abc", (Face("proper", (10, 20, 30, 50)),)), {})


def test_xml_beside_the_images_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(xml(MASK))
    (photograph,) = open_dataset(tmp_path, DataIssues())
    assert photograph.source == tmp_path.name
    assert photograph.faces == (Face("proper", (10, 20, 30, 50)),)
    assert photograph.open().size == (100, 80)


def test_the_layout_of_voc_itself_is_read(tmp_path: Path) -> None:
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "Annotations" / "a.xml").write_text(xml(MASK))
    assert len(open_dataset(tmp_path, DataIssues())) == 1


def test_larxel_is_known_by_its_file_names(add: Callable[..., Path]) -> None:
    items: list[Item] = [(name, (0, 0, 9, 9)) for name in CLASSES]
    folder = add("maksssksksss7", xml(*items))
    assert is_larxel(folder)
    (photograph,) = open_dataset(folder, DataIssues())
    assert photograph.source == "larxel"
    assert [face.label for face in photograph.faces] == ["proper", "improper", "none"]


def test_given_classes_come_before_the_usual_ones(add: Callable[..., Path]) -> None:
    folder = add("a", xml(("odd", (0, 0, 5, 5)), ("mask", (0, 0, 5, 5))))
    faces, _ = read(folder, odd="improper", mask="none")
    assert [face.label for face in faces["a"]] == ["improper", "none"]


def test_object_of_unknown_class_is_counted_and_ignored(
    add: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = add("a", xml(MASK, ("hat", (1, 2, 3, 4))))
    issues = DataIssues()
    with caplog.at_level(logging.WARNING, logger="tinygrad_mask"):
        (photograph,) = read_pascal_voc(folder, issues, source="voc", classes={})
    assert len(photograph.faces) == 1
    assert photograph.ignored == ((1, 2, 3, 4),)
    assert issues.counts() == {"object of unknown class": 1}
    assert "a.xml (hat)" in caplog.text


def test_no_known_class_is_an_error_that_names_them(add: Callable[..., Path]) -> None:
    folder = add("a", xml(("hat", (1, 2, 3, 4)), ("cap", (1, 2, 3, 4))))
    with pytest.raises(UsageError, match=r"it has cap, hat; .*--classes 'cap=proper"):
        open_dataset(folder, DataIssues())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<annotation><object>",
        b"<html></html>",
        b"\xff\xfe\x00garbage",
        b'<?xml version="1.0" encoding="klingon"?><annotation/>',
        b'<!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>',
    ],
)
def test_unreadable_annotation_is_counted_and_the_rest_is_read(
    add: Callable[..., Path], content: bytes
) -> None:
    add("a")
    folder = add("b")
    (folder / "annotations" / "b.xml").write_bytes(content)
    faces, counts = read(folder)
    assert list(faces) == ["a"]
    assert counts == {"annotation cannot be read": 1}


@pytest.mark.parametrize(
    "item",
    [
        ("with_mask", (10, 20, 10, 50)),
        ("with_mask", (30, 20, 10, 50)),
        ("with_mask", ("ten", 20, 30, 50)),
        ("with_mask", ("", 20, 30, 50)),
        ("with_mask", (10, 20, "inf", 50)),
        ("with_mask", (10, 20, 30, "nan")),
        ("", (10, 20, 30, 50)),
    ],
)
def test_object_that_cannot_be_used_is_counted(add: Callable[..., Path], item: Item) -> None:
    folder = add("a", xml(MASK, item))
    faces, counts = read(folder)
    assert len(faces["a"]) == 1
    assert counts == {"object cannot be used": 1}


def test_object_without_a_box_is_counted(add: Callable[..., Path]) -> None:
    body = "<object><name>with_mask</name></object>"
    folder = add("a", xml(MASK).replace("</annotation>", body + "</annotation>"))
    assert read(folder)[1] == {"object cannot be used": 1}


def test_photograph_in_which_there_is_nobody_is_kept(add: Callable[..., Path]) -> None:
    add("a")
    folder = add("b", xml())
    assert read(folder)[0]["b"] == ()


def test_lone_annotation_and_lone_photograph_are_counted(
    add: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = add("a")
    (folder / "annotations" / "lone.xml").write_text(xml(MASK))
    Image.new("RGB", (9, 9)).save(folder / "images" / "single.png")
    with caplog.at_level(logging.WARNING, logger="tinygrad_mask"):
        faces, counts = read(folder)
    assert list(faces) == ["a"]
    assert counts == {"annotation without its photograph": 1, "photograph without annotation": 1}
    assert "lone.xml" in caplog.text
    assert "single.png" in caplog.text


def test_photograph_without_a_readable_header_is_counted(add: Callable[..., Path]) -> None:
    add("a")
    folder = add("b")
    (folder / "images" / "b.png").write_bytes(b"")
    assert read(folder)[1] == {"photograph cannot be read": 1}


def test_box_a_pixel_outside_is_kept_and_one_far_outside_is_not(add: Callable[..., Path]) -> None:
    folder = add("a", xml(MASK, MASK, ("with_mask", (90, 60, 101, 81)), MASK))
    assert len(read(folder)[0]["a"]) == 4
    folder = add("a", xml(MASK, MASK, ("with_mask", (100, 0, 120, 9))))
    faces, counts = read(folder)
    assert len(faces["a"]) == 2
    assert counts == {"box outside its photograph": 1}


def test_photographs_resized_after_annotation_are_an_error(add: Callable[..., Path]) -> None:
    # Some boxes still fit, by chance: the data set is of no use all the same.
    add("a", xml(MASK, ("with_mask", (80, 60, 160, 120))))
    add("b", xml(("with_mask", (300, 60, 400, 120))))
    folder = add("c", xml(("with_mask", (50, 70, 400, 120))))
    with pytest.raises(UsageError, match=r"3 of 4 boxes .* resized after the boxes were drawn"):
        open_dataset(folder, DataIssues())


def test_folder_without_xml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected XML files"):
        read_pascal_voc(tmp_path, DataIssues(), source="voc", classes={})


def test_nothing_but_faults_is_an_error_that_counts_them(add: Callable[..., Path]) -> None:
    folder = add("a", "<annotation>")
    with pytest.raises(UsageError, match=r"no photograph .*annotation cannot be read: 1"):
        open_dataset(folder, DataIssues())
