"""Whether operations are recorded: `no_grad`, `enable_grad`, `set_grad_enabled`, per thread."""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar, cast


class _Recording(threading.local):
    enabled = True
    observer: "Callable[..., None] | None" = None
    """Is told of each function that is applied while no graph is recorded: `observer(function,
    inputs, options, result)`, with inputs and options as `Function.apply` has them."""


recording = _Recording()
"""Whether this thread records, as `recording.enabled`."""

_Call = TypeVar("_Call", bound=Callable[..., Any])


class _Switch(contextlib.ContextDecorator):
    """A context, or a decorator, that switches the recording of this thread on or off."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._before: list[bool] = []

    def __enter__(self) -> "_Switch":
        self._before.append(recording.enabled)
        recording.enabled = self._enabled
        return self

    def __exit__(self, *exception: object) -> None:
        recording.enabled = self._before.pop()

    def __call__(self, function: _Call) -> _Call:
        if not callable(function):
            name = type(self).__name__
            raise TypeError(f"{name}: expected a function to decorate, got {function!r}")
        if not inspect.isgeneratorfunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
            # Its caller's code runs between the values, so the switch is set for each of them.
            values = function(*args, **kwargs)
            while True:
                with self:
                    try:
                        value = next(values)
                    except StopIteration as stop:
                        return stop.value
                yield value

        return cast(_Call, generator)


class _FixedSwitch(_Switch):
    """A switch to one mode, which as a decorator may do without parentheses."""

    _mode: ClassVar[bool]

    def __new__(cls, *function: Any) -> Any:
        return cls()(*function) if function else super().__new__(cls)

    def __init__(self) -> None:
        super().__init__(self._mode)


class no_grad(_FixedSwitch):  # noqa: N801 (as everybody writes it)
    """Within this context (or a function decorated with it) no graph is recorded, in this thread.

    Results do not require gradients, nothing is saved for a backward pass, and leaves may be
    written in place.
    """

    _mode = False


class enable_grad(_FixedSwitch):  # noqa: N801
    """Within this context (or a function decorated with it) the graph is recorded, in this thread.

    It undoes an enclosing `no_grad`.
    """

    _mode = True


class set_grad_enabled(_Switch):  # noqa: N801
    """Switch recording on or off in this thread, at once; as a context, until its end.

    As in PyTorch it is a function, a context and a decorator.

    Example:
        >>> set_grad_enabled(False)
        >>> with set_grad_enabled(training):
        ...     loss = model(x).mean()
    """

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        super().__enter__()
        self._entered = False

    def __enter__(self) -> "_Switch":
        if self._entered:
            return super().__enter__()
        self._entered = True  # switched when it was made
        return self

    def __call__(self, function: _Call) -> _Call:
        """Return the function with the mode set while it runs."""
        self.__exit__()  # the mode is that of the function alone
        self._entered = True
        return super().__call__(function)

    def __repr__(self) -> str:
        return f"set_grad_enabled({self._enabled})"


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return recording.enabled
