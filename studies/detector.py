"""Train the face detector on four fifths of the photographs and judge it on the rest.

    python studies/detector.py --data PATH [--data PATH ...] --out FILE [--steps 3000]

The photographs have boxes, such as Larxel's. Copies of a photograph, by their pixels or by their
names in two folders, are all trained on or all held back. The figures are those of the held-back
photographs of the first data set, by pycocotools (the extra `coco`). `--classifier MODEL` adds a
second opinion on the labels, of a classifier that must not have seen those photographs.
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_mask import optim
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.detector.evaluation.average_precision import (
    AnnotatedPhotograph,
    evaluate_detections,
)
from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture, FaceDetector
from tinygrad_mask.masks.detector.network.detector import Detector, InputSettings
from tinygrad_mask.masks.detector.training.augmentation import DetectorAugmentation
from tinygrad_mask.masks.detector.training.batches import DetectorBatches, Views, face_arrays
from tinygrad_mask.masks.detector.training.loss import detector_loss
from tinygrad_mask.masks.detector.training.targets import HeatMapTargets
from tinygrad_mask.masks.duplicates import duplicate_groups, perceptual_hash
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.splits import split_photographs
from tinygrad_mask.training import ClipGradNorm, ProgressLine, Trainer, WeightAverage

LEARNING_RATE, BATCH, BALANCE = 2e-3, 16, 0.5
MIN_FACE = 7.0  # pixels of a training image
LEAST_SCORE = 0.02  # of the detections that average precision looks at


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", required=True, metavar="PATH")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=10, help="how often the average is printed")
    parser.add_argument("--classifier", metavar="MODEL")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    issues = DataIssues()
    sets = [open_dataset(path, issues) for path in arguments.data]
    photographs = [photograph for one in sets for photograph in one]
    groups = _groups(photographs)
    labels = [[face.label for face in photograph.faces] for photograph in photographs]
    split = split_photographs(labels, groups, 0.2, arguments.seed)
    print(f"trained on {len(split.train)} photographs, {len(split.validation)} held back")

    views = Views([photographs[k] for k in split.train])
    architecture = DetectorArchitecture()
    model = FaceDetector(architecture, np.random.default_rng(arguments.seed))
    weights = _label_weights(np.concatenate([face_arrays(p)[1] for p in views.photographs]))
    optimizer = optim.AdamW(model.parameters(), LEARNING_RATE)
    trainer = Trainer(
        model,
        optimizer,
        lambda model, images, *arrays: (
            detector_loss(
                model(images), HeatMapTargets(*(array.numpy() for array in arrays)), weights
            ).total
        ),
        DetectorBatches(
            views,
            BATCH,
            DetectorAugmentation(),
            steps=arguments.steps // arguments.epochs,
            min_face=MIN_FACE,
            seed=arguments.seed,
        ),
        epochs=arguments.epochs,
        schedule=optim.OneCycleLR(
            optimizer, LEARNING_RATE, arguments.steps, pct_start=0.15, cycle_momentum=False
        ),
        callbacks=[ClipGradNorm(10.0), WeightAverage(model, 0.998), ProgressLine()],
    )
    trainer.run()
    with trainer.averaged():
        classifier = Classifier.load(arguments.classifier) if arguments.classifier else None
        detector = Detector(model, architecture, InputSettings(), classifier)
        detector.save(arguments.out)
        held_back = [photographs[k] for k in split.validation if k < len(sets[0])]
        _judge(detector, held_back)


def _groups(photographs) -> np.ndarray:
    """Group copies: those whose pixels are alike, and those of one name."""
    hashes = [
        perceptual_hash(photograph.open())
        for photograph in tqdm(photographs, desc="photographs", leave=False)
    ]
    groups = duplicate_groups(np.array(hashes))
    first: dict[str, int] = {}
    for k, photograph in enumerate(photographs):
        same = first.setdefault(photograph.name, k)
        groups[groups == groups[k]] = groups[same]
    return np.unique(groups, return_inverse=True)[1]


def _label_weights(labels: np.ndarray) -> np.ndarray:
    shares = np.bincount(labels, minlength=len(LABELS)) / len(labels)
    weights = np.maximum(shares, 1e-12) ** -BALANCE
    return (weights / (weights * shares).sum()).astype(np.float32)


def _judge(detector: Detector, photographs) -> None:
    known, found = [], []
    for photograph in tqdm(photographs, desc="held back", leave=False):
        image = photograph.open()
        boxes, labels, ignored = face_arrays(photograph)
        known.append(AnnotatedPhotograph(image.size, boxes, labels, ignored))
        found.append(detector.find(image, LEAST_SCORE))
    for name, figure in evaluate_detections(known, found).items():
        print(f"{name:<26} {figure}")


if __name__ == "__main__":
    main()
