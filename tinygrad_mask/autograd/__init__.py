"""Reverse-mode automatic differentiation: the recorded graph, and the walk back along it.

Every primitive is a `Function`. Applying one to variables computes its result and, where a gradient
will be wanted, leaves a `Node`: the function, the arrays it saved, and an edge for each input that
leads to the node which made that input (or, for a leaf, to the variable that collects it).
Edges only ever lead to older nodes, and a node never refers to its own output, so that the graph
holds no reference cycle and is freed as soon as it is no longer referenced.

`backward` and `grad` walk it with plain arrays. With `create_graph` they walk it with variables
instead, and every step is recorded in its turn: see `Function.differentiable_backward`.
"""

from tinygrad_mask.autograd.graph import Function, GradientFunction, Node, sum_over, sum_to_shape
from tinygrad_mask.autograd.modes import (
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from tinygrad_mask.autograd.observers import BackwardObserver, observing
from tinygrad_mask.autograd.variable import (
    Variable,
    Version,
    array_of,
    check_ends_no_graph,
    constant_of,
    mixed_dtypes,
    number_for,
    option_of,
    plain_array,
    shape_of,
)
from tinygrad_mask.autograd.walk import backward, grad, output_gradient

__all__ = [
    "BackwardObserver",
    "Function",
    "GradientFunction",
    "Node",
    "Variable",
    "Version",
    "array_of",
    "backward",
    "check_ends_no_graph",
    "constant_of",
    "enable_grad",
    "grad",
    "is_grad_enabled",
    "mixed_dtypes",
    "no_grad",
    "number_for",
    "observing",
    "option_of",
    "output_gradient",
    "plain_array",
    "set_grad_enabled",
    "shape_of",
    "sum_over",
    "sum_to_shape",
]
