"""State dicts to and from PyTorch, with the layout of each layer converted.

    model.load_state_dict(convert.from_torch(torch_model.state_dict(), model))
    torch_model.load_state_dict(convert.to_torch(model))

Images are NHWC here and NCHW in PyTorch, so their weights differ in layout:

    layer                       here                        PyTorch
    Linear                      (inputs, outputs)           (outputs, inputs)
    Conv2d                      (kh, kw, inputs, outputs)   (outputs, inputs, kh, kw)
    ConvTranspose2d             (kh, kw, outputs, inputs)   (inputs, outputs, kh, kw)
    Embedding                   (count, length)             (count, length)
    Linear after a flatten      rows in the order of        columns in the order of
                                (height, width, channels)   (channels, height, width)

A square Linear weight has the same shape in both layouts: `load_state_dict` with PyTorch's own
state dict would load it untransposed, without an error. Always convert.

Both functions take a module, because the layout depends on the kind of layer, which a name or a
shape does not tell. The names of the layers must be the same on both sides.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_mask import nn
from tinygrad_mask.backends import Array

_BATCHES = "num_batches_tracked"


def from_torch(
    state: Mapping[str, Any], model: nn.Module, *, flattened: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """Return a PyTorch state dict in the layout of `model`, for `model.load_state_dict`.

    Entries that `model` does not have are returned as they are, so that `load_state_dict` reports
    them; only PyTorch's count of batches is left out where `model` does not count them.

    Args:
        state: a `state_dict()` of PyTorch, of tensors or of arrays.
        model: a module with the same layers under the same names.
        flattened: the number of channels of the images that were flattened before a Linear layer,
            by the layer's name. Within `Sequential` it is found out; where it is in doubt, in a
            module with a `forward` of its own, the function asks for it. 1 stands for "nothing to
            reorder".

    Raises:
        ValueError: for a layer whose layout is not known, and for a Linear layer that may follow a
            flatten, if `flattened` does not say so.

    Warning:
        Do not load PyTorch's state dict without this function. Most layers would be refused for
        their shape; a square Linear weight would be loaded untransposed, silently.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 4 * 4, 2))
        >>> model.load_state_dict(convert.from_torch(torch_model.state_dict(), model))
    """
    entries = {entry.name: entry for entry in _entries(model, flattened or {})}
    converted: dict[str, Array] = {}
    for name, value in state.items():
        if name.rpartition(".")[2] == _BATCHES and name not in entries:
            continue
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        entry = entries.get(name)
        converted[name] = array if entry is None else np.array(entry.from_torch(array), order="C")
    return converted


def to_torch(model: nn.Module, *, flattened: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return the state of `model` in PyTorch's layout, for `torch_model.load_state_dict`.

    The values are PyTorch tensors on the CPU that share no memory with the model. For `flattened`
    and what is raised see `from_torch`; `ImportError` if PyTorch is not installed.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise ImportError("to_torch: expected PyTorch to be installed; pip install torch") from None
    state = model.state_dict()
    converted: dict[str, Any] = {}
    for entry in _entries(model, flattened or {}):
        array = np.array(entry.to_torch(state[entry.name]), order="C")
        converted[entry.name] = torch.from_numpy(array)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm):
            converted.setdefault(f"{name}.{_BATCHES}" if name else _BATCHES, torch.tensor(0))
    return converted


# --- the layout of each entry -------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A parameter or buffer by name, and its array's way in each direction."""

    name: str
    from_torch: Callable[[Array], Array] = lambda array: array
    to_torch: Callable[[Array], Array] = lambda array: array


