"""What each choice of the recipe gives: cross-validation with one thing changed at a time.

    python studies/ablation.py --data PATH [--out runs/ablation] [--only NAME ...] [--jobs 2]

`PATH` is Larxel's data set; `ablation_variants.py` says what is trained. A fold that is done is
kept in `--out` and not trained again, so that a run can be ended and taken up anew; the table in
docs/ablation.md and its picture are made from all that is there. Other data are looked for beside
Larxel's (`hitl/`, `chandrikadeb7/`). Each job trains one fold at a time on one thread: two folds
beside each other on two cores are done sooner than one after the other on both.

How a trained model is asked is read out of the first of the trainings that are as long as the
recipe's: with its last weights or with their average, about the crop alone or about its mirror
image too.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from ablation_picture import draw
from ablation_table import READOUT, FoldScores, fold_file, readout_name, write_table
from ablation_variants import FOLDS, LONG, VARIANTS, architecture_of_variant, config_of, prepare
from numpy.typing import NDArray

import tinygrad_mask
from tinygrad_mask import nn
from tinygrad_mask.data import Rows
from tinygrad_mask.masks.classifier.runs.config import make_trainer
from tinygrad_mask.masks.classifier.runs.cross_validation import assign_folds, sides_of_fold
from tinygrad_mask.masks.classifier.runs.loading import LoadedData, load_for
from tinygrad_mask.masks.classifier.training.trainer import ClassifierTrainer
from tinygrad_mask.training import Callback, Trainer, WeightAverage

DOCS = Path(__file__).parents[1] / "docs"
TABLE, PICTURE = DOCS / "ablation.md", DOCS / "pictures" / "ablation.png"
DECAYS = (0.98, 0.99, 0.995)

_loaded: dict[str, LoadedData] = {}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="Larxel's data set")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=2, help="folds trained at a time")
    arguments = parser.parse_args()
    out = arguments.out
    prepare(arguments.only, arguments.data, out)
    wanted = [(name, fold) for name in arguments.only for fold in range(FOLDS)]
    left = [(name, fold) for name, fold in wanted if not fold_file(out, name, fold).exists()]
    with ProcessPoolExecutor(arguments.jobs, initializer=_use_one_thread) as pool:
        jobs = [pool.submit(train_fold, name, fold, arguments.data, out) for name, fold in left]
        for count, job in enumerate(as_completed(jobs), 1):
            print(f"{count} of {len(jobs)}: {job.result()}", flush=True)
            write_table(TABLE, out)
    write_table(TABLE, out)
    draw(PICTURE, out)


def _use_one_thread() -> None:
    tinygrad_mask.set_num_threads(1)


def train_fold(name: str, fold: int, data: Path, out: Path) -> str:
    """Train a fold of a variant, keep what its model says, and say in a line how it went."""
    variant = VARIANTS[name]
    config = config_of(variant, data, out)
    key = f"{config.data} {config.extra} {config.crops} {config.recipe.augmentation}"
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load_for(config)
    loaded = _loaded[key]
    train, judged = sides_of_fold(loaded, assign_folds(loaded, FOLDS, 0), fold, config.min_face)
    crops = Rows(loaded.faces.crops, judged)
    start = time.perf_counter()
    # A handful to judge after each epoch, which nobody looks at; all of them once, at the end.
    trainer = make_trainer(
        config, loaded.faces, train, judged[:8], architecture_of_variant(variant, config)
    )
    if name == LONG[0]:
        averages = Averages(trainer.model)
        trainer.callbacks.append(averages)
        trainer.run()
        scores = readouts(trainer, averages, crops)
    else:
        trainer.run()
        scores = {READOUT: trainer.classifier.scores(crops)}
    seconds = time.perf_counter() - start
    photograph = loaded.faces.photograph[judged]
    result = FoldScores(
        labels=loaded.faces.labels[judged],
        sizes=loaded.faces.sizes[judged],
        group=loaded.groups[photograph],
        positions=judged,
        scores=scores,
        parameters=trainer.classifier.model.parameter_count(),
    )
    result.save(fold_file(out, name, fold))
    return f"{name}, fold {fold + 1}: {seconds:.0f} s, {result.line()}"


class Averages(Callback):
    """Averages of several decays, updated in one training, which uses none of them."""

    def __init__(self, model: nn.Module) -> None:
        self.of_decay = {decay: WeightAverage(model, decay) for decay in DECAYS}

    def on_step_end(self, trainer: Trainer) -> None:
        for average in self.of_decay.values():
            average.update()


def readouts(
    trainer: ClassifierTrainer, averages: Averages, crops: Rows
) -> dict[str, NDArray[np.float32]]:
    """Return the scores of the judged faces in every way that the model can be asked."""
    classifier, scores = trainer.classifier, {}
    for mirrored in (False, True):
        classifier.mirrored = mirrored
        scores[readout_name(0, mirrored)] = classifier.scores(crops)
        for decay, average in averages.of_decay.items():
            with average.applied():
                scores[readout_name(decay, mirrored)] = classifier.scores(crops)
    return scores


if __name__ == "__main__":
    main()
