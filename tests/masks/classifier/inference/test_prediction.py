"""The command `predict` from end to end, and that it sees what training saw."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygrad_mask import cli
from tinygrad_mask.masks import load_pretrained
from tinygrad_mask.masks.classifier.inference.answers import UNSURE, Prediction, doubt
from tinygrad_mask.masks.classifier.inference.prediction import BATCH, Speed, predict
from tinygrad_mask.masks.classifier.network import classifier as classifier_module
from tinygrad_mask.masks.classifier.network.architecture import architecture_of, build_model
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.crops import CropSettings, crop_face
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs
from tinygrad_mask.masks.faces import crop_faces
from tinygrad_mask.masks.labels import LABELS

SIZE = 12


@pytest.fixture(scope="module")
def classifier():
    architecture = architecture_of("cnn", SIZE)
    model = build_model(architecture, np.random.default_rng(0))
    scale = Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return Classifier(model, architecture, CropSettings(SIZE, 0.3), scale, temperature=1.3)


@pytest.fixture(scope="module")
def model(classifier, tmp_path_factory):
    """The path of a saved model."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    classifier.save(path)
    return str(path)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Three drawn photographs in the current folder, and their boxes as JSON."""
    monkeypatch.chdir(tmp_path)
    boxes = {}
    for number, photograph in enumerate(synthetic_photographs(3, 8)):
        photograph.open().save(f"{number}.png")
        boxes[f"{number}.png"] = [list(face.box) for face in photograph.faces]
    Path("boxes.json").write_text(json.dumps(boxes))
    return boxes


def predicted(classifier, images, boxes=None):
    return list(predict(classifier, images, boxes, DataIssues(), speed=Speed()))


class TestCrops:
    """The crop of prediction is that of training, to the bit."""

    def agree(self, classifier, found, boxes):
        faces = crop_faces(
            found, classifier.crops, DataIssues(), min_face=0, border=5, workers=0, progress=False
        )
        asked = predicted(classifier, [photograph.path for photograph in found], boxes)
        np.testing.assert_array_equal(np.stack([face.crop for face in asked]), faces.crops)
        expected = classifier.probabilities(np.array(faces.crops))
        said = np.stack([face.probabilities for face in asked])
        np.testing.assert_allclose(said, expected, atol=1e-6)

    def test_of_boxes_in_photographs(self, classifier, photographs):
        found = open_dataset(photographs / "larxel", DataIssues())[:30]
        boxes = [[face.box for face in photograph.faces] for photograph in found]
        self.agree(classifier, found, boxes)

    def test_of_whole_pictures(self, classifier, photographs):
        found = open_dataset(photographs / "chandrikadeb7", DataIssues())[:60]
        self.agree(classifier, found, None)

    def test_of_drawn_photographs(self, classifier, pictures):
        for name, boxes in pictures.items():
            objects = "".join(
                f"<object><name>mask</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
                f"<ymax>{d}</ymax></bndbox></object>"
                for a, b, c, d in boxes
            )
            Path(f"{name[0]}.xml").write_text(f"<annotation>{objects}</annotation>")
        found = open_dataset(".", DataIssues())
        self.agree(classifier, found, list(pictures.values()))


class TestPredict:
    def test_memory_and_batches_do_not_change_the_answers(self, classifier, tmp_path):
        drawn = synthetic_photographs(1, 8)[0].open()  # of noise it would be unsure
        drawn.resize((64, 64)).save(tmp_path / "a.png")
        rng = np.random.default_rng(1)
        corners = np.sort(rng.uniform(0, 64, (2 * BATCH + 3, 2, 2)), axis=2)
        boxes = [(x1, y1, x2, y2) for (x1, x2), (y1, y2) in corners]
        speed = Speed()
        images = [tmp_path / "a.png"] * 2
        parts = [boxes[:5], boxes[5:]]
        found = list(predict(classifier, images, parts, DataIssues(), speed=speed))
        assert [face.box for face in found] == boxes
        assert speed.faces == len(boxes)
        assert speed.seconds > 0
        alone = predicted(classifier, images[:1], [boxes[200:201]])[0]
        np.testing.assert_allclose(found[200].probabilities, alone.probabilities, atol=1e-6)
        assert found[200].label == LABELS[int(found[200].probabilities.argmax())]
        assert found[200].probability == found[200].probabilities.max()

    def test_what_shows_no_face_is_unsure_and_says_why(self, classifier, tmp_path):
        pictures = {
            "black": np.zeros((50, 50, 3), np.uint8),
            "grey": np.full((50, 50, 3), 128, np.uint8),
            "pixel": np.full((1, 1, 3), 7, np.uint8),
        }
        for name, pixels in pictures.items():
            Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        found = predicted(classifier, [tmp_path / f"{name}.png" for name in pictures])
        assert [(face.label, face.probability) for face in found] == [("unsure", None)] * 3
        black, grey, pixel = (face.reason for face in found)
        assert black.startswith("no contrast: 0.0 of 255 grey levels")
        assert grey.startswith("no contrast")
        assert pixel == "too small: 1 pixels, a face has at least 4"

    @pytest.mark.parametrize("side", [30, 40, 90, 224])
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_noise_is_unsure(self, side, mode):
        channels = (3,) if mode == "RGB" else ()
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, *channels), np.uint8)
        reason = doubt(crop_face(pixels, None, CropSettings()), side)
        assert reason.startswith("noise: neighbouring pixels correlate by ")

    def test_a_box_may_be_too_small_for_a_face(self, classifier, pictures):
        boxes = [[(3, 3, 6, 20), tuple(pictures["0.png"][0])]]
        small, large = predicted(classifier, ["0.png"], boxes)
        assert (small.label, small.reason) == (
            "unsure",
            "too small: 3 pixels, a face has at least 4",
        )
        assert (large.label in LABELS, large.reason) == (True, None)

    def test_real_faces_are_unsure_for_their_size_alone(self, classifier, photographs):
        found = open_dataset(photographs / "larxel", DataIssues())
        settings = CropSettings()
        faces = crop_faces(found, settings, DataIssues(), min_face=0, workers=2, progress=False)
        reasons = [doubt(crop, size) for crop, size in zip(faces.crops, faces.sizes, strict=True)]
        unsure = [reason for reason in reasons if reason is not None]
        assert (len(faces), len(unsure)) == (3325, 11)
        assert all(reason.startswith("too small") for reason in unsure)

    def test_faults_are_told_and_passed_over(self, classifier, pictures):
        Path("odd.png").write_bytes(b"no picture")
        boxes = [[(0, 0, 20, 20), (900, 900, 950, 950)], [(0, 0, 9, 9)], []]
        issues = DataIssues()
        found = predict(classifier, ["0.png", "odd.png", "1.png"], boxes, issues, speed=Speed())
        assert [face.box for face in found] == [(0, 0, 20, 20)]
        assert issues.counts() == {"image cannot be read": 1, "box outside its image": 1}


class TestCommand:
    def test_whole_pictures(self, model, pictures, capsys):
        assert cli.main(["predict", "--whole", "--model", model, "0.png", "1.png"]) == 0
        first, second, speed = capsys.readouterr().out.splitlines()
        assert first.startswith("0.png  ")
        assert second.startswith("1.png  ")
        assert any(f"  {label} 0." in first for label in LABELS)
        assert speed.startswith("2 faces in ")
        assert " a second (in batches of up to 128" in speed

    def test_json_is_all_that_standard_output_gets(self, model, pictures, capsys):
        arguments = ["predict", "--model", model, "--boxes", "boxes.json", "--json", *pictures]
        assert cli.main(arguments) == 0
        captured = capsys.readouterr()
        content = json.loads(captured.out)
        assert content["model"] == model
        assert [(face["image"], face["box"]) for face in content["faces"]] == [
            (name, box) for name, boxes in pictures.items() for box in boxes
        ]
        for face in content["faces"]:
            assert list(face["probabilities"]) == list(LABELS)
            assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-6)
            assert face["probability"] == face["probabilities"][face["label"]]
        assert content["speed"]["faces"] == len(content["faces"])
        assert content["speed"]["faces_per_second"] > 0
        assert content["passed_over"] == {}
        assert " a second" in captured.err

    def test_explain_draws_a_picture_for_each_image(self, model, pictures, capsys):
        arguments = ["predict", "--model", model, "--boxes", "boxes.json", "--explain"]
        assert cli.main([*arguments, "--out", "why/so", *pictures]) == 0
        drawn = sorted(Path("why/so").iterdir())
        assert [path.name for path in drawn] == [f"{n}.png.explained.png" for n in range(3)]
        for path in drawn:
            assert np.asarray(Image.open(path).convert("L")).std() > 1
        before = drawn[0].read_bytes()
        assert cli.main([*arguments, "--out", "why/so", *pictures]) == 2
        assert "exists already and is not overwritten" in capsys.readouterr().err
        assert drawn[0].read_bytes() == before

    def test_the_default_is_the_pretrained_model(self, classifier, pictures, monkeypatch, capsys):
        classifier.save(Path("shipped.safetensors"))
        monkeypatch.setattr(classifier_module, "PRETRAINED_FILE", Path("shipped.safetensors"))
        assert cli.main(["predict", "0.png", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["model"] == "pretrained"

    def test_a_picture_that_cannot_be_read_is_told_at_the_end(self, model, pictures, capsys):
        Path("odd.png").write_bytes(b"no picture")
        assert cli.main(["predict", "--whole", "--model", model, "odd.png", "0.png"]) == 1
        captured = capsys.readouterr()
        assert captured.out.startswith("0.png  ")
        assert captured.err.splitlines()[-1] == "1 of 2 images could not be read"

    def test_unsure_is_printed_with_its_reason(self, model, pictures, capsys):
        Image.new("RGB", (50, 50)).save("black.png")
        assert cli.main(["predict", "--model", model, "black.png"]) == 0
        line = capsys.readouterr().out.splitlines()[0]
        assert line.startswith("black.png  unsure  (no contrast: 0.0 of 255")
        assert cli.main(["predict", "--model", model, "--json", "--explain", "black.png"]) == 0
        [face] = json.loads(capsys.readouterr().out)["faces"]
        assert (face["label"], face["probability"]) == ("unsure", None)
        assert face["reason"].startswith("no contrast")

    def test_what_was_drawn_is_named(self, model, pictures, capsys):
        assert cli.main(["predict", "--whole", "--model", model, "--explain", "0.png"]) == 0
        assert "0.png.explained.png: which pixels mattered\n" in capsys.readouterr().err

    def test_what_can_be_typed_next_is_said(self, model, pictures, capsys):
        assert cli.main(["predict", "--whole", "--model", model, "0.png"]) == 0
        assert capsys.readouterr().err.splitlines()[-1].startswith("next: tinygrad-mask predict ")

    def test_a_number_where_boxes_are_expected(self, model, pictures, capsys):
        Path("odd.json").write_text('{"0.png": [0, 0, 50, 50]}')
        assert cli.main(["predict", "--model", model, "--boxes", "odd.json", "0.png"]) == 2
        assert "odd.json, 0.png: expected a list of boxes" in capsys.readouterr().err

    def test_no_faces(self, model, pictures, capsys):
        Path("none.json").write_text('{"0.png": []}')
        assert cli.main(["predict", "--model", model, "--boxes", "none.json", "0.png"]) == 0
        assert capsys.readouterr().out == "no face\n"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere.png"], "none of the images can be read (1 given)"),
            (["0.png", "--boxes", "nowhere.csv"], "nowhere.csv: cannot be read"),
            (["0.png", "--boxes", "boxes.txt"], "expected a .json, .csv or .xml file"),
            (["3.png", "--boxes", "boxes.json"], "has no boxes for 3.png"),
            (["0.png", "./0.png", "--explain"], "two images have the same name"),
            (["0.png", "--explain", "--out", "boxes.json"], "no pictures can be drawn there"),
            (["0.png", "--device", "cuda"], "'cuda' is not available"),
        ],
    )
    def test_what_cannot_be_used_gets_one_line(self, arguments, message, model, pictures, capsys):
        assert cli.main(["predict", "--model", model, *arguments]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert message in error

    def test_a_model_that_is_not_there(self, pictures, capsys):
        assert cli.main(["predict", "--model", "nowhere", "0.png"]) == 2
        assert "nowhere: cannot be read as a model" in capsys.readouterr().err


class TestUnsure:
    def test_below_the_threshold_the_answer_is_unsure_and_says_why(self):
        crop = np.tile(np.linspace(0, 255, 40).astype(np.uint8)[:, None, None], (1, 40, 3))
        probabilities = np.array([0.5, 0.3, 0.2], np.float32)
        sure = Prediction.of(None, None, probabilities, crop, 40, 0.5)
        unsure = Prediction.of(None, None, probabilities, crop, 40, 0.51)
        assert (sure.label, sure.reason) == ("proper", None)
        assert (unsure.label, unsure.probability) == (UNSURE, None)
        assert unsure.reason == "not sure: proper 0.50, an answer has at least 0.51"
        np.testing.assert_array_equal(unsure.probabilities, probabilities)

    def test_a_classifier_keeps_its_threshold(self, tmp_path):
        classifier = load_pretrained()
        classifier.threshold = 0.97
        classifier.save(tmp_path / "a.safetensors")
        again = Classifier.load(tmp_path / "a.safetensors")
        assert again.threshold == 0.97
        picture = next(p for p in synthetic_photographs(60, 1) if p.portrait).open()
        probabilities = again.predict(picture).probabilities
        for threshold, is_sure in ((0.0, True), (float(probabilities.max()) + 1e-3, False)):
            again.threshold = min(threshold, 0.9999)
            assert (again.predict(picture).label != UNSURE) == is_sure