def _entries(model: nn.Module, flattened: Mapping[str, int]) -> Iterator[_Entry]:
    """Yield each entry of the state dict of `model`."""
    channels = _flattened_channels(model, flattened)
    modules = dict(model.named_modules())
    tensors = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in tensors:
        prefix, _, own = name.rpartition(".")
        module = modules.get(prefix)
        if isinstance(module, nn.Linear) and own == "weight":
            yield _linear(name, channels.get(prefix, 1))
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and own == "weight":
            # In both, the last two axes are PyTorch's first two, exchanged.
            yield _Entry(name, lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
        elif tensor.ndim <= 1 or isinstance(module, nn.Embedding):
            yield _Entry(name)
        else:
            raise ValueError(
                f"convert: expected layers whose layout is known, got {type(module).__name__} with "
                f"{name} of shape {tensor.shape}; convert this one by hand"
            )


def _linear(name: str, channels: int) -> _Entry:
    def from_torch(array: Array) -> Array:
        outputs, inputs = array.shape
        images = array.reshape(outputs, channels, inputs // channels)
        return images.transpose(2, 1, 0).reshape(inputs, outputs)

    def to_torch(array: Array) -> Array:
        inputs, outputs = array.shape
        images = array.reshape(inputs // channels, channels, outputs)
        return images.transpose(2, 1, 0).reshape(outputs, inputs)

    return _Entry(name, from_torch, to_torch)


# --- Linear layers after a flatten ----------------------------------------------------------------


@dataclass
class _Before:
    """What is known of the tensor at a place of the network.

    `channels` are those of its images, or its features; None if there was no layer that tells.
    `flattened` says whether a Flatten has made features of the images since. `certain` is False
    after a module of the user's own: in what order its layers run, and what else it does, is not
    known.
    """

    channels: int | None = None
    flattened: bool = False
    certain: bool = True


def _flattened_channels(model: nn.Module, given: Mapping[str, int]) -> dict[str, int]:
    """Return the channels of the images that were flattened before Linear layers, by their names.

    Only Linear layers whose inputs are in another order in PyTorch are listed.
    """
    found: dict[str, int] = {}
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    for name, channels in given.items():
        if name not in linear:
            raise ValueError(
                f"convert: expected flattened to name Linear layers, got {name!r}; the model has "
                f"{', '.join(linear) or 'none'}"
            )
        inputs = linear[name].weight.shape[0]
        if channels < 1 or inputs % channels:
            raise ValueError(
                f"convert: expected flattened[{name!r}] to divide its {inputs} inputs, "
                f"got {channels}"
            )
        found[name] = channels
    _walk(model, "", _Before(), found, ordered=True)
    return found


def _walk(
    module: nn.Module, name: str, before: _Before, found: dict[str, int], *, ordered: bool
) -> None:
    """Follow the layers in their order, adding to `found` and keeping `before` up to date.

    `ordered` says whether the layers are known to run in the order in which they are found.
    """
    if isinstance(module, nn.Conv2d):
        before.channels, before.flattened = module.weight.shape[-1], False
        before.certain = ordered
    elif isinstance(module, nn.ConvTranspose2d):
        before.channels = module.weight.shape[2] * module.groups
        before.flattened, before.certain = False, ordered
    elif isinstance(module, nn.Embedding):
        # Its vectors are flattened in the same order on both sides, unlike images.
        before.channels, before.flattened, before.certain = None, False, False
    elif isinstance(module, nn.Flatten):
        before.flattened = True
        before.certain = before.certain and (module.start_dim, module.end_dim) == (1, -1)
    elif isinstance(module, nn.Linear):
        inputs, outputs = module.weight.shape
        if name not in found and inputs != before.channels:
            _add_flattened(name, inputs, before, found)
        before.channels, before.flattened = outputs, False
        before.certain = ordered
    else:
        ours = type(module).__module__.startswith(nn.__name__)
        before.certain = before.certain and ours
        ordered = ordered and isinstance(module, nn.Sequential)
        for child_name, child in module.named_children():
            below = f"{name}.{child_name}" if name else child_name
            _walk(child, below, before, found, ordered=ordered)
        before.certain = before.certain and ours


def _add_flattened(name: str, inputs: int, before: _Before, found: dict[str, int]) -> None:
    channels = before.channels
    if channels is None and not before.flattened:
        return  # the first layer: its inputs are in the order in which they are given to the model
    divisible = channels is not None and inputs % channels == 0
    if channels is not None and divisible and before.certain and before.flattened:
        found[name] = channels
        return
    raise ValueError(
        f"convert: expected flattened to say whether the {inputs} inputs of {name} are flattened "
        f"images; pass flattened={{{name!r}: {channels if divisible else 'CHANNELS'}}} with the "
        "number of their channels, or 1 if they are not"
    )
