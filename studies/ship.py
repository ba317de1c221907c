"""Train the weights that ship with the package, on all photographs.

    python studies/ship.py --cross-validation runs/CV [--out FILE]

`runs/CV` is a folder that `tinygrad-mask train --cross-validate` left: its settings are trained
with once more, with nothing held back, and the temperature is that of its pooled scores. What is
judged after each epoch are faces that are trained on; how good the weights are, the
cross-validation says. Weights are shipped only of pictures that are free (CC0) or drawn.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from tinygrad_mask.masks.classifier.evaluation.judging import Judgement
from tinygrad_mask.masks.classifier.network.classifier import PRETRAINED_FILE
from tinygrad_mask.masks.classifier.runs.config import RunConfig, make_trainer
from tinygrad_mask.masks.classifier.runs.loading import load_for
from tinygrad_mask.masks.classifier.runs.run_folder import ClassifierRunFolder
from tinygrad_mask.masks.classifier.training.trainer import epoch_line
from tinygrad_mask.masks.runs.terminal import run_in_terminal

FREE = {"larxel", "humans_in_the_loop", "synthetic"}
"""The sources that weights may be shipped of, as photographs name them."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cross-validation", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=PRETRAINED_FILE, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists already and is not overwritten")
    folder = ClassifierRunFolder(arguments.cross_validation)
    config = RunConfig.from_json(folder.config, folder.read_config())
    judgement = Judgement.from_json(json.loads((folder.path / "judgement.json").read_bytes()))
    data = load_for(config)
    others = {photograph.source for photograph in data.faces.photographs} - FREE
    if config.initial is not None or others:
        came = f"weights begun with {config.initial}" if config.initial else ", ".join(others)
        parser.error(f"expected pictures of {', '.join(sorted(FREE))} alone, got {came}")
    print(data.summary, end="\n\n")
    train = np.flatnonzero(data.faces.sizes >= config.min_face)
    judged = np.random.default_rng(config.seed).permutation(train)[:500]
    trainer = make_trainer(config, data.faces, train, np.sort(judged))
    print(trainer.classifier.model, f"\n\ntrained on {len(train):,} faces", flush=True)
    run_in_terminal(trainer, epoch_line)
    trainer.classifier.temperature = judgement.calibration.temperature
    with trainer.averaged():
        trainer.classifier.save(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
