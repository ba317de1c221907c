"""Cross-validation never shows a model what it is judged on, and judges every face once."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from boxed_photographs import boxed_photographs
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_mask import cli
from tinygrad_mask.masks.classifier.evaluation.metrics import compute_metrics
from tinygrad_mask.masks.classifier.network.architecture import architecture_of, build_model
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.classifier.runs import cross_validation
from tinygrad_mask.masks.classifier.runs.config import RunConfig, make_trainer
from tinygrad_mask.masks.classifier.runs.cross_validation import (
    FoldResult,
    assign_folds,
    pool,
    sides_of_fold,
)
from tinygrad_mask.masks.classifier.runs.loading import LoadedData
from tinygrad_mask.masks.classifier.training.recipes import RECIPES
from tinygrad_mask.masks.crops import CropSettings, crop_face
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_dataset
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.faces import FaceSet
from tinygrad_mask.masks.labels import LABELS

NAMES = {"proper": "with_mask", "improper": "mask_weared_incorrect", "none": "without_mask"}
SMALL = ["--model", "vgg", "--image-size", "8", "--epochs", "1", "--cross-validate", "3"]


def loaded(labels, groups, judged, sizes=None):
    """Data of photographs with these faces' labels; no pixels."""
    photograph = np.repeat(np.arange(len(labels)), [len(of) for of in labels])
    truth = np.array([LABELS.index(name) for of in labels for name in of], dtype=np.int64)
    n = len(truth)
    sizes = np.full(n, 30, np.float32) if sizes is None else np.asarray(sizes, np.float32)
    crops = np.zeros((n, 4, 4, 3), np.uint8)
    hashes = np.zeros((len(labels), 4), np.uint64)
    faces = FaceSet((None,) * len(labels), crops, truth, photograph, truth * 0, sizes, hashes)
    return LoadedData(faces, np.asarray(groups), np.asarray(judged), DataIssues())


photographs = st.lists(
    st.tuples(st.lists(st.sampled_from(LABELS), max_size=3), st.integers(0, 15), st.booleans()),
    min_size=8,
    max_size=40,
)


class TestSides:
    @given(photographs, st.integers(2, 4))
    def test_no_copy_on_both_sides_and_every_face_judged_once(self, given_photographs, folds):
        labels, groups, judged = (list(column) for column in zip(*given_photographs, strict=True))
        data = loaded(labels, groups, judged)
        try:
            fold = assign_folds(data, folds, 0)
        except UsageError:
            return  # too few; tested with the splits
        seen = []
        for k in range(folds):
            train, held = sides_of_fold(data, fold, k, 0)
            of_train, of_held = (data.faces.photograph[positions] for positions in (train, held))
            assert not {groups[p] for p in of_train} & {groups[p] for p in of_held}
            assert all(judged[p] for p in of_held)
            # What is no copy of anything of this fold is trained on.
            of_fold = {groups[p] for p in range(len(labels)) if judged[p] and fold[p] == k}
            others = [p for p in range(len(labels)) if groups[p] not in of_fold]
            expected = np.flatnonzero(np.isin(data.faces.photograph, others))
            np.testing.assert_array_equal(train, expected)
            seen += held.tolist()
        assert sorted(seen) == np.flatnonzero(np.array(judged)[data.faces.photograph]).tolist()

    def test_folds_that_part_copies_are_refused(self):
        data = loaded([["proper"], ["none"], ["proper"]], [0, 1, 0], [True, True, True])
        with pytest.raises(AssertionError, match="fold 1: a photograph is trained on and judged"):
            sides_of_fold(data, np.array([0, 0, 1]), 0, 0)

    def test_an_extra_copy_of_what_is_judged_is_not_trained_on_there(self):
        labels = [["proper"], ["none"], ["proper"], ["none"], ["none"], ["proper"]]
        groups = [0, 1, 2, 3, 0, 4]
        data = loaded(labels, groups, [True] * 4 + [False] * 2)
        fold = assign_folds(data, 2, 0)
        assert fold[4] == fold[0]
        assert fold[5] == cross_validation.ALWAYS_TRAINED
        for k in range(2):
            train, held = sides_of_fold(data, fold, k, 0)
            assert (4 in train) == (fold[0] != k)
            assert 5 in train
            assert not {4, 5} & set(held)

    def test_small_faces_are_judged_and_not_trained_on(self):
        data = loaded([["proper", "none"]] * 4, range(4), [True] * 4, sizes=[3, 30] * 4)
        fold = assign_folds(data, 2, 0)
        train, held = sides_of_fold(data, fold, 0, 4)
        assert (data.faces.sizes[train] == 30).all()
        assert len(held) == 4


