"""What users of such tools complain about, in figures.

    python studies/slices.py --cross-validation runs/CV --data PATH --out slices.json

Three kinds of slices, each beside the faces that it is compared with:

- *seen*: real faces of at least 32 px that have something, of all such faces in Larxel's data set
  (larxel_attributes.csv says which: marked by eye, by one annotator), and those that have it not;
  what was said of them in the cross-validation;
- *changed*: the same faces in low light, seen from farther away, and with red and blue exchanged,
  and as they are; each asked of the model of the cross-validation that had not seen the photograph;
- *drawn*: pairs of drawn faces that differ in one thing (masks/classifier/evaluation/slices.py),
  asked of `--model`, by default the shipped one.

`PATH` is Larxel's data set, `runs/CV` a folder that `tinygrad-mask train --cross-validate` left.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tinygrad_mask.files import write_file
from tinygrad_mask.masks.classifier.evaluation.metrics import Metrics, compute_metrics
from tinygrad_mask.masks.classifier.evaluation.slices import (
    CHANGED_SLICES,
    DRAWN_SLICES,
    SlicedFace,
    drawn_pair,
    judge_slice,
    scores_of,
)
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.classifier.runs.cross_validation import fold_model
from tinygrad_mask.masks.crops import clip_box
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import Photograph, open_dataset
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.model_files import PRETRAINED

ATTRIBUTES = Path(__file__).with_name("larxel_attributes.csv")
LEAST_SIZE = 32.0
DRAWN_PAIRS, DRAWN_SEED = 90, 7

Row = Mapping[str, str]
Halves = tuple[Metrics, Metrics]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cross-validation", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--data", required=True, metavar="PATH")
    parser.add_argument("--model", default=PRETRAINED)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    with (arguments.cross_validation / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if float(row["size"]) >= LEAST_SIZE]
    photographs = {p.name: p for p in open_dataset(arguments.data, DataIssues())}
    slices = {
        "seen": seen(rows),
        "changed": changed(rows, photographs, arguments.cross_validation),
        "drawn": drawn(Classifier.load(arguments.model)),
    }
    content: dict[str, Any] = {
        kind: {
            name: {"with": with_it.to_json(), "without": without.to_json()}
            for name, (with_it, without) in of.items()
        }
        for kind, of in slices.items()
    }
    content |= {"least_size": LEAST_SIZE, "drawn_pairs": DRAWN_PAIRS, "drawn_seed": DRAWN_SEED}
    write_file(arguments.out, (json.dumps(content, indent=1) + "\n").encode())


def seen(rows: Sequence[Row]) -> dict[str, Halves]:
    """Judge what was said of real faces that have an attribute, and of those that have not."""
    with ATTRIBUTES.open(newline="") as file:
        of_face = {
            (row["photograph"], row["face"]): row["attributes"].split()
            for row in csv.DictReader(file)
        }
    names = sorted({name for attributes in of_face.values() for name in attributes})
    slices: dict[str, Halves] = {}
    for name in names:
        has = [name in of_face.get((row["photograph"], row["face"]), ()) for row in rows]
        with_it = [row for row, one in zip(rows, has, strict=True) if one]
        without = [row for row, one in zip(rows, has, strict=True) if not one]
        if with_it and without:  # in the folds that are done
            slices[name.replace("_", " ")] = said_of(with_it), said_of(without)
    return slices


def said_of(rows: Sequence[Row]) -> Metrics:
    """Return the figures of what was said in the cross-validation."""
    labels, answers = (
        [LABELS.index(row[column]) for row in rows] for column in ("label", "predicted")
    )
    return compute_metrics(labels, answers)


def changed(
    rows: Sequence[Row], photographs: Mapping[str, Photograph], folder: Path
) -> dict[str, Halves]:
    """Judge changed photographs, each by the model that had not seen it."""
    by_fold: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_fold[row["fold"]].append(row)
    labels: list[int] = []
    scores: dict[str, list[Any]] = {name: [] for name in ("as they are", *CHANGED_SLICES)}
    for fold, own in tqdm(sorted(by_fold.items()), desc="folds", disable=not sys.stderr.isatty()):
        classifier = Classifier.load(fold_model(folder, int(fold) - 1))
        faces = [face_of(photographs[row["photograph"]], int(row["face"])) for row in own]
        labels += [LABELS.index(face.label) for face in faces]
        scores["as they are"].append(scores_of(classifier, faces))
        for name, change in CHANGED_SLICES.items():
            rng = np.random.default_rng(int(fold))
            other = [SlicedFace(*change(face.picture, face.box, rng), face.label) for face in faces]
            scores[name].append(scores_of(classifier, other))
    plain = compute_metrics(labels, np.concatenate(scores["as they are"]))
    return {
        name: (compute_metrics(labels, np.concatenate(scores[name])), plain)
        for name in CHANGED_SLICES
    }


def face_of(photograph: Photograph, number: int) -> SlicedFace:
    """Return a face with what is round it, as far as a crop may reach: half its box on each side.

    A copy, so that the photograph need not be kept.
    """
    picture = photograph.open()
    face = photograph.faces[number]
    x1, y1, x2, y2 = clip_box(face.box or (0, 0, *picture.size), *picture.size)
    beyond = max(x2 - x1, y2 - y1)
    left, top = max(0, int(x1 - beyond)), max(0, int(y1 - beyond))
    right, bottom = (
        min(picture.width, int(x2 + beyond) + 1),
        min(picture.height, int(y2 + beyond) + 1),
    )
    box = (x1 - left, y1 - top, x2 - left, y2 - top)
    return SlicedFace(picture.crop((left, top, right, bottom)), box, face.label)


def drawn(classifier: Classifier) -> dict[str, Halves]:
    """Judge drawn pairs."""
    slices: dict[str, Halves] = {}
    for name in DRAWN_SLICES:
        pairs = [drawn_pair(name, index, DRAWN_SEED) for index in range(DRAWN_PAIRS)]
        with_it, without = zip(*pairs, strict=True)
        slices[name] = judge_slice(classifier, with_it), judge_slice(classifier, without)
    return slices


if __name__ == "__main__":
    main()
