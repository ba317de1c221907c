"""The commands that put a trained model to use: their arguments, and what they do."""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from tinygrad_mask import resolve_device
from tinygrad_mask.files import check_folder, write_file
from tinygrad_mask.masks.classifier.inference.answers import Prediction
from tinygrad_mask.masks.classifier.inference.prediction import BATCH, Speed, predict
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.box_files import read_boxes
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.model_files import MODEL_HELP, PRETRAINED


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a prediction can be told."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a picture of one face and a little round it, or with --boxes of any faces",
    )
    parser.add_argument(
        "--model", default=PRETRAINED, metavar="MODEL", help=f"{MODEL_HELP} (the default)"
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="where the faces are: JSON {NAME: [[x1, y1, x2, y2], ...]}, CSV name,x1,y1,x2,y2, a "
        "Pascal VOC file, or a folder of those; without it each picture is one face",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also draw which pixels mattered, into IMAGE.explained.png",
    )
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER", help="where to draw (default: here)"
    )
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.set_defaults(run=predict_command)


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what an export can be told."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--onnx", type=Path, required=True, metavar="FILE", help="the ONNX file to write"
    )
    parser.set_defaults(run=export_command)


def predict_command(arguments: argparse.Namespace) -> int:
    """Print what the model says of every face, and draw why, as the arguments say.

    Returns the exit code: 1 if a picture could not be read, after the others were answered.
    """
    resolve_device(arguments.device)
    classifier = Classifier.load(arguments.model)
    classifier.model.to(arguments.device)
    issues, speed = DataIssues(), Speed()
    boxes = None
    if arguments.boxes is not None:
        boxes = read_boxes(arguments.boxes, arguments.images, issues)
    pictures = _pictures(arguments.images, arguments.out) if arguments.explain else {}
    predictions = predict(
        classifier, arguments.images, boxes, issues, speed=speed, device=arguments.device
    )
    shown = []
    for image, of_image in groupby(predictions, key=lambda prediction: prediction.image):
        faces = list(of_image)
        if arguments.explain and image is not None:
            _explain(classifier, faces, pictures[image], arguments.device)
            print(f"{pictures[image]}: which pixels mattered", file=sys.stderr)
        if arguments.json:
            shown += [face.to_json() for face in faces]
        else:
            for face in faces:
                print(_line(face))
    unreadable = issues.items.get("image cannot be read", [])
    if len(unreadable) == len(arguments.images):
        raise UsageError(f"none of the images can be read ({len(unreadable)} given)")
    if arguments.json:
        content = {
            "model": arguments.model,
            "faces": shown,
            "speed": speed.to_json(),
            "passed_over": dict(issues.items),
        }
        print(json.dumps(content, indent=1, ensure_ascii=False))
    print(_speed_line(speed), file=sys.stderr if arguments.json else sys.stdout)
    if unreadable:
        print(
            f"{len(unreadable)} of {len(arguments.images)} images could not be read",
            file=sys.stderr,
        )
    elif not arguments.explain and not arguments.json and speed.faces:
        print(
            "next: tinygrad-mask predict --explain, to see which pixels mattered", file=sys.stderr
        )
    return 1 if unreadable else 0


def export_command(arguments: argparse.Namespace) -> None:
    """Write a model as ONNX."""
    check_folder(arguments.onnx)  # before the work, not after it
    from tinygrad_mask.masks.classifier.inference.onnx_export import to_onnx

    classifier = Classifier.load(arguments.model)
    write_file(arguments.onnx, to_onnx(classifier))
    size = classifier.crops.size
    print(
        f"{arguments.onnx}: from faces, uint8 (N, {size}, {size}, 3), RGB, to probabilities, "
        f"float32 (N, {len(LABELS)}), of {', '.join(LABELS)}"
    )
    print(
        f"next: pip install onnxruntime; onnxruntime.InferenceSession({str(arguments.onnx)!r}) "
        "takes them",
        file=sys.stderr,
    )


def _pictures(images: Sequence[str], folder: Path) -> dict[str, Path]:
    """The picture that explains each image; raises `UsageError` before any work, not after it."""
    pictures = {image: folder / f"{Path(image).name}.explained.png" for image in images}
    for picture in pictures.values():
        if picture.exists():
            raise UsageError(f"{picture} exists already and is not overwritten")
    if len(set(pictures.values())) < len(images):
        raise UsageError("--explain: two images have the same name, and so would their pictures")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: no pictures can be drawn there ({error.strerror})") from error
    return pictures


def _explain(classifier: Classifier, faces: list[Prediction], path: Path, device: str) -> None:
    # Only here: Matplotlib takes longer to import than a picture takes to be answered.
    from tinygrad_mask.masks.classifier.inference.saliency import saliency
    from tinygrad_mask.masks.classifier.report.plots import plot_saliency

    crops = np.stack([face.crop for face in faces])
    answers = np.array([int(face.probabilities.argmax()) for face in faces])
    maps = saliency(classifier, crops, answers, rng=np.random.default_rng(0), device=device)
    titles = [
        face.label if face.probability is None else f"{face.label} {face.probability:.0%}"
        for face in faces
    ]
    plot_saliency(crops, maps, titles, path)


def _line(face: Prediction) -> str:
    where = "" if face.box is None else f"  ({', '.join(f'{corner:g}' for corner in face.box)})"
    if face.probability is None:
        return f"{face.image}{where}  {face.label}  ({face.reason})"
    every = ", ".join(
        f"{name} {of:.3f}" for name, of in zip(LABELS, face.probabilities, strict=True)
    )
    return f"{face.image}{where}  {face.label} {face.probability:.3f}  ({every})"


def _speed_line(speed: Speed) -> str:
    if speed.faces_per_second is None:
        return "no face"
    faces = "1 face" if speed.faces == 1 else f"{speed.faces:,} faces"
    return (
        f"{faces} in {speed.seconds * 1e3:.1f} ms, {speed.faces_per_second:,.0f} a second "
        f"(in batches of up to {BATCH}; reading and cutting not counted)"
    )
