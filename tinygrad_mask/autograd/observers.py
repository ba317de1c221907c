"""Observers of backward passes: told of each leaf as soon as its gradient is complete.

Data-parallel training begins to exchange a gradient while the backward pass goes on. Without an
observer a backward pass tests nothing but whether there are any.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from tinygrad_mask.autograd.graph import Node
from tinygrad_mask.autograd.variable import Variable


class BackwardObserver(Protocol):
    """What is told of a backward pass that adds to the gradients of leaves."""

    def begin(self, leaves: Iterable[Variable]) -> bool:
        """Say whether to be told of this pass, which reaches these leaves."""

    def complete(self, leaf: Variable, gradient: Any) -> None:
        """Take note that the pass is done with a leaf.

        `gradient` is the array that the pass will add to the leaf's gradient, or None for nothing.
        """

    def end(self) -> None:
        """Take note that all gradients have been added."""


observers: list[BackwardObserver] = []


@contextmanager
def observing(observer: BackwardObserver) -> Iterator[None]:
    """Within it `observer` is told of every backward pass, of all threads."""
    observers.append(observer)
    try:
        yield
    finally:
        observers.remove(observer)


class LeafWatch:
    """Counts the contributions to each leaf of a walk, and tells observers when all are there."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        missing: dict[Variable, int] = {}
        for node in nodes:
            for edge in node.edges:
                if isinstance(edge, Variable):
                    missing[edge] = missing.get(edge, 0) + 1
        self._missing = missing
        self._told = [observer for observer in observers if observer.begin(missing)]

    def contributed(self, leaf: Any, collected: Mapping[Any, Any]) -> None:
        """Count one contribution to a leaf; `collected` has the sums so far."""
        self._missing[leaf] -= 1
        if self._missing[leaf] == 0:
            for observer in self._told:
                observer.complete(leaf, collected.get(leaf))

    def end(self) -> None:
        """Tell that all gradients have been added."""
        for observer in self._told:
            observer.end()
