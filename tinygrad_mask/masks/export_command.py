"""The command `export`: a classifier or a detector for other runtimes."""

import argparse
import sys
from pathlib import Path

from tinygrad_mask.files import check_folder, write_file
from tinygrad_mask.masks.classifier.network.classifier import PRETRAINED_FILE, Classifier
from tinygrad_mask.masks.detector.network.detector import DETECTOR_FORMAT, Detector
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.model_files import MODEL_HELP, PRETRAINED, read_model


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what an export can be told."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--onnx", type=Path, required=True, metavar="FILE", help="the ONNX file to write"
    )
    parser.add_argument(
        "--detector",
        action="store_true",
        help=f"{PRETRAINED} is the shipped detector, not the classifier (of a file it is seen)",
    )
    parser.set_defaults(run=export_command)


def export_command(arguments: argparse.Namespace) -> None:
    """Write a model as ONNX."""
    check_folder(arguments.onnx)  # before the work, not after it
    if arguments.detector or _is_detector(arguments.model):
        _export_detector(arguments.model, arguments.onnx)
    else:
        _export_classifier(arguments.model, arguments.onnx)
    print(
        f"next: pip install onnxruntime; onnxruntime.InferenceSession({str(arguments.onnx)!r}) "
        "takes them",
        file=sys.stderr,
    )


def _is_detector(model: str) -> bool:
    """Whether a file or run folder holds a detector; raises `UsageError` if it holds no model."""
    _, _, metadata = read_model(model, PRETRAINED_FILE)
    return metadata.get("format") == DETECTOR_FORMAT


def _export_classifier(model: str, path: Path) -> None:
    from tinygrad_mask.masks.classifier.inference.onnx_export import to_onnx

    classifier = Classifier.load(model)
    write_file(path, to_onnx(classifier))
    size = classifier.crops.size
    print(
        f"{path}: from faces, uint8 (N, {size}, {size}, 3), RGB, to probabilities, "
        f"float32 (N, {len(LABELS)}), of {', '.join(LABELS)}"
    )


def _export_detector(model: str, path: Path) -> None:
    from tinygrad_mask.masks.detector.inference.onnx_export import detector_to_onnx

    detector = Detector.load(model)
    write_file(path, detector_to_onnx(detector))
    settings = detector.settings
    print(
        f"{path}: from image, uint8 (H, W, 3), RGB, its longer side {settings.long_side} pixels "
        f"but not enlarged by more than {settings.most_enlarged:g}, and least_score, float32 (), "
        f"to boxes (N, 4), scores (N,) and labels (N, {len(LABELS)}), of {', '.join(LABELS)}"
    )
