"""Layers against PyTorch's: results, gradients and buffers, in float64."""

import numpy as np
import pytest

from tinygrad_mask import Tensor, nn

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")


def swap(array):
    """An image NHWC as PyTorch has it, NCHW; other arrays as they are."""
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


IMAGE, ROWS = (4, 6, 5, 6), (7, 6)

# Each: the two layers, the input's shape, and whether images are NCHW there.
LAYERS = {
    "BatchNorm, momentum=None": (
        lambda: nn.BatchNorm(6, momentum=None),
        lambda: torch.nn.BatchNorm2d(6, momentum=None),
        IMAGE,
    ),
    "BatchNorm, affine=False": (
        lambda: nn.BatchNorm(6, affine=False),
        lambda: torch.nn.BatchNorm1d(6, affine=False),
        ROWS,
    ),
    "BatchNorm, track_running_stats=False": (
        lambda: nn.BatchNorm(6, 1e-3, track_running_stats=False),
        lambda: torch.nn.BatchNorm2d(6, 1e-3, track_running_stats=False),
        IMAGE,
    ),
    "LayerNorm": (lambda: nn.LayerNorm(6), lambda: torch.nn.LayerNorm(6), ROWS),
    "LayerNorm, no bias": (
        lambda: nn.LayerNorm([2, 6], 0.1, bias=False),
        lambda: torch.nn.LayerNorm([2, 6], 0.1, bias=False),
        (3, 2, 6),
    ),
    "LayerNorm, not affine": (
        lambda: nn.LayerNorm(6, elementwise_affine=False),
        lambda: torch.nn.LayerNorm(6, elementwise_affine=False),
        ROWS,
    ),
    "GroupNorm": (lambda: nn.GroupNorm(3, 6), lambda: torch.nn.GroupNorm(3, 6), IMAGE),
    "GroupNorm, not affine": (
        lambda: nn.GroupNorm(2, 6, 0.1, affine=False),
        lambda: torch.nn.GroupNorm(2, 6, 0.1, affine=False),
        IMAGE,
    ),
    "Upsample, size": (lambda: nn.Upsample([9, 7]), lambda: torch.nn.Upsample((9, 7)), IMAGE),
    "Upsample, bilinear": (
        lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda: torch.nn.Upsample(scale_factor=2, mode="bilinear"),
        IMAGE,
    ),
    "Upsample, corners": (
        lambda: nn.Upsample(None, (2, 3), "bilinear", True),
        lambda: torch.nn.Upsample(None, (2, 3), "bilinear", True),
        IMAGE,
    ),
    "Dropout(1)": (lambda: nn.Dropout(1), lambda: torch.nn.Dropout(1), ROWS),
    "Softmax": (lambda: nn.Softmax(dim=0), lambda: torch.nn.Softmax(dim=0), ROWS),
    "LogSoftmax": (lambda: nn.LogSoftmax(0), lambda: torch.nn.LogSoftmax(0), ROWS),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("ours", "theirs", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers(ours, theirs, shape, training):
    rng = np.random.default_rng(0)
    layer, other = ours().double(), theirs().double()
    with torch.no_grad():  # weights that are not ones and zeros
        for name, parameter in layer.named_parameters():
            values = rng.standard_normal(parameter.shape)
            parameter.detach()[...] = values
            dict(other.named_parameters())[name].copy_(torch.from_numpy(values))
    assert len(layer.parameters()) == len(list(other.parameters()))
    for k in range(3):  # running statistics move; the last batch is compared
        layer.train(training or k < 2)
        other.train(training or k < 2)
        x = rng.standard_normal(shape)
        mine = Tensor(x, requires_grad=True)
        hers = torch.tensor(swap(x), requires_grad=True)
        y, expected = layer(mine), other(hers)
    np.testing.assert_allclose(swap(y.numpy()), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    direction = rng.standard_normal(y.shape)
    y.backward(direction)
    expected.backward(torch.from_numpy(swap(direction).copy()))
    np.testing.assert_allclose(swap(mine.grad.numpy()), hers.grad.numpy(), rtol=1e-8, atol=1e-11)
    for name, parameter in layer.named_parameters():
        gradient = dict(other.named_parameters())[name].grad.numpy()
        np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-8, atol=1e-11)
    buffers = dict(other.named_buffers())
    for name, buffer in layer.named_buffers():
        np.testing.assert_allclose(buffer.numpy(), buffers[name].numpy(), rtol=1e-9)
