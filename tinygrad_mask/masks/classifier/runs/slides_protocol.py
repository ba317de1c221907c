"""The experiment of the slides under its own protocol, and today's recipe under the same.

The slides are those of a course project that this package began with ('Detecting Improper Mask
Wearing Using Convolutional Neural Networks', Park, Zhang, Zhang and Zhu, Emory University, 2022).
They held back a fifth of the faces, drawn at random, and trained a network of three convolutions
and poolings for 20 epochs: training accuracy 1.00, validation accuracy 0.8462, on Larxel's data
and those of Humans in the Loop together. What they do not tell (size of the input, channels,
optimiser) is here that of the introductions to Keras of their time: Adam at its default rate,
batches of 32, nothing varied.

Drawn by face, faces of one photograph are on both sides, and so is nearly every photograph: what a
model learns by heart of its light and its background helps it in validation. Cross-validation by
photograph (`cross_validation.py`) is the honest figure.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import resolve_device
from tinygrad_mask.files import write_file
from tinygrad_mask.masks.classifier.evaluation.metrics import Metrics, recall_of_improper
from tinygrad_mask.masks.classifier.report.plots import plot_protocol
from tinygrad_mask.masks.classifier.runs.config import Design, RunConfig, make_trainer
from tinygrad_mask.masks.classifier.runs.loading import LoadedData, load_for
from tinygrad_mask.masks.classifier.runs.run_folder import ClassifierRunFolder
from tinygrad_mask.masks.classifier.training.recipes import Recipe
from tinygrad_mask.masks.classifier.training.trainer import ClassifierTrainer, epoch_line
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.report.markdown import table
from tinygrad_mask.masks.runs.terminal import run_in_terminal
from tinygrad_mask.training import InterruptedRunError

SLIDES_ACCURACY = 0.8462
"""The validation accuracy on the slides, after 20 epochs."""

SLIDES_RECIPE = Recipe(
    optimizer="adamw", lr=1e-3, weight_decay=0.0, one_cycle=False, class_balance=0.0
)
"""The slides' recipe, as far as it is known. Without weight decay AdamW is Adam."""

_VALIDATION = 0.2
_CURVES = {"slides": "the slides' network", "today": "today's recipe"}


@dataclasses.dataclass(frozen=True, eq=False)
class ProtocolRun:
    """A network trained under the protocol: its name, epoch by epoch, and in the end."""

    name: str
    history: Sequence[Mapping[str, float]]
    metrics: Metrics


def run_slides_protocol(
    config: RunConfig, out: Path, design: Design | None = None
) -> list[ProtocolRun]:
    """Train the slides' network and that of `config` on one random split of the faces.

    The folder `out` gets `curves.png`, `metrics.json` and `report.md`. Raises `UsageError` for data
    or settings that cannot be used, `TrainingDivergedError` and `InterruptedRunError`.
    """
    if config.initial is not None:
        raise UsageError("the slides' protocol begins with random weights: no --initial")
    resolve_device(config.device)
    config = dataclasses.replace(config, min_face=0)
    with ClassifierRunFolder.start(out, {"protocol": "slides", **config.to_json()}) as folder:
        return _run_both(config, folder, design)


def _run_both(
    config: RunConfig, folder: ClassifierRunFolder, design: Design | None
) -> list[ProtocolRun]:
    out, data = folder.path, load_for(config)
    train, held_back = split_faces(len(data.faces), config.seed)
    shared = share_of_known(data, train, held_back)
    folder.write_left_out(data.issues)
    print(data.summary, end="\n\n")
    print(f"trained on {len(train):,} faces, judged on {len(held_back):,}, drawn by face: ", end="")
    print(f"of {shared:.0%} of these the photograph, or a copy, is trained on too\n")
    runs = []
    for name, model, recipe, of_model in (
        ("slides", "cnn", SLIDES_RECIPE, None),
        ("today", config.model, config.recipe, design),
    ):
        print(f"{name}: {model}, {recipe.epochs} epochs", flush=True)
        of_run = dataclasses.replace(config, model=model, recipe=recipe)
        runs.append(_run(name, make_trainer(of_run, data.faces, train, held_back, design=of_model)))
    plot_protocol(
        {_CURVES[run.name]: run.history for run in runs},
        out / "curves.png",
        slides=SLIDES_ACCURACY,
        baseline=runs[0].metrics.baseline_accuracy,
    )
    figures = {run.name: run.metrics.to_json() for run in runs}
    write_file(out / "metrics.json", f"{json.dumps(figures, indent=1)}\n".encode())
    report = protocol_report(runs, shared)
    write_file(out / "report.md", f"# The slides' protocol\n\n{report}\n".encode())
    print(f"\n{report}\n\n{out}: curves and figures")
    print(
        "next: tinygrad-mask train --cross-validate 5, which never judges a photograph that it "
        "has trained on",
        file=sys.stderr,
    )
    return runs


def _run(name: str, trainer: ClassifierTrainer) -> ProtocolRun:
    try:
        run_in_terminal(trainer, epoch_line)
    except InterruptedRunError:
        raise InterruptedRunError("stopped; the slides' protocol has to begin anew") from None
    return ProtocolRun(name, trainer.progress.history, trainer.validate()[0])


def split_faces(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of four fifths and of one fifth of the faces, drawn at random.

    Raises `UsageError` for fewer than five faces.
    """
    if count < 5:
        raise UsageError(f"the slides' protocol expects at least 5 faces, got {count}")
    order = np.random.default_rng(seed).permutation(count)
    held_back = round(_VALIDATION * count)
    return np.sort(order[held_back:]), np.sort(order[:held_back])


def share_of_known(
    data: LoadedData, train: NDArray[np.int64], held_back: NDArray[np.int64]
) -> float:
    """Return the share of faces held back whose photograph, or a copy of it, is trained on."""
    groups = data.groups[data.faces.photograph]
    return float(np.isin(groups[held_back], groups[train]).mean())


def protocol_report(runs: Sequence[ProtocolRun], shared: float) -> str:
    """Return the figures as a Markdown table, and what has to be known to read them."""
    names = {"slides": "their network, here", "today": "today's recipe"}
    rows = [["on the slides, their data", "1.00", str(SLIDES_ACCURACY), "", "", ""]]
    for run in runs:
        metrics = run.metrics
        rows.append(
            [
                f"{names[run.name]}, {len(run.history)} epochs",
                f"{run.history[-1]['accuracy']:.4f}",
                f"{metrics.accuracy:.4f}",
                f"{metrics.balanced_accuracy:.3f}",
                f"{metrics.macro_f1:.3f}",
                recall_of_improper(metrics),
            ]
        )
    figures = ["accuracy in training", "accuracy", "balanced accuracy", "macro-F1"]
    return "\n\n".join(
        [
            table(["", *figures, "recall of `improper`"], rows, "lrrrrr"),
            f"Always answering the most frequent class gives "
            f"{runs[0].metrics.baseline_accuracy:.4f}. The {runs[0].metrics.n} faces were drawn "
            f"one by one: of {shared:.0%} of them the photograph, or a copy of it, was trained on "
            "too, which flatters all of these figures. Accuracy in training is that of the batches "
            "as they were trained on, varied and with dropout.",
        ]
    )
