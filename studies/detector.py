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

from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.detector.evaluation.average_precision import (
    AnnotatedPhotograph,
    evaluate_detections,
)
from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture, FaceDetector
from tinygrad_mask.masks.detector.network.detector import Detector, InputSettings
from tinygrad_mask.masks.detector.runs.loading import load_photographs
from tinygrad_mask.masks.detector.training.batches import face_arrays
from tinygrad_mask.masks.detector.training.recipe import DetectorRecipe
from tinygrad_mask.masks.detector.training.trainer import DetectorTrainer
from tinygrad_mask.masks.splits import split_photographs
from tinygrad_mask.training import ProgressLine

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
    data = load_photographs(arguments.data, seed=arguments.seed)
    split = split_photographs(data.labels_by_photograph(), data.groups, 0.2, arguments.seed)
    print(data.summary)
    print(f"trained on {len(split.train)} photographs, {len(split.validation)} held back")

    architecture = DetectorArchitecture()
    model = FaceDetector(architecture, np.random.default_rng(arguments.seed))
    trainer = DetectorTrainer(
        model,
        [data.photographs[k] for k in split.train],
        DetectorRecipe(
            epochs=arguments.epochs, steps_per_epoch=arguments.steps // arguments.epochs
        ),
        seed=arguments.seed,
        callbacks=[ProgressLine()],
    )
    trainer.run()
    with trainer.averaged():
        classifier = Classifier.load(arguments.classifier) if arguments.classifier else None
        detector = Detector(model, architecture, InputSettings(), classifier)
        detector.save(arguments.out)
        first = data.photographs[0].source
        held_back = [data.photographs[k] for k in split.validation]
        _judge(detector, [photograph for photograph in held_back if photograph.source == first])


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
