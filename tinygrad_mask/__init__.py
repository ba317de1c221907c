"""A small reverse-mode autodiff framework that learns whether a face mask is worn properly.

Importing it loads tensors, gradients and functions. Everything else is loaded on first use: layers,
optimisers, files, and the devices.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tinygrad_mask import functions
from tinygrad_mask.autograd import (
    Function,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from tinygrad_mask.backends import resolve_device
from tinygrad_mask.creation import (
    arange,
    eye,
    from_numpy,
    full,
    ones,
    ones_like,
    rand,
    randn,
    tensor,
    zeros,
    zeros_like,
)
from tinygrad_mask.equivalents import FUNCTIONS, PACKAGE, no_attribute
from tinygrad_mask.random import default_generator, manual_seed
from tinygrad_mask.tensor import Tensor

if TYPE_CHECKING:
    from tinygrad_mask import (
        convert,
        data,
        distributed,
        nn,
        optim,
        serialization,
        testing,
        training,
    )
    from tinygrad_mask.backends import (
        get_num_threads,
        is_winograd_enabled,
        set_num_threads,
        set_winograd,
    )
    from tinygrad_mask.checkpoints import load, save
    from tinygrad_mask.compiler import compile
    from tinygrad_mask.dlpack import from_dlpack

__version__ = "0.1.0"

__all__ = [
    "Function",
    "Tensor",
    "arange",
    "compile",
    "convert",
    "data",
    "default_generator",
    "distributed",
    "enable_grad",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "functions",
    "get_num_threads",
    "is_grad_enabled",
    "is_winograd_enabled",
    "load",
    "manual_seed",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "optim",
    "rand",
    "randn",
    "resolve_device",
    "save",
    "serialization",
    "set_grad_enabled",
    "set_num_threads",
    "set_winograd",
    "tensor",
    "testing",
    "training",
    "zeros",
    "zeros_like",
]

_PACKAGES = {
    "convert",
    "data",
    "distributed",
    "nn",
    "optim",
    "serialization",
    "testing",
    "training",
}
_MODULES = {
    "compile": "compiler",
    "from_dlpack": "dlpack",
    "get_num_threads": "backends",
    "is_winograd_enabled": "backends",
    "load": "checkpoints",
    "save": "checkpoints",
    "set_num_threads": "backends",
    "set_winograd": "backends",
}
"""The modules of the names that are loaded on first use."""


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise no_attribute(__name__, name, _equivalent_of(name))
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def _equivalent_of(name: str) -> str | None:
    """Return what to use for a name of another framework, or None if that is not known."""
    if name in PACKAGE:
        return PACKAGE[name]
    if name in functions.__all__:
        return f"use functions.{name}"
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    if not name[:1].isupper():  # the name of a module, which the import system asks for first
        return None
    for package in ("nn", "optim", "data", "training"):
        try:
            getattr(importlib.import_module(f"{__name__}.{package}"), name)
        except AttributeError as error:
            _, _, hint = str(error).partition("; ")  # packages have hints of their own
            if hint:
                return hint
        else:
            return f"use {package}.{name}"
    return None


def __dir__() -> list[str]:
    return sorted({"__version__", "autograd", *__all__})
