"""The default random generator, used by every function and layer that is given no `rng`.

Explicit generators (`rng=np.random.default_rng(0)`) make each draw's source visible, and are what
the application uses. The default generator is for everything else: `manual_seed(0)` once at the
start of a program makes the layers, dropout and random tensors that follow reproducible.
"""

import operator
from typing import Any

import numpy as np

_default = np.random.default_rng()


def manual_seed(seed: int) -> np.random.Generator:
    """Seed the default generator and return it.

    The generator is re-seeded in place, so layers that draw from it follow the new seed. Until the
    first call it is seeded by the operating system: each run of a program draws other numbers.

    Raises:
        TypeError: `seed` is not an integer.
        ValueError: `seed` is negative.

    Example:
        >>> import tinygrad_mask as tg
        >>> _ = tg.manual_seed(0)
        >>> first = tg.nn.Linear(2, 3).weight.numpy()
        >>> _ = tg.manual_seed(0)
        >>> bool((tg.nn.Linear(2, 3).weight.numpy() == first).all())
        True
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"manual_seed: expected an integer, got {seed!r}") from None
    if number < 0:
        raise ValueError(f"manual_seed: expected an integer >= 0, got {seed!r}")
    _default.bit_generator.state = np.random.default_rng(number).bit_generator.state
    return _default


def default_generator() -> np.random.Generator:
    """Return the default generator; it is the same object throughout a process."""
    return _default


def as_generator(name: str, rng: Any) -> np.random.Generator:
    """Return `rng`, or the default generator for None.

    A seed is refused: two layers given `rng=0` would start with the same weights, and a dropout
    given `rng=0` would draw the same mask in every call. Raises `TypeError`, in the name of the
    caller, for anything but a generator.
    """
    if rng is None:
        return _default
    if isinstance(rng, np.random.Generator):
        return rng
    seed = rng if isinstance(rng, int | np.integer) and not isinstance(rng, bool) else 0
    raise TypeError(
        f"{name}: expected rng to be a numpy.random.Generator, got {rng!r}; "
        f"pass rng=np.random.default_rng({seed}), "
        f"or leave it out and call manual_seed({seed}) first"
    )
