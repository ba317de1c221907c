from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps, colors, pyplot
from numpy.typing import NDArray
from PIL import Image

from tinygrad_mask.masks.classifier.evaluation.metrics import compute_metrics
from tinygrad_mask.masks.classifier.report.plots import (
    plot_confusion,
    plot_curves,
    plot_feature_maps,
    plot_mistakes,
    plot_precision_recall,
    plot_protocol,
    plot_reliability,
    plot_saliency,
)
from tinygrad_mask.masks.classifier.report.plots.course import BALANCED, TRAIN, VALIDATION
from tinygrad_mask.masks.report.style import (
    BLUE,
    CLASS_COLOURS,
    DPI,
    FAINT,
    ORANGE,
)

Pixels = NDArray[np.uint8]


def read_png(path: Path) -> Pixels:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count_of(pixels: Pixels, colour: Any, tolerance: int = 0) -> int:
    wanted = np.round(np.array(colors.to_rgb(colour)) * 255)
    return int((abs(pixels - wanted).max(axis=2) <= tolerance).sum())


def history(epochs: int, **changed: float) -> list[dict[str, float]]:
    return [
        {
            "epoch": e,
            "loss": 1 / e,
            "accuracy": 1 - 0.4 / e,
            "val_loss": 0.2 + 1 / e,
            "val_accuracy": 0.9 - 0.4 / e,
            "val_balanced_accuracy": 0.8 - 0.4 / e,
            "lr": 0.01,
            **changed,
        }
        for e in range(1, epochs + 1)
    ]


class TestCurves:
    @pytest.mark.parametrize("epochs", [1, 20, 200])
    def test_shows_all_curves(self, tmp_path: Path, epochs: int) -> None:
        path = tmp_path / "curves.png"
        plot_curves(history(epochs), path)
        pixels = read_png(path)
        assert pixels.shape == (4.4 * DPI, 10 * DPI, 3)
        # The legends below the axes (lowest fifth) show each colour whatever is drawn above.
        drawn = pixels[: int(pixels.shape[0] * 0.8)]
        left, right = np.array_split(drawn, 2, axis=1)
        assert count_of(left, TRAIN) > 20
        assert count_of(left, VALIDATION) > 20
        assert count_of(left, BALANCED) == 0
        assert count_of(right, VALIDATION) > 20
        assert count_of(right, BALANCED) > 20
        assert count_of(right, TRAIN) > 20

    def test_nan_leaves_a_gap(self, tmp_path: Path) -> None:
        nan = float("nan")
        rows = history(20, val_loss=nan, val_accuracy=nan, val_balanced_accuracy=nan)
        plot_curves(rows, tmp_path / "curves.png")
        drawn = read_png(tmp_path / "curves.png")[: int(4.4 * DPI * 0.8)]
        assert count_of(drawn, TRAIN) > 40
        assert count_of(drawn, VALIDATION) == count_of(drawn, BALANCED) == 0

    def test_nothing_but_nan_and_infinity(self, tmp_path: Path) -> None:
        bad = {key: float("nan") for key in history(1)[0] if key != "epoch"}
        plot_curves(history(2, **{**bad, "loss": float("inf")}), tmp_path / "curves.png")
        assert read_png(tmp_path / "curves.png").std() > 0

    def test_refuses_no_epoch(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="at least one epoch"):
            plot_curves([], tmp_path / "curves.png")


class TestConfusion:
    def test_is_darker_where_more_of_the_row_is(self, tmp_path: Path) -> None:
        labels, predicted = [0] * 10 + [1] * 2 + [2] * 4, [0] * 9 + [1] + [1, 2] + [2] * 4
        plot_confusion(compute_metrics(labels, predicted), tmp_path / "confusion.png")
        pixels = read_png(tmp_path / "confusion.png")
        assert pixels.shape == (5.4 * DPI, 5.6 * DPI, 3)
        blues = colormaps["Blues"]
        # The picture may take the neighbouring entry of the colour map's 256.
        cells = [count_of(pixels, blues(share)[:3], tolerance=4) for share in (0.9, 0.5, 1.0)]
        # 0.9 and 1 in one cell each, 0.5 in two
        assert cells[0] == pytest.approx(cells[2], rel=0.1)
        assert cells[1] == pytest.approx(2 * cells[2], rel=0.1)
        assert cells[2] > 20_000

    def test_absent_class(self, tmp_path: Path) -> None:
        plot_confusion(compute_metrics([0, 0], [0, 1]), tmp_path / "confusion.png")
        assert read_png(tmp_path / "confusion.png").std() > 0


