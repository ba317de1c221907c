"""Losses of classification, and the loss of the slides: means over the batch, of shape ()."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd import Function, Node, Variable, array_of, constant_of, shape_of
from tinygrad_mask.backends import Array
from tinygrad_mask.functions.activation import sigmoid, softmax
from tinygrad_mask.functions.likelihood import (
    IGNORED,
    general_binary_cross_entropy,
    general_cross_entropy,
    is_soft,
)

if TYPE_CHECKING:
    from tinygrad_mask.tensor import Tensor


class SquaredError(Function):
    """1/N sum_i 1/2 ||y_hat_i - y_i||^2, N the length of the first axis."""

    name = "squared_error"

    @staticmethod
    def forward(ctx: Node, prediction: Array, target: Array) -> Array:
        difference = prediction - target
        ctx.save_for_backward(difference, prediction, target)
        squares = difference * difference
        return ctx.backend.sum(squares, tuple(range(squares.ndim))) / (2 * len(prediction))

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> tuple[Array, Array | None]:
        difference, _, _ = ctx.saved_arrays
        gradient = difference * (grad_output / len(difference))
        return gradient, -gradient if ctx.needs_input_grad[1] else None

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "tuple[Tensor, Tensor | None]":
        _, prediction, target = ctx.saved_tensors
        gradient = (prediction - target) * (grad_output / len(prediction))
        return gradient, -gradient if ctx.needs_input_grad[1] else None


class CrossEntropy(Function):
    """-log softmax(logits) of the wanted class, in one pass with its gradient."""

    name = "cross_entropy"

    @staticmethod
    def forward(
        ctx: Node, logits: Array, target: Array, weight: Array | None, label_smoothing: float
    ) -> Array:
        loss, gradient = ctx.backend.cross_entropy(logits, target, weight, label_smoothing)
        ctx.label_smoothing = label_smoothing
        ctx.save_for_backward(gradient, logits, target, weight)
        return loss

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        gradient, _, _, _ = ctx.saved_arrays
        return gradient * grad_output

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        _, logits, _, _ = ctx.saved_tensors
        _, _, target, weight = ctx.saved_arrays
        n, classes = logits.shape
        xp = ctx.xp
        # The wanted distribution of each row, times the weights of its classes.
        wanted = xp.full((n, classes), ctx.label_smoothing / classes, dtype=logits.dtype)
        wanted[xp.arange(n), target] += 1 - ctx.label_smoothing
        normaliser: Any = n
        if weight is not None:
            wanted *= weight
            normaliser = weight[target].sum()
        gradient = softmax(logits, axis=1) * wanted.sum(axis=1, keepdims=True) - wanted
        return gradient * (grad_output / normaliser)


class BinaryCrossEntropyWithLogits(Function):
    """-(y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))), the mean over all elements."""

    name = "binary_cross_entropy_with_logits"

    @staticmethod
    def forward(ctx: Node, logits: Array, target: Array) -> Array:
        xp = ctx.xp
        ctx.save_for_backward(logits, target)
        # |x| times how wrong the sign of x is, plus log(1 + exp(-|x|)): the same, and neither exp
        # nor log can overflow. An infinite x on the right side costs nothing.
        size = xp.abs(logits)
        wrong = xp.where(logits > 0, 1 - target, target)
        losses = xp.where(wrong == 0, 0, wrong * size) + xp.log1p(xp.exp(-size))
        return ctx.backend.sum(losses, tuple(range(losses.ndim))) / losses.size

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Array:
        logits, target = ctx.saved_arrays
        return (ctx.backend.sigmoid(logits) - target) * (grad_output / logits.size)

    @staticmethod
    def differentiable_backward(ctx: Node, grad_output: "Tensor") -> "Tensor":
        logits, target = ctx.saved_tensors
        return (sigmoid(logits) - target) * (grad_output / logits.size)


def squared_error(prediction: "Tensor", target: "Tensor | Array") -> "Tensor":
    """Return 1/N sum_i 1/2 ||prediction_i - target_i||^2, both (N, ...), the loss of the slides.

    Raises `ValueError` where the shapes differ or N is 0.
    """
    if prediction.shape != shape_of(target):
        raise ValueError(
            f"squared_error: expected prediction and target of one shape, "
            f"got {prediction.shape} and {shape_of(target)}"
        )
    if prediction.ndim == 0 or prediction.shape[0] == 0:
        raise ValueError(f"squared_error: expected a batch of at least one, got {prediction.shape}")
    return SquaredError.apply(prediction, target)


def cross_entropy(
    logits: "Tensor",
    target: "Tensor | Array",
    *,
    weight: "Tensor | Array | None" = None,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> "Tensor":
    """Return the mean negative log-likelihood of `target` under softmax(logits).

    `logits` is (N, K), `target` (N,) integers in [0, K). With class weights (K,) the mean is
    weighted by that of each row's class. With label smoothing s the wanted distribution is
    1 - s on the target plus s / K everywhere (Szegedy et al. 2016, section 7), each class times its
    weight, as in PyTorch.

    Rows whose target is `ignore_index` do not count. `target` may also hold the probability of each
    class, (N, K) of the logits' dtype. With `reduction="sum"` or "none" the losses of the rows are
    added up or returned, (N,); for the mean of hard targets without ignored rows there is a kernel.

    Raises `ValueError` or `TypeError` where something does not fit. Only of a target in the memory
    of a GPU it is not known without waiting for it whether all are in [0, K): one that is not makes
    the loss NaN, and for ignored rows there `ignore_index` must be another than the default.
    """
    labels: Any = target
    if isinstance(target, Variable):
        labels = array_of(target, logits.backend, "cross_entropy")
    elif not isinstance(target, logits.backend.xp.ndarray):
        labels = np.asarray(target)
    if (
        reduction != "mean"
        or ignore_index != IGNORED
        or is_soft(logits, labels)
        or (isinstance(labels, np.ndarray) and bool((labels == IGNORED).any()))
    ):
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"cross_entropy: expected 0 <= label_smoothing <= 1, got {label_smoothing}"
            )
        return general_cross_entropy(
            logits, target, weight, label_smoothing, ignore_index, reduction
        )
    if logits.ndim != 2 or 0 in logits.shape or labels.shape != logits.shape[:1]:
        raise ValueError(
            "cross_entropy: expected logits (N, K), none of them 0, and a target (N,), "
            f"got {logits.shape} and {labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: expected an integer target, got dtype {labels.dtype}")
    classes = logits.shape[1]
    on_host = isinstance(labels, np.ndarray)
    if on_host and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise ValueError(
            f"cross_entropy: expected targets in 0..{classes - 1}, "
            f"got {int(labels.min())}..{int(labels.max())}"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"cross_entropy: expected 0 <= label_smoothing <= 1, got {label_smoothing}"
        )
    if weight is not None:
        weight = constant_of(weight, logits.backend, "cross_entropy", "weight", logits.dtype)
        if weight.shape != (classes,) or weight.dtype != logits.dtype:
            raise ValueError(
                f"cross_entropy: expected weights ({classes},) of dtype {logits.dtype}, "
                f"got {weight.shape} of {weight.dtype}"
            )
    if not isinstance(target, Variable):
        labels = array_of(labels, logits.backend)
    return CrossEntropy.apply(logits, target=labels, weight=weight, label_smoothing=label_smoothing)


def binary_cross_entropy_with_logits(
    logits: "Tensor",
    target: "Tensor | Array",
    weight: "Tensor | Array | None" = None,
    pos_weight: "Tensor | Array | None" = None,
    reduction: str = "mean",
) -> "Tensor":
    """Return the mean over all elements of the binary cross-entropy of sigmoid(logits).

    `target` has the logits' shape and dtype, and values in [0, 1]. `weight` multiplies each loss,
    `pos_weight` the part of each that comes from a target of 1; both broadcast to the logits.
    `reduction` is "mean", "sum" or "none". Raises `ValueError` or `TypeError` where something does
    not fit, or where there are no elements for a mean.
    """
    if weight is not None or pos_weight is not None or reduction != "mean":
        return general_binary_cross_entropy(logits, target, weight, pos_weight, reduction)
    name = "binary_cross_entropy_with_logits"
    wanted = constant_of(target, logits.backend, name, "target", logits.dtype)
    if wanted.shape != logits.shape or 0 in logits.shape:
        raise ValueError(
            "binary_cross_entropy_with_logits: expected logits and a target of one shape, not "
            f"empty, got {logits.shape} and {wanted.shape}"
        )
    if wanted.dtype != logits.dtype:
        raise TypeError(
            f"binary_cross_entropy_with_logits: expected a target of dtype {logits.dtype}, "
            f"got {wanted.dtype}"
        )
    return BinaryCrossEntropyWithLogits.apply(
        logits, target=target if isinstance(target, Variable) else wanted
    )
