"""Optimisers, learning-rate schedules and gradient clipping."""

from typing import TYPE_CHECKING

from tinygrad_mask.equivalents import no_attribute
from tinygrad_mask.optim.adam import Adam, AdamW
from tinygrad_mask.optim.clipping import clip_grad_norm, clip_grad_value
from tinygrad_mask.optim.decay import (
    CosineLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    StepLR,
)
from tinygrad_mask.optim.one_cycle import OneCycleLR
from tinygrad_mask.optim.optimizer import Optimizer
from tinygrad_mask.optim.plateau import ReduceLROnPlateau
from tinygrad_mask.optim.rmsprop import RMSprop
from tinygrad_mask.optim.schedule import Schedule
from tinygrad_mask.optim.sequential import SequentialLR
from tinygrad_mask.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm",
    "clip_grad_value",
]

_EQUIVALENTS = {
    "lr_scheduler": "schedules are in optim itself, for instance optim.StepLR",
    "schedules": "schedules are in optim itself, for instance optim.StepLR",
    "LRScheduler": "the base class is optim.Schedule",
    "CosineAnnealingLR": "use optim.CosineLR(optimizer, total_steps, final_lr)",
    "CosineDecay": "use optim.CosineLR(optimizer, total_steps, final_lr)",
    "ExponentialDecay": "use optim.ExponentialLR(optimizer, gamma)",
    "PiecewiseConstantDecay": "use optim.MultiStepLR(optimizer, milestones, gamma)",
    "LearningRateSchedule": "the base class is optim.Schedule",
    "ConstantLR": "use optim.LambdaLR(optimizer, lambda step: factor if step < total_steps else 1)",
    "PolynomialLR": "use optim.LambdaLR(optimizer, lambda step: (1 - step / total_steps) ** power)",
    "MultiplicativeLR": "use optim.LambdaLR with the product of the factors up to a step",
    "ChainedScheduler": "use optim.SequentialLR, or optim.LambdaLR with a product",
    "CyclicLR": "use optim.OneCycleLR",
    "CosineAnnealingWarmRestarts": "use optim.SequentialLR of several optim.CosineLR",
    "clip_grad_norm_": "use optim.clip_grad_norm(parameters, max_norm)",
    "clip_grad_value_": "use optim.clip_grad_value(parameters, max_value)",
    "RMSProp": "use optim.RMSprop",
    "Adagrad": "there is none; use optim.RMSprop or optim.Adam",
    "Adadelta": "there is none; use optim.RMSprop or optim.Adam",
    "Adafactor": "there is none; use optim.AdamW",
    "Adamax": "there is none; use optim.Adam",
    "NAdam": "there is none; use optim.Adam, or optim.SGD with nesterov=True",
    "Nadam": "there is none; use optim.Adam, or optim.SGD with nesterov=True",
    "RAdam": "there is none; use optim.Adam with a warm-up, optim.LinearLR",
    "SparseAdam": "there is none; gradients are dense, use optim.Adam",
    "Lion": "there is none; use optim.AdamW",
    "Muon": "there is none; use optim.AdamW",
    "ASGD": "there is none; average the weights of optim.SGD yourself",
    "LBFGS": "there is none; use optim.Adam, or scipy.optimize on model.state_dict()",
    "Rprop": "there is none; use optim.RMSprop",
    "Ftrl": "there is none; use optim.Adam",
}
"""What to use for names that exist in PyTorch or Keras."""


if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name):
        raise no_attribute(__name__, name, _EQUIVALENTS.get(name), "{0} has no {1}")


def __dir__() -> list[str]:
    return sorted(__all__)
