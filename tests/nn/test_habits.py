"""What people who know PyTorch type: layers, modules, optimisers and schedules, line by line."""

import re

import numpy as np
import pytest

import tinygrad_mask as tg
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn, optim


def names():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm(4), nn.ReLU())
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = Tensor(np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32))
    logits = Tensor(np.zeros((2, 3), np.float32), requires_grad=True)
    return {
        "F": F,
        "Tensor": Tensor,
        "labels": np.array([0, 2]),
        "logits": logits,
        "model": model,
        "nn": nn,
        "np": np,
        "optim": optim,
        "optimizer": optimizer,
        "tg": tg,
        "x": x,
    }


LAYERS = """
tg.manual_seed(0)
nn.Linear(2, 3)
nn.Linear(in_features=2, out_features=3, bias=False)
nn.Conv2d(3, 8, 3, 1, 1)(x)
nn.Conv2d(3, 8, kernel_size=[3, 3], padding=[1, 1])(x)
nn.MaxPool2d(2, 2)(x)
nn.AvgPool2d(2, 2)(x)
nn.AdaptiveAvgPool2d((1, 1))(x)
nn.AdaptiveAvgPool2d(3)(x)
nn.ConvTranspose2d(3, 8, 2, stride=2)(x)
nn.Upsample(scale_factor=2)(x)
nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)(x)
nn.Flatten()(x)
nn.Identity()(x)
nn.BatchNorm(3)(x)
nn.LayerNorm(3)(x)
nn.LayerNorm([8, 8, 3])(x)
nn.GroupNorm(3, 3)(x)
nn.Embedding(10, 4)(labels)
nn.Dropout()(x)
nn.Dropout(p=0.5)(x)
nn.GELU()(x)
nn.ELU()(x)
nn.Softplus()(x)
nn.Hardtanh()(x)
nn.Softmax(dim=-1)(x)
nn.MSELoss()(logits, logits)
nn.L1Loss(reduction="sum")(logits, logits)
nn.SmoothL1Loss()(logits, logits)
nn.CrossEntropyLoss()(logits, labels).backward()
nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=2)(logits, labels)
nn.BCEWithLogitsLoss(pos_weight=[1.0, 2.0, 3.0])(logits, np.ones((2, 3), np.float32))
nn.Sequential([nn.ReLU(), nn.Flatten()])(x)
nn.ModuleList([nn.Linear(2, 2)]).append(nn.Linear(2, 2))
nn.ModuleDict({"a": nn.Linear(2, 2)})["a"]
model.add_module("last", nn.Flatten())
list(model.named_modules())
list(model.named_children())
[type(child) for child in model.children()]
model.apply(lambda module: None)
model.requires_grad_(False).requires_grad_(True)
model.double().float()
model.load_state_dict(model.state_dict(), strict=False).missing_keys
model.register_forward_hook(lambda module, args, output: None).remove()
model.register_full_backward_hook(lambda module, grad_input, grad_output: None).remove()
model.eval().train()
model.zero_grad(set_to_none=True)
model.to("cpu")
model.cpu()
x.to("cpu", np.float64)
[layer for layer in nn.ModuleList([nn.ReLU()]) + [nn.Flatten()]]
nn.ModuleList([nn.ReLU(), nn.Flatten()]).pop(0)
"""

OPTIMISERS = """
optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.1, weight_decay=1e-4)
optim.SGD(model.parameters(), 0.1, 0.9, 0, 1e-4, True)
optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-6, amsgrad=True)
optim.AdamW(model.parameters(), maximize=True)
optim.RMSprop(model.parameters(), lr=1e-2, alpha=0.9, momentum=0.9, centered=True)
optim.SGD([{"params": model[0].parameters(), "lr": 1e-2}, {"params": model[1].parameters()}], 0.1)
optimizer.add_param_group({"params": nn.Linear(2, 2).parameters(), "lr": 0.5})
optimizer.param_groups[0]["lr"]
optimizer.zero_grad(set_to_none=True)
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
optim.StepLR(optimizer, step_size=30, gamma=0.1).step()
optim.MultiStepLR(optimizer, milestones=[30, 80]).step()
optim.ExponentialLR(optimizer, gamma=0.9).step()
optim.LambdaLR(optimizer, lr_lambda=lambda epoch: 0.95**epoch).step()
optim.ReduceLROnPlateau(optimizer, "min", patience=3).step(0.5)
optim.OneCycleLR(optimizer, max_lr=0.1, epochs=3, steps_per_epoch=10).step()
optim.OneCycleLR(optimizer, max_lr=0.1, total_steps=10, cycle_momentum=True).get_last_lr()
optim.SequentialLR(optimizer, [optim.LinearLR(optimizer), optim.StepLR(optimizer, 3)], [5])
optim.StepLR(optimizer, 3).load_state_dict(optim.StepLR(optimizer, 3).state_dict())
optim.clip_grad_norm(model.parameters(), 1.0)
optim.clip_grad_value(model[0].weight, np.float64(0.5))
"""


