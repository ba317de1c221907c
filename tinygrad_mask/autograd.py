"""The recorded graph: `Function`, what it leaves behind, and the walk back along it.

Every primitive is a `Function`. Applying one to variables computes its result and, where a gradient
will be wanted, leaves a `Node`: the function, the arrays it saved, and an edge for each input that
leads to the node which made that input (or, for a leaf, to the variable that collects it).
Edges only ever lead to older nodes, and a node never refers to its own output, so that the graph
holds no reference cycle and is freed the moment nobody can ask for its gradients any more.
"""

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinygrad_mask.backends import Array, Backend

# --- whether to record ------------------------------------------------------------------------


class _Recording(threading.local):
    enabled = True


_recording = _Recording()


class no_grad(contextlib.ContextDecorator):  # noqa: N801 (as everybody writes it)
    """Within this context (or a function decorated with it) no graph is recorded, in this thread.

    Results do not require gradients, nothing is saved for a backward pass, and leaves may be
    written in place.
    """

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> "no_grad":
        self._before.append(_recording.enabled)
        _recording.enabled = False
        return self

    def __exit__(self, *exception: object) -> None:
        _recording.enabled = self._before.pop()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _recording.enabled


# --- variables --------------------------------------------------------------------------------


class Version:
    """How often a piece of memory was written in place; shared by all variables that view it."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Variable:
    """What the graph knows of a tensor: its array, and where its gradient goes.

    `data` is the array, `grad` the collected gradient (a variable, or None), `node` the node that
    made it (None for a leaf).
    """

    __slots__ = ("__weakref__", "backend", "data", "grad", "node", "requires_grad", "version")

    data: Array
    grad: Any
    requires_grad: bool
    backend: Backend
    node: "Node | None"
    version: Version

    def wrap(self, array: Array) -> Any:
        """Return a new variable of the same kind and device that holds `array`."""
        raise NotImplementedError


# --- functions and nodes ----------------------------------------------------------------------


class Node:
    """One application of a function: the `ctx` of its forward and backward, and its edges.

    Whatever else forward wants to hand to backward (an axis, a window) it sets as an attribute.
    """

    if TYPE_CHECKING:  # attributes of the function's own choice

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    function: "type[Function]"
    backend: Backend
    needs_input_grad: tuple[bool, ...]

    def __init__(self, function: "type[Function]", backend: Backend) -> None:
        self.function = function
        self.backend = backend
        self.xp = backend.xp
        self.edges: tuple[Node | Variable | None, ...] = ()
        self.input_shapes: tuple[tuple[int, ...], ...] = ()
        self.freed = False
        self._retained: weakref.ref[Variable] | None = None
        self._saved: tuple[Array | None, ...] = ()
        self._watched: tuple[tuple[Version, int], ...] = ()

    def save_for_backward(self, *arrays: Array | None) -> None:
        """Keep arrays for `backward`, which finds them in `saved_arrays`, in this order."""
        self._saved = arrays

    @property
    def saved_arrays(self) -> tuple[Any, ...]:
        """What forward saved; raises `RuntimeError` if any of it was written to since."""
        for version, count in self._watched:
            if version.count != count:
                raise RuntimeError(
                    f"{self.function.name}: an array that its backward pass needs was written in "
                    f"place after the forward pass (version {count} was saved, it is at version "
                    f"{version.count}); write into a copy, or call backward() first"
                )
        return self._saved

    def watch(self, variables: "list[Variable]") -> None:
        """Note the versions of those variables whose memory is among what was saved."""
        memory = {id(_owner(a)) for a in self._saved if a is not None}
        self._watched = tuple(
            (v.version, v.version.count) for v in variables if id(_owner(v.data)) in memory
        )

    def input_gradients(self, grad_output: Array) -> tuple[Array | None, ...]:
        """Run the function's backward and return one gradient an input, each of its shape."""
        name = self.function.name
        gradients = self.function.backward(self, grad_output)
        if not isinstance(gradients, tuple):
            gradients = (gradients,)
        if len(gradients) != len(self.edges):
            raise RuntimeError(
                f"{name}: backward returned {len(gradients)} gradients for {len(self.edges)} inputs"
            )
        checked: list[Array | None] = []
        for k, (edge, gradient, shape) in enumerate(
            zip(self.edges, gradients, self.input_shapes, strict=True)
        ):
            if edge is None or gradient is None:
                checked.append(None)
                continue
            if gradient.shape != shape and self.function.elementwise:
                gradient = sum_to_shape(gradient, shape)
            if gradient.shape != shape or gradient.dtype != grad_output.dtype:
                raise RuntimeError(
                    f"{name}: backward returned for input {k} a gradient of shape {gradient.shape} "
                    f"and dtype {gradient.dtype}, expected {shape} and {grad_output.dtype}"
                )
            checked.append(gradient)
        return tuple(checked)

    def retain(self, result: Variable) -> None:
        """Have the walk back store the gradient of this node's result in it, while it lives."""
        self._retained = weakref.ref(result)

    def deliver(self, grad_output: Array) -> None:
        """Store the gradient in the result, if it was asked for."""
        result = self._retained() if self._retained is not None else None
        if result is not None:
            result.grad = result.wrap(grad_output.copy())

    def free(self) -> None:
        """Drop what was saved and the edges; the node can not be walked again."""
        self.freed = True
        self.edges = ()
        self._saved = ()
        self._watched = ()


