"""The trainer of a recipe: its losses by hand, its settings, and that it can be resumed."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from boxed_photographs import boxed_photographs

from tinygrad_mask import Tensor
from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs
from tinygrad_mask.masks.detector.evaluation.judging import judge_detector
from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture, FaceDetector
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.network.input import InputSettings
from tinygrad_mask.masks.detector.training.augmentation import DetectorAugmentation
from tinygrad_mask.masks.detector.training.loss import detector_loss
from tinygrad_mask.masks.detector.training.recipe import DetectorRecipe
from tinygrad_mask.masks.detector.training.targets import HeatMapTargets
from tinygrad_mask.masks.detector.training.trainer import (
    DetectorTrainer,
    JudgeDetector,
    detector_epoch_line,
)
from tinygrad_mask.masks.labels import LABELS, class_weights
from tinygrad_mask.masks.schemas import convert
from tinygrad_mask.training import Callback, TrainingDivergedError

SMALL = DetectorArchitecture(channels=(4, 6, 8, 8, 8), depths=(1, 1, 1, 1), head=6)
RECIPE = DetectorRecipe(
    epochs=2,
    steps_per_epoch=3,
    batch_size=2,
    box_weight=3.0,
    label_weight=0.5,
    augmentation=DetectorAugmentation(size=64, long_side=(100, 300)),
)


def make_trainer(recipe=RECIPE, seed=0):
    model = FaceDetector(SMALL, np.random.default_rng(1))
    return DetectorTrainer(model, synthetic_photographs(6, 0), recipe, seed=seed)


def test_the_history_has_the_parts_of_the_loss_with_their_weights():
    for row in make_trainer().run():
        assert list(row)[2:6] == ["loss", "heat", "box", "label"]
        total = row["heat"] + 3.0 * row["box"] + 0.5 * row["label"]
        assert row["loss"] == pytest.approx(total, rel=1e-5)


def test_the_first_loss_is_that_of_the_first_batch():
    trainer = make_trainer(DetectorRecipe(**{**vars(RECIPE), "epochs": 1, "steps_per_epoch": 1}))
    images, *targets = trainer.batches.batch(0, 0)
    photographs = synthetic_photographs(6, 0)
    labels = [LABELS.index(face.label) for photograph in photographs for face in photograph.faces]
    model = FaceDetector(SMALL, np.random.default_rng(1))
    parts = detector_loss(
        model(Tensor(images)), HeatMapTargets(*targets), class_weights(np.array(labels), 0.5)
    )
    (row,) = trainer.run()
    for name in ("heat", "box", "label"):
        assert row[name] == pytest.approx(getattr(parts, name).item(), rel=1e-5)


def test_a_recipe_comes_back_from_json():
    content = json.loads(json.dumps(asdict(RECIPE)))
    assert convert(content, DetectorRecipe) == RECIPE
    with pytest.raises(ValueError, match="expected no 'what'"):
        convert({**content, "what": 1}, DetectorRecipe)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("steps_per_epoch", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("clip", 0.0),
        ("weight_decay", -1.0),
        ("box_weight", float("inf")),
        ("min_face", -1.0),
        ("weight_average", 1.0),
        ("warm_up", 0.0),
    ],
)
def test_what_cannot_be_trained_with_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected"):
        DetectorRecipe(**{name: value})


def test_divergence_names_the_option():
    recipe = DetectorRecipe(**{**vars(RECIPE), "lr": 1e10, "epochs": 5})
    with np.errstate(all="ignore"), pytest.raises(TrainingDivergedError, match=r"try --lr 1e\+09"):
        make_trainer(recipe).run()


def test_the_weights_of_each_epoch_are_judged_not_those_compiled_before():
    model = FaceDetector(SMALL, np.random.default_rng(1))
    detector = Detector(model, SMALL, InputSettings(long_side=160))
    photographs = boxed_photographs(3, 0)
    image = photographs[0].open()
    trainer = DetectorTrainer(model, photographs, RECIPE, seed=0)
    seen = []

    class Look(Callback):
        def measure(self, trainer):
            fresh = FaceDetector(SMALL, np.random.default_rng(2))
            with trainer.averaged():
                found = detector.find(image, 0.0)
                fresh.load_state_dict(model.state_dict())
            expected = Detector(fresh, SMALL, detector.settings).find(image, 0.0)
            np.testing.assert_array_equal(found.scores, expected.scores)
            np.testing.assert_array_equal(found.boxes, expected.boxes)
            seen.append(found.scores)
            return {}

    trainer.callbacks.append(Look())
    trainer.run()
    assert len(seen) == 2
    assert len(seen[0]) > 0
    assert not np.array_equal(*seen)


def test_the_average_precision_is_measured_with_the_averaged_weights():
    model = FaceDetector(SMALL, np.random.default_rng(1))
    detector = Detector(model, SMALL, InputSettings(long_side=160))
    photographs = boxed_photographs(3, 0)
    judge = JudgeDetector(detector, photographs)
    trainer = DetectorTrainer(model, photographs, RECIPE, seed=0, callbacks=[judge])
    *_, row = trainer.run()
    with trainer.averaged():
        expected = judge_detector(detector, photographs, resamples=0).estimates
    assert row["val_any_face"] == expected["any face"].value
    assert {"val_mean", *(f"val_{label}" for label in LABELS)} < set(row)
    line = detector_epoch_line(row, 2)
    assert line.startswith("Epoch 2/2 - ")
    assert f" - val_any_face: {row['val_any_face']:.4f} - " in line


def test_weights_that_are_not_finite_end_the_run():
    model = FaceDetector(SMALL, np.random.default_rng(1))
    detector = Detector(model, SMALL, InputSettings())
    recipe = DetectorRecipe(**{**vars(RECIPE), "weight_average": 0.0})
    trainer = DetectorTrainer(model, boxed_photographs(3, 0), recipe, seed=0)
    state = model.state_dict()
    state["predict.bias"] = np.full_like(state["predict.bias"], np.nan)
    model.load_state_dict(state)
    with pytest.raises(TrainingDivergedError, match="the weights are not finite"):
        JudgeDetector(detector, []).measure(trainer)