@pytest.mark.parametrize("line", [*LAYERS.strip().splitlines(), *OPTIMISERS.strip().splitlines()])
def test_the_line_works(line):
    eval(line, names())


# A line that cannot work, and the end of its message.
NAMES_WHAT_TO_DO = [
    ("nn.ReLU(inplace=True)", "expected no options, got inplace=True; leave it out; results are"),
    ("nn.Dropout(0.5, inplace=True)", "expected the options p, rng, got inplace=True; leave it"),
    ("nn.ReLU(True)", "ReLU: expected no positional arguments, got 1; there is no inplace option"),
    ("nn.LeakyReLU(0.1, True)", "at most 1 positional argument, got 2; there is no inplace option"),
    ("nn.Conv2d(3, 8, 3, padding_mode='reflect')", "leave it out for zeros; otherwise use"),
    ("nn.Conv2d(3, 8, 3, 1, 1, 1, 1, True, 'zeros')", "at most 8 positional arguments, got 9"),
    ("nn.Conv2d(3, 8, 3, device='cpu')", "move the layer afterwards: layer.to(device)"),
    ("nn.Linear(3, 8, dtype=np.float64)", "convert the layer afterwards: layer.double()"),
    ("nn.Linear(in_feature=3, out_features=8)", "got in_feature=3; use in_features="),
    ("nn.Embedding(10, 4, padding_idx=0)", "masked_fill(output, (indices == padding_idx)"),
    ("nn.MaxPool2d(2, return_indices=True)", "; there is none; use x.argmax()"),
    ("nn.GroupNorm(3, 3, nosuch=1)", "GroupNorm: expected the options num_groups, num_channels"),
    # Keras.
    ("nn.Linear(3, units=8)", "; use out_features="),
    ("nn.Linear(3, 8, use_bias=False)", "; use bias="),
    ("nn.Linear(3, 8, activation='relu')", "follow the layer by one, for instance nn.ReLU()"),
    ("nn.Conv2d(3, filters=8, kernel_size=3)", "; use out_channels="),
    ("nn.Conv2d(3, 8, 3, strides=2)", "; use stride="),
    ("nn.MaxPool2d(pool_size=2)", "; use kernel_size="),
    ("nn.Dropout(rate=0.5)", "; use p="),
    ("nn.BatchNorm(3, epsilon=1e-3)", "; use eps="),
]


@pytest.mark.parametrize(("line", "message"), NAMES_WHAT_TO_DO)
def test_the_line_names_what_to_do(line, message):
    with pytest.raises(TypeError, match=re.escape(message)) as caught:
        eval(line, names())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(re.match(r"nn\.(\w+)", line)[1] + ": ")


def test_padding_idx_is_a_masked_fill():
    """What the message names gives the vectors and gradients of `padding_idx`: zeros."""
    layer, indices = nn.Embedding(4, 2), tg.tensor([0, 2, 0, 1])
    output = F.masked_fill(layer(indices), (indices == 0)[..., None], 0)
    assert (output.numpy()[[0, 2]] == 0).all()
    assert (output.numpy()[[1, 3]] == layer.weight.numpy()[[2, 1]]).all()
    output.sum().backward()
    assert layer.weight.grad.numpy().tolist() == [[0, 0], [1, 1], [1, 1], [0, 0]]


def test_a_class_of_a_user_is_checked_by_its_own_constructor():
    class Block(nn.Module):
        def __init__(self, width, *, depth=1):
            super().__init__()

    class Open(nn.Module):
        def __init__(self, *args, **options):
            super().__init__()

    Block(3, depth=2)
    Open(1, 2, anything=3)
    with pytest.raises(TypeError, match=r"^Block: expected the options width, depth, got dept=2; "):
        Block(3, dept=2)
    with pytest.raises(TypeError, match="at most 1 positional argument, got 2; write depth= "):
        Block(3, 2)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'width'"):
        Block()


@pytest.mark.parametrize(
    ("option", "wrong"),
    [("padding", "fulll"), ("padding", -1), ("stride", 0), ("stride", "2"), ("dilation", 0)],
)
def test_wrong_options_of_a_convolution_are_refused_when_it_is_made(option, wrong):
    with pytest.raises((ValueError, TypeError), match=f"Conv2d: expected {option}"):
        nn.Conv2d(1, 4, 3, **{option: wrong})


def test_valid_padding_is_none():
    layer = nn.Conv2d(1, 4, 3, padding="valid", rng=np.random.default_rng(0))
    same = nn.Conv2d(1, 4, 3, rng=np.random.default_rng(0))
    x = Tensor(np.random.default_rng(1).standard_normal((2, 7, 8, 1)).astype(np.float32))
    assert (layer(x).numpy() == same(x).numpy()).all()


def test_a_weight_of_another_shape_can_be_printed():
    for layer in (nn.Linear(2, 2), nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(1, 2, 3)):
        layer.weight = nn.Parameter(np.ones(1, np.float32))
        assert type(layer).__name__ in repr(layer)
