"""The folder that a training run leaves behind."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.data import Rows
from tinygrad_mask.files import write_file
from tinygrad_mask.masks.classifier.evaluation.judging import Judgement
from tinygrad_mask.masks.classifier.inference.feature_maps import first_layer_maps, surest_of_each
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.classifier.report.plots import (
    plot_confusion,
    plot_curves,
    plot_feature_maps,
    plot_mistakes,
    plot_precision_recall,
    plot_reliability,
)
from tinygrad_mask.masks.classifier.report.run_report import write_report
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.serialization import load, save

_PICTURES = (
    "curves.png",
    "confusion.png",
    "precision_recall.png",
    "reliability.png",
    "mistakes.png",
    "feature_maps.png",
)
_RESULTS = (*_PICTURES, "metrics.json", "judgement.json", "report.md")


class RunFolder:
    """A run's folder: settings first, then the state after each epoch, the results at the end.

    `model.safetensors`, `checkpoint.safetensors` and `history.csv` follow the run, each replaced as
    a whole. Nothing else is overwritten, unless a finished run is extended. Raises `OSError` if
    something cannot be written.
    """

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
    def create(cls, path: Path) -> "RunFolder":
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
        write_file(self.config, _json(config))
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
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.path}: expected the folder of a run ({error})") from error
        if not isinstance(config, dict):
            raise UsageError(f"{self.config}: expected the settings of a run, got {config!r:.60}")
        return config

    # --- after each epoch -------------------------------------------------------------------

    def write_state(
        self,
        classifier: Classifier,
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
        classifier.save(self.model, overwrite=True)
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

    def extend(self, config: Mapping[str, Any]) -> None:
        """Make an unfinished run of a finished one: new settings, and the results taken away."""
        write_file(self.config, _json(config), overwrite=True)
        for name in reversed(_RESULTS):  # first that by which a run is known to be finished
            (self.path / name).unlink(missing_ok=True)

    # --- at the end -------------------------------------------------------------------------

    def is_finished(self) -> bool:
        """Whether all results are there."""
        return (self.path / _RESULTS[-1]).exists()

    def write_results(
        self,
        *,
        classifier: Classifier | None,
        judgement: Judgement,
        crops: Rows,
        labels: NDArray[np.int64],
        names: Sequence[str],
        history: Sequence[Mapping[str, float]],
        data_summary: str,
    ) -> None:
        """Draw the pictures and write figures and report, of validation faces in this order.

        The model, where there is a single one, is written once more, for its temperature.
        """
        for name in _RESULTS:  # of a run that was ended while it wrote them
            (self.path / name).unlink(missing_ok=True)
        probabilities = judgement.calibration.probabilities
        plot_curves(history, self.path / "curves.png")
        plot_confusion(judgement.metrics, self.path / "confusion.png")
        plot_precision_recall(labels, probabilities, self.path / "precision_recall.png")
        plot_reliability(labels, probabilities, self.path / "reliability.png")
        plot_mistakes(crops, labels, probabilities, self.path / "mistakes.png", names=names)
        if classifier is not None:
            classifier.save(self.model, overwrite=True)
            self._draw_feature_maps(classifier, crops, labels, probabilities)
        write_file(self.path / "metrics.json", _json(judgement.metrics.to_json()))
        write_file(self.path / "judgement.json", _json(judgement.to_json()))
        write_report(
            self.path / "report.md",
            judgement=judgement,
            history=history,
            config=_flat(self.read_config()),
            data_summary=data_summary,
            pictures=[name for name in _PICTURES if (self.path / name).exists()],
        )

    def _draw_feature_maps(
        self,
        classifier: Classifier,
        crops: Rows,
        labels: NDArray[np.int64],
        probabilities: NDArray[np.float64],
    ) -> None:
        surest = surest_of_each(labels, probabilities)
        shown = crops[surest]
        maps = first_layer_maps(classifier, shown)
        if maps is not None:
            titles = [LABELS[label] for label in labels[surest]]
            plot_feature_maps(shown, maps, titles, self.path / "feature_maps.png")


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without nesting or empty ones: `recipe.lr`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        elif value is not None:
            flat[name] = value
    return flat


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
