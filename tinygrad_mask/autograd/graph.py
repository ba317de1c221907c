"""The recorded graph: `Function`, and the `Node` that each application of one leaves behind."""

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinygrad_mask.autograd.modes import recording
from tinygrad_mask.autograd.variable import (
    Variable,
    Version,
    array_of,
    constant_of,
    mixed_dtypes,
    number_for,
)
from tinygrad_mask.backends import Array, Backend

# --- nodes ------------------------------------------------------------------------------------


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
    dtype: np.dtype[Any]
    """The dtype of the inputs, and so of their gradients."""

    edges: "tuple[Node | Variable | None, ...]" = ()
    input_shapes: tuple[tuple[int, ...], ...] = ()
    freed = False
    has_several_outputs = False
    _retained: "weakref.ref[Variable] | None" = None
    _saved: tuple[Any, ...] = ()
    _watched: tuple[tuple[Version, int, int], ...] = ()
    _input_ids: tuple[int, ...] = ()
    _option_ids: tuple[int, ...] = ()
    _output_ids: tuple[int, ...] = ()

    def __init__(self, function: "type[Function]", backend: Backend, dtype: Any) -> None:
        self.function = function
        self.backend = backend
        self.dtype = dtype
        self.xp = backend.xp

    def save_for_backward(self, *arrays: Array | None) -> None:
        """Keep arrays for `backward`, which finds them in `saved_arrays`, in this order."""
        self._saved = arrays

    @property
    def saved_arrays(self) -> tuple[Any, ...]:
        """What forward saved; raises `RuntimeError` if any of it was written to since."""
        for version, count, _ in self._watched:
            if version.count != count:
                raise RuntimeError(
                    f"{self.function.name}: an array that its backward pass needs was written in "
                    f"place after the forward pass (version {count} was saved, it is at version "
                    f"{version.count}); write into a copy, or call backward() first"
                )
        return self._saved

    saved_tensors = saved_arrays
    """The same by PyTorch's name; in `differentiable_backward` they are tensors of the graph."""

    def record(
        self,
        inputs: Sequence[Any],
        arrays: Sequence[Any],
        options: dict[str, Any],
        variables: list[Variable],
        owners: list[Any],
    ) -> None:
        """Note where gradients go, and the versions of the variables (the results among them) whose
        memory is among what was saved. `owners` are the arrays that own the variables' memory.
        """
        edges: list[Node | Variable | None] = []
        shapes = []
        for value, array, needed in zip(inputs, arrays, self.needs_input_grad):  # noqa: B905
            edges.append((value.node or value) if needed else None)
            shapes.append(array.shape if needed else ())
        self.edges = tuple(edges)
        self.input_shapes = tuple(shapes)
        self._input_ids = tuple(map(id, arrays))
        if options:
            self._option_ids = tuple(map(id, options.values()))
        if self._saved:
            memory = {id(_owner(a)) for a in self._saved if a is not None}
            self._watched = tuple(
                [
                    (v.version, v.version.count, id(owner))
                    for v, owner in zip(variables, owners)  # noqa: B905
                    if id(owner) in memory
                ]
            )

    def input_gradients(
        self, grad_output: Any, create_graph: bool = False
    ) -> tuple[Array | Variable | None, ...]:
        """Run the function's backward and return one gradient per input, each of its shape.

        With `create_graph` the gradients are variables, recorded, and so is `grad_output`.
        """
        given = grad_output.parts if self.has_several_outputs else (grad_output,)
        if create_graph:
            gradients = self.function.differentiable_backward(_GraphContext(self, given), *given)
        else:
            gradients = self.function.backward(self, *given)
        if not isinstance(gradients, tuple):
            gradients = (gradients,)
        if len(gradients) != len(self.edges):
            raise RuntimeError(
                f"{self.function.name}: backward returned {len(gradients)} gradients for "
                f"{len(self.edges)} inputs; expected one per input, None if there is none"
            )
        array_type = None if create_graph else self.xp.ndarray
        checked: list[Array | Variable | None] = []
        for k, (edge, gradient, shape) in enumerate(
            zip(self.edges, gradients, self.input_shapes, strict=True)
        ):
            if edge is None or gradient is None:
                checked.append(None)
                continue
            if type(gradient) is not array_type and not _is_gradient(gradient, create_graph):
                wanted = "a Tensor" if create_graph else "an array"
                raise RuntimeError(
                    f"{self.function.name}: backward returned for input {k} a "
                    f"{type(gradient).__name__}, expected {wanted} or None"
                )
            found = gradient.shape
            if found != shape and self.function.elementwise:
                try:
                    gradient = sum_to_shape(gradient, shape, self.backend)
                except ValueError:
                    pass  # reported below, by the function's name
                else:
                    found = shape
            if found != shape or gradient.dtype != self.dtype:
                raise RuntimeError(
                    f"{self.function.name}: backward returned for input {k} a gradient of shape "
                    f"{found} and dtype {gradient.dtype}, expected {shape} and {self.dtype}"
                )
            checked.append(gradient)
        return tuple(checked)

    def retain(self, result: Variable | None) -> None:
        """Have the walk back store the gradient of this node's result in it, while it lives."""
        self._retained = None if result is None else weakref.ref(result)

    @property
    def retained(self) -> Variable | None:
        """The result in which the gradient is to be stored."""
        return self._retained() if self._retained is not None else None

    def deliver(self, grad_output: Any) -> None:
        """Store the gradient in the result, if it was asked for."""
        result = self.retained
        if result is not None:
            recorded = isinstance(grad_output, Variable)
            result._grad = grad_output if recorded else result.wrap(grad_output.copy())

    def free(self) -> None:
        """Drop what was saved and the edges; the node can not be walked again."""
        self.freed = True
        self.edges = ()
        self._saved = ()
        self._watched = ()


