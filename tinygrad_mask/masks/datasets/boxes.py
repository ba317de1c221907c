"""The boxes of annotated photographs: reading their corners, and whether they fit."""

import math
from collections.abc import Sequence
from dataclasses import replace

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.records import Box, Face, PhotographFile
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.images import read_image_size

_LEAST_SIDE = 1e-3  # pixels
_FARTHEST = 1e7  # pixels
_SLACK = 2.0  # pixels by which tools and people miss the edge; Larxel's boxes leave by one


def parse_box(corners: Sequence[object]) -> Box:
    """Return the box of four corners `x1, y1, x2, y2`, numbers or their text.

    Raises `ValueError` unless they are four finite numbers, each side is at least a thousandth of a
    pixel long, and no corner is farther away than any photograph is large.
    """
    if len(corners) != 4:
        raise ValueError(f"a box has 4 numbers, got {len(corners)}")
    x1, y1, x2, y2 = (_number(corner) for corner in corners)
    if max(map(abs, (x1, y1, x2, y2))) > _FARTHEST:
        raise ValueError(f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) is larger than any photograph")
    if not (x2 - x1 >= _LEAST_SIDE and y2 - y1 >= _LEAST_SIDE):
        raise ValueError(f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) has no area")
    return x1, y1, x2, y2


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"a box has 4 finite numbers, got {str(value)[:40]!r}")
    return number


def keep_fitting(
    photographs: Sequence[PhotographFile], issues: DataIssues, where: str
) -> list[PhotographFile]:
    """Return the photographs without the faces whose boxes lie outside them.

    A face half of whose box or more lies outside is a fault and dropped; one that leaves by less is
    kept, to be clipped. Photographs whose header cannot be read are dropped too.

    Raises `UsageError` where more than half of all boxes leave their photographs by more than
    2 pixels: such photographs were resized after the boxes were drawn, and even the boxes that fit
    do so by chance.
    """
    kept: list[PhotographFile] = []
    boxes = leaving = 0
    for photograph in photographs:
        try:
            size = read_image_size(photograph.path)
        except OSError as error:
            reason = str(error).removeprefix(f"{photograph.path}: ")
            issues.warn("photograph cannot be read", photograph.path, reason)
            continue
        faces: list[Face] = []
        for face in photograph.faces:
            if face.box is None:
                faces.append(face)
                continue
            boxes += 1
            leaving += _leaves(face.box, size)
            if _share_inside(face.box, size) > 0.5:
                faces.append(face)
            else:
                corners = ", ".join(f"{corner:g}" for corner in face.box)
                detail = f"({corners}) in {size[0]} x {size[1]} pixels"
                issues.warn("box outside its photograph", photograph.path, detail)
        kept.append(replace(photograph, faces=tuple(faces)))
    if leaving > boxes / 2:
        raise UsageError(
            f"{where}: {leaving} of {boxes} boxes reach outside their photographs, so these were "
            "resized after the boxes were drawn; the photographs in their original sizes are needed"
        )
    return kept


def _leaves(box: Box, size: tuple[int, int]) -> bool:
    return min(box[0], box[1]) < -_SLACK or box[2] > size[0] + _SLACK or box[3] > size[1] + _SLACK


def _share_inside(box: Box, size: tuple[int, int]) -> float:
    width = min(box[2], size[0]) - max(box[0], 0)
    height = min(box[3], size[1]) - max(box[1], 0)
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))
