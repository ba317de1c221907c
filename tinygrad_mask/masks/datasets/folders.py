"""Pictures of whole faces, sorted into a folder per class."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.classes import label_of, unknown_classes
from tinygrad_mask.masks.datasets.records import Face, PhotographFile
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.images import is_image_file


def class_folders(folder: Path, issues: DataIssues | None = None) -> dict[str, list[Path]]:
    """Return the pictures, at any depth, of each sub-folder that has some; sorted.

    A folder that cannot be read is told to `issues`.
    """
    found: dict[str, list[Path]] = {}
    for sub in sorted(folder.iterdir()):
        if sub.is_dir() and not sub.name.startswith("."):
            pictures = sorted(_pictures(sub, issues))
            if pictures:
                found[sub.name] = pictures
    return found


def _pictures(folder: Path, issues: DataIssues | None) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        if issues is not None:
            issues.warn("folder cannot be read", str(error.filename), error.strerror or "")

    for parent, _, names in os.walk(folder, onerror=unreadable):
        for name in names:
            path = Path(parent, name)
            try:
                if is_image_file(path):
                    yield path
            except OSError as error:  # a folder whose files can be listed and not looked at
                if issues is not None:
                    issues.warn("photograph cannot be read", path, error.strerror or "")


def read_folders(
    folder: Path, issues: DataIssues, *, classes: Mapping[str, str]
) -> list[PhotographFile]:
    """Read a folder of class folders: each picture is one face, without a box.

    `classes` maps folder names to labels, before the usual names; the pictures of a folder of
    another name are left out and counted, with one warning for the folder.

    Raises `UsageError` if no folder's name is known, and for a class none of whose pictures can be
    read: without it the others would be judged as if it did not exist.
    """
    pictures_of = class_folders(folder, issues)
    lost = [p for p in issues.items.get("folder cannot be read", []) if Path(p).parent == folder]
    for name in lost:
        if Path(name).name not in pictures_of and label_of(Path(name).name, classes) is not None:
            raise UsageError(f"{name}: the folder of a class cannot be read")
    labels = {name: label_of(name, classes) for name in pictures_of}
    if not any(labels.values()):
        raise unknown_classes(str(folder), sorted(labels))
    source = folder.resolve().name
    photographs: list[PhotographFile] = []
    for name, pictures in pictures_of.items():
        label = labels[name]
        if label is None:
            issues.warn("folder of unknown class", folder / name, f"{len(pictures)} pictures")
            for path in pictures:
                issues.count("picture in a folder of unknown class", path)
            continue
        for path in pictures:
            relative = path.relative_to(folder).as_posix()
            photographs.append(PhotographFile(source, relative, path, (Face(label, None),)))
    return photographs