def _is_gradient(gradient: Any, create_graph: bool) -> bool:
    """Whether this is a variable, or without `create_graph` an array or a number of NumPy's."""
    return isinstance(gradient, Variable) is create_graph and hasattr(gradient, "shape")


def _no_node() -> None:
    """What a weak reference to an output's node returns if there is none."""


class _OutputNode(Node):
    """One of several outputs of a function: its only edge leads to the function's node."""

    def __init__(self, main: Node, position: int, count: int) -> None:
        super().__init__(main.function, main.backend, main.dtype)
        self.edges = (main,)
        self.position, self.count = position, count

    def input_gradients(self, grad_output: Any, create_graph: bool = False) -> tuple[Any, ...]:
        parts: list[Any] = [None] * self.count
        parts[self.position] = grad_output
        return (_OutputGradients(parts),)


def _output_node(main: Node, position: int) -> _OutputNode:
    """The node of an output; there is one at a time, so that it is known as a target."""
    node: _OutputNode | None = main._output_nodes[position]()
    if node is None:
        node = _OutputNode(main, position, len(main._output_nodes))
        main._output_nodes[position] = weakref.ref(node)
    return node


class _OutputGradients:
    """The gradients of a function's several outputs, None for those that nothing used."""

    base = None  # shares no memory, as the walk asks of arrays

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = tuple(parts)

    def __add__(self, other: "_OutputGradients") -> "_OutputGradients":
        return _OutputGradients(
            [
                b if a is None else a if b is None else a + b
                for a, b in zip(self.parts, other.parts, strict=True)
            ]
        )


class _GraphContext:
    """The `ctx` of `differentiable_backward`: a node, but what it saved are variables of the graph.

    An input's variable leads to where the input came from, an output's to the node. Arrays that
    were no inputs, and are integers or booleans, are constants; floating ones that forward computed
    on the way have lost where they came from, and are refused when they are used.
    """

    def __init__(self, node: Node, given: Sequence[Any]) -> None:
        self._node = node
        self._like: Variable = next(g for g in given if g is not None)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._node, name)
        if isinstance(value, self._node.backend.xp.ndarray) and value.dtype.kind == "f":
            raise RuntimeError(
                f"{self._node.function.name}: ctx.{name} is an array, so its derivative is lost; "
                "save the inputs with save_for_backward, and compute it from saved_tensors in "
                "differentiable_backward (a constant is in saved_arrays)"
            )
        return value

    @property
    def saved_arrays(self) -> tuple[Any, ...]:
        """What forward saved, as arrays: constants of the derivative."""
        return self._node.saved_arrays

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What forward saved, as variables of the graph."""
        versions = {owner: version for version, _, owner in self._node._watched}
        return tuple(self._variable(k, a, versions) for k, a in enumerate(self.saved_arrays))

    def _variable(self, position: int, array: Any, versions: dict[int, Version]) -> Any:
        if not hasattr(array, "dtype"):
            return array  # a number, or None
        node = self._node
        variable: Variable = self._like.wrap(array, node.backend)
        version = versions.get(id(_owner(array)))
        if version is not None:
            variable.version = version
        if id(array) in node._input_ids:
            edge = node.edges[node._input_ids.index(id(array))]
            if isinstance(edge, Variable):
                if _owner(edge.data) is not _owner(array):
                    raise RuntimeError(
                        f"{node.function.name}: the data of a leaf that its backward pass needs "
                        "were replaced after the forward pass; run the forward pass again"
                    )
                return edge
        elif id(array) in node._output_ids:
            edge = node
            if node.has_several_outputs:
                edge = _output_node(node, node._output_ids.index(id(array)))
        elif array.dtype.kind == "f" and id(array) not in node._option_ids:
            return _Lost(
                f"{node.function.name}: saved array {position} is neither an input nor an output, "
                "so its derivative is lost; save the inputs, and compute it in "
                "differentiable_backward"
            )
        else:
            edge = None
        if edge is not None and array.dtype.kind == "f":
            variable.node, variable.requires_grad = edge, True
        return variable


class _Lost(Variable):
    """What `_GraphContext` refuses: raises when anything is asked of it."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message

    def __getattr__(self, name: str) -> Any:  # also for slots that were never set
        raise RuntimeError(self.message)


