"""The command `export`: a classifier for other runtimes."""

import argparse
import sys
from pathlib import Path

from tinygrad_mask.files import check_folder, write_file
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.model_files import MODEL_HELP


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what an export can be told."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--onnx", type=Path, required=True, metavar="FILE", help="the ONNX file to write"
    )
    parser.set_defaults(run=export_command)


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
