"""Files, settings and names that are wrong on purpose: one line, little memory, no wrong answer."""

import json
import os
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tinygrad_mask import cli, serialization
from tinygrad_mask.masks import images
from tinygrad_mask.masks.classifier.network.classifier import PRETRAINED_FILE, Classifier
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.datasets.boxes import parse_box
from tinygrad_mask.masks.detector.network import detector
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.images import read_image
from tinygrad_mask.masks.schemas import decode_json

HUGE = str(10**400)

VALUES = ["{}", "[]", "null", "1", "NaN", "-1", '"a"', "[[1]]", "[" * 3000, "{", HUGE, ""]

FIELDS = {
    "architecture": [
        '{"kind": "cnn", "image_size": 1000000000, "channels": [32], "hidden": 128}',
        '{"kind": "cnn", "image_size": 40, "channels": [8000, 8000, 8000], "hidden": 8000}',
        '{"kind": "vgg", "image_size": 40, "channels": [8, 8000], "depths": [1, 8000]}',
        '{"kind": "mlp", "image_size": 512, "hidden": 8000}',
        '{"kind": "cnn", "image_size": 40, "channels": ["32"], "hidden": 128}',
        '{"kind": "cnn", "image_size": 40, "channels": [[32]], "hidden": 128}',
        '{"kind": "cnn", "image_size": 40, "channels": [], "hidden": -1, "surplus": 1}',
        '{"kind": "nonsense", "image_size": 40}',
    ],
    "normalisation": [
        '{"mean": [0.5, 0.5, 0.5], "std": [0, 1, 1]}',
        '{"mean": [0.5, NaN, 0.5], "std": [1, 1, 1]}',
        '{"mean": [0.5], "std": [1, 1, 1]}',
        '{"mean": [0.5, 0.5, 0.5], "std": [1, 1, Infinity]}',
    ],
    "crops": ['{"size": 1000000000}', '{"size": 40, "margin": 1e300}', '{"size": 41}'],
    "temperature": ["0", "NaN", "[1]", "Infinity"],
    "mirrored": ["2", '"yes"'],
    "labels": ['["proper"]', "[1, 2, 3]"],
    "trained_on": ["a", "AAAA", "\u00e9"],
}

DETECTOR_FIELDS = {
    "architecture": [
        '{"channels": [8000, 8000, 8000, 8000, 8000], "depths": [1, 1, 1, 1], "head": 8}',
        '{"channels": [16, 40, 80, 112, 128], "depths": [8000, 1, 1, 1], "head": 48}',
        '{"channels": [16, 40], "depths": [2], "head": 48}',
        '{"channels": [16, 40, 80, 112, 1e9], "depths": [2, 2, 2, 1], "head": 48}',
    ],
    "input": [
        '{"long_side": 1000000000}',
        '{"most_enlarged": NaN}',
        '{"largest_face": -1}',
        '{"long_side": "800"}',
    ],
}


def cases(fields):
    return [(field, value) for field, values in fields.items() for value in [*values, *VALUES]]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [("classifier", *case) for case in cases(FIELDS)]
    + [("detector", *case) for case in cases(DETECTOR_FIELDS)],
)
def test_metadata_of_another_shape_are_refused_in_one_line(kind, field, value, tmp_path):
    file, load = {
        "classifier": (PRETRAINED_FILE, Classifier.load),
        "detector": (detector.PRETRAINED_FILE, detector.Detector.load),
    }[kind]
    if (field, value) in [
        *(("crops", "{}"), ("input", "{}"), ("temperature", "1"), ("trained_on", "")),
        *([("architecture", "{}")] if kind == "detector" else []),
    ]:
        pytest.skip("these are metadata")
    arrays, texts = serialization.load(file)
    serialization.save(tmp_path / "model.safetensors", arrays, {**texts, field: value})
    start = time.monotonic()
    with pytest.raises(UsageError) as raised:
        load(tmp_path / "model.safetensors")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    arrays, texts = serialization.load(PRETRAINED_FILE)
    name = max(arrays, key=lambda name: arrays[name].size)
    arrays[name].flat[3] = value
    serialization.save(tmp_path / "model.safetensors", arrays, texts)
    with pytest.raises(UsageError, match=f"expected finite weights, got {name} with others"):
        Classifier.load(tmp_path / "model.safetensors")


