"""Larxel's 'Face Mask Detection' (Kaggle: andrewmvd/face-mask-detection): 853 photographs.

Pascal VOC with three classes; half of its 4072 faces are under 22 pixels, and twelve boxes end a
pixel outside their photographs.
"""

from collections.abc import Mapping
from pathlib import Path

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.pascal_voc import annotation_files, read_pascal_voc
from tinygrad_mask.masks.datasets.records import PhotographFile

SOURCE = "larxel"
SOURCE_LARGE = "larxel_large"
"""The data set, and the copies of its photographs that kept more of their size, which have the same
names and lie in a folder of this name."""

CLASSES = {
    "with_mask": "proper",
    "mask_weared_incorrect": "improper",
    "without_mask": "none",
}
"""From the class names of its XML to labels."""


def is_larxel(folder: Path) -> bool:
    """Whether a folder holds this data set, by the names of its files (`maksssksksss0.xml`)."""
    return any(path.stem.startswith("maksssksksss") for path in annotation_files(folder))


def read_larxel(
    folder: Path, issues: DataIssues, *, classes: Mapping[str, str] | None = None
) -> list[PhotographFile]:
    """Read the unpacked data set; see `read_pascal_voc`. `classes` overrides `CLASSES`."""
    source = SOURCE_LARGE if folder.resolve().name == SOURCE_LARGE else SOURCE
    return read_pascal_voc(folder, issues, source=source, classes={**CLASSES, **(classes or {})})