class TestPooling:
    data = loaded([["proper"], ["none", "proper"]], [0, 1], [True, True])

    def part(self, *positions):
        scores = np.eye(3, dtype=np.float32)[np.array(positions) % 3]
        return FoldResult(np.array(positions), scores, [])

    def test_puts_each_score_at_its_face(self):
        result = pool(self.data, np.array([1, 0]), [self.part(2, 1), self.part(0)])
        np.testing.assert_array_equal(result.scores, np.eye(3))
        np.testing.assert_array_equal(result.labels, self.data.faces.labels)
        np.testing.assert_array_equal(result.fold, [1, 0, 0])

    @pytest.mark.parametrize("parts", [[(0,), (1,)], [(0, 1), (1, 2)], [(0, 1, 2), (0,)]])
    def test_a_face_left_out_or_judged_twice_is_refused(self, parts):
        with pytest.raises(AssertionError, match="not every face was judged exactly once"):
            pool(self.data, np.array([0, 1]), [self.part(*positions) for positions in parts])


def write_voc(folder, drawn, suffix="png"):
    """Write drawn photographs as a folder of Pascal VOC, each under its number."""
    for part in ("images", "annotations"):
        (folder / part).mkdir(parents=True)
    for name, photograph in drawn:
        picture = photograph.open()
        if suffix == "jpg":
            picture.save(folder / "images" / f"{name}.jpg", quality=80)
        else:
            picture.save(folder / "images" / f"{name}.png")
        objects = "".join(
            f"<object><name>{NAMES[face.label]}</name><bndbox>"
            + "".join(
                f"<{tag}>{value:.0f}</{tag}>"
                for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), face.box, strict=True)
            )
            + "</bndbox></object>"
            for face in photograph.faces
        )
        (folder / "annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """Sixteen drawn photographs, of which the first four are there twice, under other names."""
    folder = tmp_path_factory.mktemp("voc")
    drawn = boxed_photographs(16, 9)
    names = [(f"{k}", drawn[k]) for k in range(16)] + [(f"copy-{k}", drawn[k]) for k in range(4)]
    write_voc(folder, names)
    return folder


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """Drawn photographs to train on: three others, and two that are judged, recompressed."""
    folder = tmp_path_factory.mktemp("more")
    drawn = boxed_photographs(16, 9)
    others = boxed_photographs(3, 6)
    names = [(f"copy-{k}", drawn[k]) for k in (1, 9)] + [(f"x-{k}", others[k]) for k in range(3)]
    write_voc(folder, names, "jpg")
    return folder


@pytest.fixture(scope="module")
def run(voc, more, tmp_path_factory):
    """The folder of a finished cross-validation, and what each model was given."""
    sides = []
    make = cross_validation.make_trainer

    def noted(config, faces, train, judged, **options):
        def names(positions):
            photographs = {faces.photograph[p] for p in positions}
            return {Path(faces.photographs[k].name).stem for k in photographs}

        sides.append((names(train), names(judged), len(judged)))
        return make(config, faces, train, judged, **options)

    out = tmp_path_factory.mktemp("runs") / "cv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "make_trainer", noted)
        arguments = ["--data", str(voc), "--extra", str(more), *SMALL, "--out", str(out)]
        assert cli.main(["train", *arguments]) == 0
    return out, sides


def drawing(name):
    """Which drawn photograph a file is of; others than those that are judged keep their names."""
    return name.removeprefix("copy-")


class TestRun:
    def test_no_model_sees_a_photograph_that_it_is_judged_on_under_any_name(self, run):
        _, sides = run
        assert len(sides) == 3
        for train, judged, _ in sides:
            assert not {drawing(name) for name in train} & {drawing(name) for name in judged}
            assert {"x-0", "x-1", "x-2"} <= train
            assert not {name for name in judged if name.startswith("x-")}
        judged = [name for _, names, _ in sides for name in names]
        expected = [f"{k}" for k in range(16)] + [f"copy-{k}" for k in range(4)]
        assert sorted(judged) == sorted(expected)

    def test_every_face_is_predicted_once(self, run, voc):
        out, sides = run
        rows = list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
        keys = [(row["photograph"], row["face"]) for row in rows]
        assert len(set(keys)) == len(keys) == sum(count for _, _, count in sides)
        drawn = boxed_photographs(16, 9)
        assert len(keys) == sum(len(drawn[k].faces) for k in [*range(16), *range(4)])
        for row in rows:
            name = Path(row["photograph"]).stem
            assert name in sides[int(row["fold"]) - 1][1]
            assert row["label"] == drawn[int(drawing(name))].faces[int(row["face"])].label
            scores = [float(row[f"score_{label}"]) for label in LABELS]
            assert row["predicted"] == LABELS[int(np.argmax(scores))]

    def test_the_figures_are_those_of_the_predictions(self, run):
        out, _ = run
        rows = list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
        metrics = compute_metrics(
            [LABELS.index(row["label"]) for row in rows],
            [LABELS.index(row["predicted"]) for row in rows],
        )
        figures = json.loads((out / "metrics.json").read_text())
        assert figures["confusion"] == metrics.to_json()["confusion"]
        assert figures["macro_f1"] == metrics.macro_f1
        judgement = json.loads((out / "judgement.json").read_text())
        assert judgement["metrics"] == figures
        assert sum(of["n"] for of in judgement["by_size"].values()) == metrics.n
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            low, high = judgement["intervals"][name]
            assert low <= figures[name] <= high
        report = (out / "report.md").read_text()
        assert f"**{metrics.macro_f1:.3f}**" in report
        assert "| cross_validate | 3 |" in report

    def test_the_models_that_judged_are_kept(self, run, voc):
        out, _ = run
        rows = list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
        photographs = {
            photograph.name: photograph for photograph in open_dataset(voc, DataIssues())
        }
        for fold in range(3):
            classifier = Classifier.load(cross_validation.fold_model(out, fold))
            own = [row for row in rows if row["fold"] == str(fold + 1)]
            crops = [
                crop_face(
                    photographs[row["photograph"]].open(),
                    photographs[row["photograph"]].faces[int(row["face"])].box,
                    classifier.crops,
                )
                for row in own
            ]
            said = [[float(row[f"score_{label}"]) for label in LABELS] for row in own]
            np.testing.assert_allclose(classifier.scores(np.stack(crops)), said, atol=1e-5)

    @pytest.mark.usefixtures("undrawn")
    def test_goes_on_with_the_folds_that_are_left(self, run, voc, more, tmp_path, capsys):
        out, _ = run
        part = tmp_path / "part"
        part.mkdir()
        for name in ("config.json", "folds.json", "fold-1.safetensors"):
            (part / name).write_bytes((out / name).read_bytes())
        assert cli.main(["train", "--resume", str(part)]) == 0
        printed = capsys.readouterr().out
        assert "fold 1 of 3: done before" in printed
        assert "improper, recall" in printed
        for name in ("predictions.csv", "folds.json"):
            assert (part / name).read_text() == (out / name).read_text()
        assert cli.main(["train", "--resume", str(part)]) == 2
        assert "this run is finished" in capsys.readouterr().err

    def test_other_data_are_not_taken_up(self, run, tmp_path, capsys):
        out, _ = run
        for name in ("config.json", "folds.json"):
            (tmp_path / name).write_bytes((out / name).read_bytes())
        folds = json.loads((tmp_path / "folds.json").read_text())
        folds["fold 1"], folds["fold 2"] = folds["fold 2"], folds["fold 1"]
        (tmp_path / "folds.json").write_text(json.dumps(folds))
        assert cli.main(["train", "--resume", str(tmp_path)]) == 2
        assert "the data are no longer those of this run" in capsys.readouterr().err

    def test_what_cannot_be_used_gets_one_line(self, run, voc, tmp_path, capsys):
        out, _ = run
        data = ["--data", str(voc)]
        for arguments, message in (
            ([*data, *SMALL, "--validation", "0.3"], "no --validation"),
            ([*data, "--cross-validate", "1"], "at least 2 folds, got 1"),
            ([*data, "--cross-validate", "99"], "too few photographs with faces for 99 folds"),
            ([*data, "--extra", str(voc)], "--extra goes with --cross-validate"),
            ([*data, *SMALL, "--out", str(out)], "nothing in it is overwritten"),
            ([*data, *SMALL, "--initial", str(out)], "cannot be read as a model"),
        ):
            where = [] if "--out" in arguments else ["--out", str(tmp_path / "a")]
            assert cli.main(["train", *arguments, *where]) == 2
            error = capsys.readouterr().err
            assert message in error
            assert error.count("\n") == 1
            assert not (tmp_path / "a").exists()


class TestInitial:
    def config(self, initial, size=8):
        return RunConfig(("-",), "vgg", RECIPES["vgg"], CropSettings(size), initial=str(initial))

    @pytest.fixture
    def initial(self, tmp_path):
        """The path of a model, of other weights than a run begins with by itself."""
        architecture = architecture_of("vgg", 8)
        model = build_model(architecture, np.random.default_rng(9))
        scale = Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
        Classifier(model, architecture, CropSettings(8), scale).save(tmp_path / "initial")
        return tmp_path / "initial"

    def test_begins_with_the_weights_of_another_model(self, initial):
        faces = loaded([["proper", "none"]] * 4, range(4), [True] * 4).faces
        trainer = make_trainer(self.config(initial), faces, np.arange(6), np.arange(6, 8))
        expected = Classifier.load(initial)
        state = expected.model.state_dict()
        for name, array in trainer.classifier.model.state_dict().items():
            np.testing.assert_array_equal(array, state[name], err_msg=name)
        assert trainer.classifier.normalisation == expected.normalisation

    def test_of_another_network_is_refused(self, initial):
        faces = loaded([["proper", "none"]] * 4, range(4), [True] * 4).faces
        with pytest.raises(UsageError, match="expected a model to begin with of"):
            make_trainer(self.config(initial, 9), faces, np.arange(6), np.arange(6, 8))
