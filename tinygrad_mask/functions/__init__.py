"""The primitives, and the functions that apply them: `import tinygrad_mask.functions as F`.

Nothing here imports a tensor when it runs: functions work on whatever `Variable` they are given,
and their annotations name `Tensor` because that is what it is. `PRIMITIVES` has every primitive by
its name.
"""

from tinygrad_mask.autograd import Function, GradientFunction
from tinygrad_mask.functions.activation import (
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from tinygrad_mask.functions.conversion import Conversion
from tinygrad_mask.functions.convolution import conv2d
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
from tinygrad_mask.functions.group_normalisation import group_norm, layer_norm
from tinygrad_mask.functions.linear import linear
from tinygrad_mask.functions.loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    squared_error,
)
from tinygrad_mask.functions.matmul import matmul
from tinygrad_mask.functions.normalisation import batch_norm
from tinygrad_mask.functions.pooling import avg_pool2d, global_avg_pool2d, max_pool2d
from tinygrad_mask.functions.reduction import logsumexp, max, mean, sum, var
from tinygrad_mask.functions.resizing import interpolate
from tinygrad_mask.functions.shape import (
    broadcast_to,
    concatenate,
    getitem,
    pad,
    permute,
    reshape,
    stack,
)

__all__ = [
    "PRIMITIVES",
    "abs",
    "add",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "broadcast_to",
    "clip",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "divide",
    "dropout",
    "exp",
    "getitem",
    "global_avg_pool2d",
    "group_norm",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "minimum",
    "multiply",
    "negative",
    "pad",
    "permute",
    "power",
    "relu",
    "reshape",
    "sigmoid",
    "silu",
    "softmax",
    "sqrt",
    "squared_error",
    "stack",
    "subtract",
    "sum",
    "tanh",
    "var",
    "where",
]


def _leaves(function: type[Function]) -> list[type[Function]]:
    below = [leaf for child in function.__subclasses__() for leaf in _leaves(child)]
    return below or [function]


PRIMITIVES: dict[str, type[Function]] = {
    leaf.name: leaf
    for leaf in _leaves(Function)
    if not issubclass(leaf, (GradientFunction, Conversion))
}
