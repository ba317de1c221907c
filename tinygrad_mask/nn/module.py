"""`Module`: a function with parameters, made of other modules."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from tinygrad_mask.autograd import no_grad
from tinygrad_mask.backends import Array, FusedActivation, get_backend
from tinygrad_mask.equivalents import MODULE, mark_absent, without_absent
from tinygrad_mask.keywords import ChecksKeywords
from tinygrad_mask.nn.hooks import HookHandle, Hooks
from tinygrad_mask.tensor import Tensor

_Kind: TypeAlias = Literal["parameter", "buffer", "module"]

M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A tensor that a module learns: assigned to an attribute, it is among its parameters."""

    __slots__ = ()

    def __init__(self, data: Any, *, requires_grad: bool = True, **options: Any) -> None:
        super().__init__(data, requires_grad=requires_grad, **options)


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` found to differ."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module(ChecksKeywords):
    """Base of all layers and models: define `forward`, call the module.

    Parameters, buffers (tensors that belong to the state but are not learnt) and modules that are
    assigned to attributes are found under the attribute's name, joined by dots: `conv1.weight`.
    `super().__init__()` comes first in a subclass's `__init__`.

    Once an attribute is a parameter it takes another Parameter or None, nothing else: a plain
    tensor would leave `parameters()` and `state_dict()` without a sign. Buffers and modules are
    guarded in the same way. A plain list, tuple or dict of modules or parameters is refused because
    nothing in it would be found; see `ModuleList`, `ModuleDict`, `ParameterList`, `ParameterDict`.

    Example:
        >>> class Scaled(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear = nn.Linear(3, 2)
        ...         self.scale = nn.Parameter([2.0])
        ...
        ...     def forward(self, x):
        ...         return self.linear(x) * self.scale
        >>> [name for name, _ in Scaled().named_parameters()]
        ['scale', 'linear.weight', 'linear.bias']
    """

    training: bool

    takes_activation: ClassVar[bool] = False
    """Whether `forward(x, activation)` ends with an activation; see `Sequential`."""

    fused_name: ClassVar[FusedActivation | None] = None
    """The name under which another module can apply this one, an activation, as its own end."""

    _registered: dict[str, "_Kind"]
    """What each attribute has been registered as; in the module's dictionary from `__init__` on."""

    _hooks: Hooks | None = None
    """The module's hooks; None, which costs a call next to nothing, while there are none."""

    def __init__(self) -> None:
        vars(self)["_registered"] = {}
        self.training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result: `forward`, with the hooks around it."""
        if self._hooks is not None:
            return self._hooks.call(self, args, kwargs)
        return self.forward(*args, **kwargs)

    # --- attributes -------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        attributes = vars(self)
        registered = attributes.get("_registered")
        if registered is None:
            raise RuntimeError(
                f"{type(self).__name__}.{name}: expected super().__init__() before the first "
                "attribute; call it first in __init__()"
            )
        kind: _Kind | None = None
        if isinstance(value, Parameter):
            kind = "parameter"
        elif isinstance(value, Module):
            kind = "module"
        elif name in registered:
            self._check_registered(name, registered[name], value)
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            self._check_plain(name, value)
        if kind is not None:
            registered[name] = kind
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._registered.pop(name, None)

    def _check_registered(self, name: str, kind: "_Kind", value: Any) -> None:
        """Raise `TypeError` unless an attribute of this kind may become `value`."""
        if value is None or (kind == "buffer" and isinstance(value, Tensor)):
            return
        wanted, hint = {
            "parameter": (
                "a Parameter",
                "wrap it in nn.Parameter(...), or write into the parameter with copy_() or += "
                "within no_grad()",
            ),
            "buffer": ("a Tensor", "wrap it in Tensor(...), or delete the attribute first"),
            "module": ("a Module", "delete the attribute first, or use another name"),
        }[kind]
        raise TypeError(
            f"{type(self).__name__}.{name}: expected {wanted} or None, "
            f"got {type(value).__name__}; {hint}"
        )

    def _check_plain(self, name: str, value: Any) -> None:
        """Raise `TypeError` for a collection that holds an unregistered module or parameter."""
        members = list(_members(value))
        known = set(map(id, self._all_registered())) if members else set()
        lost = next((item for item in members if id(item) not in known), None)
        if lost is None:
            return
        what, kind = ("modules", "Module") if isinstance(lost, Module) else ("parameters", "")
        container = f"nn.{kind or 'Parameter'}{'Dict' if isinstance(value, dict) else 'List'}"
        raise TypeError(
            f"{type(self).__name__}.{name}: expected {container} for {what}, got a plain "
            f"{type(value).__name__}, whose parameters would not be found; write {container}(...)"
        )

    def _all_registered(self) -> Iterator[Any]:
        for module in self.modules():
            yield module
            for value in vars(module).values():
                if isinstance(value, Parameter):
                    yield value

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(
                f"{type(self).__name__}: expected a name without dots, got {name!r}; choose another"
            )
        if name not in self._registered and hasattr(self, name):
            raise ValueError(
                f"{type(self).__name__}: expected a name that is not taken, got {name!r}, which is "
                "an attribute already; choose another"
            )

    def add_module(self, name: str, module: "Module | None") -> None:
        """Assign a module to an attribute, whose name may be computed."""
        self._check_name(name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__}.{name}: expected a Module or None, "
                f"got {describe_value(module)}"
            )
        self._registered[name] = "module"
        setattr(self, name, module)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Assign a parameter to an attribute; None says that the module can do without it."""
        self._check_name(name)
        self._registered[name] = "parameter"
        setattr(self, name, parameter)

    def register_buffer(self, name: str, tensor: Tensor | None) -> None:
        """Assign a tensor to an attribute and make it part of the state."""
        self._check_name(name)
        self._registered[name] = "buffer"
        setattr(self, name, tensor)

    # --- walking the tree -------------------------------------------------------------------

    def _named_children(self) -> Iterator[tuple[str, "Module"]]:
        """Yield each child once per name."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """Yield name and module of those directly below, in the order of assignment.

        One that has several names is yielded once, under its first name.
        """
        yield from _once(self._named_children())

    def children(self) -> Iterator["Module"]:
        """Yield the modules directly below, each once, in the order of assignment."""
        for _, child in self.named_children():
            yield child

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Yield name and module of this module (named `prefix`) and all below, each once."""
        yield from _once(self._walk_modules(prefix))

    def _walk_modules(self, prefix: str) -> Iterator[tuple[str, "Module"]]:
        yield prefix, self
        for name, child in self._named_children():
            yield from child._walk_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator["Module"]:
        """Yield this module and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield name and tensor of each parameter, those of modules below included.

        One that several modules share is yielded once, under its first name.
        """
        yield from _once(self._walk(lambda module, name, value: isinstance(value, Parameter)))

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and tensor of each buffer, as `named_parameters` does."""
        yield from _once(
            self._walk(
                lambda module, name, value: (
                    value is not None and module._registered.get(name) == "buffer"
                )
            )
        )

    def _walk(self, wanted: Callable[["Module", str, Any], bool]) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if wanted(self, name, value):
                yield name, value
            elif isinstance(value, (list, dict)) and value:
                # It may have been filled after it was assigned. Only the first member is looked at:
                # a long list of something else must not make each walk slow.
                first = next(iter(value.values() if isinstance(value, dict) else value))
                if isinstance(first, (Module, Parameter)):
                    self._check_plain(name, value)
        for name, child in self._named_children():
            for below, value in child._walk(wanted):
                yield f"{name}.{below}", value

    def parameters(self) -> list[Parameter]:
        """Return all parameters, in the order of `named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def buffers(self) -> list[Tensor]:
        """Return all buffers, in the order of `named_buffers`."""
        return [buffer for _, buffer in self.named_buffers()]

    def parameter_count(self) -> int:
        """Return the number of numbers in all parameters."""
        return sum(parameter.size for parameter in self.parameters())

    def apply(self: M, function: Callable[["Module"], Any]) -> M:
        """Call `function` with each module below and then with this one; return self.

        Example:
            >>> def set_bias(module):
            ...     if isinstance(module, nn.Linear):
            ...         module.bias.detach()[...] = 0.1
            >>> model.apply(set_bias)
        """
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # --- modes and gradients ----------------------------------------------------------------

    def train(self: M, training: bool = True) -> M:
        """Switch this module and all below to training (dropout drops); return it."""
        for module in self.modules():
            module.training = training
        return self

    def eval(self: M) -> M:
        """Switch this module and all below to evaluation; return it."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Set whether gradients are wanted for all parameters (False freezes them); return self."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        clear_gradients(self.parameters(), set_to_none)

    # --- hooks ------------------------------------------------------------------------------

    def _hooks_made(self) -> Hooks:
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, args)` before each forward pass; what it returns replaces `args`.

        None leaves them; anything else than a tuple is the only argument. The handle returned takes
        the hook away: `handle.remove()`, or `with handle:`.
        """
        return self._hooks_made().add(self, "forward_pre", hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, args, output)` after each forward pass.

        What it returns, unless None, replaces the output. Within a `Sequential` an activation is
        not fused with a layer while either of them has a hook.
        """
        return self._hooks_made().add(self, "forward", hook)

    def register_full_backward_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, grad_input, grad_output)` in each backward pass.

        Both are tuples with a gradient per tensor among the positional arguments and the outputs,
        None where there is none. What the hook returns, unless None, replaces `grad_input`. If no
        argument requires a gradient, `grad_input` is all None and is not replaced. The gradients of
        parameters are not affected.
        """
        return self._hooks_made().add(self, "backward", hook)

    # --- devices and dtypes -----------------------------------------------------------------

    def to(self: M, device: Any = None, dtype: Any = None) -> M:
        """Move parameters and buffers to a device, or convert them, or both; return self.

        The tensors keep their identity. The dtype, which may also come first (`model.to(
        np.float64)`), is that of floating tensors; others are not converted. An optimiser made
        before has its state on the old device, in the old dtype: make it afterwards.
        """
        if dtype is None and isinstance(device, (np.dtype, type)):
            device, dtype = None, device
        wanted = None if dtype is None else np.dtype(dtype)
        if wanted is not None and wanted not in (np.float32, np.float64):
            raise TypeError(
                f"{type(self).__name__}.to: expected a dtype of float32 or float64, got {wanted}"
            )
        given = None if device is None else get_backend(device)
        for _, tensor in [*self.named_parameters(), *self.named_buffers()]:
            backend = given or tensor.backend
            target = wanted if wanted is not None and tensor.dtype.kind == "f" else tensor.dtype
            if backend is tensor.backend and target == tensor.dtype:
                continue
            gradient, tensor.grad = tensor.grad, None
            if backend is not tensor.backend:
                tensor.data = backend.asarray(tensor.backend.to_host(tensor.data))
                tensor.backend = backend
            tensor.data = tensor.data.astype(target, copy=False)
            tensor.version.count += 1  # a graph that was recorded before is stale
            if gradient is not None:
                tensor.grad = gradient.detach().to(backend).astype(target)
        return self

    def cpu(self: M) -> M:
        """Move to the CPU, as `to("cpu")`; return self."""
        return self.to("cpu")

    def cuda(self: M) -> M:
        """Move to the GPU, as `to("cuda")`; return self."""
        return self.to("cuda")

    def double(self: M) -> M:
        """Convert floating parameters and buffers to float64; return self."""
        return self.to(np.float64)

    # --- state ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers as NumPy arrays, by name."""
        tensors = [*self.named_parameters(), *self.named_buffers()]
        return {name: tensor.numpy().copy() for name, tensor in tensors}

    def load_state_dict(self, state: Mapping[str, Array], strict: bool = True) -> IncompatibleKeys:
        """Overwrite all parameters and buffers with those of `state`.

        Without `strict` names that only one side has are skipped; the result lists them.

        A state from PyTorch has its weights in another layout, which a square weight does not
        show: a linear layer's is (outputs, inputs) there and (inputs, outputs) here, a
        convolution's (outputs, inputs, height, width) there and (height, width, inputs, outputs)
        here. Transpose them before loading.

        Raises:
            ValueError: names, shapes or dtypes are not the module's own. Nothing has changed then;
                the message lists what is missing, unexpected or different.
        """
        own: dict[str, Tensor] = dict([*self.named_parameters(), *self.named_buffers()])
        keys = IncompatibleKeys(
            [name for name in own if name not in state], [name for name in state if name not in own]
        )
        faults = []
        if strict:
            faults += [f"missing: {name}" for name in keys.missing_keys]
            faults += [f"unexpected: {name}" for name in keys.unexpected_keys]
        for name, tensor in own.items():
            if name in state:
                came = np.asarray(state[name])
                if came.shape != tensor.shape or came.dtype != tensor.dtype:
                    faults.append(
                        f"{name}: expected {tensor.shape} {tensor.dtype}, "
                        f"got {came.shape} {came.dtype}"
                    )
        if faults:
            raise ValueError(f"{type(self).__name__}: the state does not fit: {'; '.join(faults)}")
        with no_grad():
            for name, tensor in own.items():
                if name in state:
                    tensor.copy_(np.asarray(state[name]))
        return keys

    # --- what it looks like -----------------------------------------------------------------

    def describe(self) -> str:
        """Return this layer's own line in the representation, without its parameters."""
        return f"{type(self).__name__}()"

    def __dir__(self) -> list[str]:
        return without_absent(type(self), super().__dir__())

    def __repr__(self) -> str:
        rows = list(self._rows("", self.describe()))
        width = max(len(text) for text, _, _ in rows)
        shapes = max(len(shape) for _, shape, _ in rows)
        lines = [
            f"{text:<{width}}  {shape:<{shapes}}  {count:>11,}" if count else text
            for text, shape, count in rows
        ]
        total = self.parameter_count()
        if len(rows) > 1:
            lines.append(f"{'parameters':<{width}}  {'':<{shapes}}  {total:>11,}")
        return "\n".join(line.rstrip() for line in lines)

    def _rows(self, indent: str, text: str) -> Iterator[tuple[str, str, int]]:
        own = {k: v for k, v in vars(self).items() if isinstance(v, Parameter)}
        shapes = ", ".join(f"{k} {'x'.join(map(str, v.shape))}" for k, v in own.items())
        yield indent + text, shapes, sum(v.size for v in own.values())
        for name, child in self._named_children():
            yield from child._rows(indent + "  ", f"({name}) {child.describe()}")

    # The last method: below it `float` is this method in the class's annotations.
    def float(self: M) -> M:
        """Convert floating parameters and buffers to float32; return self."""
        return self.to(np.float32)


mark_absent(Module, MODULE)


def _once(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Leave out the objects that came before under another name."""
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _members(value: Any) -> Iterator[Any]:
    """Yield the modules and parameters in a collection, at any depth."""
    if isinstance(value, (Module, Parameter)):
        yield value
    elif isinstance(value, (list, tuple, dict, set, frozenset)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _members(item)


def clear_gradients(parameters: Iterable[Tensor], set_to_none: bool) -> None:
    """Forget the gradients of tensors, or fill them with zeros."""
    for parameter in parameters:
        if set_to_none or parameter.grad is None:
            parameter.grad = None
        else:
            gradient = parameter.grad
            parameter.grad = gradient.wrap(gradient.backend.xp.zeros_like(gradient.data))


def describe_value(value: Any) -> str:
    """What an error message calls a value that is not what was expected."""
    if isinstance(value, type):
        return f"the class {value.__name__}; write {value.__name__}(...)"
    if callable(value):
        name = getattr(value, "__name__", type(value).__name__)
        return f"the function {name}; use the layer of its name, or call it in a Module's forward()"
    return type(value).__name__
