"""Gradients of whole networks, drawn at random, against finite differences."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_mask.functions as F
from tinygrad_mask.testing import check_gradients

ACTIVATIONS = [F.relu, F.sigmoid, F.tanh, F.silu, F.leaky_relu]


@st.composite
def networks(draw):
    """A network from images to a loss, and its inputs: the images, then all weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, height, width, channels = (draw(st.integers(1, k)) for k in (3, 9, 9, 3))
    n += 1
    inputs = [rng.standard_normal((n, height, width, channels))]
    layers = []

    def weight(*shape):
        fan_in = max(int(np.prod(shape[:-1])), 1)
        inputs.append(rng.standard_normal(shape) / np.sqrt(fan_in))
        return len(inputs) - 1

    for kind in draw(st.lists(st.sampled_from(["conv", "pool", "norm", "residual"]), max_size=4)):
        if kind in ("conv", "residual"):
            outputs = channels if kind == "residual" else draw(st.integers(1, 4))
            window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
            stride = 1 if kind == "residual" else draw(st.integers(1, 2))
            layers.append((kind, weight(*window, channels, outputs), weight(outputs), stride))
            channels = outputs
            height, width = -(-height // stride), -(-width // stride)
        elif kind == "pool":
            if min(height, width) >= 2:
                layers.append((draw(st.sampled_from([F.max_pool2d, F.avg_pool2d])),))
                height, width = height // 2, width // 2
        else:
            layers.append((kind, weight(channels), weight(channels)))
        layers.append((draw(st.sampled_from(ACTIVATIONS)),))
    flat = draw(st.booleans())
    features = height * width * channels if flat else channels
    last = weight(features, 3), weight(3)
    target = rng.integers(3, size=n)
    loss = draw(st.sampled_from(["cross_entropy", "squared_error"]))

    def network(x, *weights):
        w = [None, *weights]
        for kind, *arguments in layers:
            if kind in ("conv", "residual"):
                kernel, bias, stride = arguments
                y = F.conv2d(x, w[kernel], w[bias], stride=stride, padding="same")
                x = x + y if kind == "residual" else y
            elif kind == "norm":
                scale, shift = arguments
                x = F.batch_norm(x, w[scale], w[shift], training=True, eps=1e-2)
            elif kind in (F.max_pool2d, F.avg_pool2d):
                x = kind(x, 2)
            else:
                x = kind(x)
        x = x.reshape(n, features) if flat else F.global_avg_pool2d(x)
        scores = x @ w[last[0]] + w[last[1]]
        if loss == "cross_entropy":
            return F.cross_entropy(scores, target, label_smoothing=0.1)
        return F.squared_error(scores, np.eye(3)[target])

    return network, inputs


@settings(max_examples=60)
@given(networks(), st.integers(0, 99))
def test_gradients_of_random_networks(drawn, seed):
    network, inputs = drawn
    check_gradients(network, *inputs, seed=seed, entries=1)