class Function:
    """A primitive: `forward(ctx, *arrays, **options)` and `backward(ctx, grad_output)`.

    Both are static methods on plain arrays of one device. `forward` returns a new array or a view
    of an input and writes into none; `backward` returns one gradient an input (None where there is
    none), may look at `ctx.needs_input_grad` to leave out what nobody wants, and must not write
    into `grad_output`. An `elementwise` function may return gradients of the broadcast shape: the
    engine sums them back to the input's shape. For all others a wrong shape is an error. Only where
    `integers` says so, tensors of integers or booleans are let in; elsewhere NumPy would convert
    them behind the user's back.
    """

    name: ClassVar[str]
    elementwise: ClassVar[bool] = False
    integers: ClassVar[bool] = False

    @staticmethod
    def forward(ctx: Node, *arrays: Any, **options: Any) -> Array:
        """Compute the result from the inputs' arrays."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Node, grad_output: Array) -> Any:
        """Compute the inputs' gradients from the result's gradient."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        """Apply to variables and return a variable, recorded if any input requires a gradient.

        Inputs are variables of one device and one dtype, scalars (which adopt that dtype), arrays
        of that dtype, or None for an absent one. Options are everything that has no gradient: axes,
        windows, integer targets, masks. Raises `TypeError` for mixed dtypes, `ValueError` for mixed
        devices.
        """
        variables = [v for v in inputs if isinstance(v, Variable)]
        if not variables:
            raise TypeError(f"{cls.name}: expected at least one Tensor among its inputs")
        first = variables[0]
        backend, dtype = first.backend, first.data.dtype
        if dtype.kind != "f" and not cls.integers:
            raise TypeError(f"{cls.name}: expected a floating dtype, got {dtype}")
        arrays = [_as_operand(cls, v, backend, dtype) for v in inputs]
        for key, value in options.items():
            if isinstance(value, Variable):
                options[key] = array_of(value, backend, cls.name)
                variables.append(value)

        ctx = Node(cls, backend)
        record = False
        if _recording.enabled:
            ctx.needs_input_grad = tuple(
                isinstance(v, Variable) and v.requires_grad for v in inputs
            )
            record = True in ctx.needs_input_grad
        else:
            ctx.needs_input_grad = (False,) * len(inputs)
        with backend.computing():
            array = cls.forward(ctx, *arrays, **options)
        result = first.wrap(array)
        owner = _owner(result.data)
        for variable in variables:
            if _owner(variable.data) is owner:
                result.version = variable.version
        if record:
            ctx.edges = tuple(
                (v.node or v) if needed else None
                for v, needed in zip(inputs, ctx.needs_input_grad, strict=True)
            )
            ctx.input_shapes = tuple(getattr(a, "shape", ()) for a in arrays)
            ctx.watch([*variables, result])
            result.node = ctx
            result.requires_grad = True
        return result


def _as_operand(function: type[Function], value: Any, backend: Backend, dtype: Any) -> Any:
    """The array (or Python scalar) that forward gets for an input, checked."""
    if isinstance(value, Variable):
        array: Any = array_of(value, backend, function.name)
    elif value is None:
        return None
    elif isinstance(value, (bool, int, float, np.generic)):
        if isinstance(value, np.generic):
            value = value.item()  # a number of NumPy's would not adopt the tensor's dtype
        if isinstance(value, float) and dtype.kind != "f":
            raise TypeError(f"{function.name}: a float does not fit a tensor of dtype {dtype}")
        return value
    else:
        array = array_of(value, backend)
    if array.dtype != dtype:
        raise TypeError(mixed_dtypes(function.name, dtype, array.dtype))
    return array


def array_of(value: Any, backend: Backend, name: str = "tensor") -> Array:
    """The array of a variable, or a copy of anything else on the device.

    A copy, because what the caller writes into an array of his own later would go unnoticed. Raises
    `ValueError`, in the name of a function, for a variable of another device.
    """
    if isinstance(value, Variable):
        if value.backend is not backend:
            raise ValueError(
                f"{name}: expected all tensors on one device, "
                f"got {backend.name!r} and {value.backend.name!r}"
            )
        return value.data
    if isinstance(value, backend.xp.ndarray):
        return value.copy()
    return backend.asarray(np.array(value))


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of a variable, an array of any device, a number or a nested sequence."""
    array = value.data if isinstance(value, Variable) else value
    return array.shape if hasattr(array, "shape") else np.shape(array)


