"""Negative log-likelihoods in their general form: soft targets, ignored rows, any reduction.

The mean over rows with hard targets, which training needs, has a kernel of its own; see `loss`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_mask.autograd import Variable, array_of, constant_of
from tinygrad_mask.functions.activation import log_softmax, softplus
from tinygrad_mask.functions.elementwise import where
from tinygrad_mask.functions.regression import reduce_losses
from tinygrad_mask.functions.shape import getitem

if TYPE_CHECKING:
    from tinygrad_mask.backends import Array
    from tinygrad_mask.tensor import Tensor

IGNORED = -100
"""The target of rows that are ignored unless another is named, as in PyTorch."""


def as_labels(name: str, scores: "Tensor", target: Any, ignore_index: int) -> "Array":
    """Return integer targets (N,) for scores (N, K) as an array of their device.

    Raises `TypeError` for another dtype, `ValueError` for another shape, or, unless the target lies
    in the memory of a GPU, for a class that is neither in [0, K) nor ignored.
    """
    labels: Any = target
    if not isinstance(target, Variable | scores.backend.xp.ndarray):
        labels = np.asarray(target)
    labels = array_of(labels, scores.backend, name)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"{name}: expected scores (N, K) and a target (N,), "
            f"got {scores.shape} and {labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an integer target, got dtype {labels.dtype}")
    if isinstance(labels, np.ndarray):
        classes = scores.shape[1]
        known = labels[labels != ignore_index]
        if known.size and not 0 <= int(known.min()) <= int(known.max()) < classes:
            raise ValueError(
                f"{name}: expected targets in 0..{classes - 1} or {ignore_index}, "
                f"got {int(known.min())}..{int(known.max())}"
            )
    return labels


def class_weights(name: str, scores: "Tensor", weight: Any) -> "Array | None":
    """Return class weights (K,) as an array; raises if they do not fit or require a gradient."""
    if weight is None:
        return None
    weights = constant_of(weight, scores.backend, name, "weight", scores.dtype)
    if weights.shape != scores.shape[1:] or weights.dtype != scores.dtype:
        raise ValueError(
            f"{name}: expected weights {scores.shape[1:]} of dtype {scores.dtype}, "
            f"got {weights.shape} of {weights.dtype}"
        )
    return weights


def nll_loss(
    log_probabilities: "Tensor",
    target: "Tensor | Array",
    weight: "Tensor | Array | None" = None,
    ignore_index: int = IGNORED,
    reduction: str = "mean",
) -> "Tensor":
    """Return the mean of minus the log-probability, (N, K), of each row's target, (N,).

    `cross_entropy` of logits is this of their `log_softmax`. With class weights (K,) each row
    counts with the weight of its class, in the mean too. Rows whose target is `ignore_index` do not
    count. `reduction` is "mean", "sum" or "none". Raises `ValueError` or `TypeError` if something
    does not fit, `ValueError` for a mean of no rows.
    """
    name = "nll_loss"
    labels = as_labels(name, log_probabilities, target, ignore_index)
    weights = class_weights(name, log_probabilities, weight)
    return _hard(name, log_probabilities, labels, weights, 0.0, ignore_index, reduction)


def _hard(
    name: str,
    log_probabilities: "Tensor",
    labels: "Array",
    weights: "Array | None",
    label_smoothing: float,
    ignore_index: int,
    reduction: str,
) -> "Tensor":
    xp, dtype = log_probabilities.backend.xp, log_probabilities.dtype
    keep = labels != ignore_index
    safe = xp.where(keep, labels, 0)
    shares = keep.astype(dtype) if weights is None else xp.where(keep, weights[safe], 0)
    picked = getitem(log_probabilities, (xp.arange(len(labels)), safe))
    # An ignored row, or a class of weight 0, counts for nothing even if it is infinite.
    losses = where(shares != 0, -picked * log_probabilities.wrap(shares), 0.0)
    if label_smoothing:
        weighted = log_probabilities
        if weights is not None:
            # A class of weight 0 counts for nothing, even an impossible one.
            weighted = where(weights != 0, weighted * log_probabilities.wrap(weights), 0.0)
        spread = where(keep, -weighted.sum(axis=1), 0.0)
        losses = (1 - label_smoothing) * losses + label_smoothing / weighted.shape[1] * spread
    if reduction != "mean":
        return reduce_losses(name, losses, reduction)
    total = shares.sum()
    if isinstance(labels, np.ndarray) and not total:
        raise ValueError(f"{name}: expected at least one row that counts for a mean, got none")
    return losses.sum() / log_probabilities.wrap(total)


def general_cross_entropy(
    logits: "Tensor",
    target: "Tensor | Array",
    weight: "Tensor | Array | None",
    label_smoothing: float,
    ignore_index: int,
    reduction: str,
) -> "Tensor":
    """Return `cross_entropy` in the cases for which there is no kernel."""
    name = "cross_entropy"
    log_probabilities = log_softmax(logits, axis=1)
    weights = class_weights(name, logits, weight)
    if not is_soft(logits, target):
        labels = as_labels(name, logits, target, ignore_index)
        return _hard(
            name, log_probabilities, labels, weights, label_smoothing, ignore_index, reduction
        )
    wanted: Any = target
    if not isinstance(target, Variable):
        wanted = logits.wrap(array_of(target, logits.backend, name))
    if label_smoothing:
        wanted = (1 - label_smoothing) * wanted + label_smoothing / logits.shape[1]
    costs = -wanted * log_probabilities
    if not wanted.requires_grad:  # a class that is not wanted costs nothing, even an impossible one
        costs = where(wanted.data != 0, costs, 0.0)
    if weights is not None:
        costs = costs * logits.wrap(weights)
    return reduce_losses(name, costs.sum(axis=1), reduction)


def is_soft(logits: "Tensor", target: Any) -> bool:
    """Whether a target holds the probability of each class, of the logits' shape and dtype."""
    if not isinstance(target, Variable):
        target = np.asarray(target) if not hasattr(target, "dtype") else target
    return target.shape == logits.shape and logits.ndim == 2 and target.dtype == logits.dtype