# --- functions --------------------------------------------------------------------------------


class Function:
    """A primitive: `forward(ctx, *arrays, **options)` and `backward(ctx, grad_output)`.

    Both are static methods on plain arrays of one device. `forward` returns a new array or a view
    of an input, and writes into none of them; it keeps what `backward` needs with
    `ctx.save_for_backward`, or as attributes of `ctx`. `backward` returns one gradient per input
    (None if there is none), may look at `ctx.needs_input_grad` to leave out those that are not
    needed, and must not write into `grad_output`. An `elementwise` function may return gradients of
    the broadcast shape: the engine sums them back to the input's shape. For all others a wrong
    shape is an error. Tensors of integers or booleans are accepted only if `integers` is set;
    otherwise NumPy would convert them silently.

    **Several outputs.** A `forward` that returns a tuple of arrays makes `apply` return a tuple of
    tensors. `backward` then takes one gradient per output, None for those that nothing used. An
    output of integers or booleans has no gradient.

    **Second derivatives.** `differentiable_backward(ctx, grad_output)` is `backward` on tensors
    instead of arrays: it computes the same gradients by functions of tensors, so that they can be
    differentiated again. It is called for `create_graph=True` only; a function without it raises
    `NotImplementedError` there.

    - `ctx.saved_tensors` are tensors of the graph there: the inputs and outputs that forward saved,
      connected to what they were computed from. Floating arrays that forward computed on the way,
      saved or set as attributes, are refused, because their derivative is lost: save the inputs and
      compute them again.
    - `ctx.saved_arrays` are plain arrays, constants of the derivative (a mask, an index).
    - If `backward` consists of operators that arrays and tensors share, one definition serves both:
      write it with `ctx.saved_tensors`, then `differentiable_backward = backward`.

    Example:
        >>> class Cube(Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x**3
        ...
        ...     @staticmethod
        ...     def backward(ctx, grad_output):
        ...         (x,) = ctx.saved_tensors
        ...         return grad_output * 3 * x**2
        ...
        ...     differentiable_backward = backward
        >>> y = Cube.apply(x)
    """

    name: ClassVar[str]
    elementwise: ClassVar[bool] = False
    integers: ClassVar[bool] = False

    @staticmethod
    def forward(ctx: Node, *arrays: Any, **options: Any) -> Any:
        """Compute the result from the inputs' arrays."""
        raise NotImplementedError(
            f"{ctx.function.name}: defines no forward(); see the example of Function"
        )

    @staticmethod
    def backward(ctx: Node, *grad_outputs: Any) -> Any:
        """Compute the inputs' gradients from the result's gradient."""
        raise NotImplementedError(
            f"{ctx.function.name}: has no derivative, since it defines no backward()"
        )

    @staticmethod
    def differentiable_backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Compute the inputs' gradients as tensors that can be differentiated again."""
        raise NotImplementedError(
            f"{ctx.function.name}: has no second derivative, since it defines no "
            "differentiable_backward(); call backward() or grad() without create_graph=True"
        )

    def __init__(self) -> None:
        name = type(self).__name__
        raise TypeError(f"{name}: a Function is not instantiated; call {name}.apply(...)")

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
        enabled = recording.enabled
        arrays: list[Any] = []
        needed: list[bool] = []
        for value in inputs:
            if isinstance(value, Variable):
                array = value.data
                if value.backend is not backend or array.dtype is not dtype:
                    array = _as_operand(cls, value, backend, dtype)
                needed.append(enabled and value.requires_grad)
            else:
                array = _as_operand(cls, value, backend, dtype)
                needed.append(False)
            arrays.append(array)
        for key, value in options.items():
            if isinstance(value, Variable):
                options[key] = constant_of(value, backend, cls.name, key)
                variables.append(value)
            elif isinstance(value, np.generic):
                options[key] = value.item()  # a number of NumPy's would not adopt the dtype

        ctx = Node(cls, backend, dtype)
        ctx.needs_input_grad = tuple(needed)
        record = True in needed
        if record and len(arrays) > 1 and len(set(map(id, arrays))) < len(arrays):
            _tell_apart(inputs, arrays)
        with backend.computing():
            array = cls.forward(ctx, *arrays, **options)
        if type(array) is not ctx.backend.xp.ndarray:
            if type(array) is tuple:
                return _several_outputs(ctx, inputs, arrays, options, variables, array, record)
            _check_result(cls.name, array)
        result = first.wrap(array, ctx.backend)
        owners = _share_version(result, variables)
        if record and array.dtype.kind == "f":
            ctx._output_ids = (id(array),)
            variables.append(result)
            ctx.record(inputs, arrays, options, variables, owners)
            result.node = ctx
            result.requires_grad = True
        elif not record and recording.observer is not None:
            recording.observer(cls, inputs, options, result)
        return result


