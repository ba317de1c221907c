"""Write docs/model_card.md, its pictures and docs/model_card.json.

    python studies/model_card.py --cross-validation runs/CV --slices slices.json \\
        --carry-over carry_over.json --data PATH

`runs/CV` is a folder that `tinygrad-mask train --cross-validate` left (studies/finished_folds.py),
`slices.json` what studies/slices.py and `carry_over.json` what studies/carry_over.py wrote, `PATH`
Larxel's data set. Every figure of the card comes from these; the JSON keeps them, and what the
shipped weights say on one stored fold, for the tests.
"""

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_mask.files import write_file
from tinygrad_mask.masks.classifier.evaluation.coverage import CoverageRow
from tinygrad_mask.masks.classifier.evaluation.judging import Judgement
from tinygrad_mask.masks.classifier.evaluation.metrics import (
    Metrics,
    compute_metrics,
    recall_of_improper,
)
from tinygrad_mask.masks.classifier.network.classifier import (
    PRETRAINED_FILE,
    Classifier,
)
from tinygrad_mask.masks.classifier.report.tables import (
    alarm_tables,
    by_size_table,
    calibration_text,
    confusion_table,
    coverage_table,
    per_class_table,
    results_table,
)
from tinygrad_mask.masks.crops import crop_face
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.model_files import PRETRAINED
from tinygrad_mask.masks.report.markdown import table

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = ("confusion", "precision_recall", "reliability")
"""Those of the run folder that the card shows: no photographs, which stay where they are."""

DATA = {
    "larxel": "Face Mask Detection, by Larxel (Kaggle: andrewmvd/face-mask-detection), CC0 1.0: "
    "683 of its 853 photographs; the others are kept apart by the project's owner",
    "humans_in_the_loop": "Medical Mask Dataset, by Humans in the Loop, announced as CC0 1.0",
    "larxel_large": "520 of the same photographs, 2.5 to 3 times larger. Larxel published the "
    "photographs as CC0; the larger copies come from the organisation that collected them, which "
    "names no licence of its own. They are trained on, and not judged",
    "painted": "the bare faces of these photographs with masks that this package paints on them, "
    "properly and improperly alike. They are trained on, and not judged",
    "synthetic": "faces that this package draws itself, MIT. They are trained on, and not judged",
}
"""What the card says of each source of data."""

