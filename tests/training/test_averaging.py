"""The moving average of a model's weights."""

import numpy as np
import pytest

from tinygrad_mask import Tensor, nn
from tinygrad_mask.training import WeightAverage


def make_model():
    rng = np.random.default_rng(0)
    return nn.Sequential(nn.Linear(2, 3, rng=rng), nn.BatchNorm(3))


def walk(model, average, steps, seed=0):
    """Change all weights and statistics at random; return what they were, step by step."""
    rng = np.random.default_rng(seed)
    states = [model.state_dict()]
    for _ in range(steps):
        state = {
            name: rng.uniform(0.1, 2, value.shape).astype(np.float32)
            for name, value in states[0].items()
        }
        model.load_state_dict(state)
        average.update()
        states.append(model.state_dict())
    return states


def test_is_the_sum_by_hand():
    model = make_model()
    average = WeightAverage(model, 0.6)
    states = walk(model, average, 12)
    expected = {name: value.astype(np.float64) for name, value in states[0].items()}
    for step, state in enumerate(states[1:]):
        decay = min(0.6, (1 + step) / (10 + step))
        for name, value in state.items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    with average.applied():
        for name, value in model.state_dict().items():
            np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


def test_the_models_own_weights_come_back():
    model = make_model()
    average = WeightAverage(model, 0.9)
    last = walk(model, average, 5)[-1]
    x = Tensor(np.ones((4, 2), np.float32))
    own = model.eval()(x).numpy()
    with average.applied():
        assert abs(model(x).numpy() - own).max() > 1e-3
    np.testing.assert_array_equal(model(x).numpy(), own)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, last[name])


def test_goes_on_from_its_state_as_if_unbroken():
    models = [make_model(), make_model()]
    averages = [WeightAverage(model, 0.9) for model in models]
    for model, average in zip(models, averages, strict=True):
        walk(model, average, 4)
    resumed = WeightAverage(models[1], 0.9)
    resumed.load_state_dict(averages[1].state_dict())
    walk(models[0], averages[0], 3, seed=1)
    walk(models[1], resumed, 3, seed=1)
    for name, value in averages[0].state_dict().items():
        np.testing.assert_array_equal(value, resumed.state_dict()[name])


@pytest.mark.parametrize("name", ["step_count", "0.weight", "1.running_mean"])
def test_the_state_of_another_model_is_refused(name):
    average = WeightAverage(make_model(), 0.9)
    state = average.state_dict()
    state.pop(name)
    with pytest.raises(ValueError, match="not of this model's weights"):
        average.load_state_dict(state)
