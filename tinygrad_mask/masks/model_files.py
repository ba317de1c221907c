"""Read the file of a saved model, and keep in it what the model was trained on."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import serialization
from tinygrad_mask.masks.duplicates import HASH_WORDS
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.schemas import decode_json

LARGEST_MODEL = 512 << 20
"""Bytes of the largest file that is read as a model: 134 million weights."""

PRETRAINED = "pretrained"
"""What stands for the shipped weights wherever a model is asked for; a path is `./pretrained`."""

MODEL_HELP = f"a model.safetensors, or its run folder, or {PRETRAINED}: the weights shipped here"


def read_model(
    path: str | Path, shipped: Path
) -> tuple[Path, dict[str, NDArray[Any]], dict[str, str]]:
    """Return the file of a model, its arrays and its metadata.

    `path` is the file, or the run folder that holds it as `model.safetensors`, or the text
    `pretrained`, which stands for the file `shipped`. Raises `UsageError` if it cannot be read.
    """
    if path == PRETRAINED and not shipped.exists():
        raise UsageError(
            f"{PRETRAINED}: this copy of the package has no trained weights "
            f"({shipped.name} is not in it); name the file or run folder of a model"
        )
    path = shipped if path == PRETRAINED else Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        arrays, metadata = serialization.load(path, max_bytes=LARGEST_MODEL)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read as a model ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UsageError(f"{path}: expected finite weights, got {name} with others")
    return path, arrays, metadata


def check_labels(text: str) -> None:
    """Raise `ValueError` unless the labels of a model's metadata are those of this package."""
    if decode_json(text, list[str]) != list(LABELS):
        raise ValueError(f"its labels are {text:.60}, not {', '.join(LABELS)}")


def check_weights(least: int, arrays: dict[str, NDArray[Any]]) -> None:
    """Raise `ValueError` unless a file's arrays have as many numbers as its network needs at least.

    To be called before a network is built: its metadata may ask for one of any size.
    """
    held = sum(array.size for array in arrays.values())
    if held < least:
        raise ValueError(
            f"its architecture has at least {least:,} weights, and the file holds {held:,}"
        )


def check_format(path: Path, metadata: dict[str, str], expected: str) -> None:
    """Raise `UsageError` unless a model's file has this format."""
    came = metadata.get("format", "no format")
    if came != expected:
        raise UsageError(f"{path}: expected metadata of '{expected}', got {came!r:.60}")


def hashes_to_text(hashes: NDArray[np.uint64]) -> str:
    """Return the perceptual hashes of photographs, uint64 (n, HASH_WORDS), as ASCII text."""
    return base64.b64encode(hashes.astype("<u8").tobytes()).decode()


def hashes_from_text(text: str) -> NDArray[np.uint64]:
    """Return the hashes of `hashes_to_text`; raises `ValueError` for another text."""
    content = base64.b64decode(text, validate=True)
    return np.frombuffer(content, "<u8").astype(np.uint64).reshape(-1, HASH_WORDS)