SEEN = {
    "beard": "a beard (nearly all the same man)",
    "black mask": "a black or dark grey mask",
    "dark skin": "brown or black skin",
    "hand": "a hand at the mouth or the mask",
    "patterned mask": "a mask with a pattern, a picture or writing",
    "profile": "a view from the side",
}
"""What was looked for in the photographs, by the names of larxel_attributes.csv."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cross-validation", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--slices", type=Path, required=True, metavar="FILE")
    parser.add_argument("--carry-over", type=Path, required=True, metavar="FILE")
    parser.add_argument("--data", required=True, metavar="PATH")
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="what else to say of how the weights came to be"
    )
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER")
    parser.add_argument("--model", default=PRETRAINED, help="(default: the shipped weights)")
    arguments = parser.parse_args()
    folder = arguments.cross_validation
    classifier = Classifier.load(arguments.model)
    path = PRETRAINED_FILE if arguments.model == PRETRAINED else Path(arguments.model)
    with (folder / "predictions.csv").open(newline="") as file:
        predictions = list(csv.DictReader(file))
    config = json.loads((folder / "config.json").read_bytes())
    if (
        config["crops"] != asdict(classifier.crops)
        or config["model"] != classifier.architecture.kind
    ):
        parser.error(f"{arguments.model} was not trained with the settings of {folder}")
    content = {
        "model": facts(classifier, path),
        "config": config
        | {part: [_named(path) for path in config[part]] for part in _PATHS}
        | {"initial": config["initial"] and Path(config["initial"]).name},
        "note": arguments.note,
        "folds": sorted({int(row["fold"]) for row in predictions}),
        "sources": sorted({row["source"] for row in predictions}),
        "photographs": len({(row["source"], row["photograph"]) for row in predictions}),
        "judgement": json.loads((folder / "judgement.json").read_bytes()),
        "slices": json.loads(arguments.slices.read_bytes()),
        "carry_over": json.loads(arguments.carry_over.read_bytes()),
        "stored_fold": stored_fold(classifier, predictions, arguments.data),
    }
    pictures = arguments.docs / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    shown = [name for name in PICTURES if (folder / f"{name}.png").exists()]
    for name in shown:
        picture = (folder / f"{name}.png").read_bytes()
        write_file(pictures / f"card_{name}.png", picture, overwrite=True)
    card = model_card(content, shown)
    write_file(arguments.docs / "model_card.md", card.encode(), overwrite=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_file(arguments.docs / "model_card.json", f"{text}\n".encode(), overwrite=True)


def facts(classifier: Classifier, path: Path) -> dict[str, Any]:
    """Return what there is to say of the weights without asking them anything."""
    file = path / "model.safetensors" if path.is_dir() else path
    return {
        "architecture": asdict(classifier.architecture),
        "crops": asdict(classifier.crops),
        "mirrored": classifier.mirrored,
        "temperature": classifier.temperature,
        "threshold": classifier.threshold,
        "parameters": classifier.model.parameter_count(),
        "bytes": file.stat().st_size,
    }


def stored_fold(
    classifier: Classifier, predictions: Sequence[Mapping[str, str]], data: str
) -> dict[str, Any]:
    """Return the photographs of fold 1, and what weights trained on them say of their faces."""
    names = sorted({row["photograph"] for row in predictions if row["fold"] == "1"})
    return {"photographs": names, "metrics": fold_metrics(classifier, names, data).to_json()}


def fold_metrics(classifier: Classifier, names: Sequence[str], data: str) -> Metrics:
    """Return the figures of a classifier on every face of some photographs of a data set."""
    photographs = {photograph.name: photograph for photograph in open_dataset(data, DataIssues())}
    labels, crops = [], []
    for name in names:
        picture = photographs[name].open()
        for face in photographs[name].faces:
            labels.append(LABELS.index(face.label))
            crops.append(crop_face(picture, face.box, classifier.crops))
    return compute_metrics(labels, classifier.scores(np.stack(crops)))


def model_card(content: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """Return the card as Markdown."""
    judgement = Judgement.from_json(content["judgement"])
    config, model = content["config"], content["model"]
    size, margin = model["crops"]["size"], model["crops"]["margin"]
    asked = "each crop and its mirror image" if model["mirrored"] else "each crop"
    sections = [
        "# Model card: how a face mask is worn",
        "Written by `studies/model_card.py` from a cross-validation; every figure is one of its.",
        "## What it is",
        f"A convolutional network (`{model['architecture']['kind']}`, "
        f"{model['parameters']:,} parameters, {model['bytes'] / 1e6:.2f} MB) that is given the "
        f"crop of one face, {size} x {size} pixels in RGB (the face's box grown by "
        f"{margin:.0%} of its longer side on each side), and says how probable each of three "
        "classes is: `proper` (the mask covers nose, mouth and chin), `improper` (it is worn, but "
        "leaves the nose or the mouth free) and `none`. It is asked about "
        f"{asked}. It does not find faces.",
        "```python\nfrom tinygrad_mask.masks import load_pretrained\n\n"
        "classifier = load_pretrained()\n"
        'print(classifier.predict("face.jpg"))  # or a Pillow image, or an RGB array\n```',
        "On the command line `pretrained` stands for it wherever a model is asked for. The file "
        "also holds the hashes of the photographs that it was trained on: `tinygrad-mask evaluate` "
        "leaves these and their copies out.",
        "It is meant for counting how masks are worn, for reminders at a door, and for teaching; "
        "not for decisions about a person that nobody looks at again. It says nothing about who "
        "somebody is.",
        "## Where it fails, or was feared to",
        _list(_failures(judgement, content["slices"], content.get("carry_over", {}))),
        "## Data and licence",
        _list(_data_lines(config, content["sources"])),
        "As far as known, no mask was painted into a photograph that is judged. By eye, most of "
        "the faces are those of East Asian people; those of others are few (see the slices).",
        "The weights are under the licence of the package, MIT.",
        "## How it is judged",
        _how_judged(content),
        results_table(judgement, "faces, cross-validated"),
        _picture(pictures, "confusion"),
        "### Per class",
        per_class_table(judgement),
        _picture(pictures, "precision_recall"),
        "### Confusion",
        "Rows: the true class. Columns: what the models took it for.",
        confusion_table(judgement.metrics),
        "### By size of the face",
        "The size is the shorter side of the face's box in its photograph, before anything is "
        "resized.",
        by_size_table(judgement),
        "### Alarms",
        "How many badly worn masks are noticed at a share of false alarms that one can live with. "
        "The thresholds are those of these very faces; on others the false alarms may be more.",
        *alarm_tables(judgement),
        "### Calibration",
        calibration_text(judgement),
        _picture(pictures, "reliability"),
        *_carry_over(content.get("carry_over", {}), model.get("threshold", 0.0)),
        "## What users of such tools complain about",
        *_slices(content["slices"]),
        "## Settings",
        _settings(config),
        "## A check of the file",
        _check(content["stored_fold"]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _data_lines(config: Mapping[str, Any], sources: Sequence[str]) -> list[str]:
    extra = [_extra_line(path) for path in config["extra"]]
    begun = [f"began with the weights of `{config['initial']}`"] if config["initial"] else []
    lines = [*(DATA.get(source, f"`{source}`") for source in sources), *extra, *begun]
    return list(dict.fromkeys(lines))


def _extra_line(path: str) -> str:
    name = path if path in DATA else path.partition(":")[0]
    if name in ("larxel_large", "painted"):
        return DATA[name]
    return f"trained on in every fold, never judged: `{path}`"


def _named(path: str) -> str:
    """The name of a data set, whatever folder it lies in: `painted:FOLDER:9` with its last part."""
    kind, colon, rest = path.partition(":")
    if kind != "painted":
        return path if kind == "synthetic" else Path(path).name
    folder, _, count = rest.rpartition(":")
    return f"{kind}{colon}{Path(folder).name}:{count}"


_PATHS = ("data", "extra")


def _how_judged(content: Mapping[str, Any]) -> str:
    config = content["config"]
    folds, done = config["cross_validate"], content.get("folds")
    by = config.get("group_by", "photograph")
    together = (
        "photographs of the same persons at the same event are never divided (near-duplicates, "
        "photographs that look alike, and the one series of self-portraits)"
        if by == "event"
        else "near-duplicates together"
    )
    text = f"{folds} folds by {by}: {together}. "
    if done is not None and len(done) < folds:
        names = ", ".join(map(str, done))
        text += (
            f"**Only {len(done)} of the {folds} folds could be computed for this card** (fold "
            f"{names}, {content['photographs']} photographs): the figures of `improper` rest on "
            "few faces, and their intervals are wide. "
        )
    else:
        text += f"{content['photographs']} photographs, of which every face is judged once. "
    return text + (
        "Each face is judged by a model that never saw its photograph, a copy of it, or a mask "
        "painted on it. Intervals are by bootstrap over photographs. The settings were chosen by "
        "such folds and by ilc2021 as a validation set, so the figures of both are optimistic. "
        "The shipped weights are trained with the same settings on all photographs."
        + (f" {content['note']}" if content.get("note") else "")
    )


def _carry_over(measured: Mapping[str, Any], threshold: float) -> list[str]:
    """The sections about other sources, of the shipped weights; none if none was measured."""
    if not measured:
        return []
    rows = []
    for name, of in measured.items():
        everything = Metrics.from_json(of["metrics"])
        improper = any(everything.confusion[LABELS.index("improper")])
        rows.append(
            [
                name,
                f"{everything.n}",
                f"{everything.accuracy:.3f}",
                f"{everything.baseline_accuracy:.3f}",
                f"{everything.balanced_accuracy:.3f}",
                f"{everything.macro_f1:.3f}" if improper else "",
                recall_of_improper(everything),
                f"{of['ece']:.3f}",
            ]
        )
    header = ["", "faces", "accuracy", "baseline", "balanced accuracy", "macro-F1"]
    sections = [
        "## Other sources",
        "The shipped weights on faces of other persons and cameras, none of them trained on. "
        "`ilc2021` (350 photographs of another source, 861 faces, measured only) was the "
        "validation set, so its figures are optimistic. `chandrikadeb7` (pictures filled by one "
        "face, labelled with and without a mask only) has no improper class: faces called improper "
        "are counted as wrong. The last row is drawn, with masks of a kind that is not trained on.",
        table(
            [*header, "recall of `improper`", "calibration error"],
            rows,
            "lrrrrrrr",
        ),
        "### Unsure",
        f"An answer with a probability below {threshold:.3f} is `unsure`; the threshold "
        "answers 90 % of the faces of ilc2021. It is the default of `predict`; the figures of this "
        "card are of all faces, but for these tables.",
    ]
    for name, of in measured.items():
        rows_of = [CoverageRow.from_json(row) for row in of["coverage"]]
        answered = Metrics.from_json(of["answered_metrics"])
        sections += [
            f"**{name}**: the threshold answers {of['answered']:.0%}, with accuracy "
            f"{answered.accuracy:.3f} and macro-F1 {answered.macro_f1:.3f}.",
            coverage_table(rows_of),
        ]
    return sections


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _picture(pictures: Sequence[str], name: str) -> str:
    words = name.replace("_", " ")
    return f"![{words}](pictures/card_{name}.png)" if name in pictures else ""


def _slices(slices: Mapping[str, Any]) -> list[str]:
    least = slices["least_size"]
    return [
        f"**Seen.** Faces of at least {least:g} px in the photographs, marked by eye by one "
        "annotator (`studies/larxel_attributes.csv`), and all others of that size. Few of them "
        "are worn improperly, so the recall of `improper` is a rough figure here.",
        _slice_table({SEEN[name]: of for name, of in slices["seen"].items()}, "all others"),
        f"**Changed.** The same faces of at least {least:g} px, changed, and as they are.",
        _slice_table(slices["changed"], "as they are"),
        f"**Drawn.** {slices['drawn_pairs']} pairs of drawn faces that differ in one thing; the "
        "shipped weights. What counts is the difference: a drawn face is not a photograph.",
        _slice_table(slices["drawn"], "the same without"),
    ]


def _slice_table(slices: Mapping[str, Any], beside: str) -> str:
    rows: list[list[str]] = []
    last = None
    # Halves that several slices share stand once, before them.
    for name, halves in slices.items():
        parts = [(name, halves["with"])]
        if halves["without"] != last:
            parts.insert(0, (beside, halves["without"]))
            last = halves["without"]
        rows += [_slice_row(title, Metrics.from_json(of)) for title, of in parts]
    header = ["", "faces", "accuracy", "baseline", "balanced accuracy", "macro-F1"]
    return table([*header, "recall of `improper`"], rows, "lrrrrrr")


def _slice_row(title: str, of: Metrics) -> list[str]:
    return [
        title,
        f"{of.n}",
        f"{of.accuracy:.3f}",
        f"{of.baseline_accuracy:.3f}",
        f"{of.balanced_accuracy:.3f}",
        f"{of.macro_f1:.3f}",
        recall_of_improper(of),
    ]


def _failures(
    judgement: Judgement, slices: Mapping[str, Any], carry_over: Mapping[str, Any]
) -> list[str]:
    sizes = list(judgement.by_size.items())
    (small, of_small), (large, of_large) = sizes[0], sizes[-1]
    lines = [
        f"Small faces: macro-F1 {of_small.macro_f1:.3f} at {small}, {of_large.macro_f1:.3f} at "
        f"{large}; recall of `improper` {recall_of_improper(of_small)} against "
        f"{recall_of_improper(of_large)}.",
    ]
    for kind, name, title in (
        ("seen", "profile", "Views from the side"),
        ("seen", "dark skin", "Brown or black skin"),
        ("seen", "hand", "A hand at the mouth or the mask"),
        ("changed", "low light", "Low light"),
        ("changed", "BGR in place of RGB", "Red and blue exchanged (OpenCV reads BGR)"),
    ):
        if name not in slices[kind]:
            lines.append(f"{title}: not measured, no such face is in the folds judged.")
            continue
        with_it, without = (
            Metrics.from_json(slices[kind][name][half]) for half in ("with", "without")
        )
        lines.append(
            f"{title}: balanced accuracy {with_it.balanced_accuracy:.3f} ({with_it.n} faces), "
            f"{without.balanced_accuracy:.3f} otherwise."
        )
    for name, of in carry_over.items():
        everything = Metrics.from_json(of["metrics"])
        proper, improper, none = everything.confusion
        missed = f"{improper[2]} of {sum(improper)} improper faces are taken for bare, "
        lines.append(
            f"{name}: {missed if sum(improper) else ''}{none[1]} of {sum(none)} bare faces and "
            f"{proper[1]} of {sum(proper)} proper ones are called improper. Red and blue exchanged "
            f"are noticed at {of['bgr_noticed']:.0%} of single faces, {of['rgb_doubted']:.1%} are "
            "doubted as they are."
        )
    return [
        *lines,
        "Other coverings, such as a scarf, a veil, a visor or a sleeve before the mouth, are in no "
        "class of their own: some were labelled `proper` in the data, and the model has to call "
        "them one of the three.",
        "Labels of tiny or blurred faces are debatable, in the data and so in these figures.",
    ]


def _settings(config: Mapping[str, Any]) -> str:
    flat: dict[str, Any] = {}
    for name in ("model", "seed", "min_face"):
        flat[name] = config[name]
    for part in ("crops", "recipe"):
        for name, value in config[part].items():
            if isinstance(value, Mapping):
                flat |= {f"{part}.{name}.{inner}": of for inner, of in value.items()}
            else:
                flat[f"{part}.{name}"] = value
    rows = (
        [name, value if isinstance(value, str) else json.dumps(value)]
        for name, value in flat.items()
    )
    return table(["setting", "value"], rows, "ll")


def _check(stored: Mapping[str, Any]) -> str:
    metrics = Metrics.from_json(stored["metrics"])
    return (
        f"On the {len(stored['photographs'])} photographs of fold 1, which the shipped weights "
        f"were trained on, they answer {metrics.n} faces with accuracy {metrics.accuracy:.4f} "
        f"(baseline {metrics.baseline_accuracy:.4f}), balanced accuracy "
        f"{metrics.balanced_accuracy:.4f}, macro-F1 {metrics.macro_f1:.4f} and recall of "
        f"`improper` {recall_of_improper(metrics)}. That says that the file is what it should be, "
        "not how good it is; a test repeats it."
    )


if __name__ == "__main__":
    main()
