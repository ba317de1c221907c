"""Write docs/detector_card.md and its picture from evaluations of the shipped detector.

    tinygrad-mask evaluate-detector pretrained --data LARXEL --out EVALUATION
    tinygrad-mask evaluate-detector pretrained --data ILC2021 --json > other.json
        --classes with_incorrect_mask=improper
    python studies/detector_card.py --evaluation EVALUATION --other other.json
        [--second second.json] [--other-second other_second.json] [--ablation ablation.json]

`second.json` is an evaluation with `--classifier` of a classifier that was trained on the
detector's training photographs only, `other_second.json` one on the other data set with the shipped
classifier, `ablation.json` what studies/detector_ablation.py left.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinygrad_mask.files import write_file
from tinygrad_mask.masks.detector.network.detector import PRETRAINED_FILE, Detector
from tinygrad_mask.masks.report.markdown import table

DOCS = Path(__file__).parents[1] / "docs"
SIZES = ("any face", "under 16 px", "16 to 32 px", "32 px and more")
LABELS = ("proper", "improper", "none", "mean")
Figures = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--evaluation", type=Path, required=True, metavar="DIR")
    parser.add_argument("--other", type=Path, required=True, metavar="FILE")
    parser.add_argument("--second", type=Path, metavar="FILE")
    parser.add_argument("--other-second", type=Path, metavar="FILE")
    parser.add_argument("--ablation", type=Path, metavar="FILE")
    arguments = parser.parse_args()

    def figures(path: Path | None) -> Figures | None:
        return None if path is None else json.loads(path.read_text())

    content = {
        "held_back": figures(arguments.evaluation / "metrics.json"),
        "second": figures(arguments.second),
        "other": figures(arguments.other),
        "other_second": figures(arguments.other_second),
        "ablation": figures(arguments.ablation) or {},
    }
    shutil.copy(
        arguments.evaluation / "precision_recall.png",
        DOCS / "pictures" / "detector_precision_recall.png",
    )
    write_file(DOCS / "detector_card.md", card(content).encode(), overwrite=True)


def card(content: Mapping[str, Any]) -> str:
    """Return the card in Markdown."""
    detector = Detector.load("pretrained")
    settings = detector.settings
    held_back, other = content["held_back"], content["other"]
    parts = [
        "# Model card: finding the faces",
        "Written by `studies/detector_card.py` from evaluations of the shipped weights.",
        "## What it fails at",
        "- **Badly worn masks.** Alone it ranks `improper` with an average precision of only "
        f"{value(held_back, 'improper')}; the classifier behind it makes the label usable.\n"
        "- **Photographs of another kind.** On ILC 2021 the average precision is "
        f"{value(other, 'any face')}, far below the {value(held_back, 'any face')} on photographs "
        "of the kind that it was trained on. Part of that is the ruler: of the 192 most certain "
        "detections there that count as false alarms, about 150 show a face, most of them one that "
        "nobody annotated, some one whose annotated box is drawn wider or narrower (counted by "
        "eye). The others are letters, watches, lamps and foliage.\n"
        f"- **Faces under 16 pixels**: an average precision of {value(held_back, 'under 16 px')}.\n"
        "- **Profiles and faces bent down**, of which Larxel's photographs have few.",
        "## What it is",
        f"A fully convolutional network of {detector.model.parameter_count():,} parameters "
        f"({PRETRAINED_FILE.stat().st_size / 1e6:.1f} MB) that predicts on a map of stride 4 where "
        "the centres of faces are, their boxes, and how their masks are worn "
        "(`tinygrad_mask/masks/detector/network/architecture.py`). It looks at a photograph twice: "
        f"with a longer side of {settings.long_side} pixels, enlarged at most "
        f"{settings.most_enlarged:g} times, and of {settings.coarse_long_side} pixels for large "
        "faces. `load_detector()` has the shipped classifier behind it: a label's probability is "
        "the mean of both.",
        "## Data and licence",
        "Trained from random weights, with the default settings of `tinygrad-mask train-detector`, "
        "on four fifths of the photographs of Face Mask Detection, by Larxel (Kaggle: "
        "andrewmvd/face-mask-detection), CC0 1.0, and on copies of the same photographs that are "
        "2.5 to 3 times larger; the source of these copies names no licence of its own. The "
        "weights are under the licence of the package, MIT.",
        "## How good it is",
        f"{held_back['photographs']} photographs of Larxel's that were held back, with all their "
        f"copies. {other['photographs']} photographs of ILC 2021, a source that was never trained "
        "on. Average precision at an intersection over union of 0.5, by pycocotools; sizes are "
        "those of the shorter side of a face. In brackets 95 % intervals by bootstrap over "
        "photographs. Which sizes to look at was chosen between three of the first look and two of "
        "the second on the photographs held back themselves: these figures are a little too good. "
        "All of the 18 combinations lay between 0.905 and 0.913.",
        figures_table(content),
        "The classifier of the second stage had to be one that never saw the photographs held "
        "back, so that column is of a `vgg` trained on the detector's training photographs alone, "
        "and of the 136 photographs that neither saw. The last column, if there is one, is of the "
        "shipped classifier.",
        "![precision and recall](pictures/detector_precision_recall.png)",
    ]
    if content["ablation"]:
        rows = content["ablation"]
        columns = (*SIZES, *LABELS)
        parts += [
            "## What each part gives",
            "Short trainings on the same photographs with the same seed, each with one change "
            "(`studies/detector_ablation.py`); one run each, so that a difference of a point or "
            "two means nothing.",
            table(
                ["", *columns],
                ([name, *(f"{row[c]:.3f}" for c in columns)] for name, row in rows.items()),
                "l" + "r" * len(columns),
            ),
        ]
    return "\n\n".join(parts) + "\n"


def figures_table(content: Mapping[str, Any]) -> str:
    """Return all evaluations side by side."""
    titles = {
        "held_back": "Larxel, alone",
        "second": "Larxel, with a classifier",
        "other": "ILC 2021, alone",
        "other_second": "ILC 2021, with the classifier",
    }
    shown = {key: title for key, title in titles.items() if content[key] is not None}
    rows = [
        [
            f"`{name}`" if name in LABELS[:3] else name,
            *(interval(content[key], name) for key in shown),
        ]
        for name in (*SIZES, *LABELS, "recall at one false alarm")
    ]
    return table(["", *shown.values()], rows, "l" + "r" * len(shown))


def value(evaluation: Figures, name: str) -> str:
    """Return a figure as text."""
    return f"{evaluation['figures'][name]['value']:.3f}"


def interval(evaluation: Figures, name: str) -> str:
    """Return a figure and its interval as text."""
    figure = evaluation["figures"][name]
    return f"**{figure['value']:.3f}** ({figure['low']:.3f} to {figure['high']:.3f})"


if __name__ == "__main__":
    main()
