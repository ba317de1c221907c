"""The folder that a training run leaves behind."""

import csv
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Protocol, TypeVar

from numpy.typing import NDArray

from tinygrad_mask import distributed
from tinygrad_mask.files import encode, is_partial, remove_partials, write_file
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.runs.lock import LOCK, locked
from tinygrad_mask.masks.schemas import decode_json
from tinygrad_mask.serialization import check_digest, load, save, with_digest
from tinygrad_mask.training import InterruptedRunError, Progress

_LARGEST_STATE = 4 << 30  # bytes: the largest model with the moments and averages of its weights

logger = logging.getLogger("tinygrad_mask")

Folder = TypeVar("Folder", bound="RunFolder")


class SavedModel(Protocol):
    """A model that can write itself to a file."""

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write it."""


class RunFolder:
    """A run's folder: settings first, then the state after each epoch, the results at the end.

    `model.safetensors`, `checkpoint.safetensors` and `history.csv` follow the run, each replaced as
    a whole; the checkpoint before the last is kept until the run is finished. Nothing else is
    overwritten, unless a finished run is extended. A process that writes into the folder holds its
    lock (`start`, `take_up`). Raises `OSError` if something cannot be written.
    """

    results: ClassVar[tuple[str, ...]] = ()
    """The files that are written at the end; with the last of them the run is finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / "model.safetensors"
        self.checkpoint = path / "checkpoint.safetensors"
        self.checkpoint_before = path / "checkpoint_before.safetensors"
        self.history = path / "history.csv"
        self.split = path / "split.json"
        self.config = path / "config.json"

    @staticmethod
    def check_free(path: Path) -> None:
        """Raise `UsageError` if something is there already.

        What a process that was killed at its start leaves behind does not count.
        """
        if path.is_dir() and all(p.name == LOCK or is_partial(p) for p in path.iterdir()):
            return
        if path.exists():
            raise UsageError(
                f"{path}: expected a folder that does not exist or is empty; nothing in it is "
                "overwritten (--out names another, --resume takes the run in it up again)"
            )

    @classmethod
    def create(cls: type[Folder], path: Path) -> Folder:
        """Make a new folder; raises `UsageError` if something is there already."""
        try:
            cls.check_free(path)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path}: no run folder can be made there ({error.strerror})"
            ) from error
        return cls(path)

    # --- at the start -----------------------------------------------------------------------

    @classmethod
    @contextmanager
    def start(cls: type[Folder], path: Path, config: Mapping[str, Any]) -> Iterator[Folder]:
        """Make a new folder with the settings in it; within the context no other process writes it.

        From then on the run can be resumed. If the context ends with an error before more than
        settings were written, the folder is removed. Raises `UsageError` if something is there
        already, `InterruptedRunError` after Ctrl-C.

        Of several ranks only the first one touches the folder; the others get one that is theirs
        and does not stay.
        """
        if distributed.rank() > 0:
            with cls._scratch({"config.json": to_json(config)}) as folder:
                yield folder
            return
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        folder = cls.create(path)
        try:
            with locked(path):
                cls.check_free(path)  # once more: from here on nobody else writes into it
                remove_partials(path)
                try:
                    write_file(folder.config, to_json(config))
                    with folder._interruptible():
                        yield folder
                except Exception as error:
                    if not isinstance(error, InterruptedRunError):
                        folder._remove_unbegun()
                    raise
        finally:
            for empty in made:  # it is, if there was an error before anything was written
                with suppress(OSError):
                    empty.rmdir()

    @classmethod
    @contextmanager
    def take_up(cls: type[Folder], path: Path) -> Iterator[Folder]:
        """Open the folder of a run to go on with; within the context no other process writes it.

        Raises `UsageError` if it is no run, or if another process works in it, and
        `InterruptedRunError` after Ctrl-C. Of several ranks only the first one touches the folder;
        the others get a copy of the settings, the split and the state.
        """
        if distributed.rank() > 0:
            with cls._scratch(distributed.broadcast(None)) as folder:
                yield folder
            return
        folder = cls(path)
        folder.read_config()
        with locked(path):
            remove_partials(path)
            if distributed.size() > 1:
                known = (folder.config, folder.split, folder.checkpoint, folder.checkpoint_before)
                present = [file for file in (*known, path / cls.results[-1]) if file.exists()]
                distributed.broadcast({file.name: file.read_bytes() for file in present})
            with folder._interruptible():
                yield folder

    @classmethod
    @contextmanager
    def _scratch(cls: type[Folder], files: Mapping[str, bytes]) -> Iterator[Folder]:
        """Make a folder with some files that is removed at the end."""
        with TemporaryDirectory(prefix="tinygrad-mask-") as path:
            for name, content in files.items():
                write_file(Path(path) / name, content)
            yield cls(Path(path))

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Make of Ctrl-C an error that says how to go on."""
        try:
            yield
        except KeyboardInterrupt:
            raise InterruptedRunError(f"stopped; go on with --resume {self.path}") from None

    def _remove_unbegun(self) -> None:
        """Remove what was written before the data were known, unless there is more."""
        early = [self.config, self._left_out]
        others = {p.name for p in self.path.iterdir()} - {p.name for p in early} - {LOCK}
        if not others:
            for path in early:
                path.unlink(missing_ok=True)

    @property
    def _left_out(self) -> Path:
        return self.path / "left_out.csv"

    def write_left_out(self, issues: DataIssues) -> None:
        """Write the list of all that was left out of the data, if anything."""
        if not issues.items:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["why", "what"])
        writer.writerows((kind, item) for kind, items in issues.items.items() for item in items)
        write_file(self._left_out, encode(text.getvalue()), overwrite=True)

    def read_config(self) -> dict[str, Any]:
        """Read the settings back; raises `UsageError` where the folder is not that of a run."""
        try:
            config = decode_json(self.config.read_bytes(), dict[str, Any])
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
        return config

    # --- after each epoch -------------------------------------------------------------------

    def write_state(
        self,
        model: SavedModel,
        history: Sequence[Mapping[str, float]],
        state: tuple[Mapping[str, NDArray[Any]], Mapping[str, str]],
    ) -> None:
        """Write the model as it is, the history so far and the state to go on from."""
        self._keep_checkpoint()
        save(self.checkpoint, *with_digest(*state), overwrite=True)
        self.write_model(model, history)

    def write_model(self, model: SavedModel, history: Sequence[Mapping[str, float]]) -> None:
        """Write the model as it is and the history so far."""
        text = io.StringIO()
        if history:
            writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        model.save(self.model, overwrite=True)
        write_file(self.history, text.getvalue().encode(), overwrite=True)

    def _keep_checkpoint(self) -> None:
        """Give the last checkpoint a second name, under which it stays when it is replaced."""
        if not self.checkpoint.exists():
            return
        self.checkpoint_before.unlink(missing_ok=True)
        try:
            os.link(self.checkpoint, self.checkpoint_before)
        except OSError:  # some file systems know no second names
            self.checkpoint.replace(self.checkpoint_before)

    def has_begun(self) -> bool:
        """Whether there is a state to go on from.

        False for a run that was killed before the first one. Raises `UsageError` if there is a
        model without a state, whose run cannot go on.
        """
        if self.checkpoint.exists() or self.checkpoint_before.exists():
            return True
        if self.model.exists():
            raise UsageError(f"{self.path}: there is no checkpoint to go on from")
        return False

    def read_checkpoint(self) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """Read the state to go on from: the last one, or if it is damaged the one before it.

        Raises `UsageError` if there is none that can be read.
        """
        damage: UsageError | None = None
        for path in (self.checkpoint, self.checkpoint_before):
            if not path.exists():
                continue
            try:
                state = load(path, max_bytes=_LARGEST_STATE)
                check_digest(*state)
            except (OSError, ValueError) as error:
                reason = str(error).removeprefix(f"{path}: ")
                damage = damage or UsageError(f"{path}: cannot be read ({reason})")
                continue
            if damage is not None:
                logger.warning("%s; going on from the one before it, %s", damage, path.name)
            return state
        raise damage or UsageError(f"{self.path}: there is no checkpoint to go on from")

    def epochs_done(self) -> int:
        """Return the number of epochs of the last state, 0 before the first one.

        Raises `UsageError` if it cannot be read.
        """
        if not self.has_begun():
            return 0
        try:
            return decode_json(self.read_checkpoint()[1]["progress"], Progress).epoch
        except (KeyError, ValueError) as error:
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

    def forget_checkpoint_before(self) -> None:
        """Remove the checkpoint before the last: the run is finished."""
        self.checkpoint_before.unlink(missing_ok=True)

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
    return encode(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
