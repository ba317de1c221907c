"""The pictures of a training run: its course, its confusion, its certainty and its faces.

Drawn through matplotlib's objects, without pyplot and its global state.
"""

from tinygrad_mask.masks.classifier.report.plots.course import plot_curves
from tinygrad_mask.masks.classifier.report.plots.faces import (
    plot_feature_maps,
    plot_mistakes,
    plot_saliency,
)
from tinygrad_mask.masks.classifier.report.plots.judgement import (
    plot_confusion,
    plot_precision_recall,
    plot_reliability,
)
from tinygrad_mask.masks.classifier.report.plots.protocol import plot_protocol

__all__ = [
    "plot_confusion",
    "plot_curves",
    "plot_feature_maps",
    "plot_mistakes",
    "plot_precision_recall",
    "plot_protocol",
    "plot_reliability",
    "plot_saliency",
]
