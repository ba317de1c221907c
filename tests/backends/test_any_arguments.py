"""Whatever is handed to an entry of the compiled kernels, it works or raises; it never crashes.

A crash is seen as pytest dying.
"""

import numpy as np
import pytest
from entries import ENTRIES_WITH, REFUSALS, array, calls, each_set, needs_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = needs_kernels
fewer = settings(max_examples=max(settings.default.max_examples // 3, 1))

numbers = st.one_of(
    st.integers(-2, 5),
    st.sampled_from([2**k + d for k in (7, 8, 31, 32, 62, 63) for d in (-1, 0, 1)]),
    st.integers(),
)
small_numbers = st.integers(-1, 4)
names = st.sampled_from(["none", "relu", "sigmoid", "tanh", "silu", "leaky_relu", "", "no"])
reals = st.floats()


@st.composite
def arrays(draw, like=None):
    """An array of any kind, most often nearly the one that is expected."""
    shape = draw(st.lists(st.integers(0, 6), max_size=5)) if like is None else list(like.shape)
    dtype = np.float32 if like is None else like.dtype
    if shape and draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(0, 7))
    if draw(st.integers(0, 5)) == 0:
        dtype = draw(st.sampled_from(["f4", "f8", "u1", "i4", "i8", "f2", ">f4", "O"]))
    result = np.full(shape, draw(st.sampled_from([0, 1, 3])), dtype)
    change = draw(st.integers(0, 12))
    if change == 0:
        result = result.T
    elif change == 1:
        result = np.repeat(result, 2, axis=-1)[..., ::2] if shape else result
    elif change == 2:
        result.setflags(write=False)
    return result


@st.composite
def almost(draw, value):
    """Something in the place of an argument that works: itself, its like, or what has no place."""
    choice = draw(st.integers(0, 20))
    if choice < 8:
        return value
    if choice == 8:
        return draw(st.sampled_from([None, "text", 1, 1.5, (), [], (1, 1), b"", True]))
    if isinstance(value, bool):
        return draw(st.booleans())
    if isinstance(value, np.ndarray):
        return draw(arrays(value))
    if isinstance(value, int):
        return draw(numbers)
    if isinstance(value, float):
        return draw(reals)
    if isinstance(value, str):
        return draw(names)
    items = [draw(almost(item)) for item in value]
    return type(value)(items)


@each_set
@pytest.mark.parametrize("entry", calls())
@fewer
@given(data=st.data())
def test_whatever_comes_an_entry_works_or_raises(kernels, entry, data):
    arguments = [data.draw(almost(value)) for value in calls()[entry].values()]
    try:
        getattr(kernels, entry)(*arguments)
    except REFUSALS as error:
        assert str(error)  # noqa: PT017 (most calls are wrong, but some happen to be right)


@each_set
@pytest.mark.parametrize("entry", ENTRIES_WITH["stride"])
@fewer
@given(data=st.data())
def test_windows_of_any_kind_over_images_of_any_kind_work_or_raise(kernels, entry, data):
    # Where the numbers are all small the shapes fit often enough that the kernel itself runs.
    pair = st.tuples(small_numbers, small_numbers)
    geometry = {"stride": pair, "padding": st.tuples(pair, pair), "dilation": pair, "size": pair}
    arguments = calls()[entry]
    for name, strategy in geometry.items():
        if name in arguments:
            arguments[name] = data.draw(strategy)
    n, h, w, c = (data.draw(st.integers(0, 5)) for _ in range(4))
    groups, outputs = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 3))
    kh, kw = arguments.get("size") or data.draw(pair)
    kh, kw = max(kh, 0), max(kw, 0)
    image = array(n, h, w, c * groups)
    arguments["groups" if "groups" in arguments else "size"] = (
        groups if "groups" in arguments else (kh, kw)
    )
    channels = outputs * groups if "groups" in arguments else c * groups
    p, q = (
        max((side + sum(pad) - d * (k - 1) - 1) // max(s, 1) + 1, 0)
        for side, pad, d, k, s in zip(
            (h, w),
            arguments["padding"],
            arguments["dilation"],
            (kh, kw),
            arguments["stride"],
            strict=True,
        )
    )
    result = array(n, p, q, channels)
    fitting = {
        "x": image,
        "grad_input": image.copy(),
        "y": result,
        "grad_output": result.copy(),
        "weight": array(kh, kw, c, outputs * groups),
        "grad_weight": array(kh, kw, c, outputs * groups),
        "bias": array(outputs * groups),
        "grad_bias": array(outputs * groups),
        "taps": np.zeros(result.shape, np.uint8),
    }
    arguments = {name: fitting.get(name, value) for name, value in arguments.items()}
    try:
        getattr(kernels, entry)(*arguments.values())
    except REFUSALS as error:
        assert "\n" not in str(error)  # noqa: PT017 (as above)
