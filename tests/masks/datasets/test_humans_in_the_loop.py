import json
from pathlib import Path

import pytest
from PIL import Image

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import Face, open_dataset
from tinygrad_mask.masks.datasets.humans_in_the_loop import OBJECTS, read_humans_in_the_loop
from tinygrad_mask.masks.datasets.records import PhotographFile
from tinygrad_mask.masks.errors import UsageError

HEADER = "name,x1,x2,y1,y2,classname"
BOX = [10, 20, 30, 50]


def photograph(folder: Path, name: str = "1.jpg", size: tuple[int, int] = (100, 80)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(folder / name)


def with_json(folder: Path, *entries: object, name: str = "1.jpg") -> Path:
    """Add a photograph and its JSON file, laid out like the original; return the folder."""
    photograph(folder / "images", name)
    (folder / "annotations").mkdir(exist_ok=True)
    content = {"FileName": name, "NumOfAnno": len(entries), "Annotations": entries}
    (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return folder


def entry(classname: str, box: object = BOX) -> dict[str, object]:
    return {"ID": 1, "BoundingBox": box, "classname": classname, "Confidence": 1}


def with_csv(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / "train.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def read(folder: Path) -> tuple[list[PhotographFile], dict[str, int]]:
    issues = DataIssues()
    return read_humans_in_the_loop(folder, issues), issues.counts()


def test_json_of_the_original_is_read(tmp_path: Path) -> None:
    folder = with_json(
        tmp_path,
        entry("face_with_mask"),
        entry("face_with_mask_incorrect", [40, 0, 60.5, 9]),
        entry("face_no_mask", [70, 0, 80, 9]),
        *(entry(name) for name in sorted(OBJECTS)),
    )
    (only,) = open_dataset(folder, DataIssues())
    assert (only.source, only.name, only.ignored) == ("humans_in_the_loop", "1.jpg", ())
    assert only.faces == (
        Face("proper", (10, 20, 30, 50)),
        Face("improper", (40, 0, 60.5, 9)),
        Face("none", (70, 0, 80, 9)),
    )


def test_columns_of_the_csv_are_x1_y1_x2_y2_whatever_its_header_says(tmp_path: Path) -> None:
    photograph(tmp_path / "images")
    with_csv(tmp_path, "1.jpg,10,20,30,50,face_with_mask", "1.jpg,11,21,25,30,mask_surgical")
    (only,) = open_dataset(tmp_path, DataIssues())
    assert only.faces == (Face("proper", (10, 20, 30, 50)),)


def test_csv_with_a_corrected_header_is_read_alike(tmp_path: Path) -> None:
    photograph(tmp_path)
    with_csv(tmp_path, "1.jpg,10,20,30,50,face_no_mask", header="name,x1,y1,x2,y2,classname")
    assert read(tmp_path)[0][0].faces == (Face("none", (10, 20, 30, 50)),)


def test_json_deep_inside_the_mirror_comes_before_its_csv(tmp_path: Path) -> None:
    with_csv(tmp_path, "1.jpg,10,20,30,50,face_no_mask")
    with_json(tmp_path / "Medical mask" / "Medical Mask", entry("face_with_mask"))
    assert read(tmp_path)[0][0].faces[0].label == "proper"


def test_image_in_images_comes_before_its_thumbnail(tmp_path: Path) -> None:
    photograph(tmp_path / "a_thumbnails", size=(10, 10))
    photograph(tmp_path / "images")
    with_csv(tmp_path, "1.jpg,10,20,30,50,face_no_mask")
    assert read(tmp_path)[0][0].open().size == (100, 80)


def test_other_coverings_are_ignored_unless_asked_for(tmp_path: Path) -> None:
    folder = with_json(
        tmp_path, entry("face_no_mask", [50, 0, 60, 9]), entry("face_other_covering")
    )
    issues = DataIssues()
    (only,) = open_dataset(folder, issues)
    assert only.ignored == ((10, 20, 30, 50),)
    assert [face.label for face in only.faces] == ["none"]
    assert issues.counts() == {}
    (only,) = open_dataset(folder, DataIssues(), other_coverings="improper")
    assert only.ignored == ()
    assert [face.label for face in only.faces] == ["none", "improper"]


def test_second_box_on_one_face_is_counted(tmp_path: Path) -> None:
    folder = with_json(tmp_path, entry("face_with_mask"), entry("face_no_mask", [11, 20, 30, 50]))
    photographs, counts = read(folder)
    assert [face.label for face in photographs[0].faces] == ["proper"]
    assert counts == {"second box on one face": 1}


def test_photographs_without_annotation_are_counted(tmp_path: Path) -> None:
    folder = with_json(tmp_path, entry("face_with_mask"))
    photograph(folder / "images", "2.png")
    assert read(folder)[1] == {"photograph without annotation": 1}


def test_annotation_without_its_photograph_is_counted(tmp_path: Path) -> None:
    photograph(tmp_path)
    with_csv(tmp_path, "1.jpg,10,20,30,50,face_no_mask", "9.jpg,10,20,30,50,face_no_mask")
    assert read(tmp_path)[1] == {"annotation without its photograph": 1}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"FileName": 1, "Annotations": []}', b"\xff\xff\xff"]
)
def test_unreadable_json_is_counted(tmp_path: Path, content: bytes) -> None:
    folder = with_json(tmp_path, entry("face_with_mask"))
    (folder / "annotations" / "2.jpg.json").write_bytes(content)
    assert read(folder)[1] == {"annotation cannot be read": 1}


@pytest.mark.parametrize(
    "bad",
    [
        entry("face_with_mask", [10, 20, 10, 50]),
        entry("face_with_mask", [10, 20, 30]),
        entry("face_with_mask", [10, 20, 30, None]),
        entry("face_with_mask", 7),
        {"classname": "face_with_mask"},
        {"BoundingBox": BOX},
        "face_with_mask",
        None,
    ],
)
def test_json_object_that_cannot_be_used_is_counted(tmp_path: Path, bad: object) -> None:
    photographs, counts = read(with_json(tmp_path, entry("face_no_mask"), bad))
    assert len(photographs[0].faces) == 1
    assert counts == {"object cannot be used": 1}


@pytest.mark.parametrize(
    "row",
    [
        "1.jpg,582,126,582,126,face_with_mask_incorrect",
        "1.jpg,10,20,30,face_with_mask",
        "1.jpg,ten,20,30,40,face_with_mask",
    ],
)
def test_csv_row_that_cannot_be_used_is_counted_by_its_line(tmp_path: Path, row: str) -> None:
    photograph(tmp_path)
    with_csv(tmp_path, "1.jpg,10,20,30,50,face_no_mask", "", row)
    issues = DataIssues()
    read_humans_in_the_loop(tmp_path, issues)
    assert issues.items == {"object cannot be used": [f"{tmp_path / 'train.csv'}, line 4"]}


def test_unknown_class_is_counted_and_ignored(tmp_path: Path) -> None:
    photographs, counts = read(with_json(tmp_path, entry("face_no_mask"), entry("wig")))
    assert photographs[0].ignored == ((10, 20, 30, 50),)
    assert counts == {"object of unknown class": 1}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\xff", b"a,b,c\n1,2,3\n"])
def test_csv_that_is_not_this_one_is_not_recognised(tmp_path: Path, content: bytes) -> None:
    photograph(tmp_path)
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"not recognised as a data set; .* it has 1.jpg, train"):
        open_dataset(tmp_path, DataIssues())


