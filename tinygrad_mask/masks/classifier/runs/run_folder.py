"""The results of a classifier's run: figures, pictures and report."""

from collections.abc import Mapping, Sequence

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
from tinygrad_mask.masks.labels import LABELS
from tinygrad_mask.masks.runs.run_folder import RunFolder, flat_settings, to_json

_PICTURES = (
    "curves.png",
    "confusion.png",
    "precision_recall.png",
    "reliability.png",
    "mistakes.png",
    "feature_maps.png",
)


class ClassifierRunFolder(RunFolder):
    """The folder of a classifier's run."""

    results = (*_PICTURES, "metrics.json", "judgement.json", "report.md")

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
        self.remove_results()
        probabilities = judgement.calibration.probabilities
        plot_curves(history, self.path / "curves.png")
        plot_confusion(judgement.metrics, self.path / "confusion.png")
        plot_precision_recall(labels, probabilities, self.path / "precision_recall.png")
        plot_reliability(labels, probabilities, self.path / "reliability.png")
        plot_mistakes(crops, labels, probabilities, self.path / "mistakes.png", names=names)
        if classifier is not None:
            classifier.save(self.model, overwrite=True)
            self._draw_feature_maps(classifier, crops, labels, probabilities)
        write_file(self.path / "metrics.json", to_json(judgement.metrics.to_json()))
        write_file(self.path / "judgement.json", to_json(judgement.to_json()))
        write_report(
            self.path / "report.md",
            judgement=judgement,
            history=history,
            config=flat_settings(self.read_config()),
            data_summary=data_summary,
            pictures=[name for name in _PICTURES if (self.path / name).exists()],
        )
        self.forget_checkpoint_before()

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
