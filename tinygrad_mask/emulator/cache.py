"""A cache on disk for what takes long to make: PTX, compiled kernels, the compiled runtime.

An entry is a folder of files that appears whole or not at all, with the digests of its files, so
that several processes may make the same entry at once and a damaged one is made anew.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tinygrad_mask.emulator.errors import EmulatorError

CACHE_VARIABLE = "TINYGRAD_MASK_CACHE"
"""The environment variable that moves the cache."""

_DIGESTS = "digests.json"


def cache_folder() -> Path:
    """Return the folder that the emulator's cache is in."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder, "emulator")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "tinygrad_mask", "emulator")


def digest(*parts: str | bytes) -> str:
    """Return a name for an entry that is made from these parts."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()[:40]


def cached(key: str, make: Callable[[], Mapping[str, bytes]]) -> dict[str, Path]:
    """Return the files of an entry by name, made by `make` if there is no sound one.

    Raises `EmulatorError` where the cache cannot be written, and what `make` raises.
    """
    folder = cache_folder() / key[:2] / key
    if (files := _sound(folder)) is not None:
        return files
    made = make()
    try:
        _store(folder, made)
    except OSError as error:
        raise EmulatorError(
            f"the cache in {cache_folder()} cannot be written ({error}); {CACHE_VARIABLE} moves it"
        ) from error
    return {name: folder / name for name in made}


def _sound(folder: Path) -> dict[str, Path] | None:
    """Return the files of an entry if all are there and as they were written."""
    try:
        digests = json.loads((folder / _DIGESTS).read_bytes())
        for name, wanted in digests.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != wanted:
                return None
    except (OSError, ValueError, AttributeError):
        return None
    return {name: folder / name for name in digests}


def _store(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, content in files.items():
            (partial / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        (partial / _DIGESTS).write_text(json.dumps(digests))
        for _ in range(10):
            try:
                partial.rename(folder)
                return
            except OSError:
                if _sound(folder) is not None:  # another process was faster
                    return
                # A damaged entry goes aside first, whole, since others may be reading it.
                aside = Path(tempfile.mkdtemp(prefix=".damaged.", dir=folder.parent))
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(aside / "entry")
                shutil.rmtree(aside, ignore_errors=True)
        raise OSError(f"{folder} cannot be replaced")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
