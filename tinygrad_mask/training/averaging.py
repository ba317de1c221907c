"""A moving average of a model's weights, steadier than the weights of the last step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_mask.backends import Array
from tinygrad_mask.nn import Module
from tinygrad_mask.training.callbacks import Callback

if TYPE_CHECKING:
    from tinygrad_mask.training.trainer import Trainer


class WeightAverage(Callback):
    """An exponential moving average of all parameters and buffers of a model.

    After each step `average <- d average + (1 - d) value`, with d the smaller of `decay` and
    (1 + t) / (10 + t) at step t, so that the first, random weights are soon forgotten (as in
    TensorFlow's `ExponentialMovingAverage`). The buffers of batch normalisation are averaged as the
    weights are: the statistics belong to the weights.

    As a callback of a `Trainer` it is updated after each step; validation and `Trainer.averaged`
    use its weights.
    """

    name = "average"

    def __init__(self, model: Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"WeightAverage: expected 0 <= decay < 1, got {decay}")
        self.decay = decay
        self.step_count = 0
        self._tensors = dict([*model.named_parameters(), *model.named_buffers()])
        self._averages = {name: tensor.data.copy() for name, tensor in self._tensors.items()}

    def on_step_end(self, trainer: "Trainer") -> None:
        """Update the average."""
        self.update()

    def update(self) -> None:
        """Take the weights as they are after a step into the average."""
        decay = min(self.decay, (1 + self.step_count) / (10 + self.step_count))
        self.step_count += 1
        for name, average in self._averages.items():
            average *= decay
            average += (1 - decay) * self._tensors[name].data

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averages as its weights and must not be trained."""
        own = {name: tensor.data for name, tensor in self._tensors.items()}
        try:
            for name, tensor in self._tensors.items():
                tensor.data = self._averages[name]
            yield
        finally:
            for name, tensor in self._tensors.items():
                tensor.data = own[name]

    def state_dict(self) -> dict[str, Array]:
        """Return the averages by the names of the weights, and the number of steps."""
        state = {
            name: self._tensors[name].backend.to_host(average).copy()
            for name, average in self._averages.items()
        }
        return {"step_count": np.array(self.step_count), **state}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a `state_dict`; raises `ValueError` if names or shapes do not fit."""
        own = {name: average.shape for name, average in self._averages.items()}
        came = {name: np.shape(array) for name, array in state.items() if name != "step_count"}
        if own != came or "step_count" not in state:
            raise ValueError("WeightAverage: the state is not of this model's weights")
        self.step_count = int(state["step_count"])
        for name, average in self._averages.items():
            average[...] = self._tensors[name].backend.asarray(np.asarray(state[name]))
