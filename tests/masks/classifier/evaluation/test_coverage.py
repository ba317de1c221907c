"""Answering only when sure: thresholds and the figures of what is answered."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_mask.masks.classifier.evaluation.coverage import (
    COVERAGES,
    CoverageRow,
    coverage_curve,
    threshold_for,
)


def answers(n=400, seed=0):
    """Probabilities that mean what they say."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet((0.4, 0.4, 0.4), n)
    labels = np.array([rng.choice(3, p=row) for row in probabilities])
    return labels, probabilities


@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 20))
def test_a_threshold_answers_the_share_and_no_more_than_it_must(n, share, seed):
    _, probabilities = answers(n, seed)
    threshold = threshold_for(probabilities, share)
    sure = probabilities.max(axis=1)
    assert (sure >= threshold).mean() >= share - 1e-9
    assert (sure > threshold).sum() < share * n


def test_the_figures_by_hand():
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.3, 0, 0.7], [0.6, 0.4, 0]])
    labels = np.array([0, 1, 0, 1])
    rows = {row.coverage: row for row in coverage_curve(labels, probabilities)}
    assert (rows[1.0].threshold, rows[1.0].accuracy, rows[1.0].improper_recall) == (0.6, 0.5, 0.5)
    assert (rows[0.5].threshold, rows[0.5].accuracy, rows[0.5].improper_recall) == (0.8, 1.0, 1.0)
    assert rows[0.5].n == 2


def test_surer_answers_are_right_more_often():
    rows = coverage_curve(*answers(3000))
    assert [round(row.coverage, 2) for row in rows] == list(COVERAGES)
    accuracy = [row.accuracy for row in rows]
    assert accuracy == sorted(accuracy)
    assert accuracy[-1] > accuracy[0] + 0.1


def test_rows_survive_json():
    labels, probabilities = answers(50)
    rows = coverage_curve(np.where(labels == 1, 0, labels), probabilities)  # none improper
    assert np.isnan(rows[0].improper_recall)
    again = [CoverageRow.from_json(json.loads(json.dumps(row.to_json()))) for row in rows]
    np.testing.assert_equal([vars(row) for row in again], [vars(row) for row in rows])


@pytest.mark.parametrize(("n", "share"), [(0, 0.9), (5, 0.0), (5, 1.1)])
def test_what_cannot_be_answered_is_refused(n, share):
    with pytest.raises(ValueError, match="expected at least one face and a share above 0"):
        threshold_for(np.zeros((n, 3)), share)
