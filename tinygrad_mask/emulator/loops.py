"""Finds the loops of a program in the graph of which instruction may follow on which."""

import functools
from collections.abc import Iterator, Sequence


def natural_loops(successors: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of the instructions of each natural loop, the shortest first.

    `successors` has the numbers of those that may follow on each; the first is where all begins. A
    branch to an instruction that every way to the branch passes closes a loop (Aho, Lam, Sethi and
    Ullman, Compilers, section 9.6). Loops with the same first instruction are one.
    """
    predecessors: list[list[int]] = [[] for _ in successors]
    for i, following in enumerate(successors):
        for j in following:
            predecessors[j].append(i)
    dominators = _immediate_dominators(successors, predecessors)
    loops: dict[int, set[int]] = {}
    for i in dominators:
        for j in successors[i]:
            if j <= i and _dominates(j, i, dominators):
                body = loops.setdefault(j, {j})
                todo = [i]
                while todo:
                    k = todo.pop()
                    if k not in body:
                        body.add(k)
                        todo += [p for p in predecessors[k] if p in dominators]
    return tuple(sorted((tuple(sorted(body)) for body in loops.values()), key=len))


def _immediate_dominators(
    successors: Sequence[Sequence[int]], predecessors: Sequence[Sequence[int]]
) -> dict[int, int]:
    """Return for each instruction that can be reached the last that every way to it passes.

    Cooper, Harvey and Kennedy, A Simple, Fast Dominance Algorithm, 2001.
    """
    order = _postorder(successors)
    rank = {node: k for k, node in enumerate(order)}
    dominators = {0: 0} if order else {}

    def common(one: int, other: int) -> int:
        while one != other:
            while rank[one] < rank[other]:
                one = dominators[one]
            while rank[other] < rank[one]:
                other = dominators[other]
        return one

    changed = True
    while changed:
        changed = False
        for node in reversed(order[:-1]):
            known = [p for p in predecessors[node] if p in dominators]
            new = functools.reduce(common, known)
            if dominators.get(node) != new:
                dominators[node] = new
                changed = True
    return dominators


def _postorder(successors: Sequence[Sequence[int]]) -> list[int]:
    """Return the instructions that can be reached from the first, each after its successors."""
    if not successors:
        return []
    order, seen = [], {0}
    stack: list[tuple[int, Iterator[int]]] = [(0, iter(successors[0]))]
    while stack:
        node, rest = stack[-1]
        following = next((j for j in rest if j not in seen), None)
        if following is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(successors[following])))
    return order


def _dominates(first: int, then: int, dominators: dict[int, int]) -> bool:
    while then != first and dominators[then] != then:
        then = dominators[then]
    return then == first
