from pathlib import Path

import pytest
from PIL import Image

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset, open_datasets, parse_classes
from tinygrad_mask.masks.errors import UsageError


def folder_of_faces(folder: Path) -> Path:
    for name in ("mask", "none"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(folder / name / "0.png")
    return folder


def test_wrong_path_file_and_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: there is no such folder"):
        open_dataset(tmp_path / "nowhere", DataIssues())
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="expected a folder, this is a file"):
        open_dataset(tmp_path / "file", DataIssues())
    (tmp_path / "void").mkdir()
    (tmp_path / "void" / ".DS_Store").touch()
    with pytest.raises(UsageError, match="void: the folder is empty"):
        open_dataset(tmp_path / "void", DataIssues())


def test_what_is_not_recognised_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    for number in range(7):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{number}.png")
    with pytest.raises(
        UsageError, match=r"expected images/ and .* it has 0\.png, .*, 4\.png and 2 more"
    ):
        open_dataset(tmp_path, DataIssues())


def test_several_are_put_together_in_order(tmp_path: Path) -> None:
    a, b = folder_of_faces(tmp_path / "a"), folder_of_faces(tmp_path / "b")
    found = open_datasets([b, str(a)], DataIssues())
    assert [(p.source, p.name) for p in found] == [
        ("b", "mask/0.png"),
        ("b", "none/0.png"),
        ("a", "mask/0.png"),
        ("a", "none/0.png"),
    ]


def test_same_data_set_twice_is_an_error(tmp_path: Path) -> None:
    folder = folder_of_faces(tmp_path / "a")
    with pytest.raises(UsageError, match=r"a/mask/0.png is there already"):
        open_datasets([folder, tmp_path / "." / "a"], DataIssues())


def test_synthetic_is_drawn_from_count_and_seed() -> None:
    found = open_dataset("synthetic:5", DataIssues(), seed=1)
    assert len(found) == 5
    assert {photograph.source for photograph in found} == {"synthetic"}
    assert found[0].name != open_dataset("synthetic:5", DataIssues(), seed=2)[0].name


@pytest.mark.parametrize("text", ["synthetic:", "synthetic:0", "synthetic:-3", "synthetic:many"])
def test_synthetic_without_a_count_after_its_colon_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match=f"expected synthetic:COUNT .* got '{text}'"):
        open_dataset(text, DataIssues())


def test_classes_are_read() -> None:
    assert parse_classes("a=improper, b c =none,x=y=proper") == {
        "a": "improper",
        "b c": "none",
        "x=y": "proper",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expects NAME=LABEL,..., got ''"),
        ("a", "expects NAME=LABEL,..., got 'a'"),
        ("a=none,,b=none", "expects NAME=LABEL,..., got ''"),
        ("=none", "expects NAME=LABEL,..., got '=none'"),
        ("a=wrong", "one of the labels proper, improper, none, got 'a=wrong'"),
        ("a=none,a=proper", "gives 'a' two labels, none and proper"),
    ],
)
def test_classes_that_are_none_are_an_error(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_classes(text)
    assert message in str(caught.value)
