"""'Medical Mask Dataset' by Humans in the Loop: 6024 photographs, 4326 of them annotated.

The original has a JSON file for each annotated photograph; the mirror on Kaggle
(wobotintelligence/face-mask-detection-dataset) has them too, and a CSV of their boxes.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.boxes import keep_fitting, parse_box
from tinygrad_mask.masks.datasets.classes import unknown_classes
from tinygrad_mask.masks.datasets.records import Box, Face, PhotographFile
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.images import IMAGE_SUFFIXES, is_image_file

SOURCE = "humans_in_the_loop"

CLASSES = {
    "face_with_mask": "proper",
    "face_with_mask_incorrect": "improper",
    "face_no_mask": "none",
}
"""From the classes of its faces to labels."""

OTHER_COVERING = "face_other_covering"
"""A face behind a scarf, a hand or a visor: neither with nor without a mask."""

OBJECTS = frozenset(
    {
        "balaclava_ski_mask",
        "eyeglasses",
        "face_shield",
        "gas_mask",
        "goggles",
        "hair_net",
        "hat",
        "helmet",
        "hijab_niqab",
        "hood",
        "mask_colorful",
        "mask_surgical",
        "other",
        "scarf_bandana",
        "sunglasses",
        "turban",
    }
)
"""The classes of things that people wear; their boxes lie on faces that have boxes of their own."""

CSV_HEADERS = (
    # As published: the second and third column hold y1 and x2, whatever their names say.
    ["name", "x1", "x2", "y1", "y2", "classname"],
    ["name", "x1", "y1", "x2", "y2", "classname"],
)
_LONGEST_HEADER = 10_000  # bytes
_SAME_FACE = 0.5  # intersection over union of two boxes on one face

_Object = tuple[str, Box]
_Annotations = dict[str, list[_Object]]  # by the name of the photograph


def find_annotations(folder: Path) -> list[Path]:
    """Return the data set's JSON files, sorted, or else its CSV; none where it has neither.

    JSON files are those named after an image (`1801.jpg.json`), at any depth; the CSV is one in the
    folder itself whose header names these columns.
    """
    found = sorted(
        path
        for path in folder.rglob("*.json")
        if Path(path.stem).suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    return found or [path for path in sorted(folder.glob("*.csv")) if _has_header(path)][:1]


def read_humans_in_the_loop(
    folder: Path,
    issues: DataIssues,
    *,
    classes: Mapping[str, str] | None = None,
    other_coverings: str | None = None,
) -> list[PhotographFile]:
    """Read the data set from its JSON files or its CSV; photographs lie at any depth below.

    The regions of `face_other_covering` are ignored as neither face nor background, or faces of the
    label `other_coverings` where it is given. `classes` overrides `CLASSES`. Boxes of objects are
    passed over, and photographs that nobody annotated are counted. Of two boxes on one face the
    first holds.

    Raises `UsageError` where nothing can be read, no class name is known, or the boxes do not fit
    the photographs.
    """
    labels = {**CLASSES, **(classes or {})}
    if other_coverings is not None:
        labels[OTHER_COVERING] = other_coverings
    files = find_annotations(folder)
    if not files:
        raise UsageError(f"{folder}: expected NAME.jpg.json files or a train.csv")
    from_csv = files[0].suffix == ".csv"
    annotations = _read_csv(files[0], issues) if from_csv else _read_jsons(files, issues)
    images = _images_by_name(folder)
    photographs: list[PhotographFile] = []
    unknown: set[str] = set()
    for name, objects in annotations.items():
        path = images.pop(name, None)
        if path is None:
            issues.warn("annotation without its photograph", folder / name)
            continue
        faces: list[Face] = []
        ignored: list[Box] = []
        for class_name, box in objects:
            label = labels.get(class_name)
            if class_name in OBJECTS and label is None:
                continue
            if label is None:
                ignored.append(box)
                if class_name != OTHER_COVERING:
                    unknown.add(class_name)
                    issues.warn("object of unknown class", path, class_name)
            elif any(_overlap(box, face.box) > _SAME_FACE for face in faces if face.box):
                issues.count("second box on one face", path)
            else:
                faces.append(Face(label, box))
        photographs.append(PhotographFile(SOURCE, name, path, tuple(faces), tuple(ignored)))
    for path in images.values():
        issues.count("photograph without annotation", path)
    if unknown and not any(photograph.faces for photograph in photographs):
        raise unknown_classes(str(folder), sorted(unknown))
    return keep_fitting(photographs, issues, str(folder))


def _read_jsons(paths: list[Path], issues: DataIssues) -> _Annotations:
    annotations: _Annotations = {}
    for path in paths:
        try:
            content = json.loads(path.read_bytes())
            name, entries = content["FileName"], content["Annotations"]
            if not (isinstance(name, str) and isinstance(entries, list)):
                raise TypeError("FileName is no text or Annotations no list")
        except (OSError, ValueError, RecursionError) as error:
            issues.warn("annotation cannot be read", path, str(error))
            continue
        except (KeyError, TypeError):
            detail = 'expected {"FileName": ..., "Annotations": [...]}'
            issues.warn("annotation cannot be read", path, detail)
            continue
        objects = annotations.setdefault(name, [])
        for entry in entries:
            try:
                objects.append((str(entry["classname"]), parse_box(entry["BoundingBox"])))
            except (KeyError, TypeError):
                detail = "expected a classname and a BoundingBox"
                issues.warn("object cannot be used", path, detail)
            except ValueError as error:
                issues.warn("object cannot be used", path, str(error))
    return annotations


def _read_csv(path: Path, issues: DataIssues) -> _Annotations:
    annotations: _Annotations = {}
    try:
        for line, row in _numbered_rows(io.StringIO(_text(path.read_bytes()), newline="")):
            try:
                if len(row) != len(CSV_HEADERS[0]):
                    raise ValueError(f"expected {len(CSV_HEADERS[0])} fields, got {len(row)}")
                objects = annotations.setdefault(row[0], [])
                objects.append((row[5], parse_box(row[1:5])))
            except ValueError as error:
                issues.warn("object cannot be used", f"{path}, line {line}", str(error))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from error
    return annotations


def _numbered_rows(file: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) for each row behind the header that is not empty."""
    reader = csv.reader(file)
    next(reader, None)
    for row in reader:
        if row:
            yield reader.line_num, row


def read_header(path: Path) -> list[str] | None:
    """Return the first row of a CSV; None if it has none or cannot be read."""
    try:
        with path.open("rb") as file:
            line = _text(file.readline(_LONGEST_HEADER))
        return next(csv.reader([line]), None)
    except (OSError, UnicodeDecodeError, csv.Error):
        return None


def _has_header(path: Path) -> bool:
    return read_header(path) in CSV_HEADERS


def _text(content: bytes) -> str:
    """Return the text of bytes: UTF-8, or else Latin-1, in which every byte is a character.

    Raises `UnicodeDecodeError` for what has accented letters side by side: no words of Latin-1, but
    other bytes.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if re.search(rb"[\x80-\xff]{3}", content):
            raise
        return content.decode("latin-1")


def _images_by_name(folder: Path) -> dict[str, Path]:
    """Map file name to image; where a name is there twice, one in a folder `images` holds."""
    found = [path for path in folder.rglob("*") if is_image_file(path)]
    found.sort(key=lambda path: (path.parent.name != "images", len(path.parts), path))
    images: dict[str, Path] = {}
    for path in found:
        images.setdefault(path.name, path)
    return images


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area_a + area_b - width * height)
