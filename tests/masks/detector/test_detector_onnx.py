"""The exported graph finds, in another runtime, what the detector itself finds."""

import json

import numpy as np
import pytest
from PIL import Image

from tinygrad_mask import Tensor, cli, no_grad
from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs
from tinygrad_mask.masks.detector.inference.onnx_export import detector_to_onnx
from tinygrad_mask.masks.detector.network.architecture import (
    LARGEST_STRIDE,
    STRIDE,
    DetectorArchitecture,
    FaceDetector,
)
from tinygrad_mask.masks.detector.network.decoding import decode
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.network.input import GREY, InputSettings, scale_pixels

pytest.importorskip("onnx", reason="the extra onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SMALL = DetectorArchitecture(channels=(4, 6, 8, 10, 12), depths=(1, 2, 1, 1), head=6)


def random_detector(seed=0):
    """A detector with random weights, and statistics as training leaves them."""
    rng = np.random.default_rng(seed)
    model = FaceDetector(SMALL, rng)
    pixels = rng.integers(0, 256, (4, 64, 64, 3)).astype(np.float32)
    with no_grad():
        for _ in range(50):
            model(Tensor(scale_pixels(pixels)))
    state = model.state_dict()
    state["predict.weight"] = 4 * state["predict.weight"]
    model.load_state_dict(state)
    return Detector(model, SMALL, InputSettings())


def expected(detector, pixels, least_score):
    """What the network and `decode` find in an image, on grey up to multiples of the stride."""
    height, width = pixels.shape[:2]
    rows, columns = (-(-n // LARGEST_STRIDE) * LARGEST_STRIDE for n in (height, width))
    padded = np.full((1, rows, columns, 3), GREY, np.float32)
    padded[0, :height, :width] = pixels
    detector.model.eval()
    with no_grad():
        output = detector.model(Tensor(scale_pixels(padded))).numpy()[0]
    return decode(output[: -(-height // STRIDE), : -(-width // STRIDE)], least_score)


def run(content, pixels, least_score):
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = {"image": pixels, "least_score": np.array(least_score, np.float32)}
    return session.run(["boxes", "scores", "labels"], inputs)


def assert_same(found, wanted):
    boxes, scores, labels = found
    assert len(boxes) == len(wanted)
    np.testing.assert_allclose(boxes, wanted.boxes, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores, wanted.scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(labels, wanted.labels, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (61, 90), (33, 5), (1, 1), (130, 127)])
def test_images_of_any_size_have_the_faces_that_decode_finds(size):
    detector = random_detector()
    content = detector_to_onnx(detector)
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    for least_score in (0.01, 0.03):
        assert_same(run(content, pixels, least_score), expected(detector, pixels, least_score))


def test_the_cases_have_many_faces_some_of_which_overlap():
    detector = random_detector()
    pixels = np.random.default_rng(1).integers(0, 256, (96, 160, 3), np.uint8)
    found = expected(detector, pixels, 0.01)
    assert len(found) > 20
    assert found.scores.std() > 0.01
    assert found.labels.std() > 0.01


def test_an_image_without_faces():
    detector = random_detector()
    boxes, scores, labels = run(detector_to_onnx(detector), np.zeros((40, 70, 3), np.uint8), 0.999)
    assert (boxes.shape, scores.shape, labels.shape) == ((0, 4), (0,), (0, 3))


def test_drawn_photographs_with_the_shipped_weights():
    detector = Detector.load("pretrained")
    content = detector_to_onnx(detector)
    faces = 0
    for photograph in synthetic_photographs(3, 2):
        image = photograph.open()
        pixels = np.asarray(image.resize((2 * image.width, 2 * image.height)))
        wanted = expected(detector, pixels, 0.02)
        assert_same(run(content, pixels, 0.02), wanted)
        faces += len(wanted)
    assert faces > 0


def test_the_command_exports_a_detector_from_a_file_and_the_shipped_one(tmp_path, capsys):
    random_detector().save(tmp_path / "model.safetensors")
    for model, options in ((str(tmp_path), []), ("pretrained", ["--detector"])):
        path = tmp_path / f"{len(options)}.onnx"
        assert cli.main(["export", model, *options, "--onnx", str(path)]) == 0
        assert "to boxes (N, 4), scores (N,) and labels (N, 3)" in capsys.readouterr().out
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert [of.name for of in session.get_inputs()] == ["image", "least_score"]
        metadata = session.get_modelmeta().custom_metadata_map
        assert metadata["format"] == "tinygrad_mask detector 1"
        assert json.loads(metadata["labels"]) == ["proper", "improper", "none"]


def test_a_classifier_is_no_detector_and_a_text_no_model(tmp_path, capsys):
    (tmp_path / "text.safetensors").write_text("no model")
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    for model, options in (
        ("missing", []),
        ("missing", ["--detector"]),
        (str(tmp_path / "text.safetensors"), []),
        (str(tmp_path / "picture.png"), []),
    ):
        out = str(tmp_path / "a.onnx")
        assert cli.main(["export", model, *options, "--onnx", out]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert not (tmp_path / "a.onnx").exists()
