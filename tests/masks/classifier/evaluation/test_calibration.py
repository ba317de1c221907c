from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import optimize
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from tinygrad_mask.masks.classifier.evaluation.calibration import (
    BINS,
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    halves,
    probabilities_of,
    reliability,
)

Floats = NDArray[np.float64]


@st.composite
def scored_faces(draw: st.DrawFn) -> tuple[Floats, NDArray[np.int64]]:
    n = draw(st.integers(1, 30))
    scores = draw(arrays(np.float64, (n, 3), elements=st.floats(-30, 30)))
    return scores, draw(arrays(np.int64, n, elements=st.integers(0, 2)))


def cross_entropy(scores: Floats, labels: NDArray[np.int64], temperature: float) -> float:
    scaled = scores / temperature
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    of_truth = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - of_truth).mean())


def drawn(n: int, temperature: float, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Scores, and labels that come true as often as their softmax at this temperature says."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 4, (n, 3))
    chances = probabilities_of(scores, temperature).cumsum(axis=1)
    return scores, (rng.random((n, 1)) > chances).sum(axis=1).clip(0, 2)


class TestTemperature:
    @given(scored_faces())
    def test_no_other_is_better(self, faces: tuple[Floats, NDArray[np.int64]]) -> None:
        scores, labels = faces
        found = fit_temperature(scores, labels)
        assert LEAST_TEMPERATURE <= found <= MOST_TEMPERATURE
        best = optimize.minimize_scalar(
            lambda inverse: cross_entropy(scores, labels, 1 / inverse),
            bounds=(1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE),
            method="bounded",
            options={"xatol": 1e-9},
        )
        least = cross_entropy(scores, labels, found)
        ends = (cross_entropy(scores, labels, t) for t in (LEAST_TEMPERATURE, MOST_TEMPERATURE))
        for other in (float(best.fun), *ends):
            assert least <= other + 1e-9 * (1 + abs(other))

    @given(scored_faces())
    def test_the_loss_is_scikit_learns(self, faces: tuple[Floats, NDArray[np.int64]]) -> None:
        scores, labels = faces
        probabilities = probabilities_of(scores / 10, 2.0)
        expected = log_loss(labels, probabilities, labels=[0, 1, 2])
        assert cross_entropy(scores / 10, labels, 2.0) == pytest.approx(expected)

    @pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
    def test_finds_the_one_that_labels_were_drawn_with(self, temperature: float) -> None:
        assert fit_temperature(*drawn(20_000, temperature)) == pytest.approx(temperature, rel=0.05)

    def test_closed_bounds(self) -> None:
        scores = np.eye(3) * 5
        assert fit_temperature(scores, [0, 1, 2]) == LEAST_TEMPERATURE  # all of them right
        assert fit_temperature(scores, [1, 2, 0]) == MOST_TEMPERATURE  # none
        assert fit_temperature(np.zeros((2, 3)), [0, 1]) == MOST_TEMPERATURE  # scores without news

    def test_is_as_precise_as_its_numbers(self) -> None:
        # Two faces of three are right by a margin of 2 over one other; the third class is far off.
        # The best temperature makes that margin's probability 2/3: exp(-2 / T) = 1/2.
        scores = np.array([[2.0, 0.0, -4000.0]] * 3)
        assert fit_temperature(scores, [0, 0, 1]) == pytest.approx(2 / np.log(2), rel=1e-12)

    @pytest.mark.parametrize(
        ("scores", "labels", "message"),
        [
            (np.zeros((0, 3)), [], "n at least 1"),
            (np.zeros((2, 3)), [0], r"shapes \(2, 3\) and \(1,\)"),
            (np.zeros((1, 2)), [0], r"shape \(n, 3\)"),
            ([[0, np.inf, 0]], [0], "finite"),
        ],
    )
    def test_refuses(self, scores: Any, labels: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            fit_temperature(scores, labels)


class TestReliability:
    @given(
        st.lists(
            st.tuples(
                st.one_of(st.floats(0, 1), st.integers(0, BINS).map(lambda k: k / BINS)),
                st.booleans(),
            ),
            min_size=1,
            max_size=60,
        )
    )
    def test_agrees_with_scikit_learn(self, answers: list[tuple[float, bool]]) -> None:
        confidence, came_true = map(np.array, zip(*answers, strict=True))
        bins = reliability(confidence, came_true)
        share, mean = calibration_curve(came_true, confidence, n_bins=BINS, pos_label=True)
        filled = [of for of in bins if of.n]
        assert [of.share for of in filled] == pytest.approx(share)
        assert [of.confidence for of in filled] == pytest.approx(mean)
        assert sum(of.n for of in bins) == len(answers)
        assert [of.high for of in bins[:-1]] == [of.low for of in bins[1:]]

    def test_expected_calibration_error_by_hand(self) -> None:
        # Two answers of confidence 0.9, one of them right; four of 0.6, three of them right.
        bins = reliability([0.9, 0.9, 0.6, 0.6, 0.6, 0.6], [1, 0, 1, 1, 1, 0])
        expected = 2 / 6 * abs(0.5 - 0.9) + 4 / 6 * abs(0.75 - 0.6)
        assert expected_calibration_error(bins) == pytest.approx(expected)

    def test_nothing_to_judge(self) -> None:
        assert np.isnan(expected_calibration_error(reliability([], [])))

    @pytest.mark.parametrize("confidence", [[1.1], [np.nan], [0.5, 0.5], 0.5])
    def test_refuses(self, confidence: Any) -> None:
        with pytest.raises(ValueError, match="confidence from 0 to 1"):
            reliability(confidence, [True])


class TestCalibrate:
    def test_mends_scores_that_are_too_sure(self) -> None:
        scores, labels = drawn(4000, 3.0)
        found = calibrate(scores, labels, np.arange(4000) % 4)
        assert found.temperature == fit_temperature(scores, labels)
        assert found.ece_before > 0.1
        assert found.ece_after < 0.03
        assert set(found.to_json()) == {"temperature", "ece_before", "ece_after"}
        np.testing.assert_array_equal(found.probabilities.argmax(axis=1), scores.argmax(axis=1))

    def test_no_face_is_judged_by_a_temperature_fitted_to_it(self) -> None:
        scores, labels = drawn(60, 2.0)
        part = np.repeat([0, 1, 2], 20)
        found = calibrate(scores, labels, part)
        for one in range(3):
            own = part == one
            temperature = fit_temperature(scores[~own], labels[~own])
            expected = probabilities_of(scores[own], temperature)
            np.testing.assert_array_equal(found.probabilities[own], expected)

    def test_a_single_part_is_judged_by_nothing(self) -> None:
        scores, labels = drawn(20, 1.0)
        found = calibrate(scores, labels, np.zeros(20, np.int64))
        assert np.isnan(found.ece_after)
        expected = probabilities_of(scores, found.temperature)
        np.testing.assert_array_equal(found.probabilities, expected)

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="part of each of 2 faces"):
            calibrate(np.zeros((2, 3)), [0, 1], [0])

    def test_halves_keep_photographs_whole(self) -> None:
        photograph = np.array([4, 4, 9, 7, 9, 30])
        np.testing.assert_array_equal(halves(photograph), [0, 0, 0, 1, 0, 1])


def test_probabilities_of_huge_scores() -> None:
    found = probabilities_of([[1e5, 0, -1e5], [0, 0, 0]], 0.05)
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
