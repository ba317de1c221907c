"""Train the weights that ship with the package, on all photographs.

    python studies/ship.py --cross-validation runs/CV [--out FILE]
    python studies/ship.py --cross-validation runs/CV --calibrate FILE [--answer PATH]

`runs/CV` is a folder that `tinygrad-mask train --cross-validate` left, or is still at work in: its
settings are trained with once more, with nothing held back. What is judged after each epoch are
faces that are trained on; how good the weights are, the cross-validation says. Weights are shipped
only of pictures that are free (CC0), painted on such, or drawn; weights that a run begins with
(`--initial`) must be so too.

The second form gives weights the temperature of the scores of all folds that are done, and the
threshold below which they answer `unsure`, so that 90 % of the faces of `--answer` (default: of the
folds) are answered.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import serialization
from tinygrad_mask.masks.classifier.evaluation.calibration import fit_temperature
from tinygrad_mask.masks.classifier.evaluation.coverage import ANSWERED, threshold_for
from tinygrad_mask.masks.classifier.network.classifier import PRETRAINED_FILE, Classifier
from tinygrad_mask.masks.classifier.runs.config import RunConfig, make_trainer
from tinygrad_mask.masks.classifier.runs.loading import load, load_for
from tinygrad_mask.masks.classifier.runs.run_folder import ClassifierRunFolder
from tinygrad_mask.masks.classifier.training.trainer import epoch_line
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.faces import FaceSet
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.runs.terminal import run_in_terminal

FREE = {
    "larxel",
    "larxel_large",
    "humans_in_the_loop",
    "painted_larxel",
    "painted_larxel_large",
    "synthetic",
}
"""The sources that weights may be shipped of, as photographs name them."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cross-validation", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=PRETRAINED_FILE, metavar="FILE")
    parser.add_argument("--calibrate", type=Path, metavar="FILE")
    parser.add_argument("--answer", metavar="PATH")
    arguments = parser.parse_args()
    folder = ClassifierRunFolder(arguments.cross_validation)
    config = RunConfig.from_json(folder.config, folder.read_config())
    if arguments.calibrate is not None:
        calibrate(arguments.calibrate, folder.path, config, arguments.answer)
        return
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists already and is not overwritten")
    # Cross-validation judges faces of every size; nothing is judged here.
    data = load_for(config)
    others = {photograph.source for photograph in data.faces.photographs} - FREE
    if others:
        parser.error(
            f"expected pictures of {', '.join(sorted(FREE))} alone, got {', '.join(others)}"
        )
    print(data.summary, end="\n\n")
    train = np.flatnonzero(data.faces.sizes >= config.min_face)
    judged = np.random.default_rng(config.seed).permutation(train)[:500]
    trainer = make_trainer(config, data.faces, train, np.sort(judged))
    print(trainer.classifier.model, f"\n\ntrained on {len(train):,} faces", flush=True)
    run_in_terminal(trainer, epoch_line)
    with trainer.averaged():
        trainer.classifier.save(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB; now --calibrate it")


def calibrate(path: Path, folder: Path, config: RunConfig, answer: str | None) -> None:
    """Set temperature and threshold of the weights in a file, from the folds that are done."""
    classifier = Classifier.load(path)
    labels, scores = scores_of_folds(folder, config)
    classifier.temperature = fit_temperature(scores, labels)
    probabilities = classifier.to_probabilities(scores)
    if answer is not None:
        probabilities = classifier.probabilities(faces_of(answer, classifier).crops)
    classifier.threshold = round(threshold_for(probabilities, ANSWERED), 3)
    classifier.save(path, overwrite=True)
    print(f"temperature {classifier.temperature:.3f}, threshold {classifier.threshold:.3f}")


def scores_of_folds(
    folder: Path, config: RunConfig
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the labels and scores of the faces judged in the folds that are done."""
    issues = DataIssues()
    judged = [
        face.label for path in config.data for p in open_dataset(path, issues) for face in p.faces
    ]
    of_folds = [serialization.load(path)[0] for path in sorted(folder.glob("fold-?.safetensors"))]
    positions = np.concatenate([of["positions"] for of in of_folds]).astype(np.int64)
    labels = np.array([LABELS.index(label) for label in judged])[positions]
    return labels, np.concatenate([of["scores"] for of in of_folds])


def faces_of(path: str, classifier: Classifier) -> FaceSet:
    """Return the faces of a data set, cut as a classifier takes them."""
    loaded = load(
        [path],
        classifier.crops,
        min_face=0,
        classes={"with_incorrect_mask": "improper"},
        other_coverings=None,
        seed=1,
    )
    return loaded.faces


if __name__ == "__main__":
    main()
