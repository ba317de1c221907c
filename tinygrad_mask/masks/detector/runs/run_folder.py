"""The results of a detector's run: figures, pictures and report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tinygrad_mask.files import write_file
from tinygrad_mask.masks.detector.evaluation.judging import DetectorJudgement
from tinygrad_mask.masks.detector.report.plots import (
    plot_false_alarms,
    plot_missed_faces,
    plot_precision_of_faces,
    plot_training,
)
from tinygrad_mask.masks.detector.report.run_report import write_detector_report
from tinygrad_mask.masks.runs.run_folder import RunFolder, flat_settings, to_json

_OF_JUDGEMENT = ("precision_recall.png", "missed.png", "false_alarms.png")


class DetectorRunFolder(RunFolder):
    """The folder of a detector's run."""

    results = ("curves.png", *_OF_JUDGEMENT, "metrics.json", "report.md")

    def write_results(
        self,
        judgement: DetectorJudgement,
        history: Sequence[Mapping[str, float]],
        data_summary: str,
    ) -> None:
        """Draw the pictures and write figures and report, of the photographs held back."""
        self.remove_results()
        plot_training(history, self.path / "curves.png")
        draw_judgement(judgement, self.path)
        write_file(self.path / "metrics.json", to_json(judgement.to_json()))
        write_detector_report(
            self.path / "report.md",
            judgement=judgement,
            config=flat_settings(self.read_config()),
            data_summary=data_summary,
            pictures=["curves.png", *_OF_JUDGEMENT],
        )
        self.forget_checkpoint_before()


def write_evaluation(
    folder: Path, judgement: DetectorJudgement, config: Mapping[str, object], data_summary: str
) -> None:
    """Write figures, pictures and report of an evaluation into an empty folder."""
    draw_judgement(judgement, folder)
    write_file(folder / "metrics.json", to_json(judgement.to_json()))
    write_detector_report(
        folder / "report.md",
        judgement=judgement,
        config=config,
        data_summary=data_summary,
        pictures=_OF_JUDGEMENT,
    )


def draw_judgement(judgement: DetectorJudgement, folder: Path) -> None:
    """Draw precision and recall, the faces missed and the false alarms."""
    precision_recall, missed, alarms = (folder / name for name in _OF_JUDGEMENT)
    plot_precision_of_faces(judgement, precision_recall)
    plot_missed_faces(judgement, missed)
    plot_false_alarms(judgement, alarms)
