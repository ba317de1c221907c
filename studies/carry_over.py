"""How well a classifier carries over to other persons, cameras and ways of wearing a mask.

    python studies/carry_over.py --data PATH [--data PATH ...] --out carry_over.json

Measures `--model` (default: the shipped weights) on every face of the data sets `--data`, which it
must not have been trained on, and on drawn close-ups of a kind that is not trained on: masks much
too large that hang askew. Of each it writes the figures, the expected calibration error, the
coverage curve, what the threshold for `unsure` leaves answered, and how many faces are noticed if
red and blue are exchanged.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.files import write_file
from tinygrad_mask.masks.classifier.evaluation.calibration import (
    expected_calibration_error,
    reliability_of_answers,
)
from tinygrad_mask.masks.classifier.evaluation.coverage import coverage_curve
from tinygrad_mask.masks.classifier.evaluation.metrics import compute_metrics
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.classifier.runs.loading import load
from tinygrad_mask.masks.colour_order import ENOUGH, bgr_evidence
from tinygrad_mask.masks.crops import CropSettings, crop_face
from tinygrad_mask.masks.datasets.drawing.scene import develop
from tinygrad_mask.masks.datasets.drawing.traits import Worn, sample_light, sample_traits
from tinygrad_mask.masks.datasets.synthetic import draw_face
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.model_files import PRETRAINED

DRAWN, SEED = 600, 77
_IMPROPER: tuple[Worn, ...] = ("under the nose", "under the mouth", "on the chin", "under the chin")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", default=[], metavar="PATH")
    parser.add_argument("--model", default=PRETRAINED)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    classifier = Classifier.load(arguments.model)
    content = {}
    for path in arguments.data:
        loaded = load(
            [path],
            classifier.crops,
            min_face=0,
            classes={"with_incorrect_mask": "improper"},
            other_coverings=None,
            seed=1,
        )
        content[Path(path).name] = measured(classifier, loaded.faces.labels, loaded.faces.crops)
    content["drawn, too large and askew"] = measured(classifier, *drawn(classifier.crops))
    write_file(arguments.out, (json.dumps(content, indent=1) + "\n").encode())
    for name, of in content.items():
        shown = {key: of["metrics"][key] for key in ("accuracy", "balanced_accuracy", "macro_f1")}
        print(name, shown, of["metrics"]["per_class"]["improper"]["recall"], of["ece"])


def measured(
    classifier: Classifier, labels: NDArray[np.int64], crops: NDArray[np.uint8]
) -> dict[str, Any]:
    """Return all figures of a classifier on some crops (n, size, size, 3)."""
    probabilities = classifier.probabilities(crops)
    answered = probabilities.max(axis=1) >= classifier.threshold
    exchanged = np.ascontiguousarray(crops[..., ::-1])
    return {
        "metrics": compute_metrics(labels, probabilities).to_json(),
        "ece": expected_calibration_error(reliability_of_answers(probabilities, labels)),
        "coverage": [row.to_json() for row in coverage_curve(labels, probabilities)],
        "answered": float(answered.mean()),
        "answered_metrics": compute_metrics(labels[answered], probabilities[answered]).to_json(),
        "bgr_noticed": float((bgr_evidence(exchanged) > ENOUGH).mean()),
        "rgb_doubted": float((bgr_evidence(np.asarray(crops)) > ENOUGH).mean()),
    }


def drawn(settings: CropSettings) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Draw close-ups whose masks are larger and more askew than any that are trained on."""
    labels, crops = [], []
    for index in range(DRAWN):
        rng = np.random.default_rng([SEED, index])
        traits = sample_traits(rng)
        improper = _IMPROPER[index // 3 % len(_IMPROPER)]
        worn: Worn = ("over nose and mouth", improper, "not worn")[index % 3]
        traits = replace(
            traits,
            worn=worn,
            mask_size=float(rng.uniform(1.3, 1.5)),
            mask_tilt=float(rng.choice((-1, 1)) * rng.uniform(14, 24)),
            yaw=float(np.clip(traits.yaw, -40, 40)),
            hand=traits.hand and worn == "not worn",
        )
        red, green, blue = (int(level) for level in rng.integers(20, 230, 3))
        height = int(rng.integers(60, 110))
        picture, box = draw_face(traits, height, sample_light(rng), (red, green, blue))
        softness, noise = max(0.0, rng.normal(0.3, 0.4)), rng.uniform(0, 6)
        picture = develop(rng, picture, softness, noise, quality=int(rng.integers(30, 90)))
        labels.append(LABELS.index(traits.label))
        crops.append(crop_face(picture, box, settings))
    return np.array(labels), np.stack(crops)


if __name__ == "__main__":
    main()