class TestNoRegularFile:
    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path, capsys):
        os.mkfifo(tmp_path / "pipe")
        picture = tmp_path / "a.png"
        Image.new("RGB", (40, 40)).save(picture)
        assert cli.main(["predict", "--model", str(tmp_path / "pipe"), str(picture)]) == 2
        assert "cannot be read as a model (not a regular file)" in capsys.readouterr().err
        with pytest.raises(OSError, match="not a regular file"):
            read_image(tmp_path / "pipe")

    def test_a_device_without_end(self):
        with pytest.raises(UsageError, match="not a regular file"):
            Classifier.load("/dev/zero")
        with pytest.raises(OSError, match="not a regular file"):
            read_image("/dev/zero")

    def test_a_sparse_file_of_40_gigabytes(self, tmp_path):
        path, size = tmp_path / "model.safetensors", 40 << 30
        entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
        header = json.dumps({"a": entry}).encode()
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + size)
        with pytest.raises(UsageError, match=r"expected at most 512 MiB, got 40,960 MiB"):
            Classifier.load(path)


class TestPictures:
    def test_pixels_are_counted_before_they_are_decoded(self, tmp_path, monkeypatch):
        path = tmp_path / "large.png"
        Image.new("1", (2_000_000, 30)).save(path)
        with pytest.raises(OSError, match="expected at most 50,000,000 pixels, got 2,000,000 x 30"):
            read_image(path)
        Image.new("L", (60, 50)).save(tmp_path / "small.png")
        monkeypatch.setenv(images.PIXELS_VARIABLE, "2999")
        with pytest.raises(OSError, match="expected at most 2,999 pixels, got 60 x 50"):
            read_image(tmp_path / "small.png")
        monkeypatch.setenv(images.PIXELS_VARIABLE, "3000")
        assert read_image(tmp_path / "small.png").size == (60, 50)
        monkeypatch.setenv(images.PIXELS_VARIABLE, "many")
        with pytest.raises(OSError, match="expected a number of pixels, got 'many'"):
            read_image(tmp_path / "small.png")

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "CMYK", "L"])
    def test_strips_give_the_pixels_of_the_whole(self, mode, monkeypatch):
        pixels = np.random.default_rng(0).integers(0, 256, (37, 20, 4), np.uint8)
        picture = Image.fromarray(pixels, "RGBA")
        if mode == "I;16":
            picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        elif mode == "P":
            picture = picture.convert("RGB").quantize(16)
            picture.info["transparency"] = 3
        else:
            picture = picture.convert(mode)
        whole = np.asarray(images.to_rgb(picture))
        monkeypatch.setattr(images, "_CONVERTED_AT_ONCE", 100)
        np.testing.assert_array_equal(np.asarray(images.to_rgb(picture)), whole)

    @pytest.mark.parametrize("suffix", [".jfif", ".jpe"])
    def test_other_names_of_jpeg_are_pictures(self, suffix, tmp_path):
        (tmp_path / "with_mask").mkdir()
        Image.new("RGB", (30, 30)).save(tmp_path / "with_mask" / f"a{suffix}", "JPEG")
        [photograph] = open_dataset(tmp_path, DataIssues())
        assert photograph.open().size == (30, 30)


@pytest.mark.parametrize(
    "corners",
    [
        [0, 0, 1e-308, 1e-308],
        ["0", "0", "1e-308", "5"],
        [0, 0, 10**400, 5],
        ["0", "0", "9" * 400, "5"],
        [-1e308, 0, 1e308, 5],
        [0, 0, 1e300, 1e300],
    ],
)
def test_boxes_of_no_photograph(corners):
    with pytest.raises(ValueError, match="box") as raised:
        parse_box(corners)
    assert len(str(raised.value)) < 120