def mixed_dtypes(name: str, first: Any, second: Any) -> str:
    """Say that tensors of two dtypes came where they must be of one."""
    return (
        f"{name}: expected tensors of one dtype, got {first} and {second}; "
        "convert one with .astype()"
    )


def _owner(array: Any) -> Any:
    """The array that owns the memory which `array` views (a scalar owns itself)."""
    while (base := getattr(array, "base", None)) is not None and hasattr(base, "base"):
        array = base
    return array


def sum_to_shape(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes along which an input of `shape` was broadcast.

    Raises `ValueError` if `shape` does not broadcast to the gradient's shape.
    """
    added = gradient.ndim - len(shape)
    if added < 0 or any(
        size not in (1, result)
        for size, result in zip(shape, gradient.shape[max(added, 0) :], strict=True)
    ):
        raise ValueError(f"a shape of {shape} was not broadcast to {gradient.shape}")
    stretched = tuple(
        k
        for k in range(gradient.ndim)
        if k < added or (shape[k - added] == 1 and gradient.shape[k] != 1)
    )
    return (gradient.sum(axis=stretched) if stretched else gradient).reshape(shape)


# --- the walk back ----------------------------------------------------------------------------


def backward(root: Variable, gradient: Array, *, retain_graph: bool = False) -> None:
    """Add to the `grad` of every leaf that `root` depends on the derivative along it.

    `gradient`, of root's shape, is the derivative of the final value with respect to `root`. A node
    is visited when all its consumers have delivered, which a first pass counts; neither pass
    recurses. Leaves are written only after the whole walk has succeeded.
    """
    collected: dict[Variable, Array] = {}
    if root.node is None:
        collected[root] = gradient.copy()
    else:
        with root.backend.computing():
            _walk(root.node, gradient, retain_graph, collected)
    for leaf, total in collected.items():
        leaf.grad = leaf.wrap(total if leaf.grad is None else leaf.grad.data + total)


def _walk(
    start: Node, gradient: Array, retain_graph: bool, collected: dict[Variable, Array]
) -> None:
    pending = _count_consumers(start)
    gradients: dict[Node, Array] = {start: gradient}
    # Arrays made by this walk by adding up may be added to in place; what a backward returned may
    # be shared (with grad_output, with another input's gradient) and may not.
    own: set[Node | Variable] = set()
    ready = [start]
    while ready:
        node = ready.pop()
        grad_output = gradients.pop(node, None)
        edges = node.edges
        if grad_output is None:
            inputs: tuple[Array | None, ...] = (None,) * len(edges)
        else:
            node.deliver(grad_output)
            inputs = node.input_gradients(grad_output)
        for k, (edge, grad_input) in enumerate(zip(edges, inputs, strict=True)):
            if edge is None:
                continue
            totals: dict[Any, Array] = gradients if isinstance(edge, Node) else collected
            if grad_input is not None:
                if edge not in totals:
                    shared = grad_input is grad_output or grad_input.base is not None
                    shared = shared or any(grad_input is g for g in inputs[:k])
                    if shared and not isinstance(edge, Node):
                        grad_input = grad_input.copy()
                    totals[edge] = grad_input
                elif edge in own:
                    totals[edge] += grad_input
                else:
                    totals[edge] = totals[edge] + grad_input
                    own.add(edge)
            if isinstance(edge, Node):
                pending[edge] -= 1
                if pending[edge] == 0:
                    ready.append(edge)
        if not retain_graph:
            node.free()


def _count_consumers(start: Node) -> dict[Node, int]:
    """For each node that `start` leads to, how many edges lead to it."""
    pending = {start: 0}
    stack = [start]
    while stack:
        node = stack.pop()
        if node.freed:
            raise RuntimeError(
                f"{node.function.name}: backward() was already called on this graph and freed what "
                "it had saved; run the forward pass again, or call backward(retain_graph=True) the "
                "first time"
            )
        for edge in node.edges:
            if isinstance(edge, Node):
                if edge in pending:
                    pending[edge] += 1
                else:
                    pending[edge] = 1
                    stack.append(edge)
    return pending
