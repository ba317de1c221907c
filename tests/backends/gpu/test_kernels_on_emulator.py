"""Every kernel of the interface: in any order of its threads, for older and newer GPUs, checked."""

import numpy as np
import pytest
from devices import needs_emulator
from kernel_calls import CALLS, WINDOW, call

from tinygrad_mask.backends import Backend, Window, emulator_backend
from tinygrad_mask.backends.emulator import EmulatorLauncher
from tinygrad_mask.backends.gpu.backend import GpuBackend
from tinygrad_mask.backends.reference import ReferenceBackend

pytestmark = needs_emulator

# Those that are about arrays, and sums, which CuPy's own kernels do well in double precision.
NO_KERNELS = {"asarray", "bernoulli", "capture", "computing", "sum", "to_host"}

each_kernel = pytest.mark.parametrize("method", sorted(CALLS))
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def test_every_kernel_of_the_interface_is_called_here():
    assert set(CALLS) == set(Backend.__abstractmethods__) - NO_KERNELS


def test_no_kernel_of_the_interface_is_left_to_the_array_module():
    assert set(CALLS) <= set(vars(GpuBackend))


@each_kernel
@each_dtype
def test_an_older_gpu_gets_the_same_from_checked_kernels(method, dtype):
    expected = call(ReferenceBackend(), method, np.float64)
    results = call(emulator_backend("check", "sm_75"), method, dtype)
    for result, reference in zip(results, expected, strict=True):
        tolerance = 2e3 * np.finfo(dtype).eps
        np.testing.assert_allclose(result, reference, rtol=tolerance, atol=tolerance)


@each_kernel
def test_the_order_of_blocks_and_threads_changes_no_bit(method):
    forward = call(emulator_backend("fast"), method, np.float32)
    for order, seed in [("reverse", 0), ("random", 0), ("random", 1)]:
        other = call(emulator_backend("fast", order=order, seed=seed), method, np.float32)
        for a, b in zip(forward, other, strict=True):
            assert a.tobytes() == b.tobytes(), (order, seed)


class DebugLauncher(EmulatorLauncher):
    """Launches kernels compiled with -G: the checker sees what is otherwise optimised away."""

    options = (*EmulatorLauncher.options, "-G")


@each_kernel
def test_nothing_is_found_in_kernels_with_debug_information(method):
    backend = GpuBackend("emulator", DebugLauncher("check", "sm_90", "reverse", 0))
    expected = call(ReferenceBackend(), method, np.float64)
    for result, reference in zip(call(backend, method, np.float32), expected, strict=True):
        tolerance = 2e3 * np.finfo(np.float32).eps
        np.testing.assert_allclose(result, reference, rtol=tolerance, atol=tolerance)


# --- arrays of other shapes, which a kernel would read beyond -------------------------------------


# Of these the last axis, which grows here, is free.
FREE = {("matmul", 1), ("linear_grad", 1)}


def array_arguments():
    """The arrays of each kernel whose last axis others must have too, by kernel and position."""
    for method, build in CALLS.items():
        arguments, _ = build(np.random.default_rng(0), np.float32)
        arrays = [k for k, a in enumerate(arguments) if isinstance(a, np.ndarray)]
        if len(arrays) > 1:
            yield from ((method, k) for k in arrays if (method, k) not in FREE)


@pytest.mark.parametrize(("method", "position"), list(array_arguments()))
def test_an_array_of_another_shape_is_refused(method, position):
    arguments, options = CALLS[method](np.random.default_rng(0), np.float32)
    given = arguments[position]
    arguments[position] = np.concatenate([given, given[..., :1]], axis=-1)
    with pytest.raises(ValueError, match=r"expected (shape|arrays of one shape)|go together"):
        getattr(emulator_backend(), method)(*arguments, **options)


# --- arrays that do not begin where a pack does ---------------------------------------------------


def within_a_pack(array):
    """The same, one element beyond where 128 bits are aligned."""
    memory = np.empty(array.size + 8, array.dtype)
    begin = -memory.__array_interface__["data"][0] % 16 // array.itemsize + 1
    view = memory[begin : begin + array.size].reshape(array.shape)
    view[...] = array
    return view


def compare(method, *arguments, **options):
    backend = emulator_backend("check")
    results = getattr(backend, method)(
        *(within_a_pack(a) if isinstance(a, np.ndarray) else a for a in arguments), **options
    )
    expected = getattr(ReferenceBackend(), method)(*arguments, **options)
    results, expected = (r if isinstance(r, tuple) else (r,) for r in (results, expected))
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-5)


def test_views_that_begin_within_a_pack():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 6, 8)).astype(np.float32)
    compare("tanh", x)
    compare("silu_grad", x, x)
    compare("max_pool2d", x, WINDOW)
    compare("avg_pool2d", x, WINDOW, True)
    compare("batch_norm", x, *rng.standard_normal((4, 8)).astype(np.float32))


@pytest.mark.parametrize("which", range(4))
def test_a_parameter_of_which_one_array_begins_within_a_pack(which):
    rng = np.random.default_rng(0)
    lists = [[rng.uniform(1, 2, 4099).astype(np.float32)] for _ in range(4)]
    expected = [[array.copy() for array in arrays] for arrays in lists]
    lists[which] = [within_a_pack(*lists[which])]
    options = {"steps": [1], "lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}
    options |= {"weight_decay": 0.1, "decoupled": True}
    emulator_backend("check").adam_update(*lists, **options)
    ReferenceBackend().adam_update(*expected, **options)
    np.testing.assert_allclose(lists, expected, rtol=1e-5)


# --- windows whose steps lead far beyond the image ------------------------------------------------


@pytest.mark.parametrize("step", [2**31 - 1, 2**31])
@pytest.mark.parametrize("what", ["stride", "dilation"])
def test_pooling_takes_steps_far_beyond_the_image(what, step):
    sizes = {"stride": (2, 2), "dilation": (1, 1)}  # of one window, or of one tap
    window = Window(sizes[what], **{what: (step, step)})
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 5, 6, 4)).astype(np.float32)
    grad_output = rng.standard_normal((1, *window.output_size(5, 6), 4)).astype(np.float32)
    _, taps = ReferenceBackend().max_pool2d(x, window)
    compare("max_pool2d", x, window)
    compare("max_pool2d_grad", grad_output, taps, x.shape, window)
    compare("avg_pool2d", x, window, True)
    compare("avg_pool2d_grad", grad_output, x.shape, window, True)
