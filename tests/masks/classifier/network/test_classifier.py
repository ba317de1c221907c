"""The saved classifier: its temperature, and the weights that ship with the package."""

import json

import numpy as np
import pytest

from tinygrad_mask import masks, serialization
from tinygrad_mask.masks.classifier.evaluation.calibration import probabilities_of
from tinygrad_mask.masks.classifier.network import classifier as module
from tinygrad_mask.masks.classifier.network.architecture import architecture_of, build_model
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.crops import CropSettings, crop_face
from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs
from tinygrad_mask.masks.errors import UsageError

SIZE = 8


def make_classifier(kind="cnn", temperature=1.0):
    architecture = architecture_of(kind, SIZE)
    model = build_model(architecture, np.random.default_rng(0))
    scale = Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return Classifier(model, architecture, CropSettings(SIZE), scale, temperature)


def some_crops(n=5):
    return np.random.default_rng(1).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)


class TestTemperature:
    @pytest.mark.parametrize("temperature", [0.05, 1.0, 3.7])
    def test_divides_the_scores(self, temperature):
        classifier = make_classifier(temperature=temperature)
        crops = some_crops()
        expected = probabilities_of(classifier.scores(crops), temperature)
        np.testing.assert_allclose(classifier.probabilities(crops), expected, atol=1e-6)

    def test_is_saved_with_the_model_and_applied_in_prediction(self, tmp_path):
        classifier = make_classifier(temperature=2.25)
        classifier.save(tmp_path / "model.safetensors")
        loaded = Classifier.load(tmp_path)
        assert loaded.temperature == 2.25
        crops = some_crops()
        np.testing.assert_array_equal(loaded.probabilities(crops), classifier.probabilities(crops))

    def test_a_file_without_one_has_the_temperature_one(self, tmp_path):
        classifier = make_classifier(temperature=2.25)
        metadata = {k: v for k, v in classifier.metadata().items() if k != "temperature"}
        serialization.save(tmp_path / "old", classifier.model.state_dict(), metadata)
        assert Classifier.load(tmp_path / "old").temperature == 1.0

    @pytest.mark.parametrize("text", ["0", "-1", "NaN", "Infinity", '"hot"', "[1]", ""])
    def test_one_that_cannot_be_is_refused(self, text, tmp_path):
        classifier = make_classifier()
        metadata = classifier.metadata() | {"temperature": text}
        serialization.save(tmp_path / "odd", classifier.model.state_dict(), metadata)
        with pytest.raises(UsageError, match="odd: not a classifier as it is saved here"):
            Classifier.load(tmp_path / "odd")


@pytest.mark.parametrize(
    ("crops", "message"),
    [
        (np.zeros((2, SIZE, SIZE, 3), np.float32), r"got float32 of shape \(2, 8, 8, 3\)"),
        (np.zeros((2, SIZE + 1, SIZE + 1, 3), np.uint8), r"got uint8 of shape \(2, 9, 9, 3\)"),
        (np.zeros((SIZE, SIZE, 3), np.uint8), r"got uint8 of shape \(8, 8, 3\)"),
    ],
)
def test_other_crops_are_refused(crops, message):
    classifier = make_classifier("vgg")  # which takes pictures of any size
    with pytest.raises(ValueError, match=rf"uint8 of shape \(n, 8, 8, 3\), {message}"):
        classifier.probabilities(crops)


class TestPretrained:
    def test_is_what_the_package_ships(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "PRETRAINED_FILE", tmp_path / "pretrained.safetensors")
        make_classifier(temperature=1.5).save(tmp_path / "pretrained.safetensors")
        for loaded in (masks.load_pretrained(), Classifier.load("pretrained")):
            assert loaded.temperature == 1.5

    def test_without_weights_it_says_so_in_one_line(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "PRETRAINED_FILE", tmp_path / "pretrained.safetensors")
        with pytest.raises(UsageError, match="has no trained weights") as raised:
            masks.load_pretrained()
        assert "\n" not in str(raised.value)

    def test_a_folder_of_that_name_is_a_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pretrained").mkdir()
        make_classifier(temperature=4.0).save(tmp_path / "pretrained" / "model.safetensors")
        assert Classifier.load("./pretrained").temperature == 4.0

    def test_the_shipped_file_is_small_and_complete(self):
        if not module.PRETRAINED_FILE.exists():
            pytest.skip("this copy of the package has no trained weights")
        assert module.PRETRAINED_FILE.stat().st_size <= 3_000_000
        classifier = masks.load_pretrained()
        size = classifier.crops.size
        found = classifier.probabilities(np.full((1, size, size, 3), 128, np.uint8))
        assert found.shape == (1, 3)
        assert found.sum() == pytest.approx(1, abs=1e-6)
        assert json.loads(classifier.metadata()["temperature"]) == classifier.temperature


