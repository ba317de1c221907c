"""The primitives, and the functions that apply them: `import tinygrad_mask.functions as F`.

Nothing here imports a tensor when it runs: functions work on whatever `Variable` they are given,
and their annotations name `Tensor` because that is what it is. `PRIMITIVES` has every primitive by
its name. Families that only networks need are loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tinygrad_mask.autograd import Function, GradientFunction
from tinygrad_mask.functions.activation import (
    elu,
    hardtanh,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from tinygrad_mask.functions.conversion import Conversion
from tinygrad_mask.functions.dropout import dropout
from tinygrad_mask.functions.elementwise import (
    abs,
    add,
    clip,
    divide,
    exp,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    sqrt,
    subtract,
    where,
)
from tinygrad_mask.functions.linear import linear
from tinygrad_mask.functions.matmul import matmul
from tinygrad_mask.functions.reduction import logsumexp, max, mean, min, std, sum, var
from tinygrad_mask.functions.shape import (
    broadcast_to,
    concatenate,
    getitem,
    pad,
    permute,
    reshape,
    stack,
)
from tinygrad_mask.functions.shape import (
    concatenate as cat,
)

if TYPE_CHECKING:
    from tinygrad_mask.functions.accumulation import cumsum, prod
    from tinygrad_mask.functions.arrangement import (
        chunk,
        expand,
        flatten,
        flip,
        split,
        squeeze,
        transpose,
        unsqueeze,
    )
    from tinygrad_mask.functions.contraction import einsum
    from tinygrad_mask.functions.convolution import conv2d
    from tinygrad_mask.functions.discrete import all, any, argmax, argmin
    from tinygrad_mask.functions.gaussian import erf, gelu
    from tinygrad_mask.functions.group_normalisation import group_norm, layer_norm
    from tinygrad_mask.functions.likelihood import nll_loss
    from tinygrad_mask.functions.lookup import (
        embedding,
        gather,
        masked_fill,
        one_hot,
        take_along_axis,
    )
    from tinygrad_mask.functions.loss import (
        binary_cross_entropy_with_logits,
        cross_entropy,
        squared_error,
    )
    from tinygrad_mask.functions.normalisation import batch_norm
    from tinygrad_mask.functions.norms import norm, normalize
    from tinygrad_mask.functions.pooling import (
        adaptive_avg_pool2d,
        avg_pool2d,
        global_avg_pool2d,
        max_pool2d,
    )
    from tinygrad_mask.functions.regression import l1_loss, mse_loss, smooth_l1_loss
    from tinygrad_mask.functions.resizing import interpolate
    from tinygrad_mask.functions.rounding import floor_divide, remainder, round
    from tinygrad_mask.functions.transposed_convolution import conv_transpose2d

__all__ = [
    "PRIMITIVES",
    "abs",
    "adaptive_avg_pool2d",
    "add",
    "all",
    "any",
    "argmax",
    "argmin",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "broadcast_to",
    "cat",
    "chunk",
    "clip",
    "concatenate",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "cumsum",
    "divide",
    "dropout",
    "einsum",
    "elu",
    "embedding",
    "erf",
    "exp",
    "expand",
    "flatten",
    "flip",
    "floor_divide",
    "gather",
    "gelu",
    "getitem",
    "global_avg_pool2d",
    "group_norm",
    "hardtanh",
    "interpolate",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log",
    "log_softmax",
    "logsumexp",
    "masked_fill",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mse_loss",
    "multiply",
    "negative",
    "nll_loss",
    "norm",
    "normalize",
    "one_hot",
    "pad",
    "permute",
    "power",
    "prod",
    "relu",
    "remainder",
    "reshape",
    "round",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "squared_error",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "take_along_axis",
    "tanh",
    "transpose",
    "unsqueeze",
    "var",
    "where",
]


_ON_FIRST_USE = {
    "chunk": "arrangement",
    "expand": "arrangement",
    "flatten": "arrangement",
    "flip": "arrangement",
    "split": "arrangement",
    "squeeze": "arrangement",
    "transpose": "arrangement",
    "unsqueeze": "arrangement",
    "all": "discrete",
    "any": "discrete",
    "argmax": "discrete",
    "argmin": "discrete",
    "gather": "lookup",
    "masked_fill": "lookup",
    "one_hot": "lookup",
    "take_along_axis": "lookup",
    "cumsum": "accumulation",
    "prod": "accumulation",
    "norm": "norms",
    "normalize": "norms",
    "floor_divide": "rounding",
    "remainder": "rounding",
    "round": "rounding",
    "einsum": "contraction",
    "erf": "gaussian",
    "gelu": "gaussian",
    "embedding": "lookup",
    "nll_loss": "likelihood",
    "adaptive_avg_pool2d": "pooling",
    "l1_loss": "regression",
    "mse_loss": "regression",
    "smooth_l1_loss": "regression",
    "conv_transpose2d": "transposed_convolution",
    "conv2d": "convolution",
    "group_norm": "group_normalisation",
    "layer_norm": "group_normalisation",
    "binary_cross_entropy_with_logits": "loss",
    "cross_entropy": "loss",
    "squared_error": "loss",
    "batch_norm": "normalisation",
    "avg_pool2d": "pooling",
    "global_avg_pool2d": "pooling",
    "max_pool2d": "pooling",
    "interpolate": "resizing",
}
"""The families of the functions that are loaded on first use. A function with the name of its own
family cannot be among them, because the module would take its place.
"""


if TYPE_CHECKING:
    PRIMITIVES: dict[str, type[Function]]


def __getattr__(name: str) -> Any:
    if name == "PRIMITIVES":
        for family in set(_ON_FIRST_USE.values()):
            importlib.import_module(f"{__name__}.{family}")
        value: Any = {
            leaf.name: leaf
            for leaf in _leaves(Function)
            if not issubclass(leaf, (GradientFunction, Conversion))
        }
    elif name in _ON_FIRST_USE:
        value = getattr(importlib.import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    else:
        from tinygrad_mask.equivalents import FUNCTIONS, no_attribute

        raise no_attribute(__name__, name, FUNCTIONS.get(name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _leaves(function: type[Function]) -> list[type[Function]]:
    """The functions of this package that no other is a subclass of."""
    ours = [c for c in function.__subclasses__() if c.__module__.startswith(f"{__name__}.")]
    return [leaf for child in ours for leaf in _leaves(child)] or [function]
