"""Whatever is handed to an entry of the compiled kernels, it works or raises; it never crashes.

The entries stand between Python and memory: each must refuse what its kernel would read or write
out of bounds. A crash is seen as pytest dying.
"""

import inspect
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_mask.backends.cpu import CpuBackend, available_instruction_sets

KERNELS = {name: CpuBackend(name).kernels for name in available_instruction_sets()}

pytestmark = pytest.mark.skipif(not KERNELS, reason="no kernels were compiled here")
each_set = pytest.mark.parametrize("kernels", KERNELS.values(), ids=KERNELS.keys())
fewer = settings(max_examples=max(settings.default.max_examples // 3, 1))

REFUSALS = (ValueError, TypeError, MemoryError, OverflowError)

PAIR, PADDING = (1, 1), ((1, 1), (1, 1))
OUTPUTS = ("c", "y", "taps", "gradient", "mean", "variance", "grad_weight", "grad_bias")


def array(*shape):
    return np.full(shape, 0.5, np.float32)


def calls():
    """For each entry the arguments of a call that works, by name and in their order.

    Made anew each time, since the kernels write into them.
    """
    n, h, w, c, o = 2, 5, 6, 4, 8
    window = {"size": (3, 3), "stride": PAIR, "padding": PADDING, "dilation": PAIR}
    convolution = {
        "stride": PAIR,
        "padding": PADDING,
        "dilation": PAIR,
        "groups": 2,
        "activation": "tanh",
    }
    x, weight, y, z = (n, h, w, c), (3, 3, c // 2, o), (n, h, w, o), (n, h, w, c)
    taps = np.zeros(z, np.uint8)
    row = (c,)
    return {
        "matmul": {
            "a": array(3, 4),
            "b": array(4, 5),
            "b_transposed": False,
            "bias": array(5),
            "activation": "relu",
            "c": array(3, 5),
        },
        "matmul_transposed": {"a": array(4, 3), "b": array(4, 5), "c": array(3, 5)},
        "conv2d": {
            "x": array(*x),
            "weight": array(*weight),
            "bias": array(o),
            "y": array(*y),
            **convolution,
        },
        "conv2d_grad_input": {
            "grad_output": array(*y),
            "y": array(*y),
            "weight": array(*weight),
            "grad_input": array(*x),
            **convolution,
        },
        "conv2d_grad_weight": {
            "grad_output": array(*y),
            "y": array(*y),
            "x": array(*x),
            "grad_weight": array(*weight),
            "grad_bias": array(o),
            **convolution,
        },
        "max_pool2d": {"x": array(*x), "y": array(*z), "taps": taps, **window},
        "max_pool2d_grad": {
            "grad_output": array(*z),
            "taps": taps,
            "grad_input": array(*x),
            **window,
        },
        "avg_pool2d": {"x": array(*x), "y": array(*z), **window, "count_padding": True},
        "avg_pool2d_grad": {
            "grad_output": array(*z),
            "grad_input": array(*x),
            **window,
            "count_padding": True,
        },
        "activation": {"name": "silu", "x": array(3, 5), "y": array(3, 5), "slope": 0.1},
        "activation_grad": {
            "name": "silu",
            "grad_output": array(3, 5),
            "kept": array(3, 5),
            "grad_input": array(3, 5),
            "slope": 0.1,
        },
        "batch_norm": {
            "x": array(5, 4),
            "weight": array(*row),
            "bias": array(*row),
            "mean": array(*row),
            "inverse_std": array(*row),
            "y": array(5, 4),
        },
        "batch_norm_statistics": {"x": array(5, 4), "mean": array(*row), "variance": array(*row)},
        "batch_norm_grad": {
            "grad_output": array(5, 4),
            "x": array(5, 4),
            "weight": array(*row),
            "mean": array(*row),
            "inverse_std": array(*row),
            "training": True,
            "grad_input": array(5, 4),
            "grad_weight": array(*row),
            "grad_bias": array(*row),
        },
        "cross_entropy": {
            "logits": array(3, 4),
            "target": np.array([0, 3, 1]),
            "weight": array(4),
            "label_smoothing": 0.1,
            "gradient": array(3, 4),
        },
        "sgd_update": {
            "parameter": [array(3, 4), array(0)],
            "gradient": [array(3, 4), array(0)],
            "velocity": [array(3, 4), array(0)],
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.1,
        },
        "adam_update": {
            "parameter": [array(3, 4), array(0)],
            "gradient": [array(3, 4), array(0)],
            "first_moment": [array(3, 4), array(0)],
            "second_moment": [array(3, 4), array(0)],
            "steps": [1, 2],
            "lr": 0.1,
            "betas": (0.9, 0.99),
            "eps": 1e-8,
            "weight_decay": 0.1,
            "decoupled": True,
        },
    }


MACHINE = {"set_num_threads", "runnable", "vector_bytes", "openmp", "memory_use", "set_allocator"}


def first_array(value):
    return value[0] if isinstance(value, list) else value


def is_output(entry, name):
    """Whether an entry writes into the argument of this name."""
    if entry in ("sgd_update", "adam_update"):
        return name in ("parameter", "velocity", "first_moment", "second_moment")
    written = {
        "conv2d_grad_input": ("grad_input",),
        "conv2d_grad_weight": ("grad_weight", "grad_bias"),
        "max_pool2d_grad": ("grad_input",),
        "batch_norm": ("y",),
        "batch_norm_grad": ("grad_input", "grad_weight", "grad_bias"),
        "activation_grad": ("grad_input",),
        "avg_pool2d_grad": ("grad_input",),
    }
    return name in written.get(entry, OUTPUTS)


def array_arguments():
    """Each entry with each of its arguments that is an array, or a list of them."""
    return [
        (entry, name)
        for entry, arguments in calls().items()
        for name, value in arguments.items()
        if isinstance(first_array(value), np.ndarray)
    ]


def replaced(value, change):
    """The argument with its (first) array changed."""
    return [change(value[0]), *value[1:]] if isinstance(value, list) else change(value)


def refuse(kernels, entry, changes, names):
    """Call an entry with some arguments changed; it must say in one line what is wrong with one."""
    arguments = calls()[entry] | changes
    with pytest.raises(REFUSALS) as caught:
        getattr(kernels, entry)(*arguments.values())
    message = str(caught.value)
    if "incompatible function arguments" in message:
        # What has not even the right Python type is refused by the binding, in its own words.
        assert caught.type is TypeError
        return
    assert "\n" not in message
    assert re.search(rf"\b({'|'.join(names)})\b", message), message


@each_set
def test_every_entry_is_tested_here(kernels):
    entries = {name for name, value in inspect.getmembers(kernels) if callable(value)}
    assert set(calls()) == entries - MACHINE


@each_set
@pytest.mark.parametrize("entry", calls())
def test_the_calls_that_the_others_change_work(kernels, entry):
    getattr(kernels, entry)(*calls()[entry].values())


# --- arrays --------------------------------------------------------------------------------------


@each_set
@pytest.mark.parametrize(("entry", "name"), array_arguments())
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.bool_, ">f4", "O", "V4"])
def test_another_dtype_is_refused(kernels, entry, name, dtype):
    value = replaced(calls()[entry][name], lambda a: np.zeros(a.shape, dtype))
    # The first array says what dtype the others should have had: the blame may fall on any.
    refuse(kernels, entry, {name: value}, [entry])


def longer(a, axis):
    return np.zeros([n + (k == axis % a.ndim) for k, n in enumerate(a.shape)], a.dtype)


@each_set
@pytest.mark.parametrize(("entry", "name"), array_arguments())
def test_another_shape_is_refused(kernels, entry, name):
    changes = [lambda a: longer(a, -1), lambda a: a[..., None], lambda a: a.ravel()[:-1]]
    changes += [lambda a: np.zeros((), a.dtype)]
    if (entry, name) != ("batch_norm_statistics", "x"):  # which takes any number of rows
        axes = range(first_array(calls()[entry][name]).ndim)
        changes += [lambda a, axis=axis: longer(a, axis) for axis in axes]
        changes += [lambda a: a[None], lambda a: a[:0]]
    for change in changes:
        refuse(kernels, entry, {name: replaced(calls()[entry][name], change)}, [entry])


@each_set
@pytest.mark.parametrize(("entry", "name"), array_arguments())
def test_elements_that_are_not_side_by_side_are_refused(kernels, entry, name):
    def apart(a):
        return np.repeat(a, 2, axis=-1)[..., ::2]

    def backwards(a):
        return np.flip(a)

    def repeated(a):
        return np.broadcast_to(a.ravel()[:1], a.shape)

    for change in (apart, backwards, repeated):
        refuse(kernels, entry, {name: replaced(calls()[entry][name], change)}, [name])


@each_set
@pytest.mark.parametrize(("entry", "name"), array_arguments())
def test_elements_that_are_not_aligned_are_refused(kernels, entry, name):
    if first_array(calls()[entry][name]).itemsize == 1:
        return  # a byte is always aligned

    def unaligned(a):
        view = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        assert not view.flags.aligned
        return view

    refuse(kernels, entry, {name: replaced(calls()[entry][name], unaligned)}, [name])


@each_set
@pytest.mark.parametrize(("entry", "name"), array_arguments())
def test_only_inputs_may_be_read_only(kernels, entry, name):
    def frozen(a):
        a = a.copy()
        a.setflags(write=False)
        return a

    value = replaced(calls()[entry][name], frozen)
    if is_output(entry, name):
        refuse(kernels, entry, {name: value}, [name])
        assert np.all(first_array(value) == first_array(calls()[entry][name]))
    else:
        getattr(kernels, entry)(*(calls()[entry] | {name: value}).values())


MAY_BE_NONE = {
    ("matmul", "bias"),
    ("conv2d", "bias"),
    ("conv2d_grad_weight", "grad_bias"),
    ("cross_entropy", "weight"),
    ("sgd_update", "velocity"),
}
WITHOUT_ACTIVATION = {("conv2d_grad_input", "y"), ("conv2d_grad_weight", "y")}


@each_set
@pytest.mark.parametrize(("entry", "name"), array_arguments())
def test_what_is_no_array_is_refused(kernels, entry, name):
    for value in ([[0.5]], "text", 1, object(), np.float32(1)):
        refuse(kernels, entry, {name: value}, [name])
    if (entry, name) in MAY_BE_NONE:
        getattr(kernels, entry)(*(calls()[entry] | {name: None}).values())
    elif (entry, name) not in WITHOUT_ACTIVATION:
        refuse(kernels, entry, {name: None}, [name])


@each_set
@pytest.mark.parametrize("entry", ["conv2d_grad_input", "conv2d_grad_weight"])
def test_the_derivative_of_an_activation_is_not_left_out_where_its_output_is_missing(
    kernels, entry
):
    refuse(kernels, entry, {"y": None}, ["y"])
    getattr(kernels, entry)(*(calls()[entry] | {"y": None, "activation": "none"}).values())


@each_set
@pytest.mark.parametrize(("entry", "name"), [e for e in array_arguments() if "update" in e[0]])
def test_lists_of_different_lengths_are_refused(kernels, entry, name):
    value = calls()[entry][name]
    for changed in (value[:1], [], [*value, *value]):
        refuse(kernels, entry, {name: changed}, [entry])
    if entry == "adam_update":
        refuse(kernels, entry, {"steps": [1]}, [entry])
        refuse(kernels, entry, {"steps": [2**70, 1]}, [entry])


# --- numbers and names ---------------------------------------------------------------------------

ENTRIES_WITH = {
    name: [entry for entry, arguments in calls().items() if name in arguments]
    for name in ("stride", "dilation", "padding", "size", "groups", "activation", "name")
}


def entries_with(name):
    return pytest.mark.parametrize("entry", ENTRIES_WITH[name])


@each_set
@entries_with("stride")
@pytest.mark.parametrize("value", [0, -1, 2**31, 2**62, -(2**63), 2**63, 2**100])
@pytest.mark.parametrize("place", [0, 1])
def test_strides_and_dilations_out_of_range_are_refused(kernels, entry, value, place):
    for name in ("stride", "dilation"):
        pair = (value, 1) if place == 0 else (1, value)
        refuse(kernels, entry, {name: pair}, [name])


@each_set
@entries_with("padding")
@pytest.mark.parametrize("value", [-1, 2**31, 2**62, -(2**63), 2**63, 2**100])
@pytest.mark.parametrize("place", range(4))
def test_paddings_out_of_range_are_refused(kernels, entry, value, place):
    flat = [1, 1, 1, 1]
    flat[place] = value
    refuse(kernels, entry, {"padding": (tuple(flat[:2]), tuple(flat[2:]))}, ["padding"])


@each_set
@entries_with("size")
@pytest.mark.parametrize("value", [0, -3, 2**31, 2**62, 2**63])
@pytest.mark.parametrize("place", [0, 1])
def test_windows_out_of_range_are_refused(kernels, entry, value, place):
    pair = (value, 3) if place == 0 else (3, value)
    refuse(kernels, entry, {"size": pair}, ["size", "window"])


@each_set
@entries_with("stride")
def test_a_window_that_does_not_fit_is_refused(kernels, entry):
    refuse(kernels, entry, {"dilation": (4, 1)}, ["window"])
    refuse(kernels, entry, {"dilation": (1, 4)}, ["window"])
    refuse(kernels, entry, {"dilation": (2**31 - 1, 2**31 - 1)}, ["window"])


@each_set
@entries_with("stride")
@pytest.mark.parametrize("value", [None, 1, (1,), (1, 1, 1), (1.5, 1), ("1", 1), (None, 1)])
def test_what_is_no_pair_of_integers_is_refused(kernels, entry, value):
    for name in ("stride", "dilation", "padding", "size"):
        if name in calls()[entry]:
            refuse(kernels, entry, {name: value}, [name])


@each_set
@entries_with("groups")
@pytest.mark.parametrize("value", [0, -1, 3, 8, 2**31, 2**32 + 2, 2**62, 2**62 + 2, 2**63, 2**70])
def test_groups_that_do_not_divide_the_channels_are_refused(kernels, entry, value):
    refuse(kernels, entry, {"groups": value}, ["groups"])


@each_set
@entries_with("groups")
def test_groups_that_do_not_divide_the_outputs_are_refused(kernels, entry):
    fewer_outputs = {}
    for name, value in calls()[entry].items():
        if isinstance(value, np.ndarray) and value.shape[-1] == 8:  # the outputs, of two groups
            fewer_outputs[name] = np.ascontiguousarray(value[..., :7])
    refuse(kernels, entry, fewer_outputs, ["groups"])


@each_set
def test_no_number_of_groups_is_worked_off_where_there_are_no_channels(kernels):
    # 4 channels a group times 2**62 + 1 groups are 4 again in 64 bits, and anything divides 0.
    empty = np.zeros((1, 1, 4, 0), np.float32)
    changes = {"x": array(2, 5, 6, 4), "weight": empty, "bias": None, "padding": ((0, 0), (0, 0))}
    changes["y"] = np.zeros((2, 5, 6, 0), np.float32)
    refuse(kernels, "conv2d", {**changes, "groups": 2**62 + 1}, ["groups"])


@each_set
@pytest.mark.parametrize("entry", ENTRIES_WITH["activation"] + ENTRIES_WITH["name"])
def test_activations_of_no_name_are_refused(kernels, entry):
    name = "activation" if "activation" in calls()[entry] else "name"
    wrong = ["", "Relu", "gelu", "relu\0", 3, None]
    wrong += ["leaky_relu", "silu"] if name == "activation" else []
    for value in wrong:
        refuse(kernels, entry, {name: value}, ["activation"])


@each_set
@pytest.mark.parametrize("value", [-1, 4, 2**31, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("place", range(3))
def test_targets_that_are_no_class_are_refused(kernels, value, place):
    target = np.array([0, 1, 2])
    target[place] = value
    for weight in (None, array(4)):
        refuse(kernels, "cross_entropy", {"target": target, "weight": weight}, ["target"])


@each_set
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_the_loss_of_nothing_is_refused(kernels, shape):
    empty = np.zeros(shape, np.float32)
    changes = {"logits": empty, "gradient": empty.copy(), "target": np.zeros(shape[0], np.int64)}
    changes["weight"] = np.zeros(shape[1], np.float32)
    refuse(kernels, "cross_entropy", changes, ["logits"])


@each_set
def test_taps_have_the_type_that_can_number_them(kernels):
    shape = (1, 17, 16, 1)
    window = {"size": (17, 16), "padding": ((0, 0), (0, 0))}
    for entry in ("max_pool2d", "max_pool2d_grad"):
        image = {"x": array(*shape)} if entry == "max_pool2d" else {"grad_input": array(*shape)}
        name = "y" if entry == "max_pool2d" else "grad_output"
        changes = {**image, name: array(1, 1, 1, 1), **window}
        refuse(kernels, entry, {**changes, "taps": np.zeros((1, 1, 1, 1), np.uint8)}, ["taps"])
        fitting = {**changes, "taps": np.zeros((1, 1, 1, 1), np.int32)}
        getattr(kernels, entry)(*(calls()[entry] | fitting).values())


@each_set
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_taps_that_are_in_no_window_lead_nowhere(kernels, dtype):
    size = (3, 3) if dtype == np.uint8 else (17, 16)
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    taps = rng.choice(np.array([limits.min, limits.max, 200, 9], dtype), (2, 5, 6, 4))
    padding = tuple((k // 2, (k - 1) // 2) for k in size)
    grad_input = np.zeros((2, 5, 6, 4), np.float32)
    kernels.max_pool2d_grad(array(2, 5, 6, 4), taps, grad_input, size, PAIR, padding, PAIR)
    assert np.all(np.isfinite(grad_input))


@each_set
@entries_with("groups")
@pytest.mark.parametrize("groups", [1, 2])
def test_sizes_whose_product_overflows_are_refused(kernels, entry, groups):
    # All is within range by itself, and the result has one pixel, but the pixels between the taps
    # are 2 ** 62, and their bytes 2 ** 64, which is 0 in 64 bits.
    far = 2**31 - 1
    pixel, weight, row = array(1, 1, 1, groups), array(2, 2, 1, groups), array(groups)
    changes = {
        **dict.fromkeys(("x", "y", "grad_output"), pixel),
        "grad_input": pixel.copy(),
        "weight": weight,
        "grad_weight": weight,
        "bias": row,
        "grad_bias": row,
        "padding": ((far, 0), (far, 0)),
        "dilation": (far, far),
        "groups": groups,
    }
    arguments = {name: changes.get(name, value) for name, value in calls()[entry].items()}
    with pytest.raises(REFUSALS):
        getattr(kernels, entry)(*arguments.values())


@each_set
@pytest.mark.parametrize("value", [None, 1.5, "2", 2**31, -(2**40)])
def test_threads_are_a_number_of_an_int(kernels, value):
    with pytest.raises(TypeError):
        kernels.set_num_threads(value)


@each_set
@pytest.mark.parametrize("value", [1, "pool", [], object()])
def test_what_is_no_allocator_is_refused(kernels, value):
    before = kernels.set_allocator(None)
    try:
        with pytest.raises((TypeError, ValueError)):
            kernels.set_allocator(value)
    finally:
        kernels.set_allocator(before)


# --- anything at all -----------------------------------------------------------------------------

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
