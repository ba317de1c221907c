from pathlib import Path

import pytest
from PIL import Image

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.errors import UsageError


def fill(folder: Path, *names: str) -> Path:
    """Give a folder a sub-folder of two pictures for each name."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (9, 9)).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("with_mask", "proper"),
        ("WithMask", "proper"),
        ("Masked", "proper"),
        ("proper", "proper"),
        ("without_mask", "none"),
        ("No Mask", "none"),
        ("none", "none"),
        ("mask_weared_incorrect", "improper"),
        ("Incorrect-Mask", "improper"),
        ("improper", "improper"),
    ],
)
def test_usual_names_are_known(tmp_path: Path, name: str, label: str) -> None:
    photographs = open_dataset(fill(tmp_path, name), DataIssues())
    assert [photograph.name for photograph in photographs] == [f"{name}/0.png", f"{name}/1.png"]
    for photograph in photographs:
        assert photograph.source == tmp_path.name
        assert [(face.label, face.box) for face in photograph.faces] == [(label, None)]


def test_given_classes_come_before_the_usual_ones(tmp_path: Path) -> None:
    fill(tmp_path, "mask", "b")
    photographs = open_dataset(tmp_path, DataIssues(), classes={"mask": "none", "b": "improper"})
    assert [p.faces[0].label for p in photographs] == ["improper"] * 2 + ["none"] * 2


def test_pictures_of_an_unknown_folder_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, "mask", "none", "hats")
    issues = DataIssues()
    assert len(open_dataset(tmp_path, issues)) == 4
    assert issues.counts() == {
        "picture in a folder of unknown class": 2,
        "folder of unknown class": 1,
    }


def test_no_known_folder_is_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it has caps, hats; .*--classes 'caps=proper"):
        open_dataset(fill(tmp_path, "hats", "caps"), DataIssues())


def test_deeper_pictures_count_and_other_files_do_not(tmp_path: Path) -> None:
    fill(tmp_path, "mask/a", "mask/b", ".hidden")
    (tmp_path / "mask" / "notes.txt").touch()
    (tmp_path / "mask" / "._0.png").touch()
    assert len(open_dataset(tmp_path, DataIssues())) == 4
