"""Ctrl-C and SIGTERM as a request to stop between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_pressed: list[list[int]] = []
"""The signals that arrived, for each `stopping` that is entered, the innermost last."""


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed or SIGTERM received.

    A second one does what it did before this context: Ctrl-C interrupts at once. Weights, optimiser
    state and position in the epoch are consistent only between two steps; an exception raised
    within a step would leave them inconsistent. Outside the main thread, which is the only one that
    receives signals, the function always returns False. A signal that is ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed: list[int] = []

    def press(number: int, frame: Any) -> None:
        pressed.append(number)
        restore()

    def restore() -> None:
        for of, handler in before.items():
            signal.signal(of, handler)

    before: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, None):
            before[number] = handler
    _pressed.append(pressed)
    try:
        for installed in before:
            signal.signal(installed, press)
        yield lambda: bool(pressed)
    finally:
        restore()
        _pressed.remove(pressed)


def was_pressed() -> bool:
    """Whether the innermost `stopping` that is entered has been asked to stop."""
    return bool(_pressed and _pressed[-1])
