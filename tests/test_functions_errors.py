"""What the functions say to arguments that do not fit: one line, what was expected, what came.

And what they must not do without a word: convert, wrap round, or use what was written to since.
"""

import re

import numpy as np
import pytest

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor

RNG = np.random.default_rng(0)


def zeros(*shape, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


V = zeros(3)
M = zeros(2, 3)
WIDE = zeros(3, dtype=np.float64)
INTEGERS = zeros(3, dtype=np.int64)
IMAGE = zeros(8, 64, 64, 4)
WEIGHT = zeros(3, 3, 4, 32)

MIXED = r"expected tensors of one dtype, got float32 and float64; convert one with .astype\(\)"
NOT_A_WINDOW = r"to be an integer >= {} or a pair of them, got {}"

CASES = {
    # --- elementwise
    "add: shapes": (
        lambda: F.add(V, zeros(2)),
        ValueError,
        r"add: shapes \(3,\), \(2,\) do not broadcast",
    ),
    "add: dtypes": (lambda: F.add(V, WIDE), TypeError, f"add: {MIXED}"),
    "add: an array of another dtype": (
        lambda: F.add(V, np.zeros(3)),
        TypeError,
        f"add: {MIXED}",
    ),
    "add: a float to integers": (
        lambda: F.add(INTEGERS, 0.5),
        TypeError,
        "add: a float does not fit a tensor of dtype int64",
    ),
    "add: no tensor": (
        lambda: F.add(1, 2),
        TypeError,
        "add: expected at least one Tensor among its inputs",
    ),
    "subtract: shapes": (
        lambda: F.subtract(M, zeros(2)),
        ValueError,
        r"subtract: shapes \(2, 3\), \(2,\) do not broadcast",
    ),
    "multiply: dtypes": (lambda: F.multiply(V, WIDE), TypeError, f"multiply: {MIXED}"),
    "divide: integers": (
        lambda: F.divide(INTEGERS, 2),
        TypeError,
        "divide: expected a floating dtype, got int64",
    ),
    "divide: shapes": (
        lambda: F.divide(V, zeros(4)),
        ValueError,
        r"divide: shapes \(3,\), \(4,\) do not broadcast",
    ),
    "power: shapes": (
        lambda: F.power(V, zeros(2)),
        ValueError,
        r"power: shapes \(3,\), \(2,\) do not broadcast",
    ),
    "power: booleans": (
        lambda: zeros(3, dtype=bool) ** 2,
        TypeError,
        r"power: expected numbers, got dtype bool; convert with astype\(\)",
    ),
    "maximum: shapes": (
        lambda: F.maximum(V, zeros(2)),
        ValueError,
        r"maximum: shapes \(3,\), \(2,\) do not broadcast",
    ),
    "minimum: dtypes": (lambda: F.minimum(V, WIDE), TypeError, f"minimum: {MIXED}"),
    "clip: limits": (
        lambda: F.clip(V, 2, 1),
        ValueError,
        "clip: expected low <= high, got 2 and 1",
    ),
    "where: condition": (
        lambda: F.where(INTEGERS, V, V),
        TypeError,
        "where: expected a boolean condition, got dtype int64",
    ),
    "where: shapes": (
        lambda: F.where(np.array([True, False]), V, V),
        ValueError,
        r"where: shapes \(3,\), \(3,\), \(2,\) do not broadcast",
    ),
    "dropout: p": (
        lambda: F.dropout(V, 1.5, RNG),
        ValueError,
        r"dropout: expected 0 <= p <= 1, got 1\.5",
    ),
    # --- activations and lookups
    "softplus: beta": (
        lambda: F.softplus(V, beta=0),
        ValueError,
        "softplus: expected beta > 0, got 0",
    ),
    "hardtanh: order": (
        lambda: F.hardtanh(V, 1, 0),
        ValueError,
        "hardtanh: expected min_val < max_val, got 1 and 0",
    ),
    "gelu: formula": (
        lambda: F.gelu(V, "sigmoid"),
        ValueError,
        "gelu: expected approximate 'none' or 'tanh', got 'sigmoid'",
    ),
    "embedding: floats": (
        lambda: F.embedding([0.5], M),
        TypeError,
        "embedding: expected integer indices, got dtype float64",
    ),
    "embedding: outside": (
        lambda: F.embedding([0, 2], M),
        IndexError,
        r"embedding: expected indices in 0\.\.1, got 0\.\.2",
    ),
    "embedding: weight": (
        lambda: F.embedding([0], V),
        ValueError,
        r"embedding: expected a weight of shape \(K, D\), got \(3,\)",
    ),
    # --- losses of classification
    "nll_loss: shapes": (
        lambda: F.nll_loss(M, [0]),
        ValueError,
        r"nll_loss: expected scores \(N, K\) and a target \(N,\), got \(2, 3\) and \(1,\)",
    ),
    "nll_loss: classes": (
        lambda: F.nll_loss(M, [0, 3]),
        ValueError,
        r"nll_loss: expected targets in 0\.\.2 or -100, got 0\.\.3",
    ),
    "nll_loss: floats": (
        lambda: F.nll_loss(M, [0.0, 1.0]),
        TypeError,
        "nll_loss: expected an integer target, got dtype float64",
    ),
    "nll_loss: nothing counts": (
        lambda: F.nll_loss(M, [-100, -100]),
        ValueError,
        "nll_loss: expected at least one row that counts for a mean, got none",
    ),
    "cross_entropy: reduction": (
        lambda: F.cross_entropy(M, [0, 1], reduction="average"),
        ValueError,
        "cross_entropy: expected reduction 'mean', 'sum' or 'none', got 'average'",
    ),
    "cross_entropy: weight that requires a gradient": (
        lambda: F.cross_entropy(M, [0, 1], weight=zeros(3).requires_grad_(), reduction="sum"),
        TypeError,
        "cross_entropy: weight is not differentiable, got a tensor that requires a gradient; .*",
    ),
    "cross_entropy: smoothing without a kernel": (
        lambda: F.cross_entropy(M, [0, 1], label_smoothing=2, reduction="sum"),
        ValueError,
        "cross_entropy: expected 0 <= label_smoothing <= 1, got 2",
    ),
    "binary_cross_entropy_with_logits: pos_weight": (
        lambda: F.binary_cross_entropy_with_logits(V, V, pos_weight=V.detach().requires_grad_()),
        TypeError,
        "binary_cross_entropy_with_logits: pos_weight is not differentiable, .*",
    ),
    "binary_cross_entropy_with_logits: weight": (
        lambda: F.binary_cross_entropy_with_logits(V, V, zeros(2, 3)),
        ValueError,
        r"binary_cross_entropy_with_logits: expected weights that broadcast to the logits \(3,\).*",
    ),
    # --- losses of regression
    "mse_loss: shapes": (
        lambda: F.mse_loss(M, zeros(3)),
        ValueError,
        r"mse_loss: expected prediction and target of one shape, got \(2, 3\) and \(3,\)",
    ),
    "l1_loss: dtypes": (lambda: F.l1_loss(V, WIDE), TypeError, f"l1_loss: {MIXED}"),
    "smooth_l1_loss: beta": (
        lambda: F.smooth_l1_loss(V, V, beta=-1),
        ValueError,
        "smooth_l1_loss: expected beta >= 0, got -1",
    ),
    "mse_loss: reduction": (
        lambda: F.mse_loss(V, V, "average"),
        ValueError,
        "mse_loss: expected reduction 'mean', 'sum' or 'none', got 'average'",
    ),
    "mse_loss: nothing": (
        lambda: F.mse_loss(zeros(0), zeros(0)),
        ValueError,
        r"mse_loss: expected at least one element for a mean, got \(0,\)",
    ),
    # --- enlarging and pooling
    "conv_transpose2d: channels": (
        lambda: F.conv_transpose2d(IMAGE, WEIGHT),
        ValueError,
        r"conv_transpose2d: weight expects 32 input channels \(HWOI 3x3x4x32\), input has 4 .*",
    ),
    "conv_transpose2d: shapes": (
        lambda: F.conv_transpose2d(M, WEIGHT),
        ValueError,
        r"conv_transpose2d: expected an input of shape NHWC and a weight of shape HWOI, got .*",
    ),
    "conv_transpose2d: groups": (
        lambda: F.conv_transpose2d(IMAGE, zeros(3, 3, 2, 4), groups=3),
        ValueError,
        "conv_transpose2d: expected groups to divide the 4 input channels, got 3",
    ),
    "conv_transpose2d: bias": (
        lambda: F.conv_transpose2d(IMAGE, zeros(3, 3, 2, 4), V),
        ValueError,
        r"conv_transpose2d: expected a bias of shape \(2,\), got \(3,\)",
    ),
    "conv_transpose2d: same": (
        lambda: F.conv_transpose2d(IMAGE, zeros(3, 3, 2, 4), padding="same"),
        ValueError,
        "conv_transpose2d: expected padding in pixels, got 'same'; stride sets the size",
    ),
    "conv_transpose2d: output_padding": (
        lambda: F.conv_transpose2d(IMAGE, zeros(3, 3, 2, 4), stride=2, output_padding=2),
        ValueError,
        "conv_transpose2d: expected output_padding below stride, got 2 and 2",
    ),
    "conv_transpose2d: nothing left": (
        lambda: F.conv_transpose2d(zeros(1, 1, 1, 4), zeros(1, 1, 2, 4), padding=1),
        ValueError,
        "conv_transpose2d: expected a result of at least one pixel, got -1x-1 for an image of "
        "1x1 with padding 1",
    ),
    "max_pool2d: nothing but padding": (
        lambda: F.max_pool2d(zeros(1, 2, 2, 1), 2, padding=1, dilation=3),
        ValueError,
        r"max_pool2d: expected a pixel of the 2x2 image in each window, got dilation \(3, 3\) .*",
    ),
    "avg_pool2d: divisor_override": (
        lambda: F.avg_pool2d(IMAGE, 2, divisor_override=0),
        ValueError,
        "avg_pool2d: expected divisor_override >= 1, got 0",
    ),
    "adaptive_avg_pool2d: size": (
        lambda: F.adaptive_avg_pool2d(IMAGE, 0),
        ValueError,
        f"adaptive_avg_pool2d: expected output_size {NOT_A_WINDOW.format(1, '.*')}",
    ),
    "adaptive_avg_pool2d: shape": (
        lambda: F.adaptive_avg_pool2d(M, 1),
        ValueError,
        r"adaptive_avg_pool2d: expected an input of shape NHWC, got \(2, 3\)",
    ),
    # --- reductions
    "sum: axis": (
        lambda: F.sum(V, 1),
        ValueError,
        "sum: axis 1 does not exist in a tensor of 1 dimensions",
    ),
    "sum: axis twice": (
        lambda: F.sum(M, (0, -2)),
        ValueError,
        r"sum: axis \(0, -2\) names an axis twice",
    ),
    "sum: axis of another type": (
        lambda: F.sum(V, 1.0),
        TypeError,
        r"sum: expected axis .*, got 1\.0",
    ),
    "mean: integers": (
        lambda: F.mean(INTEGERS),
        TypeError,
        "mean: expected a floating dtype, got int64",
    ),
    "mean: nothing": (
        lambda: F.mean(zeros(0, 2)),
        ValueError,
        r"mean: cannot reduce axis 0 of length 0 \(shape \(0, 2\)\)",
    ),
    "max: nothing": (
        lambda: F.max(zeros(2, 0), -1),
        ValueError,
        r"max: cannot reduce axis 1 of length 0 \(shape \(2, 0\)\)",
    ),
    "logsumexp: nothing": (
        lambda: F.logsumexp(zeros(0)),
        ValueError,
        r"logsumexp: cannot reduce axis 0 of length 0 \(shape \(0,\)\)",
    ),
    "var: too few": (
        lambda: F.var(V, correction=3),
        ValueError,
        "var: expected more than 3 elements to reduce, got 3",
    ),
    "softmax: axis": (
        lambda: F.softmax(M, 2),
        ValueError,
        "softmax: axis 2 does not exist in a tensor of 2 dimensions",
    ),
    "softmax: no axis": (
        lambda: F.softmax(M, None),
        (TypeError, ValueError),
        "softmax: expected .*axis.*None",
    ),
    "softmax: two axes": (
        lambda: F.softmax(M, (0, 1)),
        (TypeError, ValueError),
        r"softmax: expected .*axis.*\(0, 1\)",
    ),
    "log_softmax: of a number": (
        lambda: F.log_softmax(zeros()),
        ValueError,
        "log_softmax: axis -1 does not exist in a tensor of 0 dimensions",
    ),
    # --- shapes
    "reshape: size": (
        lambda: F.reshape(M, (4, 2)),
        ValueError,
        r"reshape: 6 elements of shape \(2, 3\) do not fit shape \(4, 2\)",
    ),
    "reshape: two unknown": (
        lambda: F.reshape(M, (-1, -1)),
        ValueError,
        r"reshape: 6 elements of shape \(2, 3\) do not fit shape \(-1, -1\)",
    ),
    "reshape: unknown beside 0": (
        lambda: F.reshape(zeros(0), (0, -1)),
        ValueError,
        r"reshape: 0 elements of shape \(0,\) do not fit shape \(0, -1\)",
    ),
    "permute: twice": (
        lambda: F.permute(M, (0, 0)),
        ValueError,
        r"permute: expected an order of 2 axes, got \(0, 0\)",
    ),
    "broadcast_to: shape": (
        lambda: F.broadcast_to(V, (3, 2)),
        ValueError,
        r"broadcast_to: shape \(3,\) does not broadcast to \(3, 2\)",
    ),
    "reshape: a float": (
        lambda: V.reshape(4.5, -1),
        TypeError,
        r"reshape: expected the lengths to be integers, got \(4\.5, -1\)",
    ),
    "reshape: one float": (
        lambda: V.reshape(3.0),
        TypeError,
        r"reshape: expected the lengths to be integers, got \(3\.0,\)",
    ),
    "reshape: a float of NumPy's": (
        lambda: F.reshape(V, (np.float64(3),)),
        TypeError,
        r"reshape: expected the lengths to be integers.*",
    ),
    "reshape: huge": (
        lambda: F.reshape(V, (2**63, -1)),
        ValueError,
        r"reshape: expected the lengths to be below 2\*\*63, got \(9223372036854775808, -1\)",
    ),
    "permute: floats": (
        lambda: F.permute(M, (1.0, 0.0)),
        TypeError,
        r"permute: expected the axes to be integers, got \(1\.0, 0\.0\)",
    ),
    "broadcast_to: a float": (
        lambda: V.broadcast_to((2.9, 3)),
        TypeError,
        r"broadcast_to: expected the lengths to be integers, got \(2\.9, 3\)",
    ),
    "broadcast_to: huge": (
        lambda: F.broadcast_to(V, (2**62, 3)),
        ValueError,
        r"broadcast_to: expected lengths below 2\*\*63 and fewer than 2\*\*60 elements, got .*",
    ),
    "concatenate: None": (
        lambda: F.concatenate([V, None]),
        TypeError,
        "concatenate: expected tensors, got NoneType at position 1",
    ),
    "concatenate: a generator": (
        lambda: F.concatenate(t for t in [V, V]),
        TypeError,
        r"concatenate: expected a list or tuple of tensors, got generator; write .*\(\[x, y\]\)",
    ),
    "concatenate: a tensor": (
        lambda: F.concatenate(M),
        TypeError,
        r"concatenate: expected a list or tuple of tensors, got Tensor.*",
    ),
    "concatenate: an array": (
        lambda: F.concatenate(np.zeros((2, 3))),
        TypeError,
        r"concatenate: expected a list or tuple of tensors, got ndarray.*",
    ),
    "concatenate: numbers": (
        lambda: F.concatenate([1.0, V]),
        TypeError,
        "concatenate: expected tensors, got float at position 0",
    ),
    "concatenate: axis of another type": (
        lambda: F.concatenate([V, V], 0.0),
        TypeError,
        r"concatenate: expected axis to be integers, got \(0\.0,\)",
    ),
    "stack: None": (
        lambda: F.stack([None, V]),
        TypeError,
        "stack: expected tensors, got NoneType at position 0",
    ),
    "stack: a generator": (
        lambda: F.stack(t for t in [V, V]),
        TypeError,
        r"stack: expected a list or tuple of tensors, got generator; write stack\(\[x, y\]\)",
    ),
    "stack: a tensor": (
        lambda: F.stack(M),
        TypeError,
        r"stack: expected a list or tuple of tensors, got Tensor.*",
    ),
    "stack: axis of another type": (
        lambda: F.stack([V], 0.5),
        TypeError,
        r"stack: expected axis to be integers, got \(0\.5,\)",
    ),
    "pad: a float into integers": (
        lambda: F.pad(INTEGERS, [(1, 1)], 2.7),
        TypeError,
        "pad: a float does not fit a tensor of dtype int64",
    ),
    "pad: a number that wraps": (
        lambda: F.pad(zeros(3, dtype=np.uint8), [(1, 1)], 300),
        OverflowError,
        "pad: expected a number from 0 to 255 for a tensor of dtype uint8, got 300",
    ),
    "pad: a tensor as value": (
        lambda: F.pad(V, [(1, 1)], zeros()),
        TypeError,
        "pad: expected a number, got Tensor",
    ),
    "pad: huge": (
        lambda: F.pad(V, [(2**63, 0)]),
        ValueError,
        r"pad: expected lengths below 2\*\*63 and fewer than 2\*\*60 elements, got .*",
    ),
    "pad: fractional": (
        lambda: F.pad(V, [(1.5, 0)]),
        ValueError,
        r"pad: expected 1 pairs of widths >= 0 for shape \(3,\), got \(\(1\.5, 0\),\)",
    ),
    "getitem: huge": (
        lambda: V[2**63],
        IndexError,
        r"getitem: index 9223372036854775808 is out of bounds for shape \(3,\)",
    ),
    "getitem: a float": (
        lambda: V[1.0],
        IndexError,
        r"only integers, slices.*",
    ),
    "argmax: axis of another type": (
        lambda: V.argmax(0.5),
        TypeError,
        r"argmax: expected axis .*, got 0\.5",
    ),
    "argmax: axis": (
        lambda: V.argmax(2**63),
        ValueError,
        "argmax: axis 9223372036854775808 does not exist in a tensor of 1 dimensions",
    ),
    "add: None": (
        lambda: V + None,
        TypeError,
        "add: expected tensors, arrays or numbers, got None",
    ),
    "add: a number that wraps": (
        lambda: zeros(3, dtype=np.uint8) + 300,
        OverflowError,
        "add: expected a number from 0 to 255 for a tensor of dtype uint8, got 300",
    ),
    "add: a masked array": (
        lambda: V + np.ma.masked_array(np.zeros(3, np.float32), [True, False, False]),
        TypeError,
        r"add: expected an array without a mask, got a masked array; call its filled\(\)",
    ),
    "conv2d: huge stride": (
        lambda: F.conv2d(IMAGE, WEIGHT, stride=2**63),
        ValueError,
        r"conv2d: expected stride below 2\*\*63, got 9223372036854775808",
    ),
    "conv2d: huge dilation": (
        lambda: F.conv2d(IMAGE, zeros(1, 1, 4, 32), dilation=(1, 2**63)),
        ValueError,
        r"conv2d: expected dilation below 2\*\*63, got \(1, 9223372036854775808\)",
    ),
    "conv2d: huge padding": (
        lambda: F.conv2d(IMAGE, WEIGHT, padding=2**64),
        ValueError,
        r"conv2d: expected padding below 2\*\*63, got 18446744073709551616",
    ),
    "conv2d: padding that is huge in sum": (
        lambda: F.conv2d(IMAGE, WEIGHT, padding=2**62),
        ValueError,
        r"conv2d: expected lengths below 2\*\*63 and fewer than 2\*\*60 elements, got .*",
    ),
    "conv2d: huge groups": (
        lambda: F.conv2d(IMAGE, WEIGHT, groups=2**63),
        ValueError,
        r"conv2d: expected groups to be below 2\*\*63, got .*",
    ),
    "conv2d: fractional groups": (
        lambda: F.conv2d(IMAGE, WEIGHT, groups=1.0),
        TypeError,
        r"conv2d: expected groups to be integers, got \(1\.0,\)",
    ),
    "max_pool2d: huge stride": (
        lambda: F.max_pool2d(IMAGE, 2, stride=2**63),
        ValueError,
        r"max_pool2d: expected stride below 2\*\*63, got 9223372036854775808",
    ),
    "avg_pool2d: huge window": (
        lambda: F.avg_pool2d(IMAGE, 2**63),
        ValueError,
        r"avg_pool2d: expected kernel_size below 2\*\*63, got 9223372036854775808",
    ),
    "concatenate: nothing": (
        lambda: F.concatenate([]),
        ValueError,
        "concatenate: expected at least one tensor, got none",
    ),
    "concatenate: axis": (
        lambda: F.concatenate([V, V], 1),
        ValueError,
        "concatenate: axis 1 does not exist in 1 dimensions",
    ),
    "concatenate: shapes": (
        lambda: F.concatenate([M, zeros(2, 4)]),
        ValueError,
        r"concatenate: shapes \(2, 3\), \(2, 4\) differ beside axis 0",
    ),
    "concatenate: dtypes": (
        lambda: F.concatenate([V, WIDE]),
        TypeError,
        f"concatenate: {MIXED}",
    ),
    "stack: nothing": (
        lambda: F.stack([]),
        ValueError,
        "stack: expected at least one tensor, got none",
    ),
    "stack: shapes": (
        lambda: F.stack([V, zeros(2)]),
        ValueError,
        r"stack: expected tensors of one shape, got \(3,\), \(2,\)",
    ),
    "stack: axis": (
        lambda: F.stack([V], 2),
        ValueError,
        "stack: axis 2 does not exist in 2 dimensions",
    ),
    "pad: too many": (
        lambda: F.pad(V, [(1, 1), (1, 1)]),
        ValueError,
        r"pad: expected 1 pairs of widths >= 0 for shape \(3,\), got \(\(1, 1\), \(1, 1\)\)",
    ),
    "pad: negative": (
        lambda: F.pad(V, [(-1, 0)]),
        ValueError,
        r"pad: expected 1 pairs of widths >= 0 for shape \(3,\), got \(\(-1, 0\),\)",
    ),
    "pad: no pairs": (
        lambda: F.pad(V, (1, 1)),
        (TypeError, ValueError),
        r"pad: expected 1 pairs of widths >= 0 for shape \(3,\), got .*",
    ),
    "getitem: outside": (
        lambda: F.getitem(V, 5),
        IndexError,
        "index 5 is out of bounds for axis 0 with size 3",
    ),
    "getitem: dtype": (
        lambda: F.getitem(V, np.array([1.0])),
        TypeError,
        "getitem: expected an integer or boolean index, got dtype float64",
    ),
    "matmul: inner": (
        lambda: F.matmul(M, zeros(2, 4)),
        ValueError,
        r"matmul: the last axis of \(2, 3\) \(3\) does not fit \(2, 4\) \(2\)",
    ),
    "matmul: leading": (
        lambda: F.matmul(zeros(2, 1, 4), zeros(3, 4, 1)),
        ValueError,
        r"matmul: the leading axes of \(2, 1, 4\) and \(3, 4, 1\) do not broadcast",
    ),
    "matmul: a number": (
        lambda: F.matmul(M, zeros()),
        ValueError,
        r"matmul: expected at least one dimension, got \(2, 3\) and \(\)",
    ),
    "matmul: dtypes": (lambda: F.matmul(M, WIDE), TypeError, f"matmul: {MIXED}"),
    # --- images
    "conv2d: channels": (
        lambda: F.conv2d(IMAGE, zeros(3, 3, 3, 32)),
        ValueError,
        re.escape(
            "conv2d: weight expects 3 input channels (HWIO 3x3x3x32), input has 4 (NHWC 8x64x64x4)"
        ),
    ),
    "conv2d: channels of groups": (
        lambda: F.conv2d(IMAGE, WEIGHT, groups=2),
        ValueError,
        re.escape(
            "conv2d: weight expects 4 times 2 groups input channels (HWIO 3x3x4x32), "
            "input has 4 (NHWC 8x64x64x4)"
        ),
    ),
    "conv2d: groups": (
        lambda: F.conv2d(IMAGE, WEIGHT, groups=3),
        ValueError,
        "conv2d: expected groups to divide the 32 output channels, got 3",
    ),
    "conv2d: dimensions": (
        lambda: F.conv2d(M, WEIGHT),
        ValueError,
        "conv2d: expected an input of shape NHWC and a weight of shape HWIO, "
        r"got \(2, 3\) and \(3, 3, 4, 32\)",
    ),
    "conv2d: bias": (
        lambda: F.conv2d(IMAGE, WEIGHT, zeros(4)),
        ValueError,
        r"conv2d: expected a bias of shape \(32,\), got \(4,\)",
    ),
    "conv2d: dtypes": (
        lambda: F.conv2d(IMAGE, zeros(3, 3, 4, 32, dtype=np.float64)),
        TypeError,
        f"conv2d: {MIXED}",
    ),
    "conv2d: empty window": (
        lambda: F.conv2d(IMAGE, zeros(0, 3, 4, 32)),
        ValueError,
        "conv2d: expected a window of at least 1x1, got weight 0x3x4x32",
    ),
    "conv2d: window": (
        lambda: F.conv2d(zeros(1, 4, 9, 4), WEIGHT, dilation=2),
        ValueError,
        r"conv2d: a window of 3x3 \(dilation \(2, 2\)\) does not fit an image of 4x9 "
        r"with padding \(\(0, 0\), \(0, 0\)\)",
    ),
    "conv2d: stride 0": (
        lambda: F.conv2d(IMAGE, WEIGHT, stride=0),
        ValueError,
        "conv2d: expected stride " + NOT_A_WINDOW.format(1, 0),
    ),
    "conv2d: stride of three": (
        lambda: F.conv2d(IMAGE, WEIGHT, stride=(1, 2, 3)),
        ValueError,
        "conv2d: expected stride " + NOT_A_WINDOW.format(1, r"\(1, 2, 3\)"),
    ),
    "conv2d: fractional stride": (
        lambda: F.conv2d(IMAGE, WEIGHT, stride=1.5),
        (TypeError, ValueError),
        "conv2d: expected stride " + NOT_A_WINDOW.format(1, r"1\.5"),
    ),
    "conv2d: dilation": (
        lambda: F.conv2d(IMAGE, WEIGHT, dilation=(1, 0)),
        ValueError,
        "conv2d: expected dilation " + NOT_A_WINDOW.format(1, r"\(1, 0\)"),
    ),
    "conv2d: negative padding": (
        lambda: F.conv2d(IMAGE, WEIGHT, padding=-1),
        ValueError,
        "conv2d: expected padding " + NOT_A_WINDOW.format(0, "-1"),
    ),
    "adaptive_avg_pool2d: more cells than memory": (
        lambda: F.adaptive_avg_pool2d(IMAGE, 2**62),
        ValueError,
        "adaptive_avg_pool2d: expected an output size of at most 16777216, got 4611686018427387904",
    ),
    "conv2d: padding by name": (
        lambda: F.conv2d(IMAGE, WEIGHT, padding="fulll"),
        ValueError,
        "conv2d: expected padding 'same', 'valid' or integers, got 'fulll'",
    ),
    "conv2d: no padding": (
        lambda: F.conv2d(IMAGE, WEIGHT, padding=None),
        (TypeError, ValueError),
        "conv2d: expected padding .*, got None",
    ),
    "conv2d: one pair of padding": (
        lambda: F.conv2d(IMAGE, WEIGHT, padding=((1, 1),)),
        ValueError,
        r"conv2d: expected padding .*, got \(\(1, 1\),\)",
    ),
    "max_pool2d: dimensions": (
        lambda: F.max_pool2d(M, 2),
        ValueError,
        r"max_pool2d: expected an input of shape NHWC, got \(2, 3\)",
    ),
    "max_pool2d: window": (
        lambda: F.max_pool2d(IMAGE, (65, 1)),
        ValueError,
        r"max_pool2d: a window of 65x1 \(dilation \(1, 1\)\) does not fit an image of 64x64 "
        r"with padding \(\(0, 0\), \(0, 0\)\)",
    ),
    "max_pool2d: padding": (
        lambda: F.max_pool2d(IMAGE, 2, padding=2),
        ValueError,
        "max_pool2d: expected padding of at most half the window of 2x2, "
        r"got \(\(2, 2\), \(2, 2\)\)",
    ),
    "avg_pool2d: kernel_size": (
        lambda: F.avg_pool2d(IMAGE, 0),
        ValueError,
        "avg_pool2d: expected kernel_size " + NOT_A_WINDOW.format(1, 0),
    ),
    "avg_pool2d: stride": (
        lambda: F.avg_pool2d(IMAGE, 2, stride=0),
        ValueError,
        "avg_pool2d: expected stride " + NOT_A_WINDOW.format(1, 0),
    ),
    "global_avg_pool2d: dimensions": (
        lambda: F.global_avg_pool2d(M),
        ValueError,
        r"global_avg_pool2d: expected an input of shape NHWC, got \(2, 3\)",
    ),
    "batch_norm: shapes": (
        lambda: F.batch_norm(M, V, zeros(2), training=True),
        ValueError,
        r"batch_norm: expected \(C,\) beside an input \(..., C\) \(2, 3\): \(3,\), \(2,\)",
    ),
    "batch_norm: one value a channel": (
        lambda: F.batch_norm(zeros(1, 3), V, V, training=True),
        ValueError,
        r"batch_norm: expected at least 2 values a channel, got \(1, 3\)",
    ),
    "batch_norm: nothing to use": (
        lambda: F.batch_norm(M, V, V, training=False),
        ValueError,
        "batch_norm: expected running_mean and running_var outside training",
    ),
    "batch_norm: running statistics of another dtype": (
        lambda: F.batch_norm(M, V, V, WIDE, WIDE, training=False),
        TypeError,
        f"batch_norm: {MIXED}",
    ),
    "group_norm: dimensions": (
        lambda: F.group_norm(V, 3),
        ValueError,
        r"group_norm: expected an input of shape \(N, ..., C\), got \(3,\)",
    ),
    "group_norm: groups": (
        lambda: F.group_norm(M, 2),
        ValueError,
        r"group_norm: num_groups: expected a divisor of the 3 channels of an input \(2, 3\), got 2",
    ),
    "group_norm: no channels": (
        lambda: F.group_norm(zeros(2, 0), 1),
        ValueError,
        r"group_norm: num_groups: expected a divisor of the 0 channels of an input \(2, 0\), got 1",
    ),
    "group_norm: not a number of groups": (
        lambda: F.group_norm(M, 1.5),
        ValueError,
        "group_norm: num_groups: expected a positive integer, got 1.5",
    ),
    "group_norm: no pixels": (
        lambda: F.group_norm(zeros(2, 0, 3), 3),
        ValueError,
        r"group_norm: expected at least one pixel, got an input \(2, 0, 3\)",
    ),
    "group_norm: weight": (
        lambda: F.group_norm(M, 3, zeros(2)),
        ValueError,
        r"group_norm: weight: expected shape \(3,\), got \(2,\)",
    ),
    "group_norm: bias of another dtype": (
        lambda: F.group_norm(M, 3, V, WIDE),
        TypeError,
        f"group_norm: {MIXED}",
    ),
    "layer_norm: shape": (
        lambda: F.layer_norm(M, (2,)),
        ValueError,
        r"layer_norm: expected an input \(..., \*normalized_shape\) with normalized_shape \(2,\), "
        r"got \(2, 3\)",
    ),
    "layer_norm: no axes": (
        lambda: F.layer_norm(M, ()),
        ValueError,
        r"layer_norm: expected an input \(..., \*normalized_shape\) with normalized_shape \(\), "
        r"got \(2, 3\)",
    ),
    "layer_norm: no values": (
        lambda: F.layer_norm(zeros(2, 0), 0),
        ValueError,
        r"layer_norm: expected at least one value to normalise, got \(2, 0\)",
    ),
    "layer_norm: bias": (
        lambda: F.layer_norm(M, (2, 3), None, V),
        ValueError,
        r"layer_norm: bias: expected shape \(2, 3\), got \(3,\)",
    ),
    "interpolate: dimensions": (
        lambda: F.interpolate(M, 2),
        ValueError,
        r"interpolate: expected an input of shape NHWC, got \(2, 3\)",
    ),
    "interpolate: no pixels": (
        lambda: F.interpolate(zeros(1, 0, 2, 3), 2),
        ValueError,
        r"interpolate: expected an input of shape NHWC, got \(1, 0, 2, 3\)",
    ),
    "interpolate: mode": (
        lambda: F.interpolate(IMAGE, 2, mode="bicubic"),
        ValueError,
        "interpolate: mode: expected 'nearest' or 'bilinear', got 'bicubic'",
    ),
    "interpolate: align_corners": (
        lambda: F.interpolate(IMAGE, 2, align_corners=False),
        ValueError,
        "interpolate: align_corners: expected None with mode 'nearest', got False",
    ),
    "interpolate: neither": (
        lambda: F.interpolate(IMAGE),
        ValueError,
        "interpolate: expected either size or scale_factor, got size=None and scale_factor=None",
    ),
    "interpolate: both": (
        lambda: F.interpolate(IMAGE, 2, 2),
        ValueError,
        "interpolate: expected either size or scale_factor, got size=2 and scale_factor=2",
    ),
    "interpolate: size": (
        lambda: F.interpolate(IMAGE, 0),
        ValueError,
        "interpolate: expected size " + NOT_A_WINDOW.format(1, 0),
    ),
    "interpolate: scale": (
        lambda: F.interpolate(IMAGE, scale_factor=(2, -1)),
        ValueError,
        r"interpolate: scale_factor: expected a positive number, or two, for rows and columns, "
        r"got \(2, -1\)",
    ),
    "interpolate: nothing left": (
        lambda: F.interpolate(IMAGE, scale_factor=0.001),
        ValueError,
        "interpolate: scale_factor: expected at least one row and column, got 0.001 for images of "
        f"{IMAGE.shape[1]}x{IMAGE.shape[2]}",
    ),
    # --- losses
    "squared_error: shapes": (
        lambda: F.squared_error(M, V),
        ValueError,
        r"squared_error: expected prediction and target of one shape, got \(2, 3\) and \(3,\)",
    ),
    "squared_error: no batch": (
        lambda: F.squared_error(zeros(0, 3), zeros(0, 3)),
        ValueError,
        r"squared_error: expected a batch of at least one, got \(0, 3\)",
    ),
    "squared_error: dtypes": (
        lambda: F.squared_error(V, np.zeros(3)),
        TypeError,
        f"squared_error: {MIXED}",
    ),
    "cross_entropy: shapes": (
        lambda: F.cross_entropy(M, np.array([0])),
        ValueError,
        r"cross_entropy: expected logits \(N, K\), none of them 0, and a target \(N,\), "
        r"got \(2, 3\) and \(1,\)",
    ),
    "cross_entropy: one-hot target": (
        lambda: F.cross_entropy(M, np.eye(2, 3)),
        ValueError,
        r"cross_entropy: expected logits .* got \(2, 3\) and \(2, 3\)",
    ),
    "cross_entropy: target": (
        lambda: F.cross_entropy(M, np.zeros(2)),
        TypeError,
        "cross_entropy: expected an integer target, got dtype float64",
    ),
    "cross_entropy: classes": (
        lambda: F.cross_entropy(M, np.array([0, 3])),
        ValueError,
        r"cross_entropy: expected targets in 0\.\.2, got 0\.\.3",
    ),
    "cross_entropy: negative class": (
        lambda: F.cross_entropy(M, np.array([-1, 2])),
        ValueError,
        r"cross_entropy: expected targets in 0\.\.2, got -1\.\.2",
    ),
    "cross_entropy: label_smoothing": (
        lambda: F.cross_entropy(M, np.array([0, 1]), label_smoothing=1.5),
        ValueError,
        r"cross_entropy: expected 0 <= label_smoothing <= 1, got 1\.5",
    ),
    "cross_entropy: weight": (
        lambda: F.cross_entropy(M, np.array([0, 1]), weight=np.ones(3)),
        ValueError,
        r"cross_entropy: expected weights \(3,\) of dtype float32, got \(3,\) of float64",
    ),
    "binary_cross_entropy_with_logits: shapes": (
        lambda: F.binary_cross_entropy_with_logits(V, zeros(2)),
        ValueError,
        "binary_cross_entropy_with_logits: expected logits and a target of one shape, not empty, "
        r"got \(3,\) and \(2,\)",
    ),
    "binary_cross_entropy_with_logits: dtypes": (
        lambda: F.binary_cross_entropy_with_logits(V, np.zeros(3)),
        TypeError,
        "binary_cross_entropy_with_logits: expected a target of dtype float32, got float64",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), CASES.values(), ids=CASES)
def test_says_in_one_line_what_does_not_fit(call, error, message):
    with pytest.raises(error) as raised:
        call()
    said = str(raised.value)
    assert re.fullmatch(message, said), said


# Each of them would have to convert: there is no integer that is the exponential of 1.
ONLY_FLOATING = {
    "avg_pool2d": lambda x: F.avg_pool2d(x.reshape(1, 1, 3, 1), 1),
    "batch_norm": lambda x: F.batch_norm(x.reshape(3, 1), x[:1], x[:1], training=True),
    "binary_cross_entropy_with_logits": lambda x: F.binary_cross_entropy_with_logits(x, x),
    "cross_entropy": lambda x: F.cross_entropy(x.reshape(1, 3), np.array([0])),
    "dropout": lambda x: F.dropout(x, 0.5, RNG),
    "elu": F.elu,
    "erf": F.erf,
    "exp": F.exp,
    "gelu": F.gelu,
    "group_norm": lambda x: F.group_norm(x.reshape(1, 3), 1),
    "interpolate": lambda x: F.interpolate(x.reshape(1, 1, 3, 1), 2),
    "layer_norm": lambda x: F.layer_norm(x, 3),
    "leaky_relu": F.leaky_relu,
    "log": F.log,
    "log_softmax": F.log_softmax,
    "logsumexp": F.logsumexp,
    "mean": F.mean,
    "sigmoid": F.sigmoid,
    "silu": F.silu,
    "softmax": F.softmax,
    "softplus": F.softplus,
    "sqrt": F.sqrt,
    "squared_error": lambda x: F.squared_error(x, x),
    "tanh": F.tanh,
    "var": F.var,
}


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize("name", ONLY_FLOATING)
def test_integers_are_not_converted_silently(name, dtype):
    with pytest.raises(TypeError, match=rf"^{name}: expected a floating dtype, got {dtype}$"):
        ONLY_FLOATING[name](Tensor(np.ones(3, dtype)))


@pytest.mark.parametrize("dtype", ["uint8", "bool"])
def test_a_sum_counts_and_does_not_wrap_round(dtype):
    ones = Tensor(np.ones(300, dtype))
    assert F.sum(ones).item() == 300


@pytest.mark.parametrize("axis", [0, -1, (0, 1)])
def test_an_axis_may_be_an_integer_of_numpy(axis):
    given = tuple(map(np.int64, axis)) if isinstance(axis, tuple) else np.int64(axis)
    assert F.sum(M, given).shape == F.sum(M, axis).shape


def test_sizes_may_be_integers_of_numpy():
    two = np.int64(2)
    expected = F.conv2d(IMAGE, WEIGHT, stride=2, padding=2, dilation=2).shape
    assert F.conv2d(IMAGE, WEIGHT, stride=two, padding=two, dilation=two).shape == expected


@pytest.mark.parametrize("broken", ["weight", "bias", "running_var"])
def test_a_batch_norm_that_fails_leaves_the_running_statistics_alone(broken):
    given = {"weight": zeros(3), "bias": zeros(3), "running_mean": zeros(3)}
    given["running_var"] = zeros(3)
    x = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    given[broken] = WIDE
    with pytest.raises(TypeError, match=f"^batch_norm: {MIXED}$"):
        F.batch_norm(x, **given, training=True)
    assert not given["running_mean"].numpy().any()


def test_a_failing_broadcast_blames_the_shapes_only_when_they_are_at_fault():
    with pytest.raises(ValueError, match="negative integer powers"):
        F.power(INTEGERS, -1)


def test_a_target_that_was_written_after_the_forward_pass_makes_the_graph_raise():
    logits, target = Tensor([1.0, 2.0], requires_grad=True), Tensor([0.0, 1.0])
    loss = F.binary_cross_entropy_with_logits(logits, target)
    target[0] = 1.0
    with pytest.raises(RuntimeError, match="written in place"):
        loss.backward()


@pytest.mark.parametrize("kind", [np.array, Tensor])
def test_an_index_that_was_written_after_the_forward_pass_does_not_move_the_gradient(kind):
    x, index = Tensor([1.0, 2.0], requires_grad=True), kind([0, 0])
    chosen = x[index].sum()
    index[0] = 1
    chosen.backward()
    assert x.grad.numpy().tolist() == [2.0, 0.0]