class TestSettings:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--image-size", "10000"], "--image-size: expected at most 512 pixels, got 10000"),
            (["--model", "mlp", "--lr", "1e30"], "--lr: expected at most 1e+10, got 1e+30"),
            (["--other-coverings", "foo"], "--other-coverings: invalid choice: 'foo'"),
            (["--data", "synthetic:1000000000"], "up to 1,000,000, got 'synthetic:1000000000'"),
            (["--data", f"synthetic:{'9' * 5000}"], "up to 1,000,000, got 'synthetic:999"),
            (["--data", "x" * 300], "File name too long"),
            (["--seed", "-1"], "seed: expected a number from 0 on, got -1"),
            (
                ["--data", "synthetic:9", "--cross-validate", "1000000000"],
                "too few photographs with faces for 1000000000 folds",
            ),
        ],
    )
    def test_out_of_range_gets_one_line(self, arguments, message, tmp_path, capsys):
        try:
            out = ["--out", str(tmp_path / "a")]
            code = cli.main(["train", "--image-size", "8", *arguments, *out])
        except SystemExit as error:  # how a parser ends
            code = error.code
        error = capsys.readouterr().err
        assert code == 2, error
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1
        assert len(error) < 1100
        assert not (tmp_path / "a").exists()

    def test_an_output_name_that_is_too_long(self, tmp_path, capsys):
        assert cli.main(["train", "--out", str(tmp_path / ("x" * 300))]) == 2
        assert "File name too long" in capsys.readouterr().err


class TestDataSets:
    HEADER = "name,x1,x2,y1,y2,classname\n"

    def mirror(self, tmp_path, content):
        (tmp_path / "images").mkdir()
        Image.new("RGB", (50, 40)).save(tmp_path / "images" / "a.png")
        (tmp_path / "train.csv").write_bytes(content)
        return tmp_path

    def test_one_byte_of_latin_1(self, tmp_path):
        rows = "a.png,3,4,20,30,face_with_mask\nb\u00e9.png,1,2,9,9,face_with_mask\n"
        folder = self.mirror(tmp_path, (self.HEADER + rows).encode("latin-1"))
        issues = DataIssues()
        [photograph] = open_dataset(folder, issues)
        assert photograph.name == "a.png"
        assert issues.counts() == {"annotation without its photograph": 1}

    def test_another_header_is_named_and_nothing_wrong_is_advised(self, tmp_path):
        folder = self.mirror(tmp_path, b"file,left,top,right,bottom,label\na.png,3,4,20,30,x\n")
        with pytest.raises(UsageError) as raised:
            open_dataset(folder, DataIssues())
        assert "the header of train.csv is file,left,top,right,bottom,label" in str(raised.value)
        assert "--classes" not in str(raised.value)

    def test_a_class_whose_folder_cannot_be_read(self, tmp_path, monkeypatch):
        for name in ("with_mask", "without_mask"):
            (tmp_path / name).mkdir()
            Image.new("RGB", (30, 30)).save(tmp_path / name / "a.png")
        scandir = os.scandir

        def refuses(path):
            if os.fspath(path).endswith("without_mask"):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuses)
        issues = DataIssues()
        with pytest.raises(UsageError, match="without_mask: the folder of a class cannot be read"):
            open_dataset(tmp_path, issues)
        assert issues.counts() == {"folder cannot be read": 1}


class TestTerminals:
    def run(self, arguments, **options):
        command = [sys.executable, "-m", "tinygrad_mask", *arguments]
        return subprocess.run(command, capture_output=True, timeout=120, **options)

    def test_a_name_that_is_no_text_on_a_terminal_in_ascii(self, tmp_path):
        name = os.fsencode(tmp_path) + b"/caf\xe9-\xc3\xa9"
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        result = self.run(["evaluate", "pretrained", "--data", name], env=environment)
        assert result.returncode == 2
        assert result.stderr.decode("ascii").startswith("error: ")
        assert "there is no such folder" in result.stderr.decode()

    def test_standard_error_is_closed(self, tmp_path):
        command = f"{sys.executable} -m tinygrad_mask evaluate {tmp_path / 'no'} --data x 2>&-"
        result = subprocess.run(["sh", "-c", command], capture_output=True, timeout=120)
        assert (result.returncode, result.stdout) == (2, b"")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[1", '{"a": "b"}'])
def test_json_that_is_something_else_is_a_value_error_in_one_line(text):
    with pytest.raises(ValueError, match=r"^[^\n]{1,200}$"):
        decode_json(text, dict[str, int])
