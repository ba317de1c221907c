"""The walk back along the graph: `backward`, and `grad`, which stores nothing."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_mask.autograd.graph import Node
from tinygrad_mask.autograd.modes import enable_grad, is_grad_enabled
from tinygrad_mask.autograd.observers import LeafWatch, observers
from tinygrad_mask.autograd.variable import Variable, array_of, plain_array

_collecting = threading.Lock()
"""Held while a walk adds to the gradients of leaves, so that two threads lose none."""


def backward(
    root: Variable, gradient: Any, *, retain_graph: bool = False, create_graph: bool = False
) -> None:
    """Add to the `grad` of every leaf that `root` depends on the derivative along it.

    `gradient`, of root's shape, is the derivative of the final value with respect to `root`: an
    array, or with `create_graph` a variable. A node is visited when all its consumers have
    delivered, which a first pass counts; neither pass recurses. Leaves are written only after the
    whole walk has succeeded. Several threads may do so at once for the same leaves, each with a
    graph of its own.
    """
    if create_graph and not is_grad_enabled():
        with enable_grad():
            backward(root, gradient, retain_graph=retain_graph, create_graph=True)
        return
    collected: dict[Variable, Any] = {}
    watch = None
    if root.node is None:
        collected[root] = gradient if create_graph else gradient.copy()
    else:
        pending = _count_consumers([root.node])
        if observers and not create_graph:
            watch = LeafWatch(pending)
        _walk(
            {root.node: gradient},
            pending,
            collected,
            retain_graph=retain_graph,
            create_graph=create_graph,
            watch=watch,
        )
    with _collecting:
        for leaf, total in collected.items():
            before = leaf._grad
            if create_graph:
                leaf._grad = total if before is None else before + total
            else:
                leaf._grad = leaf.wrap(total if before is None else before.data + total)
    if watch is not None:
        watch.end()


def grad(
    outputs: Variable | Sequence[Variable],
    inputs: Variable | Sequence[Variable],
    grad_outputs: Any = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Return the gradients of the sum of `outputs` with respect to `inputs`, one per input.

    `inputs` may be leaves or results; nothing is added to any `grad`. `grad_outputs` has one
    tensor per output, of its shape and dtype, or None for an output of one element. With
    `create_graph` the gradients are recorded themselves, so that they can be differentiated again;
    otherwise what the graph had saved is freed as it is consumed, unless `retain_graph` is set.
    The gradient of an input that the outputs do not depend on is None if `allow_unused` is set.

    Raises `RuntimeError` for an input that does not require a gradient or that no output depends
    on, or a graph that was freed already; `ValueError` for a gradient that does not fit its output.

    Example:
        >>> x = Tensor([2.0], requires_grad=True)
        >>> (slope,) = grad(x**3, x, create_graph=True)   # 3 x**2 = 12
        >>> grad(slope, x)                                # 6 x = 12
    """
    outputs, inputs = _listed("outputs", outputs), _listed("inputs", inputs)
    if not isinstance(grad_outputs, (list, tuple)):
        grad_outputs = [grad_outputs] * len(outputs) if grad_outputs is None else [grad_outputs]
    if len(grad_outputs) != len(outputs):
        raise ValueError(
            f"grad: expected one of grad_outputs per output, got {len(grad_outputs)} for "
            f"{len(outputs)} outputs"
        )
    for k, variable in enumerate(inputs):
        if not variable.requires_grad:
            raise RuntimeError(
                f"grad: input {k} does not require a gradient; call requires_grad_() on it before "
                "the outputs are computed"
            )
    collected: dict[Any, Any] = {}
    starts: dict[Node, Any] = {}
    with enable_grad() if create_graph else contextlib.nullcontext():
        for k, (output, given) in enumerate(zip(outputs, grad_outputs, strict=True)):
            gradient = output_gradient(f"grad: output {k}", output, given, create_graph)
            totals: dict[Any, Any] = collected if output.node is None else starts
            key = output.node or output
            totals[key] = totals[key] + gradient if key in totals else gradient
        pending = _count_consumers(list(starts))
        targets = {v.node or v for v in inputs}
        found: dict[Any, Any] = {}
        _walk(
            starts,
            pending,
            found,
            retain_graph=create_graph if retain_graph is None else retain_graph,
            create_graph=create_graph,
            targets=targets,
        )
        for target in targets & collected.keys():
            before = found.get(target)
            found[target] = collected[target] if before is None else before + collected[target]
    gradients: list[Any] = []
    for k, variable in enumerate(inputs):
        gradient = found.get(variable.node or variable)
        if gradient is None and not allow_unused:
            raise RuntimeError(
                f"grad: no output depends on input {k}; pass allow_unused=True to get None for it"
            )
        if gradient is not None and not create_graph:
            gradient = variable.wrap(gradient.copy())
        gradients.append(gradient)
    return tuple(gradients)


def _listed(name: str, given: Any) -> list[Variable]:
    """One variable, or a sequence of them, as a list."""
    variables = list(given) if isinstance(given, (list, tuple)) else [given]
    for variable in variables:
        if not isinstance(variable, Variable):
            raise TypeError(
                f"grad: expected {name} to be a Tensor or a list of them, "
                f"got {type(variable).__name__}"
            )
    return variables


