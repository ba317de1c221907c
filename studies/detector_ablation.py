"""What each part of the detector's recipe gives: short trainings, each without one part.

    python studies/detector_ablation.py --data PATH [--data PATH ...] --out DIR [--steps 1000]

The photographs have boxes, such as Larxel's; copies of a photograph are all trained on or all held
back. Every variant has the same split, seed and number of steps, many fewer than the recipe's, so
that only the differences between rows mean something. The figures are those of the held-back
photographs of the first data set, by pycocotools (the extra `coco`). Rows go to DIR/ablation.json
as they are ready; what is there is not measured again.

`--model RUN` measures instead what needs no training: the sizes at which a finished run looks at a
photograph and the classifier as its second stage (`--classifier MODEL`, which must not have seen
the photographs that the run held back).
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.detector.evaluation.judging import judge_detector
from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture, FaceDetector
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.network.input import InputSettings
from tinygrad_mask.masks.detector.runs.loading import DetectorData, load_photographs
from tinygrad_mask.masks.detector.training.recipe import DetectorRecipe
from tinygrad_mask.masks.detector.training.trainer import DetectorTrainer
from tinygrad_mask.masks.splits import Split, split_photographs
from tinygrad_mask.training import ProgressLine

EPOCHS = 5
DRAWN = "synthetic:600"

RECIPE = DetectorRecipe(epochs=EPOCHS)
VARIANTS = {
    "recipe": RECIPE,
    "no mosaic": replace(RECIPE, augmentation=replace(RECIPE.augmentation, mosaic=0.0)),
    "a narrow range of sizes": replace(
        RECIPE, augmentation=replace(RECIPE.augmentation, long_side=(400, 1600))
    ),
    "first data set only": RECIPE,
    "pretrained on drawn faces": RECIPE,
}
SIZES = {
    "as it is": InputSettings(most_enlarged=1.0, coarse_long_side=0),
    "enlarged 1.5 times": InputSettings(long_side=600, coarse_long_side=0),
    "enlarged twice": InputSettings(coarse_long_side=0),
    "enlarged 1.5 times, and small": InputSettings(long_side=600),
    "enlarged twice, and small": InputSettings(),
}
ROWS = ("any face", "under 16 px", "16 to 32 px", "32 px and more", "proper", "improper", "none")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", required=True, metavar="PATH")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--model", metavar="RUN")
    parser.add_argument("--classifier", metavar="MODEL")
    arguments = parser.parse_args()
    data = load_photographs(arguments.data, seed=0)
    split = split_photographs(data.labels_by_photograph(), data.groups, 0.2, 0)
    first = load_photographs(arguments.data[:1], seed=0)
    held_back = [data.photographs[k] for k in split.validation if k < len(first.photographs)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "ablation.json"
    rows = json.loads(file.read_text()) if file.exists() else {}

    def add(name: str, detector: Detector) -> None:
        rows[name] = figures(detector, held_back)
        file.write_text(json.dumps(rows, indent=1))
        print(f"{name:<48}" + "".join(f"{rows[name][row]:>8.3f}" for row in (*ROWS, "mean")))

    if arguments.model:
        detector = Detector.load(arguments.model)
        for name, settings in SIZES.items():
            detector.settings = settings
            add(name, detector)
        if arguments.classifier:
            detector.settings = InputSettings()
            detector.classifier = Classifier.load(arguments.classifier)
            add("the classifier's opinion as well", detector)
        return
    for name in arguments.variants:
        key = f"{name}, {arguments.steps} steps"
        if key not in rows:
            count = len(first.photographs) if name == "first data set only" else None
            add(key, train(VARIANTS[name], data, split, count, arguments.steps, name))


def train(
    recipe: DetectorRecipe,
    data: DetectorData,
    split: Split,
    count: int | None,
    steps: int,
    name: str,
) -> Detector:
    """Return a detector after a short training, on photographs up to a number of the data."""
    recipe = replace(recipe, steps_per_epoch=steps // EPOCHS)
    chosen = [data.photographs[k] for k in split.train if count is None or k < count]
    architecture = DetectorArchitecture()
    model = FaceDetector(architecture, np.random.default_rng(0))
    print(f"{name}: {len(chosen)} photographs, {recipe.steps} steps")
    if name == "pretrained on drawn faces":
        drawn = load_photographs([DRAWN], seed=0).photographs
        run(model, drawn, recipe)
    run(model, chosen, recipe)
    return Detector(model, architecture, InputSettings())


def run(model: FaceDetector, photographs: list[Photograph], recipe: DetectorRecipe) -> None:
    """Train a network, and leave it with its averaged weights."""
    trainer = DetectorTrainer(model, photographs, recipe, seed=0, callbacks=[ProgressLine()])
    trainer.run()
    with trainer.averaged():
        state = {name: array.copy() for name, array in model.state_dict().items()}
    model.load_state_dict(state)


def figures(detector: Detector, photographs: list[Photograph]) -> dict[str, float]:
    """Return all figures of a detector by name."""
    judgement = judge_detector(detector, photographs, resamples=0)
    return {name: estimate.value for name, estimate in judgement.estimates.items()}


if __name__ == "__main__":
    main()
