import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from tinygrad_mask.masks.classifier.evaluation.metrics import (
    SIZE_BINS,
    Metrics,
    bootstrap_intervals,
    compute_metrics,
    format_metrics,
    metrics_by_size,
)
from tinygrad_mask.masks.labels import LABELS

pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


def agrees_with_scikit_learn(
    found: Metrics, truth: NDArray[np.int64], predicted: NDArray[np.int64]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that occur on one side only
        balanced = sklearn_metrics.balanced_accuracy_score(truth, predicted)
    per_class = sklearn_metrics.precision_recall_fscore_support(
        truth, predicted, labels=range(3), zero_division=0
    )
    confusion = sklearn_metrics.confusion_matrix(truth, predicted, labels=range(3))
    macro_f1 = sklearn_metrics.f1_score(truth, predicted, average="macro", zero_division=0)

    assert found.n == len(truth)
    assert found.accuracy == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    assert found.balanced_accuracy == pytest.approx(balanced)
    assert found.macro_f1 == pytest.approx(macro_f1)
    assert found.baseline_accuracy == pytest.approx(max(per_class[3]) / len(truth))
    assert found.confusion == tuple(map(tuple, confusion.tolist()))
    for of, expected in zip(found.per_class.values(), np.transpose(per_class), strict=True):
        assert (of.precision, of.recall, of.f1, of.n) == pytest.approx(tuple(expected))


@given(pairs)
def test_agrees_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    agrees_with_scikit_learn(compute_metrics(truth, predicted), truth, predicted)


@given(arrays(np.float64, (7, 3), elements=st.floats(0, 1)))
def test_of_probabilities_the_first_largest_decides(probabilities: np.ndarray[Any, Any]) -> None:
    truth = np.arange(7) % 3
    winners = [row.index(max(row)) for row in probabilities.tolist()]
    assert compute_metrics(truth, probabilities) == compute_metrics(truth, winners)


def test_classes_that_are_absent() -> None:
    # Nothing is of class `none`, nor taken for it; everything is taken for `proper`.
    found = compute_metrics([0, 0, 0, 1], [0, 0, 0, 0])
    assert found.accuracy == found.baseline_accuracy == 0.75
    assert found.balanced_accuracy == 0.5  # the mean of 1 and 0
    assert found.macro_f1 == pytest.approx((6 / 7 + 0) / 2)
    none = found.per_class["none"]
    assert (none.precision, none.recall, none.f1, none.n) == (0, 0, 0, 0)


def test_json_has_exactly_the_promised_keys() -> None:
    found = json.loads(json.dumps(compute_metrics([0, 1, 2, 2], [0, 2, 2, 1]).to_json()))
    assert list(found) == [
        "n",
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "baseline_accuracy",
        "per_class",
        "confusion",
    ]
    assert list(found["per_class"]) == ["proper", "improper", "none"]
    assert found["per_class"]["none"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "n": 2}
    assert found["confusion"] == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([], [], "at least one face"),
        ([], np.zeros((0, 3)), "at least one face"),
        ([0, 1], [0], "2 labels, but 1 predictions"),
        ([3], [0], "labels must be class indices from 0 to 2, got 3"),
        ([0], [-1], "predictions must be class indices from 0 to 2, got -1"),
        ([0.5], [0], r"labels must be class indices of shape \(n,\), got float64"),
        ([[0]], [0], r"got int64 of shape \(1, 1\)"),
        ([0], [[0.5, 0.5]], r"shape \(n, 3\), got \(1, 2\)"),
        ([0], [[0.5, np.nan, 0.5]], r"shape \(n, 3\), got NaN"),
    ],
)
def test_refuses(labels: Any, predictions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_metrics(labels, predictions)


class TestBySize:
    def test_bins_are_half_open_and_empty_ones_left_out(self) -> None:
        labels, predicted = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 0])
        sizes = [3, 15.9, 16, 32, 500]
        found = metrics_by_size(labels, predicted, sizes)
        assert list(found) == ["< 16 px", "16-24 px", ">= 32 px"]
        assert found["< 16 px"] == compute_metrics([0, 0], [0, 1])
        assert found["16-24 px"] == compute_metrics([1], [1])
        assert found[">= 32 px"] == compute_metrics([2, 2], [2, 0])

    @given(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0, 1e4)),
            min_size=1,
            max_size=40,
        )
    )
    def test_every_face_is_in_one_bin(self, faces: list[tuple[int, int, float]]) -> None:
        labels, predicted, sizes = zip(*faces, strict=True)
        found = metrics_by_size(labels, predicted, sizes).values()
        whole = compute_metrics(labels, predicted)
        summed = np.sum([of.confusion for of in found], axis=0)
        np.testing.assert_array_equal(summed, whole.confusion)

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.integers(0, 2),
                st.one_of(st.sampled_from([0.0, 16.0, 24.0, 32.0]), st.floats(0, 64)),
            ),
            min_size=1,
            max_size=40,
        )
    )
    def test_is_that_of_the_faces_in_the_bin(self, faces: list[tuple[int, int, float]]) -> None:
        labels, predicted, sizes = map(np.array, zip(*faces, strict=True))
        found = metrics_by_size(labels, predicted, sizes)
        for name, (low, high) in SIZE_BINS.items():
            chosen = (sizes >= low) & (sizes < high)
            assert (name in found) == chosen.any()
            if chosen.any():
                assert found[name] == compute_metrics(labels[chosen], predicted[chosen])

    @pytest.mark.parametrize("sizes", [[1.0], [1.0, -1.0], [1.0, np.nan], []])
    def test_refuses(self, sizes: list[float]) -> None:
        with pytest.raises(ValueError, match="expected the size in px of each of 2 faces"):
            metrics_by_size([0, 1], [0, 1], sizes)


