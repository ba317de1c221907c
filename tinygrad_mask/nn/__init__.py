"""Neural networks: modules, layers and initial weights."""

from typing import TYPE_CHECKING

from tinygrad_mask.nn import init
from tinygrad_mask.nn.activation import (
    ELU,
    GELU,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from tinygrad_mask.nn.containers import (
    ModuleDict,
    ModuleList,
    ParameterDict,
    ParameterList,
    Sequential,
)
from tinygrad_mask.nn.convolution import Conv2d, ConvTranspose2d
from tinygrad_mask.nn.layers import Dropout, Embedding, Flatten, Identity, Linear, Upsample
from tinygrad_mask.nn.loss import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    L1Loss,
    MSELoss,
    SmoothL1Loss,
)
from tinygrad_mask.nn.module import Module, Parameter
from tinygrad_mask.nn.normalisation import BatchNorm, GroupNorm, LayerNorm
from tinygrad_mask.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d

__all__ = [
    "ELU",
    "GELU",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Hardtanh",
    "Identity",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "Upsample",
    "init",
]

if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name):
        from tinygrad_mask.equivalents import no_attribute
        from tinygrad_mask.nn.equivalents import equivalent_of

        raise no_attribute(__name__, name, equivalent_of(name), "{0} has no {1}")


def __dir__() -> list[str]:
    return sorted(__all__)
