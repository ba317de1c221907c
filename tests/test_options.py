"""Options: none drops a gradient in silence, and NumPy's numbers are what Python's are."""

import numpy as np
import pytest
from devices import each_backend

from tinygrad_mask import Tensor, nn, no_grad
from tinygrad_mask import functions as F

RNG = np.random.default_rng


def pairs():
    return Tensor(np.array([[-0.5, 0.9], [0.2, -3.0]], np.float32), requires_grad=True)


def batch_norm(x, **options):
    running = Tensor(np.zeros(2, np.float32)), Tensor(np.ones(2, np.float32))
    return F.batch_norm(x, None, None, *running, training=True, **options)


OPTIONS = {
    "elu alpha": lambda v: F.elu(pairs(), v),
    "softplus beta": lambda v: F.softplus(pairs(), v),
    "softplus threshold": lambda v: F.softplus(pairs(), 1.0, v),
    "hardtanh min_val": lambda v: F.hardtanh(pairs(), v, 2.0),
    "hardtanh max_val": lambda v: F.hardtanh(pairs(), -1.0, v),
    "dropout p": lambda v: F.dropout(pairs(), v, RNG(0)),
    "batch_norm momentum": lambda v: batch_norm(pairs(), momentum=v),
    "LeakyReLU negative_slope": lambda v: nn.LeakyReLU(v)(pairs()),
    "ELU alpha": lambda v: nn.ELU(v)(pairs()),
    "Softplus beta": lambda v: nn.Softplus(v)(pairs()),
    "Softplus threshold": lambda v: nn.Softplus(1.0, v)(pairs()),
    "Hardtanh min_val": lambda v: nn.Hardtanh(v, 2.0)(pairs()),
    "Hardtanh max_val": lambda v: nn.Hardtanh(-1.0, v)(pairs()),
    "Dropout p": lambda v: nn.Dropout(v, rng=RNG(0))(pairs()),
    "BatchNorm eps": lambda v: nn.BatchNorm(2, eps=v)(pairs()),
    "BatchNorm momentum": lambda v: nn.BatchNorm(2, momentum=v)(pairs()),
    "LayerNorm eps": lambda v: nn.LayerNorm(2, eps=v)(pairs()),
    "GroupNorm eps": lambda v: nn.GroupNorm(1, 2, eps=v)(pairs()),
    "SmoothL1Loss beta": lambda v: nn.SmoothL1Loss(beta=v)(pairs(), np.zeros((2, 2), np.float32)),
    "CrossEntropyLoss label_smoothing": lambda v: nn.CrossEntropyLoss(label_smoothing=v)(
        pairs(), [0, 1]
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_requires_a_gradient_is_refused_by_its_name(option):
    value = Tensor(np.array(0.5, np.float32), requires_grad=True)
    function, argument = option.split()
    with pytest.raises(TypeError, match=f"{function}: {argument} is not differentiable"):
        OPTIONS[option](value)
    with no_grad():
        in_no_grad = OPTIONS[option](value)
    expected = OPTIONS[option](0.5).numpy()
    assert (in_no_grad.numpy() == expected).all()
    assert (OPTIONS[option](value.detach()).numpy() == expected).all()


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("number", [np.float64, np.float32, np.longdouble])
def test_numbers_of_numpy_are_what_pythons_are(option, number):
    result = OPTIONS[option](number(0.5))
    assert result.dtype == np.float32
    assert (result.numpy() == OPTIONS[option](0.5).numpy()).all()


def test_sizes_may_be_integers_of_numpy():
    x = pairs()
    assert (F.layer_norm(x, np.int64(2)).numpy() == F.layer_norm(x, 2).numpy()).all()
    images = x.reshape(1, 2, 1, 2)
    found = F.group_norm(images, np.int64(2))
    assert (found.numpy() == F.group_norm(images, 2).numpy()).all()
    with pytest.raises(TypeError, match="integer"):
        F.layer_norm(x, 2.0)


def test_clip_adopts_the_dtype():
    x = pairs()
    y = x.clip(np.longdouble(0), np.longdouble(0.5))
    y.sum().backward()
    assert y.dtype == x.grad.dtype == np.float32
    with pytest.raises(TypeError, match="clip: a float does not fit a tensor of dtype int64"):
        Tensor([1, 5]).clip(0, 2.5)
    with pytest.raises(TypeError, match="clip: a float does not fit a tensor of dtype int64"):
        Tensor([1, 5]).clip(np.float64(0.5))


@each_backend()
def test_smooth_l1_loss_has_the_gradient_of_a_line_at_infinity(backend):
    # The closed form: the sign of the difference.
    x = Tensor(np.array([np.inf, -np.inf], np.float32), device=backend, requires_grad=True)
    zeros = Tensor(np.zeros(2, np.float32), device=backend)
    F.smooth_l1_loss(x, zeros, reduction="sum").backward()
    assert x.grad.numpy().tolist() == [1, -1]
