"""Keywords of PyTorch and Keras that do not exist here: a wrong call names what to write instead.

`ChecksKeywords` is the base of the classes whose constructors are checked, `checks_keywords` the
decorator of the functions. Functions of `functions` have neither, because a check in each call
would cost more than some of them compute.
"""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import wraps
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Self = TypeVar("Self", bound="ChecksKeywords")

_SAME = {
    "beta": "betas",
    "beta_1": "betas",
    "beta_2": "betas",
    "beta1": "betas",
    "beta2": "betas",
    "bs": "batch_size",
    "criterion": "loss",
    "data": "dataset",
    "decay": "weight_decay",
    "dilation_rate": "dilation",
    "drop_remainder": "drop_last",
    "epsilon": "eps",
    "filters": "out_channels",
    "generator": "rng",
    "input_dim": "num_embeddings",
    "kernel_initializer": "init",
    "learning_rate": "lr",
    "loss_fn": "loss",
    "loss_function": "loss",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "optim": "optimizer",
    "output_dim": "embedding_dim",
    "params": "parameters",
    "pool_size": "kernel_size",
    "prefetch_factor": "prefetch",
    "random_state": "rng",
    "rate": "p",
    "rho": "alpha",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "strides": "stride",
    "train_dataloader": "batches",
    "train_loader": "batches",
    "dataloader": "batches",
    "loader": "batches",
    "units": "out_features",
    "use_bias": "bias",
}
"""The same option by the name that it has here."""

_HINTS = {
    "inplace": "leave it out; results are new tensors",
    "device": "leave it out, and move the layer afterwards: layer.to(device)",
    "dtype": "leave it out, and convert the layer afterwards: layer.double()",
    "padding_mode": "leave it out for zeros; otherwise use functions.pad(x, widths, mode=) first",
    "padding_idx": "leave it out, and set those vectors to 0 afterwards: "
    "functions.masked_fill(output, (indices == padding_idx)[..., None], 0)",
    "max_norm": "there is none; rescale layer.weight within no_grad()",
    "norm_type": "there is none; rescale layer.weight within no_grad()",
    "scale_grad_by_freq": "there is none",
    "sparse": "leave it out; gradients are dense",
    "return_indices": "there is none; use x.argmax() of the windows",
    "activation": "leave it out; follow the layer by one, for instance nn.ReLU()",
    "data_format": "leave it out; images are (N, height, width, channels)",
    "channels_last": "leave it out; images are (N, height, width, channels)",
    "input_shape": "leave it out; layers are told their input sizes first",
    # Optimisers.
    "foreach": "leave it out; all parameters of a group move in one call",
    "fused": "leave it out; all parameters of a group move in one call",
    "capturable": "leave it out; use training.Trainer(graph=True) on a GPU",
    "differentiable": "there is none; steps are not recorded",
    "decoupled_weight_decay": "use optim.AdamW",
    "clipnorm": "leave it out; call optim.clip_grad_norm(parameters, max_norm) before step()",
    "clipvalue": "leave it out; call optim.clip_grad_value(parameters, max_value) before step()",
    # Data and files.
    "pin_memory": "leave it out; a Trainer sends batches to its device ahead of time",
    "pin_memory_device": "leave it out; a Trainer sends batches to its device ahead of time",
    "persistent_workers": "leave it out; workers are threads, which start at once",
    "multiprocessing_context": "leave it out; workers are threads",
    "worker_init_fn": "leave it out; workers are threads",
    "timeout": "leave it out; workers are threads",
    "in_order": "leave it out; batches always come in order",
    "batch_sampler": "use sampler= and batch_size=",
    "map_location": "leave it out; arrays are on the CPU, and load_state_dict() moves them",
    "weights_only": "leave it out; no code runs when a file is read",
    "pickle_module": "leave it out; no code runs when a file is read",
    "mmap": "leave it out; the file is read as a whole",
    # Training.
    "metrics": "return them from loss: (loss, {'accuracy': scores.argmax(axis=1) == labels})",
    "device_ids": "there is none; one device does the work",
    "validation_data": "use callbacks=[training.Validation(loader)]",
    "val_loader": "use callbacks=[training.Validation(loader)]",
    "val_dataloader": "use callbacks=[training.Validation(loader)]",
    "verbose": "use callbacks=[training.ProgressLine()]",
}
"""What to do about an option that does not exist here in any class or function."""

_HINTS_OF = {
    ("DataLoader", "generator"): "use seed=, an integer",
    ("DataLoader", "rng"): "use seed=, an integer",
    ("Trainer", "device"): "leave it out; move the model first: model.to(device)",
    ("CrossEntropyLoss", "from_logits"): "leave it out; the loss takes logits",
    ("BCEWithLogitsLoss", "from_logits"): "leave it out; the loss takes logits",
}
"""The same for one class or function."""


def check_call(
    name: str, function: Any, args: tuple[Any, ...], options: dict[str, Any], bound: int = 0
) -> None:
    """Raise `TypeError` for keywords and positional arguments that a Python function does not take.

    `name` is how the caller wrote it, and `bound` is the number of arguments before `args`.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return
    positional = code.co_varnames[bound : code.co_argcount]
    accepted = (*positional, *code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount])
    if not code.co_flags & inspect.CO_VARKEYWORDS:
        for option, value in options.items():
            if option not in accepted:
                expected = f"the options {', '.join(accepted)}" if accepted else "no options"
                hint = _hint(name, option, accepted)
                raise TypeError(
                    f"{name}: expected {expected}, got {option}={_short(value)}"
                    + (f"; {hint}" if hint else "")
                )
    if len(args) > len(positional) and not code.co_flags & inspect.CO_VARARGS:
        if isinstance(args[len(positional)], bool):
            hint = "there is no inplace option"
        elif len(accepted) > len(positional):
            hint = f"write {accepted[len(positional)]}= and those after it by their names"
        else:
            hint = f"leave out {_short(args[len(positional)])}"
        count = f"at most {len(positional)}" if positional else "no"
        plural = "" if len(positional) == 1 else "s"
        raise TypeError(
            f"{name}: expected {count} positional argument{plural}, got {len(args)}; {hint}"
        )


def _short(value: Any) -> str:
    """Return the start of a value's representation, on one line."""
    return " ".join(repr(value).split())[:40]


def _hint(name: str, option: str, accepted: tuple[str, ...]) -> str | None:
    if (name, option) in _HINTS_OF:
        return _HINTS_OF[name, option]
    same = _SAME.get(option)
    if same not in accepted:
        same = next(iter(get_close_matches(option, accepted, 1, 0.8)), None)
    return f"use {same}=" if same else _HINTS.get(option)


class ChecksKeywords:
    """Base of classes whose constructor answers a keyword it does not have with what to use.

    The check is in `__new__`, so it serves subclasses too and leaves their `__init__` as it is.
    """

    def __new__(cls: type[Self], *args: Any, **options: Any) -> Self:
        """Raise `TypeError` for what `__init__` does not take."""
        if args or options:
            check_call(cls.__name__, cls.__init__, args, options, bound=1)
        return super().__new__(cls)


def checks_keywords(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make a function answer a keyword that it does not have with what to use."""

    @wraps(function)
    def checked(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        if options:
            check_call(function.__name__, function, (), options)
        return function(*args, **options)

    return checked
