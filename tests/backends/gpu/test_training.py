"""The networks of the package train on the kernels of the GPU as they do on the CPU."""

import dataclasses
import sys

import fake_cupy
import numpy as np
import pytest
from devices import each_backend, needs_emulator

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, optim
from tinygrad_mask.backends import cuda
from tinygrad_mask.data import Rows
from tinygrad_mask.masks.classifier.network.architecture import (
    KINDS,
    Architecture,
    architecture_of,
    build_model,
)
from tinygrad_mask.masks.classifier.network.blocks import BLOCKS
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.classifier.training.recipes import RECIPES, slides_objective
from tinygrad_mask.masks.classifier.training.trainer import Task, recipe_trainer
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs
from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture, FaceDetector
from tinygrad_mask.masks.detector.training.augmentation import DetectorAugmentation
from tinygrad_mask.masks.detector.training.recipe import DetectorRecipe
from tinygrad_mask.masks.detector.training.trainer import DetectorTrainer
from tinygrad_mask.masks.faces import FaceSet
from tinygrad_mask.training import TrainingDivergedError

pytestmark = needs_emulator

ARCHITECTURES = {
    "cnn": Architecture("cnn", 16, channels=(8, 16), hidden=32, dropout=0.2),
    "mlp": Architecture("mlp", 16, hidden=32),
    **{
        kind: Architecture(kind, 16, channels=(8, 16), dropout=0.2, depths=(1, 1))
        for kind in BLOCKS
    },
}


@pytest.fixture
def gpu(monkeypatch):
    """The device `cuda` on a stand-in for CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    cuda.cuda_backend.cache_clear()
    yield cuda.cuda_backend()
    cuda.cuda_backend.cache_clear()


def losses(kind, device):
    """Train three steps on drawn images and return the loss before each of them."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((12, 16, 16, 3)).astype(np.float32)
    labels = rng.integers(3, size=12)
    model = build_model(ARCHITECTURES[kind], np.random.default_rng(1)).to(device)
    optimizer = optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    values = []
    for _ in range(3):
        scores = model(Tensor(images, device=device))
        if kind == "mlp":
            one_hot = np.eye(3, dtype=np.float32)[labels]
            loss = slides_objective(model, scores, Tensor(one_hot, device=device), 1e-3)
        else:
            loss = F.cross_entropy(scores, labels)
        values.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return values


@each_backend(instruction_sets=False)
@pytest.mark.parametrize("kind", KINDS)
def test_three_steps_lose_what_they_lose_on_the_cpu(backend, kind):
    expected = losses(kind, "cpu")
    assert expected[2] < expected[0]
    np.testing.assert_allclose(losses(kind, backend), expected, rtol=1e-4)


def detector_losses(device):
    """Train a detector three steps on drawn photographs; return each step's loss and its parts."""
    architecture = DetectorArchitecture(channels=(4, 6, 8, 8, 8), depths=(1, 1, 1, 1), head=6)
    model = FaceDetector(architecture, np.random.default_rng(1)).to(device)
    recipe = DetectorRecipe(
        epochs=3,
        steps_per_epoch=1,
        batch_size=2,
        augmentation=DetectorAugmentation(size=64, long_side=(60, 100), mosaic=0.0),
    )
    history = DetectorTrainer(model, synthetic_photographs(4, 0), recipe, seed=0).run()
    return [[row[name] for name in ("loss", "heat", "box", "label")] for row in history]


