"""Data sets of photographs with faces labelled `proper`, `improper` or `none`; one file a source.

`open_dataset` recognises what lies in a folder; `open_datasets` puts several together.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.classes import parse_classes
from tinygrad_mask.masks.datasets.folders import class_folders, read_folders
from tinygrad_mask.masks.datasets.humans_in_the_loop import (
    CSV_HEADERS,
    find_annotations,
    read_header,
    read_humans_in_the_loop,
)
from tinygrad_mask.masks.datasets.larxel import is_larxel, read_larxel
from tinygrad_mask.masks.datasets.pascal_voc import annotation_files, read_pascal_voc
from tinygrad_mask.masks.datasets.records import Box, Face, Photograph, PhotographFile
from tinygrad_mask.masks.errors import UsageError

__all__ = [
    "Box",
    "Face",
    "Photograph",
    "PhotographFile",
    "open_dataset",
    "open_datasets",
    "parse_classes",
]

SYNTHETIC_COUNT = 1000
"""How many photographs `synthetic` means."""

_NO_CLASSES = frozenset({"images", "photographs", "photos", "pictures"})
"""Names of folders that hold the photographs of all classes."""

MOST_DRAWN = 1_000_000
"""How many photographs may be drawn or painted: more would take days to load."""

PAINTED_COUNT = 1000
"""How many photographs `painted:FOLDER` means."""


def open_datasets(
    paths: Sequence[str | Path],
    issues: DataIssues,
    *,
    classes: Mapping[str, str] | None = None,
    other_coverings: str | None = None,
    seed: int = 0,
) -> list[Photograph]:
    """Open several data sets as one; see `open_dataset`.

    Raises `UsageError` for a negative seed, and where two photographs have the same source and
    name: the same data set twice, or two folders of one name.
    """
    if seed < 0:
        raise UsageError(f"seed: expected a number from 0 on, got {seed}")
    photographs: list[Photograph] = []
    seen: set[tuple[str, str]] = set()
    for path in paths:
        opened = open_dataset(
            path, issues, classes=classes, other_coverings=other_coverings, seed=seed
        )
        for photograph in opened:
            key = (photograph.source, photograph.name)
            if key in seen:
                raise UsageError(
                    f"{path}: {photograph.source}/{photograph.name} is there already; "
                    "the same data set was given twice, or two whose folders have the same name"
                )
            seen.add(key)
        photographs += opened
    return photographs


def open_dataset(
    path: str | Path,
    issues: DataIssues,
    *,
    classes: Mapping[str, str] | None = None,
    other_coverings: str | None = None,
    seed: int = 0,
) -> list[Photograph]:
    """Open the data set in a folder, or draw one.

    Recognised are Larxel's, that of Humans in the Loop (JSON or CSV), any other Pascal VOC folder,
    and a folder of class folders. `synthetic` and `synthetic:COUNT` are drawn from `seed`; a folder
    of that name is `./synthetic`. `painted:FOLDER` and `painted:FOLDER:COUNT` are masks painted on
    the bare faces of Larxel's photographs in a folder, see `datasets.painted`.

    `classes` maps class names to labels, before those that are known. `other_coverings` is the
    label for faces that Humans in the Loop call covered by something else than a mask; without it
    they are ignored. What is wrong with single items is told to `issues`.

    Raises `UsageError`, in one line, where there is no data set or none that can be used.
    """
    kind, _, rest = str(path).partition(":")
    if kind == "painted":
        return _painted(rest, issues, classes=classes, seed=seed)
    if kind == "synthetic":
        # Only here: what draws faces takes long to import, and most programs draw none.
        from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs

        return list(synthetic_photographs(_synthetic_count(str(path)), seed))
    folder = Path(path)
    entries = _entries(folder)
    names = dict(classes or {})
    photographs: list[PhotographFile]
    if is_larxel(folder):
        photographs = read_larxel(folder, issues, classes=names)
    elif annotation_files(folder):
        source = folder.resolve().name
        photographs = read_pascal_voc(folder, issues, source=source, classes=names)
    elif find_annotations(folder):
        photographs = read_humans_in_the_loop(
            folder, issues, classes=names, other_coverings=other_coverings
        )
    elif (folder / "train.csv").is_file() and _NO_CLASSES.issuperset(class_folders(folder) or "?"):
        raise UsageError(
            f"{folder}: not recognised as a data set; it has {_few(entries)}{_almost(folder)}"
        )
    elif class_folders(folder):
        photographs = read_folders(folder, issues, classes=names)
    else:
        raise UsageError(
            f"{folder}: not recognised as a data set; expected images/ and "
            "annotations/*.xml, NAME.jpg.json files, a train.csv, or a folder of pictures per "
            f"class; it has {_few(entries)}{_almost(folder)}"
        )
    if not any(photograph.faces for photograph in photographs):
        counts = ", ".join(f"{kind}: {number}" for kind, number in issues.counts().items())
        raise UsageError(f"{folder}: no photograph with a labelled face ({counts or 'all empty'})")
    return list(photographs)


def _synthetic_count(text: str) -> int:
    _, colon, count = text.partition(":")
    if not colon:
        return SYNTHETIC_COUNT
    if not _is_count(count):
        raise UsageError(
            f"expected synthetic:COUNT with a whole number from 1 on, up to {MOST_DRAWN:,}, "
            f"got '{text:.60}'"
        )
    return int(count)


def _painted(
    text: str, issues: DataIssues, *, classes: Mapping[str, str] | None, seed: int
) -> list[Photograph]:
    """Open `FOLDER` or `FOLDER:COUNT` and paint masks on its bare faces."""
    # Only here: what paints takes long to import, and most programs paint nothing.
    from tinygrad_mask.masks.datasets.painted import painted_photographs, read_marks

    folder, colon, count = text.rpartition(":")
    if not (colon and _is_count(count)):
        folder, count = text, str(PAINTED_COUNT)
    if not folder:
        raise UsageError(f"expected painted:FOLDER or painted:FOLDER:COUNT, got 'painted:{text}'")
    photographs = open_dataset(folder, issues, classes=classes)
    return list(painted_photographs(photographs, read_marks(), int(count), seed))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text[:10]) <= MOST_DRAWN


def _entries(folder: Path) -> list[str]:
    """Return the names in a folder that are not hidden, sorted."""
    if not folder.exists():
        raise UsageError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder, this is a file")
    try:
        entries = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({error.strerror})") from error
    if not entries:
        raise UsageError(f"{folder}: the folder is empty")
    return entries


def _almost(folder: Path) -> str:
    """Say of a table that is there what is wrong with it."""
    for path in sorted(folder.glob("*.csv")):
        header = read_header(path)
        shown = ",".join(header) if header else "nothing that can be read"
        return f"; the header of {path.name} is {shown:.60}, expected {','.join(CSV_HEADERS[0])}"
    return ""


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
