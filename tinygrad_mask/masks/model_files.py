"""Read the file of a saved model, and keep in it what the model was trained on."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import serialization
from tinygrad_mask.masks.duplicates import HASH_WORDS
from tinygrad_mask.masks.errors import UsageError

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
        return path, *serialization.load(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read as a model ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_format(path: Path, metadata: dict[str, str], expected: str) -> None:
    """Raise `UsageError` unless a model's file has this format."""
    came = metadata.get("format", "no format")
    if came != expected:
        raise UsageError(f"{path}: expected metadata of '{expected}', got {came!r}")


def hashes_to_text(hashes: NDArray[np.uint64]) -> str:
    """Return the perceptual hashes of photographs, uint64 (n, HASH_WORDS), as ASCII text."""
    return base64.b64encode(hashes.astype("<u8").tobytes()).decode()


def hashes_from_text(text: str) -> NDArray[np.uint64]:
    """Return the hashes of `hashes_to_text`; raises `ValueError` for another text."""
    content = base64.b64decode(text, validate=True)
    return np.frombuffer(content, "<u8").astype(np.uint64).reshape(-1, HASH_WORDS)