class TestBootstrap:
    @given(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 6)),
            min_size=1,
            max_size=40,
        ),
        st.integers(0, 9),
    )
    def test_agrees_with_scikit_learn_on_the_faces_drawn(
        self, faces: list[tuple[int, int, int]], seed: int
    ) -> None:
        labels, predicted, photograph = np.array(faces).T
        found = bootstrap_intervals(
            labels, predicted, photograph, samples=3, rng=np.random.default_rng(seed)
        )
        # The same draws once more, but of the faces themselves, photograph by photograph.
        present = np.unique(photograph)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(present), np.full(len(present), 1 / len(present)), size=3)
        figures: dict[str, list[float]] = {name: [] for name in found}
        for times in drawn:
            assert times.sum() == len(present)
            members = [np.flatnonzero(photograph == p) for p in np.repeat(present, times)]
            chosen = np.concatenate(members)
            truth, answers = labels[chosen], predicted[chosen]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                balanced = sklearn_metrics.balanced_accuracy_score(truth, answers)
            macro_f1 = sklearn_metrics.f1_score(truth, answers, average="macro", zero_division=0)
            figures["accuracy"].append(sklearn_metrics.accuracy_score(truth, answers))
            figures["balanced_accuracy"].append(balanced)
            figures["macro_f1"].append(macro_f1)
            per_class = sklearn_metrics.precision_recall_fscore_support(
                truth, answers, labels=range(3), zero_division=0
            )
            for label, *values, n in zip(LABELS, *per_class, strict=True):
                for name, value in zip(("precision", "recall", "f1"), values, strict=True):
                    figures[f"{label}_{name}"] += [value] if n else []
        for name, values in figures.items():
            ends = np.percentile(values, [2.5, 97.5]) if values else [np.nan, np.nan]
            assert found[name] == pytest.approx(tuple(ends), nan_ok=True)

    def test_faces_of_one_photograph_are_no_more_than_one_draw(self) -> None:
        # Twenty photographs, in each of which all faces are right or all are wrong: the interval
        # is that of twenty draws, however many faces there are.
        right = np.arange(20) < 15
        once, often = (
            bootstrap_intervals(
                np.zeros(20 * faces, np.int64),
                np.repeat(np.where(right, 0, 1), faces),
                np.repeat(np.arange(20), faces),
                samples=4000,
                rng=np.random.default_rng(3),
            )["accuracy"]
            for faces in (1, 30)
        )
        assert once == often
        # The binomial's standard deviation is sqrt(0.75 * 0.25 / 20) = 0.097.
        assert once == pytest.approx((0.75 - 1.96 * 0.097, 0.75 + 1.96 * 0.097), abs=0.06)

    def test_the_same_generator_gives_the_same_interval(self) -> None:
        rng = np.random.default_rng(0)
        labels, predicted, photograph = rng.integers(0, 3, (3, 300))
        one, two = (
            bootstrap_intervals(
                labels, predicted, photograph, samples=600, rng=np.random.default_rng(1)
            )
            for _ in range(2)
        )
        assert one == two
        whole = compute_metrics(labels, predicted)
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            low, high = one[name]
            assert low < getattr(whole, name) < high

    @pytest.mark.parametrize(
        ("photograph", "samples", "message"),
        [([0], 5, "photograph of each of 2 faces"), ([0, 1], 0, r"at least 1 sample, got .* 0$")],
    )
    def test_refuses(self, photograph: list[int], samples: int, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            bootstrap_intervals(
                [0, 1], [0, 1], photograph, samples=samples, rng=np.random.default_rng(0)
            )


class TestFormat:
    def test_accuracy_stands_beside_the_baseline(self) -> None:
        text = format_metrics(compute_metrics([0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 0, 2]))
        (accuracy,) = (line for line in text.splitlines() if line.startswith("accuracy"))
        assert "0.833" in accuracy
        assert "0.500" in accuracy
        assert "improper, recall   0.500 (1 of 2)" in text

    def test_columns_are_aligned(self) -> None:
        counts = np.repeat([0, 1, 2], [12345, 6, 7])
        table = format_metrics(compute_metrics(counts, counts)).splitlines()[-4:]
        assert len({len(line) for line in table}) == 1
        assert [line.split()[0] for line in table[1:]] == list(LABELS)
        assert table[1].split()[1:] == ["1.000", "1.000", "1.000", "12345", "12345", "0", "0"]

    def test_no_improper_face(self) -> None:
        assert "improper, recall   none in this set" in format_metrics(compute_metrics([0], [1]))
