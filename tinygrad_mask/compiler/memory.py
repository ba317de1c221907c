"""Places for the values between the operations, so that memory is used again when it is free."""

import math

from tinygrad_mask.compiler.trace import IMAGES, Graph

ALIGNMENT = 16
"""Elements to which places are rounded: a line of the cache."""


def elements(shape: tuple[int, ...]) -> int:
    """Return the elements per image of a traced shape."""
    return math.prod(shape) // IMAGES


def plan_memory(graph: Graph) -> tuple[dict[int, int], int]:
    """Return where each value but inputs and outputs begins, and the elements in all.

    Both per image. A value lives from the operation that makes it to its last reader; values that
    live at the same time do not overlap. Each takes the lowest gap that fits.
    """
    last_read = {v: k for k, op in enumerate(graph.ops) for v in op.inputs}
    living: list[tuple[int, int, int]] = []  # begin, end, last reader
    places: dict[int, int] = {}
    total = 0
    for k, op in enumerate(graph.ops):
        living = [value for value in living if value[2] >= k]
        if op.output in graph.outputs:
            continue
        size = -(-elements(op.shape) // ALIGNMENT) * ALIGNMENT
        begin = 0
        for start, end, _ in sorted(living):
            if begin + size <= start:
                break
            begin = max(begin, end)
        places[op.output] = begin
        living.append((begin, begin + size, last_read.get(op.output, k)))
        total = max(total, begin + size)
    return places, total
