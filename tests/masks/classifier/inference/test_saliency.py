import numpy as np
import pytest

from tinygrad_mask import Tensor, nn
from tinygrad_mask.masks.classifier.inference.saliency import saliency
from tinygrad_mask.masks.classifier.network.architecture import KINDS, architecture_of, build_model
from tinygrad_mask.masks.classifier.network.classifier import Classifier, Normalisation
from tinygrad_mask.masks.crops import CropSettings

SIZE = 8
SCALE = Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def make_classifier(kind):
    architecture = architecture_of(kind, SIZE)
    model = build_model(architecture, np.random.default_rng(0))
    return Classifier(model, architecture, CropSettings(SIZE), SCALE)


def some_crops(n=4, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)


class Quadratic(nn.Module):
    """Scores that are quadratic in the pixels of one patch, and in nothing else."""

    def forward(self, x):
        patch = x[:, 2:4, 5:7]
        sums = (patch * patch).sum(axis=(1, 2, 3), keepdims=False)
        weights = Tensor(np.array([[1.0, -2.0, 0.5]], np.float32))
        return sums.reshape(-1, 1) * weights


@pytest.fixture
def quadratic():
    architecture = architecture_of("cnn", SIZE)
    return Classifier(Quadratic(), architecture, CropSettings(SIZE), SCALE)


def log_odds(classifier, inputs, classes):
    """In float64, by hand: the score less the log-sum-exp of the others."""
    scores = np.asarray(classifier.model(Tensor(inputs.astype(np.float32))), np.float64)
    own = scores[np.arange(len(classes)), classes]
    rest = np.stack([np.delete(row, c) for row, c in zip(scores, classes, strict=True)])
    return own - np.log(np.exp(rest).sum(axis=1))


def test_what_does_not_matter_is_dark(quadratic):
    found = saliency(quadratic, some_crops(), np.array([0, 1, 2, 0]), rng=np.random.default_rng(0))
    assert found.shape == (4, SIZE, SIZE)
    matters = np.zeros((SIZE, SIZE), bool)
    matters[2:4, 5:7] = True
    assert (found[:, matters] > 0).all()
    assert (found[:, ~matters] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_it_is_the_gradient_by_differences(kind):
    classifier = make_classifier(kind)
    classifier.model.eval()
    crops, classes = some_crops(1), np.array([1])
    found = saliency(classifier, crops, classes, samples=1, noise=0, rng=np.random.default_rng(0))
    inputs = classifier.inputs(crops).numpy().astype(np.float64)
    step, rng = 1e-2, np.random.default_rng(2)
    errors = []
    for y, x in rng.integers(0, SIZE, (12, 2)):
        gradient = np.zeros(3)
        for colour in range(3):
            ends = []
            for side in (-1, 1):
                moved = inputs.copy()
                moved[0, y, x, colour] += side * step
                ends.append(log_odds(classifier, moved, classes)[0])
            gradient[colour] = (ends[1] - ends[0]) / (2 * step)
        expected = np.linalg.norm(gradient / SCALE.std)
        errors.append(abs(found[0, y, x] - expected) / max(found.max(), expected))
    # A relu or a maximum may turn within a step; most pixels have none that does.
    assert np.median(errors) < 0.01


def test_noise_averages_gradients(quadratic):
    """The gradient is linear in the pixels, so its mean over noise is that of the crop itself."""
    crops, classes = some_crops(2), np.array([0, 2])
    plain = saliency(quadratic, crops, classes, samples=1, noise=0, rng=np.random.default_rng(0))
    # One with scores alike: there the log odds are linear in the scores as well.
    one = saliency(quadratic, crops, classes, samples=400, noise=0.01, rng=np.random.default_rng(0))
    np.testing.assert_allclose(one, plain, rtol=0.05, atol=1e-3 * plain.max())


def test_leaves_the_model_as_it_was():
    classifier = make_classifier("cnn")
    before = classifier.model.state_dict()
    saliency(classifier, some_crops(), np.array([0, 1, 2, 0]), rng=np.random.default_rng(0))
    for parameter in classifier.model.parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
    for name, array in classifier.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_the_same_generator_gives_the_same_picture_and_batches_do_not_matter():
    classifier = make_classifier("cnn")
    crops = some_crops(150)
    classes = np.arange(150) % 3
    many = saliency(classifier, crops, classes, samples=1, noise=0, rng=np.random.default_rng(0))
    few = saliency(
        classifier, crops[140:], classes[140:], samples=1, noise=0, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(many[140:], few, rtol=1e-4, atol=1e-5 * many.max())
    one, two = (
        saliency(classifier, crops[:2], classes[:2], samples=3, rng=np.random.default_rng(5))
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"noise": -0.1}])
def test_refuses(wrong):
    classifier = make_classifier("mlp")
    with pytest.raises(ValueError, match="at least 1 sample and noise from 0 on"):
        saliency(classifier, some_crops(1), np.array([0]), rng=np.random.default_rng(0), **wrong)
