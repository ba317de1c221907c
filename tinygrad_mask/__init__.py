"""A small reverse-mode autodiff framework that learns whether a face mask is worn properly."""

from tinygrad_mask import functions, nn, optim
from tinygrad_mask.autograd import (
    Function,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from tinygrad_mask.backends import (
    get_num_threads,
    is_winograd_enabled,
    resolve_device,
    set_num_threads,
    set_winograd,
)
from tinygrad_mask.checkpoints import load, save
from tinygrad_mask.dlpack import from_dlpack
from tinygrad_mask.random import default_generator, manual_seed
from tinygrad_mask.tensor import Tensor

__version__ = "0.1.0"

__all__ = [
    "Function",
    "Tensor",
    "default_generator",
    "enable_grad",
    "from_dlpack",
    "functions",
    "get_num_threads",
    "is_grad_enabled",
    "is_winograd_enabled",
    "load",
    "manual_seed",
    "nn",
    "no_grad",
    "optim",
    "resolve_device",
    "save",
    "set_grad_enabled",
    "set_num_threads",
    "set_winograd",
]
