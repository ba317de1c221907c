"""How many threads a kernel uses, and that nothing but the last bits of a result depends on it."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tinygrad_mask
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn
from tinygrad_mask.backends import get_num_threads, set_num_threads
from tinygrad_mask.backends.cpu import CpuBackend
from tinygrad_mask.backends.cpu_kernels import available_instruction_sets

BACKENDS = {name: CpuBackend(name) for name in available_instruction_sets()}
ROOT = Path(tinygrad_mask.__file__).parents[1]
ENOUGH = 30  # seconds for what takes one, on a machine that has other things to do

each_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())
needs_kernels = pytest.mark.skipif(not BACKENDS, reason="no kernels were compiled here")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def network_outcome(backend):
    """Loss, output and gradients of a small network, as bytes can be compared.

    Its convolutions are of all kinds: few channels, enough for Winograd's algorithm, grouped,
    depthwise, of stride 2, of one tap.
    """
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, rng=rng),
        nn.ReLU(),
        nn.BatchNorm(32),  # the bias before it would have a gradient of nothing but rounding errors
        nn.Conv2d(32, 48, 3, padding=1, rng=rng),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(48, 48, 3, padding=1, groups=48, rng=rng),
        nn.Conv2d(48, 32, 1, rng=rng),
        nn.Sigmoid(),
        nn.Conv2d(32, 16, 3, stride=2, padding=1, groups=2, rng=rng),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 6 * 5, 3, rng=rng),
    ).to(backend)
    x = Tensor(rng.standard_normal((4, 48, 40, 3)).astype(np.float32), device=backend)
    x.requires_grad = True
    logits = model(x)
    loss = F.cross_entropy(logits, np.array([0, 1, 2, 1]))
    loss.backward()
    return [
        loss.numpy(),
        logits.numpy(),
        x.grad.numpy(),
        *(p.grad.numpy() for p in model.parameters()),
    ]


def same_bits(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


# --- how many ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True, 10**6, 2**31, 2**64])
def test_a_number_of_threads_is_a_positive_integer(value):
    before = get_num_threads()
    with pytest.raises(ValueError, match="set_num_threads: expected") as caught:
        set_num_threads(value)
    assert "\n" not in str(caught.value)
    assert get_num_threads() == before


def test_the_number_of_threads_is_what_was_set():
    set_num_threads(3)
    assert get_num_threads() == 3


def python(code, *, check=True, **variables):
    """Run code in a process of its own, with these variables of the environment and no others."""
    environment = {k: v for k, v in os.environ.items() if "NUM_THREADS" not in k}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=check,
    )


SAY = "import tinygrad_mask.backends as b; b.get_backend('cpu'); print(b.get_num_threads())"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TINYGRAD_MASK_NUM_THREADS": "3"}, 3),
        ({"TINYGRAD_MASK_NUM_THREADS": "1", "OMP_NUM_THREADS": "4"}, 1),
        ({"OMP_NUM_THREADS": "4"}, 4),
        ({"OMP_NUM_THREADS": "2,8"}, 2),
    ],
)
def test_variables_say_how_many_threads(variables, expected):
    assert python(SAY, **variables).stdout.split() == [str(expected)]


@pytest.mark.parametrize("value", ["0", "-1", "two", "", "1.5", "1000000", "9" * 30])
def test_a_wrong_number_in_the_variable_is_an_error_that_names_it(value):
    run = python(SAY, check=False, TINYGRAD_MASK_NUM_THREADS=value)
    assert run.returncode != 0
    assert "TINYGRAD_MASK_NUM_THREADS: expected" in run.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("value", ["", "0", "many"])
def test_a_wrong_number_that_others_set_is_passed_over(value):
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert python(SAY, OMP_NUM_THREADS=value).stdout.split() == [str(expected)]


@pytest.mark.parametrize("value", ["1000000", "9" * 30])
def test_more_threads_than_any_machine_has_are_not_started(value):
    [count] = python(SAY, OMP_NUM_THREADS=value).stdout.split()
    assert 1 <= int(count) <= 10_000


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_only_processors_that_the_process_may_run_on_count():
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    assert python(one + SAY).stdout.split() == ["1"]


@needs_kernels
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc on this system")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_kernels_start_as_many_threads_as_they_are_told_and_no_more(count):
    code = (
        "import os, numpy as np\n"
        "from tinygrad_mask.backends import get_backend\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "get_backend('cpu').sigmoid(np.ones(1 << 20, np.float32))\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    run = python(code, TINYGRAD_MASK_NUM_THREADS=str(count))
    assert run.stdout.split() == [str(count - 1)]


# --- what does not depend on it ------------------------------------------------------------------


@each_backend
def test_results_with_one_two_and_three_threads_agree(backend):
    set_num_threads(1)
    expected = network_outcome(backend)
    for count in (2, 3):
        set_num_threads(count)
        for result, reference in zip(network_outcome(backend), expected, strict=True):
            scale = np.abs(reference).max()
            np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-4 * scale)


@each_backend
@pytest.mark.parametrize("count", [1, 2, 3])
def test_two_runs_are_the_same_to_the_bit(backend, count):
    set_num_threads(count)
    first = network_outcome(backend)
    for _ in range(3):
        assert same_bits(first, network_outcome(backend))


@each_backend
def test_a_number_set_from_another_python_thread_counts_for_all(backend):
    set_num_threads(2)
    expected = network_outcome(backend)
    set_num_threads(1)
    other = threading.Thread(target=set_num_threads, args=[2])
    other.start()
    other.join()
    assert get_num_threads() == 2
    assert same_bits(network_outcome(backend), expected)


@each_backend
def test_python_threads_may_all_compute_at_once(backend):
    set_num_threads(2)
    expected = network_outcome(backend)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(network_outcome, [backend] * 8))
    assert all(same_bits(outcome, expected) for outcome in outcomes)


@each_backend
def test_a_refused_call_leaves_the_next_as_it_was(backend):
    set_num_threads(2)
    expected = network_outcome(backend)
    for _ in range(3):
        with pytest.raises(ValueError, match="stride"):
            backend.kernels.avg_pool2d(
                *[np.ones((1, 4, 4, 8), np.float32)] * 2,
                *((1, 1), (0, 1), ((0, 0), (0, 0)), (1, 1), True),
            )
        # Too much memory, which is only found out while computing.
        with pytest.raises(MemoryError), backend.computing():
            np.empty(1 << 60, np.uint8)
    assert same_bits(network_outcome(backend), expected)


# --- forked processes ----------------------------------------------------------------------------


def in_child(work):
    """Fork; the exit status of a child that does the work, or None if it never ends."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    for _ in range(ENOUGH * 20):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that is what is tested here
@each_backend
def test_kernels_work_in_a_forked_child_as_in_its_parent(backend):
    set_num_threads(2)
    expected = network_outcome(backend)

    def again():
        return all(same_bits(network_outcome(backend), expected) for _ in range(2))

    def in_a_thread_of_the_child():
        with ThreadPoolExecutor(2) as pool:
            return all(pool.map(lambda _: again(), range(2)))

    assert in_child(again) == 0
    assert in_child(in_a_thread_of_the_child) == 0
    assert in_child(lambda: in_child(again) == 0) == 0
    assert again()


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@each_backend
def test_a_fork_while_other_threads_compute_does_not_hang_the_child(backend):
    set_num_threads(2)
    expected = network_outcome(backend)
    stop = threading.Event()

    def keep_computing():
        while not stop.is_set():
            network_outcome(backend)

    others = [threading.Thread(target=keep_computing) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for _ in range(10):
            status = in_child(lambda: same_bits(network_outcome(backend), expected))
            assert status == 0
    finally:
        stop.set()
        for other in others:
            other.join()
