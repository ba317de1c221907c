"""The command `predict`: how the masks in pictures are worn, as a classifier says it."""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_mask import resolve_device
from tinygrad_mask.masks.classifier.inference.answers import Prediction
from tinygrad_mask.masks.classifier.inference.prediction import BATCH, Locator, Speed, predict
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.box_files import read_boxes
from tinygrad_mask.masks.datasets.records import Box
from tinygrad_mask.masks.detector.inference.whole_pictures import FaceFinder
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.file_names import printable, unicode_name
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.model_files import MODEL_HELP, PRETRAINED


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a prediction can be told."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a photograph, whose faces are found, or a picture that one face fills",
    )
    parser.add_argument(
        "--model", default=PRETRAINED, metavar="MODEL", help=f"{MODEL_HELP} (the default)"
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="where the faces are: JSON {NAME: [[x1, y1, x2, y2], ...]}, CSV name,x1,y1,x2,y2, a "
        "Pascal VOC file, or a folder of those (default: the detector finds them)",
    )
    parser.add_argument(
        "--whole",
        action="store_true",
        help="take each picture for one face and a little round it, and look for none",
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


def predict_command(arguments: argparse.Namespace) -> int:
    """Print what the model says of every face, and draw why, as the arguments say.

    Returns the exit code: 1 if a picture could not be read, after the others were answered.
    """
    resolve_device(arguments.device)
    classifier = Classifier.load(arguments.model)
    classifier.model.to(arguments.device)
    issues, speed = DataIssues(), Speed()
    boxes: Sequence[Sequence[Box]] | Locator | None = None
    finder = None
    if arguments.boxes is not None:
        if arguments.whole:
            raise UsageError("predict: expected --boxes or --whole, got both")
        boxes = read_boxes(arguments.boxes, arguments.images, issues)
    elif not arguments.whole:
        detector = Detector.load(PRETRAINED)
        detector.model.to(arguments.device)
        boxes = finder = FaceFinder(detector)
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
            shown += [face.to_json() | {"image": unicode_name(str(image))} for face in faces]
        else:
            for face in faces:
                print(_line(face, finder))
    faceless = [] if finder is None else finder.faceless
    if not arguments.json:
        for image in faceless:
            print(f"{printable(image)}  no face found")
    unreadable = issues.items.get("image cannot be read", [])
    if len(unreadable) == len(arguments.images):
        raise UsageError(f"none of the images can be read ({len(unreadable)} given)")
    if arguments.json:
        content: dict[str, Any] = {
            "model": arguments.model,
            "faces": shown,
            "speed": speed.to_json(),
            "passed_over": {
                kind: [unicode_name(name) for name in names] for kind, names in issues.items.items()
            },
        }
        if finder is not None:
            content["whole"] = {unicode_name(name): why for name, why in finder.whole.items()}
            content["no_face_found"] = [unicode_name(name) for name in faceless]
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


def _line(face: Prediction, finder: FaceFinder | None) -> str:
    image = str(face.image)
    where = "" if face.box is None else f"  ({', '.join(f'{corner:g}' for corner in face.box)})"
    how = ""
    if finder is not None and face.box is None:
        how = f"  [the whole picture: {finder.whole[image]}]"
    elif finder is not None and face.box is not None:
        where = f"  ({', '.join(f'{corner:.0f}' for corner in face.box)})"
    if face.probability is None:
        return f"{printable(image)}{where}  {face.label}  ({face.reason}){how}"
    every = ", ".join(
        f"{name} {of:.3f}" for name, of in zip(LABELS, face.probabilities, strict=True)
    )
    return f"{printable(image)}{where}  {face.label} {face.probability:.3f}  ({every}){how}"


def _speed_line(speed: Speed) -> str:
    if speed.faces_per_second is None:
        return "no face"
    faces = "1 face" if speed.faces == 1 else f"{speed.faces:,} faces"
    return (
        f"{faces} in {speed.seconds * 1e3:.1f} ms, {speed.faces_per_second:,.0f} a second "
        f"(in batches of up to {BATCH}; reading and cutting not counted)"
    )