@each_backend(instruction_sets=False)
def test_three_steps_of_the_detector_lose_what_they_lose_on_the_cpu(backend):
    expected = detector_losses("cpu")
    assert all(part > 0 for row in expected for part in row)
    np.testing.assert_allclose(detector_losses(backend), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_networks_have_the_gradients_that_they_have_on_the_cpu(kind):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 64, 64, 3)).astype(np.float32)

    def gradients(device):
        model = build_model(architecture_of(kind, 64), np.random.default_rng(1)).to(device)
        F.cross_entropy(model(Tensor(images, device=device)), np.array([0, 2])).backward()
        return [parameter.grad.numpy() for parameter in model.parameters()]

    # In deep networks a few of the many activations near zero, and of the maxima near another,
    # fall on the other side in float32: their share of the gradient is lost or won as a whole.
    limit = 0.1 if kind in BLOCKS else 1e-5
    for gradient, expected in zip(gradients("emulator"), gradients("cpu"), strict=True):
        assert np.linalg.norm(gradient - expected) <= limit * np.linalg.norm(expected)


# --- the training loop ----------------------------------------------------------------------------


def make_trainer(kind, device, *, graph=False, **changes):
    """A trainer on faces that are told apart by colour."""
    rng = np.random.default_rng(0)
    numbers = np.arange(30)
    labels = numbers % 3
    crops = rng.integers(0, 100, (30, 16, 16, 3)).astype(np.uint8)
    crops[numbers, :, :, labels] += 100
    sizes = np.full(30, 30, np.float32)
    faces = FaceSet((), crops, labels, numbers, numbers * 0, sizes, np.zeros((0, 4), np.uint64))
    train, validation = numbers[:20], numbers[20:]
    classifier = Classifier(
        build_model(ARCHITECTURES[kind], np.random.default_rng(0)),
        ARCHITECTURES[kind],
        CropSettings(16),
        Normalisation.of(Rows(crops, train)),
    )
    recipe = dataclasses.replace(RECIPES[kind], **{"epochs": 2, "batch_size": 8, **changes})
    task = Task(faces, train, validation, recipe, seed=0, device=device, graph=graph)
    return recipe_trainer(task, classifier)


def history(trainer):
    trainer.run()
    return [{**row, "seconds": 0, "waited": 0} for row in trainer.progress.history]


@pytest.mark.parametrize("kind", KINDS)
def test_runs_on_emulator_and_cpu_have_the_same_history(kind):
    for row, expected in zip(
        history(make_trainer(kind, "emulator")), history(make_trainer(kind, "cpu")), strict=True
    ):
        assert row.keys() == expected.keys()
        np.testing.assert_allclose(list(row.values()), list(expected.values()), rtol=1e-3)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_replayed_as_a_graph_has_the_history_of_one_that_is_not(kind):
    plain, replayed = make_trainer(kind, "cuda"), make_trainer(kind, "cuda", graph=True)
    assert history(replayed) == history(plain)
    for name, array in plain.classifier.model.state_dict().items():
        np.testing.assert_array_equal(replayed.classifier.model.state_dict()[name], array)


@pytest.mark.usefixtures("gpu")
def test_a_run_on_a_gpu_that_diverges_says_in_which_step():
    for device in ("cpu", "cuda"):
        trainer = make_trainer("mlp", device, lr=1e10)
        with pytest.raises(TrainingDivergedError, match=r"the loss is .* in epoch 1, step 3"):
            trainer.run()


def test_a_loop_looks_at_an_outcome_when_the_next_step_was_begun(gpu):
    trainer = make_trainer("mlp", "cuda")
    [first, second, _] = trainer._batches()
    for (weight, arrays), done in ((first, 0), (second, 1)):
        trainer._step(weight, *(sent() for sent in arrays))
        assert trainer.progress.step == done
    assert (trainer.progress.step, trainer.progress.seen) == (1, 7)


def test_a_batch_is_sent_before_the_step_on_the_last_one_and_waited_for_after_it(gpu):
    trainer = make_trainer("mlp", "cuda")
    compute = fake_cupy.cuda.get_current_stream()
    fake_cupy._state.log.clear()
    trainer.run()
    waits = [k for k, entry in enumerate(fake_cupy._state.log) if entry[:2] == ("wait", compute)]
    copies = [k for k, entry in enumerate(fake_cupy._state.log) if entry[0] == "copy"]
    assert sum(k < waits[0] for k in copies) == 4  # inputs and labels of two batches
