"""The shipped weights say of a stored fold what the model card says they do."""

import json
from pathlib import Path

import numpy as np
import pytest

from tinygrad_mask.masks import load_pretrained
from tinygrad_mask.masks.classifier.evaluation.metrics import Metrics, compute_metrics
from tinygrad_mask.masks.classifier.network.classifier import PRETRAINED_FILE
from tinygrad_mask.masks.crops import crop_face
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.labels import LABELS

CARD = Path(__file__).parents[3] / "docs" / "model_card.json"


def test_the_shipped_weights_reproduce_the_cards_figure(photographs: Path) -> None:
    if not (PRETRAINED_FILE.exists() and CARD.exists()):
        pytest.skip("this copy of the package has no trained weights, or no model card")
    stored = json.loads(CARD.read_text())["stored_fold"]
    classifier = load_pretrained()
    found = {p.name: p for p in open_dataset(photographs / "larxel", DataIssues())}
    labels, crops = [], []
    for name in stored["photographs"]:
        picture = found[name].open()
        for face in found[name].faces:
            labels.append(LABELS.index(face.label))
            crops.append(crop_face(picture, face.box, classifier.crops))
    metrics = compute_metrics(labels, classifier.scores(np.stack(crops)))
    said = Metrics.from_json(stored["metrics"])
    assert metrics.n == said.n
    # A face on the edge between two classes may fall to either side on another processor.
    assert np.abs(np.subtract(metrics.confusion, said.confusion)).sum() <= 4
    assert metrics.macro_f1 == pytest.approx(said.macro_f1, abs=0.01)
