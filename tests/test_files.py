"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from tinygrad_mask import nn, serialization
from tinygrad_mask.checkpoints import save
from tinygrad_mask.files import write_file


def test_writes(tmp_path):
    write_file(tmp_path / "a", b"\x00content")
    assert (tmp_path / "a").read_bytes() == b"\x00content"
    assert os.listdir(tmp_path) == ["a"]


def test_overwrites_only_when_told_to(tmp_path):
    write_file(tmp_path / "a", b"old")
    with pytest.raises(FileExistsError, match="a exists already and is not overwritten"):
        write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    write_file(tmp_path / "a", b"new", overwrite=True)
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_full_disk_leaves_things_as_they_were(tmp_path, monkeypatch, before):
    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    if before:
        (tmp_path / "a").write_bytes(before)
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "a", b"content", overwrite=True)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == ({"a": before} if before else {})


WRITERS = {
    "write_file": lambda path: write_file(path, b"content"),
    "serialization.save": lambda path: serialization.save(path, {}),
    "checkpoints.save": lambda path: save(nn.Linear(2, 3), path),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_missing_folder_is_named(tmp_path, write):
    path = tmp_path / "missing" / "a"
    with pytest.raises(FileNotFoundError) as raised:
        write(path)
    assert str(raised.value) == (
        f"{path}: the folder {tmp_path / 'missing'} does not exist; create it first"
    )


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_in_place_of_the_folder_is_named(tmp_path, write):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file/a: .*file is not a folder$"):
        write(tmp_path / "file" / "a")


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def refuse(self: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(PermissionError) as raised:
        write_file(tmp_path / "a", b"content")
    assert raised.value.filename == str(tmp_path / "a")
    assert "partial" not in str(raised.value)
