"""`Module`: a function with parameters, made of other modules."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from tinygrad_mask.autograd import no_grad
from tinygrad_mask.backends import Array, Backend, FusedActivation, get_backend
from tinygrad_mask.tensor import Tensor

M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A tensor that a module learns: assigned to an attribute, it is among its parameters."""

    __slots__ = ()

    def __init__(self, data: Any, *, requires_grad: bool = True, **options: Any) -> None:
        super().__init__(data, requires_grad=requires_grad, **options)


class Module:
    """Base of all layers and models: define `forward`, call the module.

    Parameters, buffers (tensors that belong to the state but are not learnt) and modules that are
    assigned to attributes are found under the attribute's name, joined by dots: `conv1.weight`.
    """

    training: bool

    takes_activation: ClassVar[bool] = False
    """Whether `forward(x, activation)` ends with an activation; see `Sequential`."""

    fused_name: ClassVar[FusedActivation | None] = None
    """The name under which another module can apply this one, an activation, as its own end."""

    def __init__(self) -> None:
        self.training = True
        self._buffer_names: set[str] = set()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the result; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the result."""
        return self.forward(x)

    def register_buffer(self, name: str, tensor: Tensor) -> None:
        """Assign a tensor to an attribute and count it to the state."""
        self._buffer_names.add(name)
        setattr(self, name, tensor)

    # --- walking the tree -------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """Yield name and module of those directly below, in the order of assignment."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def modules(self) -> Iterator["Module"]:
        """Yield this module and all below it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield name and tensor of each parameter, those of modules below included.

        One that several modules share is yielded once, under its first name.
        """
        yield from _once(self._walk(lambda module, name, value: isinstance(value, Parameter)))

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and tensor of each buffer, as `named_parameters` does."""
        yield from _once(self._walk(lambda module, name, value: name in module._buffer_names))

    def _walk(self, wanted: Callable[["Module", str, Any], bool]) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if wanted(self, name, value):
                yield name, value
        for name, child in self.children():
            for below, value in child._walk(wanted):
                yield f"{name}.{below}", value

    def parameters(self) -> list[Parameter]:
        """Return all parameters, in the order of `named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def parameter_count(self) -> int:
        """Return the number of numbers in all parameters."""
        return sum(parameter.size for parameter in self.parameters())

    # --- modes and gradients ----------------------------------------------------------------

    def train(self: M, training: bool = True) -> M:
        """Switch this module and all below to training (dropout drops); return it."""
        for module in self.modules():
            module.training = training
        return self

    def eval(self: M) -> M:
        """Switch this module and all below to evaluation; return it."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self: M, device: str | Backend) -> M:
        """Move parameters and buffers to a device, keeping the tensors' identity; return self."""
        backend = get_backend(device)
        for _, tensor in [*self.named_parameters(), *self.named_buffers()]:
            gradient = None if tensor.grad is None else tensor.grad.to(backend)
            tensor.data = backend.asarray(tensor.backend.to_host(tensor.data))
            tensor.backend = backend
            tensor.grad = gradient
        return self

    # --- state ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers as NumPy arrays, by name."""
        tensors = [*self.named_parameters(), *self.named_buffers()]
        return {name: tensor.numpy().copy() for name, tensor in tensors}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Overwrite all parameters and buffers with those of `state`.

        Raises `ValueError`, and changes nothing, unless names, shapes and dtypes are the module's
        own; the message lists what is missing, unexpected or different.
        """
        own: dict[str, Tensor] = dict([*self.named_parameters(), *self.named_buffers()])
        faults = [f"missing: {name}" for name in own if name not in state]
        faults += [f"unexpected: {name}" for name in state if name not in own]
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
                tensor.copy_(state[name])

    # --- what it looks like -----------------------------------------------------------------

    def describe(self) -> str:
        """Return this layer's own line in the representation, without its parameters."""
        return f"{type(self).__name__}()"

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
        for name, child in self.children():
            yield from child._rows(indent + "  ", f"({name}) {child.describe()}")


def _once(tensors: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Leave out the tensors that came before under another name."""
    seen: set[int] = set()
    for name, tensor in tensors:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


class Sequential(Module):
    """Modules one after the other; their names are their positions."""

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for k, layer in enumerate(layers):
            setattr(self, str(k), layer)

    def __iter__(self) -> Iterator[Module]:
        return (layer for _, layer in self.children())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]

    def forward(self, x: Tensor) -> Tensor:
        """Hand x from each layer to the next.

        A layer that can end with an activation is handed the one that follows it, so that both are
        a single pass over the memory; the result is the same.
        """
        layers = [value for value in vars(self).values() if isinstance(value, Module)]
        position = 0
        while position < len(layers):
            layer = layers[position]
            following = layers[position + 1] if position + 1 < len(layers) else None
            activation = _own(following, "fused_name")
            if activation and _own(layer, "takes_activation"):
                x = cast(Any, layer).forward(x, activation)
                position += 2
            else:
                x = layer(x)
                position += 1
        return x


def _own(module: Module | None, name: str) -> Any:
    """An attribute that the module's own class defines: one that redefines `forward` has none."""
    return vars(type(module)).get(name)
