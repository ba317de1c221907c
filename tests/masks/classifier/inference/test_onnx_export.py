"""The exported graph gives, in another runtime, what the classifier itself gives."""

import json
import sys

import numpy as np
import pytest

from tinygrad_mask import cli, nn
from tinygrad_mask.masks.classifier.inference.onnx_export import to_onnx
from tinygrad_mask.masks.classifier.network.architecture import KINDS, architecture_of, build_model
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.faces import crop_faces
from tinygrad_mask.masks.labels import LABELS

pytest.importorskip("onnx", reason="the extra onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SCALE = Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def classifier_of(model, size, architecture=None, **more):
    """A classifier round a network, its batch norms with statistics as training leaves them."""
    rng = np.random.default_rng(3)
    state = model.state_dict()
    for name, array in state.items():
        if name.endswith("running_var"):
            state[name] = rng.uniform(0.5, 2, array.shape).astype(np.float32)
        elif name.endswith(("running_mean", "bias")):
            state[name] = rng.normal(0, 0.3, array.shape).astype(np.float32)
    model.load_state_dict(state)
    architecture = architecture or architecture_of("cnn", size)
    return Classifier(model, architecture, CropSettings(size), SCALE, **more)


def classifier_of_kind(kind, size, **more):
    architecture = architecture_of(kind, size)
    model = build_model(architecture, np.random.default_rng(0))
    return classifier_of(model, size, architecture, **more)


def run(content, crops):
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [result] = session.run(["probabilities"], {"faces": crops})
    return result


def noise(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network(kind, mirrored):
    classifier = classifier_of_kind(kind, 19, temperature=1.7, mirrored=mirrored)
    content = to_onnx(classifier)
    for n in (1, 5):
        crops = noise(n, 19)
        expected = classifier.probabilities(crops)
        assert expected.std() > 0.01  # not all alike
        np.testing.assert_allclose(run(content, crops), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def real_crops(photographs):
    found = open_dataset(photographs / "larxel", DataIssues())[:40]
    faces = crop_faces(found, CropSettings(24), DataIssues(), min_face=4, workers=0, progress=False)
    return np.array(faces.crops)


@pytest.mark.parametrize("kind", KINDS)
def test_real_crops(kind, real_crops):
    classifier = classifier_of_kind(kind, 24, temperature=0.8, mirrored=True)
    expected = classifier.probabilities(real_crops)
    np.testing.assert_allclose(run(to_onnx(classifier), real_crops), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        lambda rng: [nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding="same", rng=rng)],
        lambda rng: [nn.Conv2d(3, 6, 3, stride=2, padding=((1, 0), (2, 1)), rng=rng)],
        lambda rng: [nn.Conv2d(3, 6, 3, dilation=2, padding="same", groups=3, rng=rng)],
        lambda rng: [nn.Conv2d(3, 4, 1, rng=rng), nn.MaxPool2d(3, stride=2, padding=1)],
        lambda rng: [nn.AvgPool2d(3, stride=2, padding=1), nn.Tanh()],
        lambda rng: [nn.AvgPool2d((2, 3), padding=1, count_include_pad=False), nn.Sigmoid()],
        lambda rng: [nn.Conv2d(3, 5, 3, rng=rng), nn.BatchNorm(5), nn.Dropout(0.5, rng=rng)],
        lambda rng: [nn.Conv2d(3, 5, [3, 2], rng=rng), nn.BatchNorm(5, affine=False)],
    ],
)
@pytest.mark.parametrize("end", [nn.Flatten, nn.GlobalAvgPool2d])
def test_every_layer(layers, end):
    rng = np.random.default_rng(0)
    head = nn.Sequential(*layers(rng), end())
    classifier = classifier_of(head, 13)
    features = head(classifier.inputs(noise(1, 13))).shape[1]
    tail = [nn.Linear(features, 8, rng=rng), nn.BatchNorm(8), nn.Linear(8, 3, rng=rng)]
    model = nn.Sequential(head, nn.Flatten(), *tail)
    classifier = classifier_of(model, 13)
    crops = noise(4, 13)
    expected = classifier.probabilities(crops)
    np.testing.assert_allclose(run(to_onnx(classifier), crops), expected, rtol=0, atol=1e-5)


def test_the_file_says_what_it_is(tmp_path, capsys):
    classifier = classifier_of_kind("resnet", 16, temperature=1.25)
    classifier.save(tmp_path / "model.safetensors")
    path = tmp_path / "model.onnx"
    assert cli.main(["export", str(tmp_path), "--onnx", str(path)]) == 0
    assert "uint8 (N, 16, 16, 3)" in capsys.readouterr().out
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [faces], [probabilities] = session.get_inputs(), session.get_outputs()
    assert (faces.name, faces.type, faces.shape) == ("faces", "tensor(uint8)", ["N", 16, 16, 3])
    assert (probabilities.name, probabilities.shape) == ("probabilities", ["N", 3])
    texts = session.get_modelmeta().custom_metadata_map
    assert texts == classifier.metadata()
    assert json.loads(texts["labels"]) == list(LABELS)
    # The same model gives the same file.
    assert path.read_bytes() == to_onnx(Classifier.load(tmp_path))


def test_nothing_is_overwritten(tmp_path, capsys):
    classifier_of_kind("mlp", 8).save(tmp_path / "model.safetensors")
    (tmp_path / "a.onnx").write_text("precious")
    assert cli.main(["export", str(tmp_path), "--onnx", str(tmp_path / "a.onnx")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "a.onnx").read_text() == "precious"


def test_a_layer_without_translation():
    class Odd(nn.ReLU):
        pass

    with pytest.raises(UsageError, match="a layer Odd cannot be exported"):
        to_onnx(classifier_of(nn.Sequential(Odd()), 8))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Flatten(2), "a Flatten of some of the axes"),
        (nn.MaxPool2d(2, ceil_mode=True), "pooling with dilation, ceil_mode or divisor_override"),
        (nn.MaxPool2d(2, dilation=2), "pooling with dilation, ceil_mode or divisor_override"),
        (nn.BatchNorm(3, track_running_stats=False), "a BatchNorm without running"),
    ],
)
def test_a_layer_with_options_that_onnx_has_not(layer, message):
    with pytest.raises(UsageError, match=f"{message} [^\n]*cannot be exported to ONNX"):
        to_onnx(classifier_of(nn.Sequential(layer), 8))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"pip install 'tinygrad_mask\[onnx\]'"):
        to_onnx(classifier_of_kind("mlp", 8))