class GradientFunction(Function):
    """The gradient of a primitive, as a function that its `differentiable_backward` applies.

    Users do not call it, and `functions` has none of its name.
    """


def _tell_apart(inputs: Sequence[Any], arrays: list[Any]) -> None:
    """Replace an array that is the data of two variables by a view of it for the second one.

    The graph knows what was saved by its identity, and their gradients go different ways.
    """
    first: dict[int, int] = {}
    for k, array in enumerate(arrays):
        before = first.setdefault(id(array), k)
        if before != k and inputs[before] is not inputs[k] and hasattr(array, "dtype"):
            arrays[k] = array[...]


def _check_result(name: str, array: Any) -> None:
    """Raise `TypeError` unless this is an array or a number of the array module's."""
    if isinstance(array, Variable) or not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise TypeError(
            f"{name}: expected forward() to return an array (or a tuple of arrays), got "
            f"{type(array).__name__}; forward() and backward() compute with plain arrays"
        )


def _share_version(result: Variable, variables: Sequence[Variable]) -> list[Any]:
    """Let a result that views the memory of a variable share its version.

    Returns the arrays that own the memory of the variables, and then of the result.
    """
    owner = _owner(result.data)
    owners = [_owner(variable.data) for variable in variables]
    for variable, other in zip(variables, owners):  # noqa: B905 (of one length, and often called)
        if other is owner:
            result.version = variable.version
            result.version.shared = True
    owners.append(owner)
    return owners


def _several_outputs(
    ctx: Node,
    inputs: Sequence[Any],
    arrays: Sequence[Any],
    options: dict[str, Any],
    variables: list[Variable],
    outputs: tuple[Any, ...],
    record: bool,
) -> tuple[Variable, ...]:
    """Return the variables of a forward that returned a tuple, recorded if `record`."""
    results: list[Variable] = []
    owners: list[Any] = []
    for array in outputs:
        _check_result(ctx.function.name, array)
        result = variables[0].wrap(array, ctx.backend)
        owners = _share_version(result, [*variables, *results])
        results.append(result)
    if record:
        ctx.has_several_outputs = True
        ctx._output_ids = tuple(map(id, outputs))
        ctx._output_nodes = [_no_node] * len(outputs)
        ctx.record(inputs, arrays, options, [*variables, *results], owners)
        for k, result in enumerate(results):
            if result.data.dtype.kind == "f":
                result.node = _output_node(ctx, k)
                result.requires_grad = True
    return tuple(results)


def _as_operand(function: type[Function], value: Any, backend: Backend, dtype: Any) -> Any:
    """The array (or Python scalar) that forward gets for an input, checked."""
    if isinstance(value, Variable):
        array: Any = array_of(value, backend, function.name)
    elif value is None:
        return None
    elif isinstance(value, (bool, int, float, np.generic)):
        return number_for(function.name, value, dtype)
    else:
        array = array_of(value, backend, function.name, None if dtype.kind == "b" else dtype)
    if array.dtype != dtype:
        raise TypeError(mixed_dtypes(function.name, dtype, array.dtype))
    return array


def _owner(array: Any) -> Any:
    """The array that owns the memory which `array` views (a scalar owns itself)."""
    while (base := getattr(array, "base", None)) is not None and hasattr(base, "base"):
        array = base
    return array


def sum_to_shape(gradient: Any, shape: tuple[int, ...], backend: Backend) -> Any:
    """Sum a gradient, an array or a tensor, over the axes along which `shape` was broadcast.

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
    if stretched:
        gradient = sum_over(gradient, stretched, backend)
    return gradient.reshape(shape)


def sum_over(x: Any, axes: tuple[int, ...], backend: Backend, *, keepdims: bool = False) -> Any:
    """Return the sum over some axes of an array of a backend, or of a tensor as a tensor."""
    if isinstance(x, Variable):
        return x.sum(axes, keepdims)  # type: ignore[attr-defined]
    return backend.sum(x, axes, keepdims)
