"""The detector from photographs to boxes: batches, a short training, files, pictures."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tinygrad_mask import optim, serialization
from tinygrad_mask.masks.detector.network import detector as module
from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture, FaceDetector
from tinygrad_mask.masks.detector.network.detector import (
    TOO_SMALL,
    UNSURE,
    DetectedFace,
    Detector,
)
from tinygrad_mask.masks.detector.network.input import InputSettings
from tinygrad_mask.masks.detector.report.drawing import COLOURS, draw_faces
from tinygrad_mask.masks.detector.training.augmentation import DetectorAugmentation, PhotographView
from tinygrad_mask.masks.detector.training.batches import DetectorBatches
from tinygrad_mask.masks.detector.training.loss import detector_loss
from tinygrad_mask.masks.detector.training.targets import HeatMapTargets
from tinygrad_mask.masks.duplicates import HASH_WORDS
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.training import Trainer

SMALL = DetectorArchitecture(channels=(8, 12, 16, 16, 16), depths=(1, 1, 1, 1), head=12)
COLOURS_OF_LABELS = [(250, 40, 40), (40, 250, 40), (40, 40, 250)]


def photograph(rng, faces=2):
    """A grey photograph with bright squares, whose colour is their label."""
    image = Image.new("RGB", (160, 120), (90, 90, 90))
    boxes, labels = [], []
    for k in range(faces):
        left, top = int(rng.integers(80 * k, 80 * k + 40)), int(rng.integers(5, 70))
        side = int(rng.integers(20, 38))
        label = int(rng.integers(3))
        ImageDraw.Draw(image).rectangle(
            (left, top, left + side - 1, top + side - 1), fill=COLOURS_OF_LABELS[label]
        )
        boxes.append([left, top, left + side, top + side])
        labels.append(label)
    return PhotographView(
        image, np.array(boxes, np.float32), np.array(labels), np.zeros((0, 4), np.float32)
    )


@pytest.fixture(scope="module")
def trained():
    """A small detector after a short training on squares."""
    rng = np.random.default_rng(0)
    views = [photograph(rng) for _ in range(40)]
    model = FaceDetector(SMALL, np.random.default_rng(1))
    augmentation = DetectorAugmentation(size=96, long_side=(150, 170), mosaic=0.0)
    batches = DetectorBatches(views, 8, augmentation, steps=250, min_face=4, seed=0)
    optimizer = optim.AdamW(model.parameters(), 5e-3)

    def loss(model, images, *targets):
        wanted = HeatMapTargets(*(target.numpy() for target in targets))
        return detector_loss(model(images), wanted, np.ones(3, np.float32)).total(
            box=2.0, label=1.0
        )

    schedule = optim.OneCycleLR(optimizer, 5e-3, 250, cycle_momentum=False)
    Trainer(model, optimizer, loss, batches, epochs=1, schedule=schedule).run()
    return Detector(model, SMALL, InputSettings(long_side=160))


def test_it_finds_what_it_was_trained_on(trained):
    rng = np.random.default_rng(99)
    found = right = 0
    for _ in range(10):
        view = photograph(rng)
        faces = trained.detect(view.image, confidence=0.0)
        for box, label in zip(view.boxes, view.labels, strict=True):
            near = [f for f in faces if np.abs(np.array(f.box) - box).max() < 6]
            found += bool(near)
            right += bool(near) and near[0].label == LABELS[label]
    assert found >= 18
    assert right >= 16


def test_a_second_look_finds_faces_too_large_for_the_first(trained):
    """Each face once, although both looks see those of a size between."""
    rng = np.random.default_rng(7)
    one = Detector(trained.model, SMALL, InputSettings(640, coarse_long_side=0))
    two = Detector(trained.model, SMALL, InputSettings(640, 2.0, 160, 60.0, 12.0))
    found = {one: 0, two: 0}
    for _ in range(5):
        view = photograph(rng)
        image = view.image.resize((640, 480), Image.Resampling.NEAREST)
        for detector in found:
            faces = detector.detect(image, confidence=0.0, least_score=0.2)
            for box in 4 * view.boxes:
                near = [f for f in faces if np.abs(np.array(f.box) - box).max() < 24]
                assert len(near) <= 1
                found[detector] += len(near)
    assert found[two] >= 9
    assert found[one] <= 5


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((400, 200), [(600, 300), (256, 128)]),
        ((1600, 1200), [(600, 450), (256, 192)]),
        ((200, 100), [(300, 150)]),  # 256 pixels would show what 400 do
        ((1, 3000), [(1, 600), (1, 256)]),
        ((1, 1), [(2, 2)]),
    ],
)
def test_looks(size, sizes):
    looks = InputSettings().looks(*size)
    assert [look.size(*size) for look in looks] == sizes
    assert looks[0].least == 0
    assert looks[-1].most == np.inf
    if len(looks) == 2:
        assert looks[0].most / looks[0].scale > looks[1].least / looks[1].scale  # no gap between


@pytest.mark.parametrize("wrong", [{"long_side": 0}, {"most_enlarged": 0}, {"largest_face": -1}])
def test_input_settings_refuse_what_is_not_positive(wrong):
    with pytest.raises(ValueError, match="expected sizes above 0"):
        InputSettings(**wrong)


def test_paths_images_and_arrays_of_either_order_are_the_same(trained, tmp_path):
    image = photograph(np.random.default_rng(5)).image
    image.save(tmp_path / "a.png")
    pixels = np.asarray(image)
    expected = trained.detect(image, least_score=0.3)
    assert len(expected) == 2
    for given, options in (
        (tmp_path / "a.png", {}),
        (str(tmp_path / "a.png"), {}),
        (pixels, {}),
        (pixels[..., ::-1], {"bgr": True}),
    ):
        assert trained.detect(given, least_score=0.3, **options) == expected


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_other_arrays_are_refused(trained, pixels):
    with pytest.raises(ValueError, match=r"expected an array uint8 \(H, W, 3\)"):
        trained.detect(pixels)


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (None, {}, TypeError, "expected an image of Pillow's or an array of uint8"),
        (np.zeros((0, 4, 3), np.uint8), {}, ValueError, r"expected an array uint8 \(H, W, 3\)"),
        (Image.new("RGB", (4, 4)), {"bgr": True}, ValueError, "leave bgr out"),
        ("nowhere.jpg", {"bgr": True}, ValueError, "leave bgr out"),
        ("nowhere.jpg", {}, OSError, r"nowhere\.jpg: No such file"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(trained, given, options, error, message):
    with pytest.raises(error, match=message) as raised:
        trained.detect(given, **options)
    assert "\n" not in str(raised.value)


def test_pictures_are_turned_upright_and_transparency_is_put_on_white(trained):
    image = photograph(np.random.default_rng(5)).image
    expected = trained.detect(image, least_score=0.3)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be turned by a quarter, clockwise
    assert trained.detect(turned, least_score=0.3) == expected
    on_white = Image.new("RGB", image.size, "white")
    clear = image.copy()
    clear.putalpha(0)
    assert trained.detect(clear, least_score=0.3) == trained.detect(on_white)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (641, 33)])
def test_pictures_of_any_size_have_boxes_inside(trained, size):
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for face in trained.detect(pixels, least_score=0.0):
        left, top, right, bottom = face.box
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_answers_that_are_no_label(trained):
    image = photograph(np.random.default_rng(5)).image
    assert {f.answer for f in trained.detect(image, confidence=1.1)} == {UNSURE}
    assert {f.answer for f in trained.detect(image, min_face=1000)} == {TOO_SMALL}


def test_a_saved_detector_answers_as_before(trained, tmp_path):
    trained.save(tmp_path / "d.safetensors")
    loaded = Detector.load(tmp_path / "d.safetensors")
    assert loaded.settings == trained.settings
    assert loaded.architecture == trained.architecture
    image = photograph(np.random.default_rng(5)).image
    assert loaded.detect(image) == trained.detect(image)


def test_what_it_was_trained_on_is_saved_with_it(trained, tmp_path):
    hashes = np.random.default_rng(0).integers(0, 2**64, (3, HASH_WORDS), np.uint64)
    detector = Detector(trained.model, SMALL, trained.settings, trained_on=hashes)
    detector.save(tmp_path / "d.safetensors")
    assert (Detector.load(tmp_path / "d.safetensors").trained_on == hashes).all()
    assert trained.trained_on is None


def test_it_is_loaded_from_a_run_folder_and_by_the_name_of_the_shipped_weights(
    trained, tmp_path, monkeypatch
):
    trained.save(tmp_path / "model.safetensors")
    assert Detector.load(tmp_path).architecture == SMALL
    monkeypatch.setattr(module, "PRETRAINED_FILE", tmp_path / "model.safetensors")
    assert Detector.load("pretrained").architecture == SMALL
    monkeypatch.setattr(module, "PRETRAINED_FILE", tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="this copy of the package has no trained weights"):
        Detector.load("pretrained")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something"}, "expected metadata of 'tinygrad_mask detector 1', got 'somethin"),
        ({"labels": '["a", "b", "c"]'}, "its labels are"),
        ({"architecture": "{}"}, "not a detector as it is saved here"),
        ({"architecture": "no JSON"}, "not a detector as it is saved here"),
        ({"input": '{"what": 1}'}, "not a detector as it is saved here"),
        ({"trained_on": "!"}, "not a detector as it is saved here"),
    ],
)
def test_a_file_that_holds_no_detector_is_refused_in_one_line(trained, tmp_path, changes, message):
    path = tmp_path / "d.safetensors"
    trained.save(path)
    arrays, metadata = serialization.load(path)
    serialization.save(path, arrays, metadata | changes, overwrite=True)
    with pytest.raises(UsageError, match=message) as error:
        Detector.load(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be read as a model \(No such file"):
        Detector.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no model")
    with pytest.raises(UsageError, match=r"text\.safetensors"):
        Detector.load(tmp_path / "text.safetensors")


def test_batches_depend_on_seed_epoch_and_step_alone():
    views = [photograph(np.random.default_rng(k)) for k in range(4)]

    def batches(seed=0):
        settings = DetectorAugmentation(size=64)
        return DetectorBatches(views, 2, settings, steps=3, min_face=4, seed=seed)

    first = list(batches().epoch(1))
    resumed = list(batches().epoch(1, 2))
    assert len(first) == 3
    assert len(resumed) == 1
    assert all((a == b).all() for a, b in zip(first[2], resumed[0], strict=True))
    other = next(batches(seed=1).epoch(1))
    assert not (first[0][0] == other[0]).all()


def test_captions_can_be_read_at_every_edge_and_on_every_background():
    faces = [
        DetectedFace((0, 0, 20, 20), 0.9, "proper", 0.98, {}, "proper"),
        DetectedFace((170, 40, 199, 80), 0.8, "improper", 0.7, {}, "improper"),
        DetectedFace((60, 100, 90, 119), 0.7, "none", 0.9, {}, UNSURE),
    ]
    for colour in ("white", "black", COLOURS["proper"]):
        image = Image.new("RGB", (200, 120), colour)
        drawn = draw_faces(image, faces)
        assert drawn.size == image.size
        assert (np.asarray(image) == np.asarray(Image.new("RGB", (200, 120), colour))).all()
        pixels = np.asarray(drawn).reshape(-1, 3).tolist()
        for face in faces:
            assert list(COLOURS[face.answer]) in pixels
        assert [0, 0, 0] in pixels
        assert min(max(pixels, key=min)) > 200  # the text
