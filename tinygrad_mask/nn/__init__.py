"""Neural networks: modules, layers and initial weights."""

from tinygrad_mask.nn import init
from tinygrad_mask.nn.activation import LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from tinygrad_mask.nn.containers import (
    ModuleDict,
    ModuleList,
    ParameterDict,
    ParameterList,
    Sequential,
)
from tinygrad_mask.nn.convolution import Conv2d
from tinygrad_mask.nn.layers import Dropout, Flatten, Identity, Linear, Upsample
from tinygrad_mask.nn.module import Module, Parameter
from tinygrad_mask.nn.normalisation import BatchNorm, GroupNorm, LayerNorm
from tinygrad_mask.nn.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
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
    "Softmax",
    "Tanh",
    "Upsample",
    "init",
]
