"""Where the faces of photographs are, as a detector or a person wrote it down, without labels.

Four kinds of file or folder say so:

- `boxes.json`: `{"photo.jpg": [[x1, y1, x2, y2], ...], ...}`, or that list alone for a single
  photograph;
- `boxes.csv`: a header `name,x1,y1,x2,y2` (further columns are passed over), then a box a row, or
  `x1,y1,x2,y2` for a single photograph;
- `photo.xml`: Pascal VOC, for a single photograph, whatever its objects are called;
- a folder of such XML files, matched to photographs by name without suffix.

Coordinates are those of `records.Box`: pixels of the upright photograph.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.boxes import parse_box
from tinygrad_mask.masks.datasets.pascal_voc import read_objects
from tinygrad_mask.masks.datasets.records import Box
from tinygrad_mask.masks.errors import UsageError

_CORNERS = ["x1", "y1", "x2", "y2"]


def read_boxes(
    path: str | Path, photographs: Sequence[str | Path], issues: DataIssues
) -> list[list[Box]]:
    """Return for each photograph, named by its path, its boxes in the order of the file.

    A photograph's name is the path as it was given, or else the last part of it. A box that is none
    is told to `issues`. Raises `UsageError` where the file cannot be read, is of no such kind, or
    does not name one of the photographs.
    """
    path = Path(path)
    if path.is_dir():
        return [_of_xml(path / f"{Path(photo).stem}.xml", issues) for photo in photographs]
    kind = path.suffix.lower()
    if kind == ".xml":
        boxes: list[Box] | dict[str, list[Box]] = _of_xml(path, issues)
    elif kind == ".json":
        boxes = _of_json(path, issues)
    elif kind == ".csv":
        boxes = _of_csv(path, issues)
    else:
        raise UsageError(f"{path}: expected a .json, .csv or .xml file of boxes, or a folder")
    if isinstance(boxes, list):
        if len(photographs) != 1:
            raise UsageError(
                f"{path}: has the boxes of one photograph, and there are {len(photographs)}; "
                "expected their names beside the boxes"
            )
        return [boxes]
    return [_named(path, boxes, photograph) for photograph in photographs]


def _named(path: Path, boxes: Mapping[str, list[Box]], photograph: str | Path) -> list[Box]:
    for name in (str(photograph), Path(photograph).name):
        if name in boxes:
            return boxes[name]
    shown = ", ".join(sorted(boxes)[:3]) + (", ..." if len(boxes) > 3 else "")
    raise UsageError(f"{path}: has no boxes for {photograph}; it names {shown or 'nothing'}")


def _of_xml(path: Path, issues: DataIssues) -> list[Box]:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file of boxes")
    objects = read_objects(path, issues)
    if objects is None:
        raise UsageError(f"{path}: cannot be read as Pascal VOC")
    return [box for _, box in objects]


def _of_json(path: Path, issues: DataIssues) -> list[Box] | dict[str, list[Box]]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as JSON ({error})") from error
    if isinstance(content, list):
        return _of_list(path, content, issues)
    if isinstance(content, dict) and all(isinstance(rows, list) for rows in content.values()):
        return {name: _of_list(f"{path}, {name}", rows, issues) for name, rows in content.items()}
    raise UsageError(
        f"{path}: expected {{NAME: [[x1, y1, x2, y2], ...], ...}} or a list of boxes, "
        f"got {json.dumps(content):.40}"
    )


def _of_list(where: str | Path, rows: list[object], issues: DataIssues) -> list[Box]:
    if rows and not any(isinstance(row, list) for row in rows):
        shown = json.dumps(rows)
        raise UsageError(
            f"{where}: expected a list of boxes, [[x1, y1, x2, y2], ...], got {shown:.40}"
            f"{'...' if len(shown) > 40 else ''}; put brackets around each box"
        )
    return _parsed(where, rows, issues)


def _of_csv(path: Path, issues: DataIssues) -> list[Box] | dict[str, list[Box]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from error
    if header[:4] == _CORNERS:
        return _parsed(path, [row[:4] for row in rows], issues)
    if header[:5] != ["name", *_CORNERS]:
        raise UsageError(
            f"{path}: expected a header that begins with name,x1,y1,x2,y2, got {','.join(header)}"
        )
    boxes: dict[str, list[Box]] = {}
    for row in rows:
        found = _parsed(f"{path}, {row[0]}", [row[1:5]], issues)
        boxes.setdefault(row[0], []).extend(found)
    return boxes


def _parsed(where: str | Path, rows: Sequence[object], issues: DataIssues) -> list[Box]:
    boxes: list[Box] = []
    for row in rows:
        try:
            boxes.append(parse_box(row if isinstance(row, list) else [row]))
        except ValueError as error:
            issues.warn("box cannot be used", where, str(error))
    return boxes