def test_csv_that_breaks_off_in_the_middle_is_an_error(tmp_path: Path) -> None:
    photograph(tmp_path)
    rows = "1.jpg,10,20,30,50,face_no_mask\n" * 2000
    (tmp_path / "train.csv").write_bytes(f"{HEADER}\n{rows}".encode() + b"\xff\xff\xff")
    with pytest.raises(UsageError, match=r"train\.csv: cannot be read as CSV"):
        open_dataset(tmp_path, DataIssues())


def test_csv_without_rows_is_an_error(tmp_path: Path) -> None:
    photograph(tmp_path)
    with pytest.raises(UsageError, match="no photograph with a labelled face"):
        open_dataset(with_csv(tmp_path), DataIssues())


def test_thumbnails_are_refused(tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        photograph(tmp_path / "images_100x100", f"{number}.jpg", (100, 100))
        # The first box fits the thumbnail by chance.
        x2 = 90 if number == 0 else 900
        rows.append(f"{number}.jpg,40,50,{x2},95,face_with_mask")
    with pytest.raises(UsageError, match=r"3 of 4 boxes .* in their original sizes are needed"):
        open_dataset(with_csv(tmp_path, *rows), DataIssues())


def test_folder_with_neither_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"NAME.jpg.json"):
        read(tmp_path)
