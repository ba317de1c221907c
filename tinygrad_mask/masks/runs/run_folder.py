"""The folder that a training run leaves behind."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from numpy.typing import NDArray

from tinygrad_mask.files import write_file
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.serialization import load, save

Folder = TypeVar("Folder", bound="RunFolder")


class SavedModel(Protocol):
    """A model that can write itself to a file."""

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write it."""


class RunFolder:
    """A run's folder: settings first, then the state after each epoch, the results at the end.

    `model.safetensors`, `checkpoint.safetensors` and `history.csv` follow the run, each replaced as
    a whole. Nothing else is overwritten, unless a finished run is extended. Raises `OSError` if
    something cannot be written.
    """

    results: ClassVar[tuple[str, ...]] = ()
    """The files that are written at the end; with the last of them the run is finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / "model.safetensors"
        self.checkpoint = path / "checkpoint.safetensors"
        self.history = path / "history.csv"
        self.split = path / "split.json"
        self.config = path / "config.json"

    @staticmethod
    def check_free(path: Path) -> None:
        """Raise `UsageError` where something is there already."""
        if path.is_dir() and not any(path.iterdir()):
            return
        if path.exists():
            raise UsageError(
                f"{path}: expected a folder that does not exist or is empty; nothing in it is "
                "overwritten (--out names another, --resume takes the run in it up again)"
            )

    @classmethod
    def create(cls: type[Folder], path: Path) -> Folder:
        """Make a new folder; raises `UsageError` where something is there already."""
        try:
            cls.check_free(path)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path}: no run folder can be made there ({error.strerror})"
            ) from error
        return cls(path)

    # --- at the start -----------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any], issues: DataIssues) -> None:
        """Write the settings, and the list of all that was left out of the data, if anything."""
        write_file(self.config, to_json(config))
        if issues.items:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["why", "what"])
            writer.writerows((kind, item) for kind, items in issues.items.items() for item in items)
            write_file(self.path / "left_out.csv", text.getvalue().encode())

    def read_config(self) -> dict[str, Any]:
        """Read the settings back; raises `UsageError` where the folder is not that of a run."""
        try:
            config = json.loads(self.config.read_bytes())
        except FileNotFoundError as error:
            what = f"one without {self.config.name}" if self.path.is_dir() else "no folder"
            raise UsageError(f"{self.path}: expected the folder of a run, got {what}") from error
        except NotADirectoryError as error:
            raise UsageError(f"{self.path}: expected the folder of a run, got a file") from error
        except OSError as error:
            raise UsageError(
                f"{self.config}: expected the settings of a run, which cannot be read "
                f"({error.strerror})"
            ) from error
        except ValueError as error:
            raise UsageError(f"{self.path}: expected the folder of a run ({error})") from error
        if not isinstance(config, dict):
            raise UsageError(f"{self.config}: expected the settings of a run, got {config!r:.60}")
        return config

    # --- after each epoch -------------------------------------------------------------------

    def write_state(
        self,
        model: SavedModel,
        history: Sequence[Mapping[str, float]],
        state: tuple[Mapping[str, NDArray[Any]], Mapping[str, str]],
    ) -> None:
        """Write the model as it is, the history so far and the state to go on from."""
        text = io.StringIO()
        if history:
            writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        save(self.checkpoint, *state, overwrite=True)
        model.save(self.model, overwrite=True)
        write_file(self.history, text.getvalue().encode(), overwrite=True)

    def read_checkpoint(self) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """Read the state to go on from; raises `UsageError` where there is none."""
        if not self.checkpoint.exists():
            raise UsageError(f"{self.path}: there is no checkpoint to go on from")
        try:
            return load(self.checkpoint)
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.checkpoint}: cannot be read ({error})") from error

    def epochs_done(self) -> int:
        """Return the number of epochs of the last state; raises `UsageError` if there is none."""
        try:
            return int(json.loads(self.read_checkpoint()[1]["progress"])["epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{self.checkpoint}: not the state of a run ({error})") from error

    def check_resumable(self, epochs: int | None, planned: int) -> None:
        """Raise `UsageError` unless a run of `planned` epochs can go on, or until `epochs`."""
        if epochs is not None:
            done = self.epochs_done()
            if epochs <= done:
                raise UsageError(
                    f"--epochs: expected more than the {done} that are done in {self.path}, "
                    f"got {epochs}"
                )
        elif self.is_finished():
            raise UsageError(
                f"{self.path}: this run is finished; --epochs N, with N above {planned}, "
                "trains it further"
            )

    def extend(self, config: Mapping[str, Any]) -> None:
        """Make an unfinished run of a finished one: new settings, and the results taken away."""
        write_file(self.config, to_json(config), overwrite=True)
        for name in reversed(self.results):  # first that by which a run is known to be finished
            (self.path / name).unlink(missing_ok=True)

    # --- at the end -------------------------------------------------------------------------

    def is_finished(self) -> bool:
        """Whether all results are there."""
        return (self.path / self.results[-1]).exists()

    def remove_results(self) -> None:
        """Remove the results of a run that was ended while it wrote them."""
        for name in self.results:
            (self.path / name).unlink(missing_ok=True)


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without nesting or empty ones: `recipe.lr`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        elif value is not None:
            flat[name] = value
    return flat


def to_json(content: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file."""
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
