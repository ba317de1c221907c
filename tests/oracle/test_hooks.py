"""Backward hooks see, and replace, the gradients that PyTorch's do."""

import numpy as np
import pytest

from tinygrad_mask import Tensor, nn

torch = pytest.importorskip("torch")


def pair():
    rng = np.random.default_rng(0)
    ours = nn.Sequential(nn.Linear(3, 4, rng=rng), nn.Tanh(), nn.Linear(4, 2, rng=rng)).double()
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
    ).double()
    with torch.no_grad():
        for (name, array), tensor in zip(
            ours.state_dict().items(), theirs.parameters(), strict=True
        ):
            tensor.copy_(torch.from_numpy(array.T.copy()))
            assert name in dict(theirs.named_parameters())
    return ours, theirs, rng.standard_normal((5, 3))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")  # PyTorch's
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("input_needs_it", [False, True])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_backward_hooks(position, input_needs_it, replace):
    ours, theirs, x = pair()
    seen = {"ours": [], "theirs": []}

    def hook(name):
        def look(module, grad_input, grad_output):
            seen[name].append(
                [None if g is None else g.numpy().copy() for g in (*grad_input, *grad_output)]
            )
            has_input = grad_input[0] is not None
            return (grad_input[0] * 0.5,) if replace and has_input else None

        return look

    ours[position].register_full_backward_hook(hook("ours"))
    theirs[position].register_full_backward_hook(hook("theirs"))
    mine, other = Tensor(x, requires_grad=input_needs_it), torch.tensor(x)
    other.requires_grad_(input_needs_it)
    (ours(mine) ** 2).sum().backward()
    (theirs(other) ** 2).sum().backward()
    (came,), (expected,) = seen["ours"], seen["theirs"]
    for a, b in zip(came, expected, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    for parameter, tensor in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad.numpy().T, tensor.grad.numpy(), rtol=1e-12)
    if input_needs_it:
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-12)
