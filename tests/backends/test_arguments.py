"""Whatever is wrong with an argument, an entry of the compiled kernels says so in one line.

The entries stand between Python and memory: each must refuse what its kernel would read or write
out of bounds. A crash is seen as pytest dying.
"""

import inspect
import re

import numpy as np
import pytest
from entries import (
    ENTRIES_WITH,
    MACHINE,
    REFUSALS,
    array,
    array_arguments,
    calls,
    each_set,
    entries_with,
    first_array,
    is_output,
    needs_kernels,
    replaced,
)

pytestmark = needs_kernels


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


@each_set
@pytest.mark.parametrize("entry", ["interpolate", "interpolate_grad"])
@pytest.mark.parametrize(
    "steps", [(-1.0, 1.0), (1.0, float("nan")), (float("inf"), 1.0), (1e300, 1)]
)
def test_steps_that_lead_nowhere_are_refused(kernels, entry, steps):
    refuse(kernels, entry, {"steps": steps}, [entry, "steps"])


@each_set
@pytest.mark.parametrize("entry", ["group_norm", "group_norm_grad"])
@pytest.mark.parametrize("groups", [0, 3, 5])
def test_statistics_of_groups_that_do_not_divide_the_channels_are_refused(kernels, entry, groups):
    statistics = {"mean": array(2, groups), "inverse_std": array(2, groups)}
    refuse(kernels, entry, statistics, [entry, "groups"])


def longer(a, axis):
    return np.zeros([n + (k == axis % a.ndim) for k, n in enumerate(a.shape)], a.dtype)


@each_set
@pytest.mark.parametrize(("entry", "name"), array_arguments())
def test_another_shape_is_refused(kernels, entry, name):
    changes = [lambda a: longer(a, -1), lambda a: a[..., None], lambda a: a.ravel()[:-1]]
    changes += [lambda a: np.zeros((), a.dtype)]
    if (entry, name) != ("batch_norm_statistics", "x"):  # which takes any number of rows
        axes = range(first_array(calls()[entry][name]).ndim)
        if entry in ("interpolate", "interpolate_grad"):  # from images of any size to any size
            axes = (0, 3)
        if (entry, name) == ("sum_axis", "x"):  # over an axis of any length
            axes = (0, 2)
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
    ("group_norm", "weight"),
    ("group_norm", "bias"),
    ("group_norm_grad", "weight"),
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
    kernels.max_pool2d_grad(array(2, 5, 6, 4), taps, grad_input, size, (1, 1), padding, (1, 1))
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
