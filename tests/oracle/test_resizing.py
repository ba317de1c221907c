"""Which pixels `interpolate` takes, and second derivatives of it and of the normalisations."""

import numpy as np
import pytest
from agreement import each_backend

import tinygrad_mask.functions as F
from tinygrad_mask import Tensor
from tinygrad_mask.autograd import grad

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
TF = torch.nn.functional

MODES = [("nearest", None), ("bilinear", False), ("bilinear", True)]
RNG = np.random.default_rng(0)


def theirs(x, *arguments, **options):
    return TF.interpolate(x.permute(0, 3, 1, 2), *arguments, **options).permute(0, 2, 3, 1)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@pytest.mark.parametrize("before", [1, 2, 3, 7, 16, 31])
@pytest.mark.parametrize("after", [1, 2, 5, 14, 32, 62])
def test_any_size_gives_the_same_pixels(before, after, mode, align_corners):
    x = RNG.standard_normal((1, before, 3, 2))
    options = {"size": (after, 4), "mode": mode, "align_corners": align_corners}
    expected = theirs(torch.from_numpy(x), **options).numpy()
    np.testing.assert_allclose(F.interpolate(Tensor(x), **options).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@pytest.mark.parametrize("scale", [0.5, 0.4, 1.5, 2, 3, 2.6])
def test_a_scale_gives_the_same_pixels(scale, mode, align_corners):
    x = RNG.standard_normal((1, 7, 9, 2))
    options = {"scale_factor": scale, "mode": mode, "align_corners": align_corners}
    expected = theirs(torch.from_numpy(x), **options).numpy()
    np.testing.assert_allclose(F.interpolate(Tensor(x), **options).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@pytest.mark.parametrize("side", range(1, 9))
@pytest.mark.parametrize("scale", [0.99, 1.05, 1.25, 1.9, 2.1, 2.2, 2.4, 3.1])
def test_a_scale_that_rounds_to_a_multiple_gives_the_same_pixels(scale, side, mode, align_corners):
    # PyTorch copies a length that stays the same, and with `nearest` repeats one that doubles.
    x = RNG.standard_normal((1, side, 9 - side, 2))
    if int(min(side, 9 - side) * scale) < 1:
        pytest.skip("no pixel would be left")
    options = {"scale_factor": scale, "mode": mode, "align_corners": align_corners}
    expected = theirs(torch.from_numpy(x), **options).numpy()
    np.testing.assert_allclose(F.interpolate(Tensor(x), **options).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("factor", range(1, 200))
def test_the_nearest_pixel_of_a_whole_multiple_is_exact(factor):
    # In floating point 49 * (2 / 98) is less than 1.
    x = Tensor(np.arange(3.0).reshape(1, 3, 1, 1))
    rows = F.interpolate(x, (3 * factor, 1)).numpy().ravel()
    np.testing.assert_array_equal(rows, np.repeat([0.0, 1.0, 2.0], factor))


@each_backend
@pytest.mark.parametrize("name", ["group_norm", "layer_norm", "interpolate"])
def test_second_derivatives_agree(name, backend):
    if name == "interpolate":
        x = RNG.standard_normal((1, 3, 4, 2))
        inputs = [x]
        ours = lambda x: F.interpolate(x, (5, 3), mode="bilinear")  # noqa: E731
        oracle = lambda x: theirs(x, (5, 3), mode="bilinear")  # noqa: E731
    elif name == "group_norm":
        inputs = [RNG.standard_normal(s) for s in ((2, 3, 4), (4,), (4,))]
        ours = lambda x, w, b: F.group_norm(x, 2, w, b)  # noqa: E731
        oracle = lambda x, w, b: TF.group_norm(  # noqa: E731
            x.movedim(-1, 1), 2, w, b
        ).movedim(1, -1)
    else:
        inputs = [RNG.standard_normal(s) for s in ((5, 2, 3), (2, 3), (2, 3))]
        ours = lambda x, w, b: F.layer_norm(x, (2, 3), w, b)  # noqa: E731
        oracle = lambda x, w, b: TF.layer_norm(x, (2, 3), w, b)  # noqa: E731

    tensors = [Tensor(a, device=backend) for a in inputs]
    peers = [torch.tensor(a, requires_grad=True) for a in inputs]
    for tensor in tensors:
        tensor.requires_grad = True
    first = grad((ours(*tensors) ** 3).sum(), tensors, create_graph=True)
    expected = torch.autograd.grad((oracle(*peers) ** 3).sum(), peers, create_graph=True)
    second = grad(sum(((g**2).sum() for g in first), Tensor(np.zeros(()), device=backend)), tensors)
    wanted = torch.autograd.grad(sum((g**2).sum() for g in expected), peers)
    for came, right in zip([*first, *second], [*expected, *wanted], strict=True):
        np.testing.assert_allclose(
            came.to("cpu").numpy(), right.detach().numpy(), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("channels", [1, 3, 20, 64])
def test_an_infinite_gradient_stays_with_the_pixel_it_belongs_to(channels):
    """A pixel that went elsewhere must not come back times 0, which of infinity is NaN."""
    gradient = np.ones((1, 6, 6, channels), np.float32)
    gradient[0, 2, 3] = np.inf
    x = Tensor(np.zeros((1, 3, 3, channels), np.float32), requires_grad=True)
    F.interpolate(x, scale_factor=2).backward(Tensor(gradient))
    other = torch.zeros(1, channels, 3, 3, requires_grad=True)
    resized = torch.nn.functional.interpolate(other, scale_factor=2)
    resized.backward(torch.tensor(gradient.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(x.grad.numpy(), other.grad.permute(0, 2, 3, 1).numpy())
