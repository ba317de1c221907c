"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

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
