"""Hooks of a module: functions that are called around its forward and backward passes.

A module without hooks has no `Hooks` object, and its call tests nothing but that. Backward hooks
need to know when gradients pass the module's boundary: `_Boundary`, an identity, is applied to its
inputs and to its outputs, and its backward pass sees the gradients.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tinygrad_mask.autograd import Function, Node, Variable, is_grad_enabled
from tinygrad_mask.backends import Array
from tinygrad_mask.tensor import Tensor

if TYPE_CHECKING:
    from tinygrad_mask.nn.module import Module

KINDS = ("forward_pre", "forward", "backward")


class HookHandle:
    """A registered hook: `remove()` takes it away, and so does the end of `with handle:`."""

    def __init__(self, module: "Module", kind: str, number: int) -> None:
        self._module, self._kind, self._number = module, kind, number

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        hooks = self._module._hooks
        if hooks is not None:
            hooks.of[self._kind].pop(self._number, None)
            if not any(hooks.of.values()):
                del self._module._hooks

    def __enter__(self) -> "HookHandle":
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Hooks:
    """The hooks of one module, by kind, in the order of registration."""

    def __init__(self) -> None:
        self.of: dict[str, dict[int, Callable[..., Any]]] = {kind: {} for kind in KINDS}
        self._numbers = 0

    def add(self, module: "Module", kind: str, hook: Callable[..., Any]) -> HookHandle:
        """Add a hook and return its handle."""
        if not callable(hook):
            raise TypeError(
                f"{type(module).__name__}: expected a hook to be a function, "
                f"got {type(hook).__name__}"
            )
        self._numbers += 1
        self.of[kind][self._numbers] = hook
        return HookHandle(module, kind, self._numbers)

    def call(self, module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call `module.forward` with the hooks around it."""
        for hook in list(self.of["forward_pre"].values()):
            replaced = hook(module, args)
            if replaced is not None:
                args = replaced if isinstance(replaced, tuple) else (replaced,)
        backward_hooks = list(self.of["backward"].values())
        crossing = _Crossing(module, backward_hooks, args) if backward_hooks else None
        if crossing is not None:
            args = crossing.mark_inputs()
        output = module.forward(*args, **kwargs)
        for hook in list(self.of["forward"].values()):
            replaced = hook(module, args, output)
            if replaced is not None:
                output = replaced
        return output if crossing is None else crossing.mark_outputs(output)


class _Crossing:
    """The gradients at the boundary of a module, for one call of it."""

    def __init__(
        self, module: "Module", hooks: Sequence[Callable[..., Any]], args: tuple[Any, ...]
    ) -> None:
        self.module, self.hooks, self.args = module, hooks, args
        self.grad_output: tuple[Any, ...] = ()

    def mark_inputs(self) -> tuple[Any, ...]:
        """Return the arguments, those that require a gradient marked."""
        marked = _mark(self.args, self._at_inputs)
        self.has_inputs = marked is not self.args
        self.args = (None,) * len(self.args)  # the graph keeps what it needs
        return marked

    def mark_outputs(self, output: Any) -> Any:
        """Return what forward returned, the tensors that require a gradient marked."""
        outputs = output if isinstance(output, tuple) else (output,)
        if not all(isinstance(tensor, Variable) for tensor in outputs):
            raise TypeError(
                f"{type(self.module).__name__}: expected forward() to return a Tensor or a tuple "
                f"of them, got {type(output).__name__}; remove the backward hooks, which need that"
            )
        marked = _mark(outputs, self._at_outputs)
        return marked if isinstance(output, tuple) else marked[0]

    def _at_outputs(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        self.grad_output = gradients
        if not self.has_inputs:
            self._call(self.args)
        return gradients

    def _at_inputs(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        return self._call(gradients)

    def _call(self, grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.hooks:
            replaced = hook(self.module, grad_input, self.grad_output)
            if replaced is not None:
                replaced = replaced if isinstance(replaced, tuple) else (replaced,)
                if len(replaced) != len(grad_input):
                    raise ValueError(
                        f"{type(self.module).__name__}: expected a backward hook to return "
                        f"{len(grad_input)} gradients, got {len(replaced)}; None stands for none"
                    )
                grad_input = replaced
        return grad_input


def _mark(
    values: tuple[Any, ...], crossed: Callable[[tuple[Any, ...]], tuple[Any, ...]]
) -> tuple[Any, ...]:
    """Return the values, with tensors that require a gradient led through a `_Boundary`.

    `crossed` is called with one gradient per value, None for those that have none.
    """
    positions = [k for k, v in enumerate(values) if isinstance(v, Variable) and v.requires_grad]
    if not positions or not is_grad_enabled():
        return values

    def of_all_values(gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        spread: list[Any] = [None] * len(values)
        for k, gradient in zip(positions, gradients, strict=True):
            spread[k] = gradient
        replaced = crossed(tuple(spread))
        return tuple(replaced[k] for k in positions)

    marked = list(values)
    tensors = _Boundary.apply(*[values[k] for k in positions], crossed=of_all_values)
    for k, tensor in zip(positions, tensors, strict=True):
        marked[k] = tensor
    return tuple(marked)


class _Boundary(Function):
    """The identity of several tensors; `crossed` is given their gradients and may replace them."""

    name = "module boundary"

    @staticmethod
    def forward(
        ctx: Node, *arrays: Array, crossed: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    ) -> tuple[Array, ...]:
        ctx.crossed = crossed
        return tuple(array[...] for array in arrays)

    @staticmethod
    def backward(ctx: Node, *grad_outputs: Array | None) -> tuple[Array | None, ...]:
        given = [g if g is None else Tensor.from_array(g, ctx.backend) for g in grad_outputs]
        return tuple(g if g is None else g.data for g in ctx.crossed(tuple(given)))

    @staticmethod
    def differentiable_backward(ctx: Node, *grad_outputs: Any) -> tuple[Any, ...]:
        return ctx.crossed(grad_outputs)
