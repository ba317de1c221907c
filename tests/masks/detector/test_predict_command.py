"""The command `predict` on photographs: how it decides what is a face."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tinygrad_mask import cli
from tinygrad_mask.masks.classifier.network.architecture import architecture_of, build_model
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.detector import predict_command
from tinygrad_mask.masks.detector.inference.whole_pictures import FaceFinder
from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture, FaceDetector
from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.network.input import InputSettings


class EllipseFinder(Detector):
    """Finds the bright ellipse in a picture, if it is as large as the faces that it knows."""

    def find(self, image, least_score):
        rows, columns = np.nonzero(np.asarray(image.convert("L")) > 160)
        box = np.zeros((0, 4), np.float32)
        if len(rows):
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            box = np.array([corners], np.float32)
            box = box[[4 <= max(corners[2] - corners[0], corners[3] - corners[1]) <= 60]]
        n = len(box)
        return Detections(box, np.full(n, 0.9, np.float32), np.full((n, 3), 1 / 3, np.float32))


@pytest.fixture
def finder():
    architecture = DetectorArchitecture((2,) * 5, (1,) * 4, 2)
    model = FaceDetector(architecture, np.random.default_rng(0))
    return FaceFinder(EllipseFinder(model, architecture, InputSettings()))


def picture(width, height, *box):
    image = Image.new("RGB", (width, height), (40, 60, 80))
    if box:
        ImageDraw.Draw(image).ellipse(box, fill=(230, 220, 210))
    return image


def test_a_face_of_ordinary_size_is_found_where_it_is(finder):
    [box] = finder("a", picture(200, 150, 20, 30, 59, 79))
    assert box == (20, 30, 60, 80)
    assert (finder.whole, finder.faceless) == ({}, [])


@pytest.mark.parametrize(("width", "height"), [(200, 150), (1000, 750), (150, 200)])
def test_a_picture_that_a_face_fills_is_one_face(finder, width, height):
    edge = 0.05
    box = (edge * width, edge * height, (1 - edge) * width, (1 - edge) * height)
    assert finder("a", picture(width, height, *box)) == [None]
    assert finder.whole["a"].startswith("a face spans ")
    assert finder.whole["a"].endswith("% of it")


def test_a_face_too_large_to_be_found_and_too_small_to_fill_is_found_in_the_reduced_picture(finder):
    [box] = finder("a", picture(400, 300, 100, 60, 299, 259))
    assert box == pytest.approx((100, 60, 300, 260), abs=400 / 48)
    assert finder.whole == {}


def test_parts_of_a_large_face_are_not_faces_and_small_faces_next_to_it_are(finder):
    """A face of 200 pixels, of which the detector finds two halves at full size."""
    image = picture(400, 300, 100, 60, 299, 259)
    look = finder.detector.find
    at_full_size = []

    def find(given, least_score):
        if given.size != image.size:
            return look(given, least_score)
        boxes = np.array(at_full_size, np.float32)
        n = len(boxes)
        return Detections(boxes, np.full(n, 0.5, np.float32), np.full((n, 3), 1 / 3, np.float32))

    finder.detector.find = find
    at_full_size += [(100, 60, 290, 160), (110, 150, 290, 260)]
    assert len(finder("a", image)) == 1
    at_full_size.append((310, 20, 330, 45))  # somebody behind
    assert finder("a", image) == at_full_size
    at_full_size[2:] = [(120, 70, 140, 95)]  # a small face on a poster, that the large one hides
    assert finder("a", image) == at_full_size


def test_a_picture_without_a_face(finder):
    assert finder("a", picture(200, 150)) == []
    assert finder.faceless == ["a"]


def test_a_picture_too_small_for_a_photograph_is_one_face(finder):
    assert finder("a", picture(64, 20)) == [None]
    assert finder.whole == {"a": "at most 64 pixels"}
    assert finder("b", picture(65, 20)) == []


class TestCommand:
    @pytest.fixture(autouse=True)
    def pictures(self, finder, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(predict_command.Detector, "load", lambda *_: finder.detector)
        architecture = architecture_of("cnn", 12)
        Classifier(
            build_model(architecture, np.random.default_rng(0)),
            architecture,
            CropSettings(12, 0.3),
            Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)),
        ).save(Path("model.safetensors"))
        picture(200, 150, 20, 30, 59, 79).save("street.png")
        picture(200, 150, 10, 5, 190, 145).save("face.png")
        picture(200, 150).save("wall.png")

    def predict(self, *arguments):
        return cli.main(["predict", "--model", "model.safetensors", *arguments])

    def test_the_output_says_how_it_was_decided(self, capsys):
        assert self.predict("street.png", "face.png", "wall.png") == 0
        street, face, wall, speed = capsys.readouterr().out.splitlines()
        assert street.startswith("street.png  (20, 30, 60, 80)  ")
        assert "whole" not in street
        assert face.startswith("face.png  ")
        assert face.endswith("]")
        assert "  [the whole picture: a face spans " in face
        assert wall == "wall.png  no face found"
        assert speed.startswith("2 faces in ")

    def test_so_does_json(self, capsys):
        assert self.predict("street.png", "face.png", "wall.png", "--json") == 0
        content = json.loads(capsys.readouterr().out)
        assert [(face["image"], face["box"]) for face in content["faces"]] == [
            ("street.png", [20, 30, 60, 80]),
            ("face.png", None),
        ]
        assert list(content["whole"]) == ["face.png"]
        assert content["no_face_found"] == ["wall.png"]

    def test_whole_looks_for_no_face(self, capsys):
        assert self.predict("street.png", "wall.png", "--whole", "--json") == 0
        content = json.loads(capsys.readouterr().out)
        assert [face["box"] for face in content["faces"]] == [None, None]
        assert "whole" not in content

    def test_the_same_crop_as_with_the_box(self, capsys):
        assert self.predict("street.png", "--json") == 0
        [found] = json.loads(capsys.readouterr().out)["faces"]
        Path("boxes.json").write_text(json.dumps([found["box"]]))
        assert self.predict("street.png", "--json", "--boxes", "boxes.json") == 0
        [given] = json.loads(capsys.readouterr().out)["faces"]
        assert found == given

    def test_boxes_and_whole_contradict_each_other(self, capsys):
        assert self.predict("street.png", "--whole", "--boxes", "boxes.json") == 2
        assert capsys.readouterr().err == (
            "error: predict: expected --boxes or --whole, got both\n"
        )

    @pytest.mark.parametrize("option", [[], ["--json"], ["--whole"]])
    def test_names_that_are_no_text(self, option, capfd):
        name = os.fsdecode(b"caf\xe9.png")
        picture(200, 150, 20, 30, 59, 79).save(name)
        assert self.predict(name, *option) == 0
        assert r"caf\udce9.png" in capfd.readouterr().out.replace("\\\\", "\\")
