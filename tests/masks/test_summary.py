from pathlib import Path

import numpy as np

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import Face, PhotographFile
from tinygrad_mask.masks.faces import FaceSet
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.summary import summarise


def face_set(*labels_of: tuple[str, list[int]]) -> FaceSet:
    """Photographs of the given sources, each with faces of the given class indices."""
    photographs = tuple(
        PhotographFile(
            source, f"{index}", Path("x"), tuple(Face(LABELS[label], None) for label in labels)
        )
        for index, (source, labels) in enumerate(labels_of)
    )
    rows = [(i, label) for i, (_, labels) in enumerate(labels_of) for label in labels]
    photograph, labels = np.array(rows, dtype=np.int64).T
    return FaceSet(
        photographs,
        np.zeros((len(rows), 2, 2, 3), np.uint8),
        labels,
        photograph,
        np.zeros_like(labels),
        np.ones(len(rows), np.float32),
        np.zeros((len(photographs), 4), np.uint64),
    )


def test_table_per_source_with_copies_and_what_was_left_out() -> None:
    faces = face_set(("larxel", [0, 0, 1]), ("larxel", [2]), ("web", []), ("web", [0] * 1200))
    issues = DataIssues()
    for _ in range(12):
        issues.count("face smaller than 8 pixels", "larxel/0")
    issues.count("photograph without annotation", "x")
    assert summarise(faces, np.array([0, 1, 2, 1]), issues).splitlines() == [
        "source    photographs  duplicates  faces  proper  improper  none",
        "larxel              2           0      4       2         1     1",
        "web                 2           1  1,200   1,200         0     0",
        "together            4           1  1,204   1,202         1     1",
        "",
        "left out:",
        "  12  face smaller than 8 pixels",
        "   1  photograph without annotation",
    ]


def test_one_source_without_faults_is_two_lines() -> None:
    lines = summarise(face_set(("a", [0])), np.array([0]), DataIssues()).splitlines()
    assert [line.split() for line in lines] == [
        ["source", "photographs", "duplicates", "faces", "proper", "improper", "none"],
        ["a", "1", "0", "1", "1", "0", "0"],
    ]
