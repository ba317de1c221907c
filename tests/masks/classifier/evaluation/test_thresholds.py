from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from tinygrad_mask.masks.classifier.evaluation.thresholds import (
    ALARMS,
    FALSE_ALARMS,
    precision_recall,
    threshold_tables,
)
from tinygrad_mask.masks.labels import LABELS

# Few values, so that scores tie.
scores = st.one_of(st.integers(0, 4).map(lambda k: k / 4), st.floats(0, 1))


@given(st.lists(st.tuples(st.booleans(), scores), min_size=1, max_size=60))
def test_precision_and_recall_agree_with_scikit_learn(faces: list[tuple[bool, float]]) -> None:
    of_class, values = map(np.array, zip(*faces, strict=True))
    assume(of_class.any())
    found = precision_recall(of_class, values)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(of_class, values)
    # scikit-learn's thresholds rise, and it adds a point (1, 0) that no threshold has.
    np.testing.assert_allclose(found.precision, precision[-2::-1])
    np.testing.assert_allclose(found.recall, recall[-2::-1])
    average = sklearn_metrics.average_precision_score(of_class, values)
    assert found.average_precision == pytest.approx(average)
    assert found.n == of_class.sum()


def test_precision_and_recall_by_hand() -> None:
    found = precision_recall([True, False, True, False], [0.9, 0.8, 0.7, 0.1])
    np.testing.assert_allclose(found.precision, [1, 1 / 2, 2 / 3, 2 / 4])
    np.testing.assert_allclose(found.recall, [0.5, 0.5, 1, 1])
    assert found.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.tuples(scores, scores, scores)), min_size=1, max_size=60
    )
)
def test_the_table_agrees_with_scikit_learns_roc_curve(faces: list[tuple[int, Any]]) -> None:
    labels, probabilities = map(np.array, zip(*faces, strict=True))
    assume((labels == 1).any())
    tables = threshold_tables(labels, probabilities)
    assert set(tables) == set(ALARMS)
    for alarm, score, kept in (
        ("improper", probabilities[:, 1], np.ones(len(labels), bool)),
        ("not proper", 1 - probabilities[:, 0], labels != LABELS.index("none")),
    ):
        truth = labels[kept] == LABELS.index("improper")
        others = int((~truth).sum())
        assume(others)
        false, true, _ = sklearn_metrics.roc_curve(truth, score[kept], drop_intermediate=False)
        for share, row in zip(FALSE_ALARMS, tables[alarm], strict=True):
            assert row.false_alarm_share == share
            assert (row.n_improper, row.n_others) == (truth.sum(), others)
            assert row.caught / row.n_improper == pytest.approx(true[false <= share].max())
            # What it says is what the alarm does.
            goes_off = score[kept] >= row.threshold
            assert row.caught == (goes_off & truth).sum()
            assert row.false_alarms == (goes_off & ~truth).sum()
            assert row.false_alarms / others <= share


def test_the_table_by_hand() -> None:
    # 100 bare or proper faces of P(improper) 0, 0.01, ... 0.99; three improper ones.
    labels = np.concatenate([np.arange(100) % 2 * 2, [1, 1, 1]])
    improper = np.concatenate([np.arange(100) / 100, [0.995, 0.965, 0.2]])
    probabilities = np.stack([1 - improper, improper, np.zeros(103)], axis=1)
    one, two, five = threshold_tables(labels, probabilities)["improper"]
    assert (one.threshold, one.caught, one.false_alarms) == (0.99, 1, 1)
    assert (two.threshold, two.caught, two.false_alarms) == (0.98, 1, 2)
    assert (five.threshold, five.caught, five.false_alarms) == (0.95, 2, 5)
    assert one.to_json() == {
        "false_alarm_share": 0.01,
        "threshold": 0.99,
        "caught": 1,
        "n_improper": 3,
        "false_alarms": 1,
        "n_others": 100,
    }


def test_an_alarm_that_cannot_go_off() -> None:
    # The surest face of all is proper, and one false alarm is one too many.
    probabilities = np.array([[0.1, 0.9, 0.0], [0.2, 0.8, 0.0]])
    row = threshold_tables([0, 1], probabilities)["improper"][0]
    assert (row.threshold, row.caught, row.false_alarms) == (np.inf, 0, 0)
    assert row.to_json()["threshold"] is None


def test_no_improper_face() -> None:
    row = threshold_tables([0, 2], np.eye(3)[[0, 2]])["improper"][0]
    assert (row.caught, row.n_improper, row.n_others) == (0, 0, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: precision_recall([False], [0.5]), "at least one face of the class"),
        (lambda: precision_recall([True], [np.nan]), "no NaN"),
        (lambda: precision_recall([True], [0.5, 0.5]), "a score for each face"),
        (lambda: threshold_tables([0], [0.5]), r"shape \(n, 3\), got \(1,\)"),
    ],
)
def test_refuses(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