class TestMistakes:
    size = 16

    def flat(self, *rgb: tuple[int, int, int]) -> Pixels:
        """Crops of one colour each, by which they are recognised."""
        return np.array(rgb, np.uint8)[:, None, None].repeat(self.size, 1).repeat(self.size, 2)

    def places(self, path: Path, colours: list[tuple[int, int, int]]) -> list[float | None]:
        """The mean x of the pixels of each colour, None where there are none."""
        pixels = read_png(path)
        found: list[float | None] = []
        for colour in colours:
            columns = np.nonzero((pixels == colour).all(axis=2))[1]
            found.append(float(columns.mean()) if len(columns) > 1000 else None)
        return found

    def test_only_mistakes_the_most_confident_first(self, tmp_path: Path) -> None:
        colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
        probabilities = [[0.6, 0.3, 0.1], [0.9, 0.1, 0], [0.05, 0.15, 0.8], [0.3, 0.4, 0.3]]
        plot_mistakes(
            self.flat(*colours),
            np.array([1, 0, 1, 2]),  # wrong, right, wrong, wrong
            np.array(probabilities),
            tmp_path / "mistakes.png",
            names=["a.jpg", "b.jpg", "$c$_{.jpg", "写真" * 40 + ".jpg"],
        )
        first, right, second, third = self.places(tmp_path / "mistakes.png", colours)
        assert right is None
        assert second is not None
        assert first is not None
        assert third is not None
        assert second < first < third

    def test_limit(self, tmp_path: Path) -> None:
        colours = [(10 * i, 200, 30) for i in range(9)]
        probabilities = np.stack([np.linspace(0.5, 0.9, 9), np.linspace(0.5, 0.1, 9), np.zeros(9)])
        plot_mistakes(
            self.flat(*colours),
            np.full(9, 1),
            probabilities.T,
            tmp_path / "mistakes.png",
            limit=7,
        )
        shown = [place is not None for place in self.places(tmp_path / "mistakes.png", colours)]
        assert shown == [False] * 2 + [True] * 7
        assert read_png(tmp_path / "mistakes.png").shape == (round(4.6 * DPI), 9.6 * DPI, 3)

    def test_none(self, tmp_path: Path) -> None:
        crops, truth = self.flat((200, 30, 30)), np.array([1])
        plot_mistakes(crops, truth, np.array([[0.1, 0.8, 0.1]]), tmp_path / "mistakes.png")
        assert read_png(tmp_path / "mistakes.png").std() > 0
        assert self.places(tmp_path / "mistakes.png", [(200, 30, 30)]) == [None]

    @pytest.mark.parametrize("changed", [{"names": ["a"]}, {"limit": 0}, {"labels": np.array([0])}])
    def test_refuses(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        arguments: dict[str, Any] = {
            "crops": self.flat((0, 0, 0), (1, 1, 1)),
            "labels": np.array([0, 1]),
            "probabilities": np.eye(3)[:2],
            "path": tmp_path / "mistakes.png",
        }
        with pytest.raises(ValueError, match="equal lengths and limit >= 1"):
            plot_mistakes(**{**arguments, **changed})


def judged(n: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels, and probabilities that are mostly right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    scores = rng.normal(0, 1, (n, 3)) + 2 * np.eye(3)[labels]
    powers = np.exp(scores)
    return labels, powers / powers.sum(axis=1, keepdims=True)


class TestPrecisionRecall:
    def test_has_a_curve_for_each_class(self, tmp_path: Path) -> None:
        plot_precision_recall(*judged(60), tmp_path / "precision_recall.png")
        pixels = read_png(tmp_path / "precision_recall.png")
        assert pixels.shape == (5.6 * DPI, 6.4 * DPI, 3)
        for colour in CLASS_COLOURS.values():
            assert count_of(pixels[: len(pixels) // 2], colour) > 300

    def test_perfect_answers_lie_on_the_upper_edge(self, tmp_path: Path) -> None:
        labels = np.array([0, 1, 2, 2])
        plot_precision_recall(labels, np.eye(3)[labels], tmp_path / "precision_recall.png")
        pixels = read_png(tmp_path / "precision_recall.png")
        # The last class covers the others; below it is only the legend.
        inside = pixels[round(0.2 * len(pixels)) : round(0.7 * len(pixels)), : 6 * DPI]
        assert count_of(inside, CLASS_COLOURS["none"]) == 0
        assert count_of(pixels[: round(0.2 * len(pixels))], CLASS_COLOURS["none"]) > 300

    def test_a_class_without_faces_has_none(self, tmp_path: Path) -> None:
        labels, probabilities = np.array([0, 2]), np.eye(3)[[0, 1]]
        plot_precision_recall(labels, probabilities, tmp_path / "precision_recall.png")
        pixels = read_png(tmp_path / "precision_recall.png")[: round(0.7 * 5.6 * DPI)]
        assert count_of(pixels, CLASS_COLOURS["improper"]) == 0


class TestReliability:
    def test_both_panels(self, tmp_path: Path) -> None:
        plot_reliability(*judged(300), tmp_path / "reliability.png")
        pixels = read_png(tmp_path / "reliability.png")
        assert pixels.shape == (5.6 * DPI, 10 * DPI, 3)
        left, right = np.array_split(pixels, 2, axis=1)
        assert count_of(left, CLASS_COLOURS["improper"]) == 0
        assert count_of(right, CLASS_COLOURS["improper"]) > 300

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_a_single_face_that_is_certain(self, dtype: Any, tmp_path: Path) -> None:
        certain = np.array([[0, 1 + 1e-7, 0]], dtype)
        plot_reliability(np.array([1]), certain, tmp_path / "reliability.png")
        assert read_png(tmp_path / "reliability.png").std() > 0


class TestFeatureMaps:
    def test_a_channel_has_the_same_shades_in_every_row(self, tmp_path: Path) -> None:
        crops = np.full((2, 8, 8, 3), (200, 30, 30), np.uint8)
        maps = np.zeros((2, 8, 8, 6))
        maps[0, :, :, 0], maps[1, :, :, 0] = -3.0, 5.0  # one face's lowest is the other's highest
        plot_feature_maps(crops, maps, ["proper", "$none$"], tmp_path / "maps.png")
        above, below = np.array_split(read_png(tmp_path / "maps.png"), 2)
        for half in (above, below):
            assert count_of(half, np.array((200, 30, 30)) / 255) > 1000
        tile = count_of(above, "black", 2) - count_of(below, "black", 2)
        assert tile > 1000  # the channel is black above and white below; all else is alike

    @pytest.mark.parametrize("count", [0, 2])
    def test_refuses(self, count: int, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=f"got {count}, {count} and 1"):
            plot_feature_maps(
                np.zeros((count, 8, 8, 3), np.uint8),
                np.zeros((count, 8, 8, 6)),
                ["one"],
                tmp_path / "maps.png",
            )


class TestProtocol:
    def test_both_networks_and_both_levels(self, tmp_path: Path) -> None:
        histories = {"theirs": history(20), "ours": history(30, accuracy=0.97, val_accuracy=0.95)}
        plot_protocol(histories, tmp_path / "curves.png", slides=0.75, baseline=0.65)
        pixels = read_png(tmp_path / "curves.png")
        assert pixels.shape == (4.6 * DPI, 7.5 * DPI, 3)
        drawn = pixels[: int(pixels.shape[0] * 0.8)]  # above the legend
        for colour in (BLUE, ORANGE, "black", FAINT):
            assert count_of(drawn, colour) > 100

    def test_the_slides_level_is_seen_below_all_else(self, tmp_path: Path) -> None:
        histories = {"theirs": history(2, accuracy=0.99, val_accuracy=0.99)}
        plot_protocol(histories, tmp_path / "curves.png", slides=0.5, baseline=0.9)
        dark = (read_png(tmp_path / "curves.png")[:, :, 0] < 60).sum(axis=1)
        assert sum(dark > 300) >= 2  # the axis, and the dashes of the level


class TestSaliency:
    def test_lights_up_what_mattered(self, tmp_path: Path) -> None:
        crops = np.full((1, 16, 16, 3), 120, np.uint8)
        maps = np.zeros((1, 16, 16))
        maps[0, 8:, :] = 1.0
        plot_saliency(crops, maps, ["proper, $97%$"], tmp_path / "saliency.png")
        lit = np.array_split(read_png(tmp_path / "saliency.png").astype(int), 2, axis=1)[1]
        upper, _, _, lower = np.array_split(lit[round(0.15 * len(lit)) :], 4)
        colour = [(part.max(axis=2) - part.min(axis=2)).mean() for part in (upper, lower)]
        assert colour[0] < 5
        assert colour[1] > 40

    def test_nothing_mattered(self, tmp_path: Path) -> None:
        plot_saliency(
            np.full((4, 8, 8, 3), 120, np.uint8),
            np.zeros((4, 8, 8)),
            ["a", "b", "c", "d"],
            tmp_path / "saliency.png",
        )
        assert read_png(tmp_path / "saliency.png").std() > 0

    def test_refuses(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="got 1, 1 and 0"):
            plot_saliency(
                np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8)), [], tmp_path / "a.png"
            )


def test_never_overwrites_and_leaves_no_global_figure(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    plot_curves(history(2), path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"curves\.png exists already"):
        plot_curves(history(3), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
    assert pyplot.get_fignums() == []
