"""Images of another size, NHWC."""

from typing import TYPE_CHECKING, Any

from tinygrad_mask.autograd import Function, GradientFunction, Node
from tinygrad_mask.backends import Array, Resize
from tinygrad_mask.functions.convolution import Pair, as_pair
from tinygrad_mask.functions.shape import check_size

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor

MODES = ("nearest", "bilinear")

# A step of in / out pixels is rounded, and r * step must not fall short of an integer if
# r * in / out is one. No other place is so close below one, for less than 2^24 pixels a side.
_NEVER_SHORT = 1 + 2**-50


class InterpolateFunction(Function):
    """Pixels of a resized image: each is the nearest one, or linear between neighbours."""

    name = "interpolate"

    @staticmethod
    def forward(ctx: Node, x: Array, resize: Resize) -> Array:
        ctx.input_shape, ctx.resize = x.shape, resize
        return ctx.backend.interpolate(x, resize)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return ctx.backend.interpolate_grad(grad_output, ctx.input_shape, ctx.resize)

    @staticmethod
    def differentiable_backward(ctx: Any, grad_output: "Tensor") -> "Tensor":
        return InterpolateGradientFunction.apply(
            grad_output, input_shape=ctx.input_shape, resize=ctx.resize
        )


class InterpolateGradientFunction(GradientFunction):
    """The gradient of `interpolate`, which is linear: its own gradient is `interpolate`."""

    name = "interpolate_gradient"

    @staticmethod
    def forward(
        ctx: Node, grad_output: Array, input_shape: tuple[int, ...], resize: Resize
    ) -> Array:
        ctx.resize = resize
        return ctx.backend.interpolate_grad(grad_output, input_shape, resize)

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        return ctx.backend.interpolate(grad_output, ctx.resize)

    @staticmethod
    def differentiable_backward(ctx: Any, grad_output: "Tensor") -> "Tensor":
        return InterpolateFunction.apply(grad_output, resize=ctx.resize)


def interpolate(
    x: "Tensor",
    size: Pair | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> "Tensor":
    """Resize the images `x` (N, H, W, C) to `size` (P, Q), or to `scale_factor` times their size.

    Args:
        x: the images.
        size: rows and columns, or one number for both.
        scale_factor: of both axes, or of rows and columns; the size is rounded down. Exactly one of
            `size` and `scale_factor` is given.
        mode: `nearest` or `bilinear`. Neither filters: for less than half the size, pool first.
        align_corners: only with `bilinear`. If set, the centers of the corner pixels coincide
            before and after; if not (the default), the corners of the images do.

    The conventions, and the places of pixels, are PyTorch's. Raises `ValueError` for arguments that
    do not fit.
    """
    if x.ndim != 4 or 0 in x.shape[1:3]:
        raise ValueError(f"interpolate: expected an input of shape NHWC, got {x.shape}")
    if mode not in MODES:
        raise ValueError(f"interpolate: mode: expected 'nearest' or 'bilinear', got {mode!r}")
    if mode == "nearest" and align_corners is not None:
        raise ValueError(
            f"interpolate: align_corners: expected None with mode 'nearest', got {align_corners!r}"
        )
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"interpolate: expected either size or scale_factor, got size={size!r} and "
            f"scale_factor={scale_factor!r}"
        )
    sides = x.shape[1:3]
    if size is not None:
        p, q = as_pair("interpolate", "size", size)
        steps = (sides[0] / p, sides[1] / q)
    else:
        scales = _as_scales(scale_factor)
        # A product of more than a float can hold is refused as all other lengths are.
        p, q = (int(min(n * s, 2.0**63)) for n, s in zip(sides, scales, strict=True))
        if p < 1 or q < 1:
            raise ValueError(
                f"interpolate: scale_factor: expected at least one row and column, got "
                f"{scale_factor!r} for images of {sides[0]}x{sides[1]}"
            )
        steps = (
            _step_of_scale(sides[0], p, scales[0], mode),
            _step_of_scale(sides[1], q, scales[1], mode),
        )
    check_size("interpolate", x.shape[0], p, q, x.shape[3])
    if align_corners:
        steps = (_step_of_corners(sides[0], p), _step_of_corners(sides[1], q))
    elif mode == "nearest":
        steps = (steps[0] * _NEVER_SHORT, steps[1] * _NEVER_SHORT)
    resize = Resize((p, q), steps, mode == "bilinear", bool(align_corners))
    return InterpolateFunction.apply(x, resize=resize)


def _as_scales(scale_factor: Any) -> tuple[float, float]:
    pair = scale_factor if isinstance(scale_factor, tuple | list) else (scale_factor, scale_factor)
    numbers = all(isinstance(s, int | float) and 0 < s < float("inf") for s in pair)
    if len(pair) != 2 or not numbers:
        raise ValueError(
            "interpolate: scale_factor: expected a positive number, or two, for rows and columns, "
            f"got {scale_factor!r}"
        )
    return float(pair[0]), float(pair[1])


def _step_of_scale(before: int, after: int, scale: float, mode: str) -> float:
    """Input pixels per output pixel for a scale factor.

    As in PyTorch, a length that rounds to the same is copied, and with `nearest` each pixel of one
    that rounds to twice the length comes twice.
    """
    if after == before:
        return 1.0
    if mode == "nearest" and after == 2 * before:
        return 0.5
    return 1 / scale


def _step_of_corners(before: int, after: int) -> float:
    """Input pixels per output pixel if the first and the last pixels coincide."""
    return (before - 1) / (after - 1) if after > 1 else 0.0