def general_binary_cross_entropy(
    logits: "Tensor",
    target: "Tensor | Array",
    weight: "Tensor | Array | None",
    pos_weight: "Tensor | Array | None",
    reduction: str,
) -> "Tensor":
    """Return `binary_cross_entropy_with_logits` in the cases for which there is no fast way.

    With pos_weight p it is (1 - y) log(1 + exp(x)) + p y log(1 + exp(-x)), as in PyTorch; what is
    multiplied by 0 counts for nothing, even if it is infinite.
    """
    name = "binary_cross_entropy_with_logits"
    wanted = logits.wrap(constant_of(target, logits.backend, name, "target", logits.dtype))
    if wanted.shape != logits.shape:
        raise ValueError(
            f"{name}: expected logits and a target of one shape, "
            f"got {logits.shape} and {wanted.shape}"
        )
    # Up to 40 the logarithm differs from its asymptote by more than rounding.
    positive = where(wanted.data != 0, wanted * softplus(-logits, threshold=40.0), 0.0)
    negative = where(wanted.data != 1, (1 - wanted) * softplus(logits, threshold=40.0), 0.0)
    if pos_weight is not None:
        share = constant_of(pos_weight, logits.backend, name, "pos_weight", logits.dtype)
        positive = positive * logits.wrap(share)
    losses = positive + negative
    if weight is not None:
        scale = constant_of(weight, logits.backend, name, "weight", logits.dtype)
        losses = losses * logits.wrap(scale)
    if losses.shape != logits.shape:
        raise ValueError(
            f"{name}: expected weights that broadcast to the logits {logits.shape}, "
            f"got losses of {losses.shape}"
        )
    return reduce_losses(name, losses, reduction)
