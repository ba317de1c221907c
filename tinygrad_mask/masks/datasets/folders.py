"""Pictures of whole faces, sorted into a folder per class."""

from collections.abc import Mapping
from pathlib import Path

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.classes import label_of, unknown_classes
from tinygrad_mask.masks.datasets.records import Face, PhotographFile
from tinygrad_mask.masks.images import is_image_file


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return the pictures, at any depth, of each sub-folder that has some; sorted."""
    found: dict[str, list[Path]] = {}
    for sub in sorted(folder.iterdir()):
        if sub.is_dir() and not sub.name.startswith("."):
            pictures = sorted(path for path in sub.rglob("*") if is_image_file(path))
            if pictures:
                found[sub.name] = pictures
    return found


def read_folders(
    folder: Path, issues: DataIssues, *, classes: Mapping[str, str]
) -> list[PhotographFile]:
    """Read a folder of class folders: each picture is one face, without a box.

    `classes` maps folder names to labels, before the usual names; the pictures of a folder of
    another name are left out and counted, with one warning for the folder.

    Raises `UsageError` where no folder's name is known.
    """
    pictures_of = class_folders(folder)
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