def output_gradient(name: str, output: Variable, gradient: Any, create_graph: bool) -> Any:
    """The gradient to start from at an output: what is given, checked, or 1.

    An array, or with `create_graph` a variable. Raises `RuntimeError` for an output that requires
    no gradient, or has several elements and none is given, `ValueError` for one that does not fit.
    """
    array, backend = output.data, output.backend
    if not output.requires_grad:
        raise RuntimeError(f"{name}: this tensor does not depend on any that requires a gradient")
    if gradient is None:
        if array.size != 1:
            raise RuntimeError(
                f"{name}: expected a gradient for a tensor of {array.shape}; only a single "
                "element can do without"
            )
        gradient = backend.xp.ones(array.shape, dtype=array.dtype)
    if isinstance(gradient, Variable):
        given = array_of(gradient, backend, name)
    else:
        given = plain_array(gradient, name)
        if not isinstance(given, backend.xp.ndarray):
            given = backend.asarray(np.asarray(given))
    if given.shape != array.shape or given.dtype != array.dtype:
        raise ValueError(
            f"{name}: expected a gradient of shape {array.shape} and dtype {array.dtype}, "
            f"got {given.shape} and {given.dtype}"
        )
    if not create_graph:
        return given
    return gradient if isinstance(gradient, Variable) else output.wrap(given)


def _walk(
    starts: dict[Node, Any],
    pending: dict[Node, int],
    collected: dict[Any, Any],
    *,
    retain_graph: bool,
    create_graph: bool,
    targets: "set[Node | Variable] | None" = None,
    watch: LeafWatch | None = None,
) -> None:
    """Walk from the nodes `starts`, whose gradients they map to, and collect those of leaves.

    With `targets`, leaves and nodes, only theirs are collected, and nodes that lead to none are not
    visited. Gradients are arrays, or with `create_graph` variables. `watch` is told of each
    contribution to a leaf.
    """
    if not starts:
        return
    ready = [node for node in starts if pending[node] == 0]
    useful = None if targets is None else _leading_to(targets, ready, pending)
    gradients = dict(starts)
    # Arrays made by this walk by adding up may be added to in place; what a backward returned may
    # be shared (with grad_output, with another input's gradient) and may not.
    own: set[Node | Variable] = set()
    backend = next(iter(starts)).backend
    with backend.computing():
        while ready:
            node = ready.pop()
            grad_output = gradients.pop(node, None)
            if useful is not None and targets is not None:
                if node in targets and grad_output is not None:
                    collected[node] = grad_output
                if node not in useful:
                    continue
            edges = node.edges
            if grad_output is None:
                inputs: tuple[Any, ...] = (None,) * len(edges)
            else:
                if isinstance(grad_output, np.generic):  # what NumPy makes of arrays of no axes
                    grad_output = node.backend.xp.asarray(grad_output)
                if targets is None:
                    node.deliver(grad_output)
                if node.backend is backend:
                    inputs = node.input_gradients(grad_output, create_graph)
                else:
                    with node.backend.computing():
                        inputs = node.input_gradients(grad_output, create_graph)
            for k, (edge, grad_input) in enumerate(zip(edges, inputs, strict=True)):
                if edge is None:
                    continue
                is_node = isinstance(edge, Node)
                if grad_input is not None and (targets is None or is_node or edge in targets):
                    totals: dict[Any, Any] = gradients if is_node else collected
                    if edge not in totals:
                        if not is_node and not create_graph:
                            shared = grad_input is grad_output or grad_input.base is not None
                            shared = shared or any(grad_input is g for g in inputs[:k])
                            if shared:
                                grad_input = grad_input.copy()
                        totals[edge] = grad_input
                    elif edge in own:
                        totals[edge] += grad_input
                    else:
                        totals[edge] = totals[edge] + grad_input
                        if not create_graph:
                            own.add(edge)
                if is_node:
                    waiting: Any = edge
                    pending[waiting] -= 1
                    if pending[waiting] == 0:
                        ready.append(waiting)
                elif watch is not None:
                    watch.contributed(edge, collected)
            if not retain_graph:
                node.free()


def _leading_to(
    targets: "set[Node | Variable]", first: Sequence[Node], pending: dict[Node, int]
) -> set[Node]:
    """The nodes that lead to a target; `first` are those that no other leads to."""
    left, order, ready = dict(pending), [], list(first)
    while ready:
        node = ready.pop()
        order.append(node)
        for edge in node.edges:
            if isinstance(edge, Node):
                left[edge] -= 1
                if left[edge] == 0:
                    ready.append(edge)
    useful: set[Node] = set()
    for node in reversed(order):
        if any(edge in targets or edge in useful for edge in node.edges if edge is not None):
            useful.add(node)
    return useful


def _count_consumers(starts: Sequence[Node]) -> dict[Node, int]:
    """For each node that `starts` lead to, how many edges lead to it."""
    pending = dict.fromkeys(starts, 0)
    stack = list(starts)
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
