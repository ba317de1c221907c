"""Write the results of those folds of a cross-validation that are done.

    python studies/finished_folds.py --cross-validation runs/CV

Writes `predictions.csv`, `judgement.json` and the pictures into the folder, as a whole
cross-validation does, of the folds that are there. `tinygrad-mask train --resume` does the others.
"""

import argparse
import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygrad_mask import serialization
from tinygrad_mask.files import write_file
from tinygrad_mask.masks.classifier.evaluation.judging import judge
from tinygrad_mask.masks.classifier.report.plots import (
    plot_confusion,
    plot_precision_recall,
    plot_reliability,
)
from tinygrad_mask.masks.classifier.runs.config import RunConfig
from tinygrad_mask.masks.classifier.runs.loading import load_for
from tinygrad_mask.masks.classifier.runs.run_folder import ClassifierRunFolder
from tinygrad_mask.masks.labels import LABELS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cross-validation", type=Path, required=True, metavar="FOLDER")
    folder = ClassifierRunFolder(parser.parse_args().cross_validation)
    config = RunConfig.from_json(folder.config, folder.read_config())
    # Judged photographs come first, so the positions are those of the run.
    data = load_for(replace(config, extra=()))
    faces = data.faces
    files = sorted(folder.path.glob("fold-?.safetensors"))
    arrays = [serialization.load(file)[0] for file in files]
    positions = np.concatenate([of["positions"] for of in arrays]).astype(np.int64)
    scores = np.concatenate([of["scores"] for of in arrays])
    fold = np.concatenate(
        [
            np.full(len(of["positions"]), int(file.stem.removeprefix("fold-")))
            for file, of in zip(files, arrays, strict=True)
        ]
    )
    labels, sizes = faces.labels[positions], faces.sizes[positions]
    photograph = faces.photograph[positions]
    groups = data.groups[photograph]
    parts = fold if len(files) > 1 else np.unique(groups, return_inverse=True)[1] % 2
    judgement = judge(labels, scores, photograph=groups, sizes=sizes, parts=parts)
    text = json.dumps(judgement.to_json(), indent=1) + "\n"
    write_file(folder.path / "judgement.json", text.encode(), overwrite=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    columns = ["source", "photograph", "face", "size", "label", "predicted", "fold"]
    writer.writerow([*columns, *(f"score_{label}" for label in LABELS)])
    for row, position in enumerate(positions):
        shown = faces.photographs[photograph[row]]
        writer.writerow(
            [
                shown.source,
                shown.name,
                faces.face[position],
                f"{sizes[row]:g}",
                LABELS[labels[row]],
                LABELS[int(scores[row].argmax())],
                fold[row],
                *(f"{score:.6f}" for score in scores[row]),
            ]
        )
    write_file(folder.path / "predictions.csv", table.getvalue().encode(), overwrite=True)
    probabilities = judgement.calibration.probabilities
    for name in ("confusion", "precision_recall", "reliability"):
        (folder.path / f"{name}.png").unlink(missing_ok=True)
    plot_confusion(judgement.metrics, folder.path / "confusion.png")
    plot_precision_recall(labels, probabilities, folder.path / "precision_recall.png")
    plot_reliability(labels, probabilities, folder.path / "reliability.png")
    print(f"{len(files)} of {config.cross_validate} folds: {judgement.metrics}")


if __name__ == "__main__":
    main()
