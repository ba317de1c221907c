"""Dropout."""

from typing import TYPE_CHECKING

import numpy as np

from tinygrad_mask.autograd import Function, Node, option_of
from tinygrad_mask.backends import Array
from tinygrad_mask.random import as_generator

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class DropoutFunction(Function):
    """Elements set to zero at random, the others scaled so that the expectation stays."""

    name = "dropout"

    @staticmethod
    def forward(ctx: Node, x: Array, mask: Array, p: float) -> Array:
        ctx.scale = 1 / (1 - p) if p < 1 else 0.0
        ctx.save_for_backward(mask)
        return x * mask * ctx.scale

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (mask,) = ctx.saved_arrays
        return grad_output * mask * ctx.scale

    differentiable_backward = backward


def dropout(
    x: "Tensor", p: float = 0.5, rng: np.random.Generator | None = None, *, training: bool = True
) -> "Tensor":
    """Return x with each element zeroed with probability `p`, the others times 1 / (1 - p).

    The mask is drawn from `rng`, by default the generator that `manual_seed` seeds. With p = 1 the
    result is zero; without `training` it is x itself. Formula: Srivastava et al. 2014, in the
    'inverted' form.

    Raises:
        ValueError: not 0 <= p <= 1.
        TypeError: `rng` is not a generator.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: expected 0 <= p <= 1, got {p}")
    if isinstance(rng, bool):
        raise TypeError(
            f"dropout: expected rng to be a numpy.random.Generator, got {rng}; write training={rng}"
        )
    generator = as_generator("dropout", rng)
    if not training:
        return x
    p = option_of("dropout", "p", p)
    mask = x.backend.bernoulli(generator, 1 - p, x.shape, x.dtype)
    return DropoutFunction.apply(x, mask=mask, p=p)
