"""The error function and what is made of it, the Gaussian error linear unit."""

import math
from typing import TYPE_CHECKING, Any

from tinygrad_mask.autograd import Function, Node
from tinygrad_mask.backends import Array
from tinygrad_mask.functions.activation import tanh
from tinygrad_mask.functions.elementwise import exp

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor

# Chebyshev series, computed with mpmath to 40 digits; what is left out is below 1e-17.
_NEAR = (
    0.9754769393826541,
    -0.14226120510371365,
    0.010035582187599796,
    -0.0005768764699767485,
    2.741993125219606e-05,
    -1.1043175507344507e-06,
    3.8488755420345036e-08,
    -1.1808582533875466e-09,
    3.2334215826050907e-11,
    -7.991015947004549e-13,
    1.7990725113961456e-14,
    -3.718635487818693e-16,
    7.103599003714253e-18,
)
"""Of erf(x) / x in u = x**2, for u from 0 to 1."""

_FAR = (
    -0.7225506374061091,
    0.27430720878459447,
    0.0048938741789527045,
    -0.000749455711335077,
    -4.7304345082638056e-05,
    5.513677106379243e-06,
    4.649846842346955e-07,
    -6.245716691208546e-08,
    -4.407154307716952e-09,
    8.579689133962873e-10,
    3.0328911802669214e-11,
    -1.2114187360543218e-11,
    9.840387704217814e-14,
    1.5484347445502127e-13,
    -9.159846762507716e-15,
    -1.5223606548518827e-15,
    2.0972022267934158e-16,
    6.032099502358578e-18,
)
"""Of log(erfc(z) exp(z**2) / t) in t = 2 / (2 + z), for z from 1 to 6, where erf(z) is 1."""


def _series(coefficients: tuple[float, ...], x: Array) -> Array:
    """The sum of a Chebyshev series at x in [-1, 1] (Clenshaw's recurrence)."""
    twice = 2 * x
    b1: Any = 0.0
    b2: Any = 0.0
    for c in coefficients[:0:-1]:
        b1, b2 = twice * b1 - b2 + c, b1
    return x * b1 - b2 + coefficients[0]


class ErfFunction(Function):
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""

    name = "erf"
    elementwise = True

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        xp = ctx.xp
        ctx.save_for_backward(x)
        size = xp.abs(x)
        near = xp.minimum(size, 1)
        small = x * _series(_NEAR, 2 * near * near - 1)
        z = xp.clip(size, 1, 6)
        t = 2 / (2 + z)
        # From [1/4, 2/3] to [-1, 1].
        rest = t * xp.exp(_series(_FAR, (t - 11 / 24) * (24 / 5)) - z * z)
        return xp.where(size > 1, xp.copysign(1 - rest, x), small)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        (x,) = ctx.saved_arrays
        return grad_output * (2 / math.sqrt(math.pi)) * ctx.xp.exp(-x * x)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        (x,) = ctx.saved_tensors
        return grad_output * (2 / math.sqrt(math.pi)) * exp(-x * x)


def erf(x: "Tensor") -> "Tensor":
    """Return the error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Accurate to a few units in the last place.
    """
    return ErfFunction.apply(x)


def gelu(x: "Tensor", approximate: str = "none") -> "Tensor":
    """Return x * Phi(x), Phi the distribution function of a standard normal variable.

    With `approximate="tanh"` Phi is replaced by a formula with a hyperbolic tangent, which is
    faster. Formulas: Hendrycks and Gimpel 2016, section 2.
    """
    if x.dtype.kind != "f":
        raise TypeError(f"gelu: expected a floating dtype, got {x.dtype}")
    if approximate == "none":
        return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    raise ValueError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}")