class TestPredict:
    """One call for a picture in any of its forms."""

    @pytest.fixture
    def picture(self):
        return synthetic_photographs(1, 8)[0].open().resize((90, 70))

    def test_every_form_gets_the_same_answer(self, picture, tmp_path):
        classifier = make_classifier()
        picture.save(tmp_path / "a.png")
        rgb = np.asarray(picture)
        crop = crop_face(picture, None, classifier.crops)
        expected = classifier.probabilities(crop[None])[0]
        for answer in (
            classifier.predict(tmp_path / "a.png"),
            classifier.predict(str(tmp_path / "a.png")),
            classifier.predict(picture),
            classifier.predict(picture.convert("RGBA")),
            classifier.predict(rgb),
            classifier.predict(rgb[:, :, ::-1], bgr=True),
            *classifier.predict([rgb, tmp_path / "a.png"]),
            *classifier.predict(rgb[None]),
        ):
            np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
            np.testing.assert_array_equal(answer.crop, crop)
            assert answer.label == classifier.labels[int(expected.argmax())]
            assert answer.probability == pytest.approx(float(expected.max()), abs=1e-6)
        assert classifier.predict(tmp_path / "a.png").image == str(tmp_path / "a.png")
        assert classifier.predict(rgb).image is None

    def test_red_and_blue_matter(self, picture):
        classifier = make_classifier()
        one, other = (classifier.predict(np.asarray(picture), bgr=bgr) for bgr in (False, True))
        assert not np.allclose(one.probabilities, other.probabilities, atol=1e-4)

    def test_boxes_in_a_photograph(self, picture):
        classifier = make_classifier()
        boxes = [(3, 4, 40, 50), (30.5, 20, 80, 66)]
        answers = classifier.predict(picture, boxes=boxes)
        assert [answer.box for answer in answers] == boxes
        for answer, box in zip(answers, boxes, strict=True):
            np.testing.assert_array_equal(answer.crop, crop_face(picture, box, classifier.crops))
        assert classifier.predict(picture, boxes=[]) == classifier.predict([]) == []

    @pytest.mark.parametrize(
        ("image", "options", "error", "message"),
        [
            ("nowhere.jpg", {}, OSError, "nowhere.jpg: No such file"),
            ("a.jpg", {"bgr": True}, ValueError, "got a path; leave bgr out"),
            (np.zeros((4, 4, 3)), {}, TypeError, "uint8 from 0 to 255, got one of float64"),
            (3, {}, TypeError, "got int"),
            (["a.jpg"], {"boxes": [(0, 0, 1, 1)]}, ValueError, "expected one picture with boxes"),
            (np.zeros((9, 9, 3), np.uint8), {"boxes": [(10, 0, 20, 5)]}, ValueError, "no area"),
        ],
    )
    def test_what_is_no_picture_is_refused(self, image, options, error, message):
        with pytest.raises(error, match=message):
            make_classifier().predict(image, **options)

    def test_how_classifier_and_answer_look(self, picture):
        classifier = make_classifier()
        assert classifier.labels == ("proper", "improper", "none")
        assert repr(classifier).startswith("Classifier(cnn, ")
        assert repr(classifier).endswith(
            "parameters, crops of 8 x 8 pixels, labels proper, improper, none)"
        )
        answer = classifier.predict(picture)
        assert repr(answer) == f"Prediction({answer.label}, {answer.probability:.3f})"
        black = classifier.predict(np.zeros((20, 20, 3), np.uint8))
        assert repr(black).startswith("Prediction(unsure, no contrast: ")
