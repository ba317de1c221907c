"""The models, the loop that trains them, and the state that it is taken up from again."""

import dataclasses
import json

import numpy as np
import pytest

from tinygrad_mask import Tensor, nn, serialization
from tinygrad_mask.data import Rows
from tinygrad_mask.masks.classifier.network.architecture import (
    KINDS,
    Architecture,
    architecture_of,
    build_model,
)
from tinygrad_mask.masks.classifier.network.blocks import BLOCKS
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.classifier.training.augmentation import Augmentation
from tinygrad_mask.masks.classifier.training.recipes import RECIPES, Recipe
from tinygrad_mask.masks.classifier.training.trainer import (
    Task,
    epoch_line,
    recipe_trainer,
)
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.faces import FaceSet
from tinygrad_mask.masks.labels import class_weights
from tinygrad_mask.masks.schemas import convert
from tinygrad_mask.training import InterruptedRunError, TrainingDivergedError

SIZE = 8

MILD = Augmentation(saturation=0, cast=0, erase=0)
"""Leaves the colours that the faces are told apart by."""


def face_set(count=48, seed=0):
    """Faces told apart by colour: red is proper, green improper, blue none."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    crops = rng.integers(0, 100, (count, SIZE, SIZE, 3)).astype(np.uint8)
    crops[np.arange(count), :, :, labels] += 100
    numbers = np.arange(count)
    sizes = np.full(count, 30, np.float32)
    return FaceSet((), crops, labels, numbers, numbers * 0, sizes, np.zeros((0, 4), np.uint64))


def make_trainer(kind="cnn", seed=0, **changes):
    faces = face_set()
    train, validation = np.arange(36), np.arange(36, 48)
    architecture = architecture_of(kind, SIZE)
    crops = CropSettings(SIZE)
    recipe = dataclasses.replace(RECIPES[kind], **{"epochs": 2, "batch_size": 8, **changes})
    model = build_model(architecture, np.random.default_rng(seed))
    normalisation = Normalisation.of(Rows(faces.crops, train))
    classifier = Classifier(model, architecture, crops, normalisation, mirrored=recipe.mirrored)
    return recipe_trainer(Task(faces, train, validation, recipe, seed=seed), classifier)


class TestModels:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", [8, 13, 20])
    def test_scores_of_a_batch(self, kind, size):
        model = build_model(architecture_of(kind, size), np.random.default_rng(0))
        assert model(Tensor(np.zeros((2, size, size, 3), np.float32))).shape == (2, 3)

    def test_the_perceptron_has_no_biases(self):
        model = build_model(architecture_of("mlp", 8), np.random.default_rng(0))
        assert [p.shape for p in model.parameters()] == [(192, 256), (256, 3)]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"kind": "rnn", "image_size": 8}, "expected one of cnn, mlp, .*, got 'rnn'"),
            ({"kind": "cnn", "image_size": 7, "channels": (1, 1, 1)}, "at least 8 pixels"),
            ({"kind": "cnn", "image_size": 8, "channels": (1,), "depths": (1,)}, "none for others"),
            ({"kind": "vgg", "image_size": 8, "channels": (1, 1)}, "a depth for each stage"),
            ({"kind": "vgg", "image_size": 8, "channels": (1,), "depths": (0,)}, "a depth for"),
            (
                {"kind": "vgg", "image_size": 3, "channels": (1, 1, 1), "depths": (1, 1, 1)},
                "at least 4 pixels for 2 poolings",
            ),
        ],
    )
    def test_errors(self, fields, message):
        with pytest.raises(ValueError, match=message):
            Architecture(**fields)


class TestNormalisation:
    def test_mean_and_deviation_are_numpys(self):
        crops = face_set().crops
        normalisation = Normalisation.of(crops)
        np.testing.assert_allclose(normalisation.mean, (crops / 255).mean(axis=(0, 1, 2)))
        np.testing.assert_allclose(normalisation.std, (crops / 255).std(axis=(0, 1, 2)))

    def test_inputs_have_mean_0_and_deviation_1(self):
        trainer = make_trainer()
        x = trainer.classifier.inputs(face_set().crops[:36]).numpy()
        assert x.dtype == np.float32
        np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(x.std(axis=(0, 1, 2)), 1, atol=1e-5)

    def test_a_set_of_one_colour_does_not_divide_by_zero(self):
        assert min(Normalisation.of(np.zeros((2, 4, 4, 3), np.uint8)).std) > 0


class TestClassWeights:
    def test_balance(self):
        labels = np.array([0] * 8 + [1] * 2)
        assert class_weights(labels, 0) is None
        weights = class_weights(labels, 1)
        np.testing.assert_allclose(weights[:2], [0.5 / 0.8, 0.5 / 0.2])
        assert weights[2] == 1  # absent
        np.testing.assert_allclose(class_weights(labels, 0.5)[labels].mean(), 1, rtol=1e-6)


class TestTraining:
    @pytest.mark.parametrize(
        ("kind", "changes"),
        [
            ("cnn", {"lr": 0.005}),
            ("mlp", {"lr": 0.01}),
            *((kind, {"lr": 0.01, "epochs": 20, "augmentation": MILD}) for kind in BLOCKS),
            ("vgg", {"lr": 0.01, "augmentation": MILD, "weight_average": 0.9, "mirrored": True}),
        ],
    )
    def test_learns_colours(self, kind, changes):
        trainer = make_trainer(kind, **{"epochs": 12, **changes})
        trainer.run()
        history = trainer.progress.history
        epochs = trainer.recipe.epochs
        assert [row["epoch"] for row in history] == list(range(1, epochs + 1))
        assert history[-1]["loss"] < history[0]["loss"]
        assert history[-1]["val_accuracy"] == 1
        metrics, probabilities = trainer.validate()
        assert metrics.n == len(probabilities) == 12
        assert metrics.accuracy == 1

    def test_two_runs_give_the_same_bits(self):
        first, second = make_trainer(), make_trainer()
        first.run()
        second.run()
        for a, b in zip(
            first.classifier.model.parameters(), second.classifier.model.parameters(), strict=True
        ):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert (
            make_trainer(seed=1).classifier.model[0].weight.numpy().ravel()[0]
            != (make_trainer(seed=0).classifier.model[0].weight.numpy().ravel()[0])
        )

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("stopped_after", [1, 5, 7])
    def test_a_run_taken_up_again_gives_the_bits_of_an_unbroken_one(
        self, kind, stopped_after, tmp_path
    ):
        changes = {"weight_average": 0.9} if kind in BLOCKS else {}
        unbroken = make_trainer(kind, **changes)
        unbroken.run()

        broken, asked = make_trainer(kind, **changes), []

        def stop():
            asked.append(1)
            return len(asked) > stopped_after

        with pytest.raises(InterruptedRunError):
            broken.run(stop=stop)
        serialization.save(tmp_path / "state", *broken.state())
        resumed = make_trainer(kind, **changes)
        resumed.load_state(*serialization.load(tmp_path / "state"))
        resumed.run()

        expected, result = unbroken.state()[0], resumed.state()[0]
        assert list(expected) == list(result)
        for name, array in expected.items():
            np.testing.assert_array_equal(array, result[name], err_msg=name)
        for a, b in zip(unbroken.progress.history, resumed.progress.history, strict=True):
            assert {**a, "seconds": 0, "waited": 0} == {**b, "seconds": 0, "waited": 0}

    def test_a_loss_that_is_no_number_stops_before_it_spoils_the_weights(self):
        trainer = make_trainer(lr=1e4, one_cycle=False, epochs=5)
        with (
            pytest.raises(TrainingDivergedError, match=r"in epoch \d+, step \d+.*try --lr 1000"),
            np.errstate(all="ignore"),
        ):
            trainer.run()

    def test_the_state_of_another_run_is_refused(self):
        arrays, texts = make_trainer("mlp").state()
        with pytest.raises((ValueError, KeyError)):
            make_trainer("cnn").load_state(arrays, texts)

    def test_mirrored_crops_do_not_change_the_face_set(self):
        trainer = make_trainer()
        before = trainer.validation_crops.array.copy()
        trainer.run()
        np.testing.assert_array_equal(trainer.validation_crops.array, before)

    def test_the_time_waited_for_data_is_part_of_the_epochs(self):
        trainer = make_trainer(augmentation=Augmentation())
        trainer.run()
        for row in trainer.progress.history:
            assert 0 < row["waited"] < row["seconds"]
            assert "time spent loading data: " in epoch_line(row, 2)

    def test_judges_and_saves_the_averaged_weights(self):
        trainer = make_trainer("vgg", weight_average=0.5)
        trainer.run()
        own = trainer.classifier.scores(trainer.validation_crops)
        with trainer.averaged():
            averaged = trainer.classifier.scores(trainer.validation_crops)
        assert abs(own - averaged).max() > 1e-4
        np.testing.assert_array_equal(trainer.validation_scores(), averaged)
        metrics, probabilities = trainer.validate()
        np.testing.assert_array_equal(probabilities, trainer.classifier.to_probabilities(averaged))
        assert trainer.progress.history[-1]["val_accuracy"] == metrics.accuracy

    def test_label_smoothing_is_part_of_the_loss(self):
        plain, smooth = (make_trainer("vgg", label_smoothing=s, epochs=1) for s in (0, 0.3))
        plain.run()
        smooth.run()
        rows = [trainer.progress.history[0]["loss"] for trainer in (plain, smooth)]
        assert abs(rows[0] - rows[1]) > 1e-3


class TestRecipe:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("epochs", 0),
            ("batch_size", 0),
            ("lr", 0.0),
            ("lr", float("nan")),
            ("weight_decay", -1.0),
            ("weight_decay", float("inf")),
            ("optimizer", "adagrad"),
            ("label_smoothing", 1.0),
            ("weight_average", -0.1),
        ],
    )
    def test_errors(self, field, value):
        with pytest.raises(ValueError, match="expected"):
            Recipe(**{field: value})

    @pytest.mark.parametrize("kind", KINDS)
    def test_comes_back_from_json(self, kind):
        content = json.loads(json.dumps(dataclasses.asdict(RECIPES[kind])))
        assert convert(content, Recipe) == RECIPES[kind]


class TestClassifierFile:
    @pytest.mark.parametrize("kind", KINDS)
    def test_loads_without_knowing_how_it_was_made(self, kind, tmp_path):
        classifier = make_trainer(kind).classifier
        classifier.save(tmp_path / "model.safetensors")
        crops = face_set().crops
        for path in (tmp_path, tmp_path / "model.safetensors"):
            loaded = Classifier.load(path)
            assert loaded.mirrored == classifier.mirrored
            assert loaded.crops == classifier.crops
            assert loaded.architecture == classifier.architecture
            np.testing.assert_array_equal(
                loaded.probabilities(crops), classifier.probabilities(crops)
            )

    def test_mirrored_scores_are_the_mean_of_both_sides(self, tmp_path):
        classifier = make_trainer("vgg", mirrored=True).classifier
        crops = face_set().crops
        scores = classifier.scores(crops)
        np.testing.assert_allclose(scores, classifier.scores(crops[:, :, ::-1]), atol=1e-6)
        classifier.save(tmp_path / "model.safetensors")
        loaded = Classifier.load(tmp_path)
        np.testing.assert_array_equal(loaded.scores(crops), scores)
        loaded.mirrored = False
        sides = [loaded.scores(c) for c in (crops, crops[:, :, ::-1].copy())]
        np.testing.assert_allclose(scores, np.mean(sides, axis=0), atol=1e-6)
        assert abs(sides[0] - sides[1]).max() > 1e-4

    def test_a_file_from_before_there_were_stages_loads(self, tmp_path):
        classifier = make_trainer("cnn").classifier
        metadata = classifier.metadata()
        architecture = json.loads(metadata["architecture"])
        architecture.pop("depths")
        metadata["architecture"] = json.dumps(architecture)
        metadata.pop("mirrored")
        serialization.save(tmp_path / "old", classifier.model.state_dict(), metadata)
        loaded = Classifier.load(tmp_path / "old")
        assert loaded.architecture == classifier.architecture
        assert not loaded.mirrored

    def test_probabilities_do_not_depend_on_the_batch(self):
        classifier = make_trainer().classifier
        crops = np.tile(face_set().crops, (4, 1, 1, 1))
        np.testing.assert_allclose(
            classifier.probabilities(crops)[150:160],
            classifier.probabilities(crops[150:160]),
            atol=1e-6,
        )
        assert classifier.probabilities(crops[:0]).shape == (0, 3)

    def test_what_is_not_a_classifier(self, tmp_path):
        with pytest.raises(UsageError, match="cannot be read as a model"):
            Classifier.load(tmp_path)
        (tmp_path / "text").write_text("no model")
        with pytest.raises(UsageError, match="text: expected a safetensors file"):
            Classifier.load(tmp_path / "text")
        serialization.save(tmp_path / "other", {"a": np.zeros(2)})
        with pytest.raises(UsageError, match="other: expected metadata of"):
            Classifier.load(tmp_path / "other")
        classifier = make_trainer().classifier
        state = classifier.model.state_dict()
        state.pop("0.weight")
        serialization.save(tmp_path / "cut", state, classifier.metadata())
        with pytest.raises(UsageError, match=r"cut: not a classifier.*missing: 0\.weight"):
            Classifier.load(tmp_path / "cut")


def test_the_models_dropout_is_off_in_evaluation():
    classifier = make_trainer().classifier
    assert any(isinstance(layer, nn.Dropout) for layer in classifier.model.modules())
    crops = face_set().crops
    np.testing.assert_array_equal(classifier.scores(crops), classifier.scores(crops))
