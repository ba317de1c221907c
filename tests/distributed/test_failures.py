"""A rank that fails ends all, with one line that names it, and the last checkpoint is good."""

import os
import random
import re
import signal
import sys
import time

import pytest
from ranks import finish, program, start

from tinygrad_mask import serialization

LIMIT = 10  # seconds from the failure to the end of all

# A run that never ends by itself; each rank says its process once the first epoch is saved.
TRAIN = """
import os, time
os.chdir(sys.argv[1])
x = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
model = nn.Linear(4, 1)
class Fail(tg.training.Callback):
    def on_epoch_end(self, trainer, row):
        if trainer.progress.epoch == 2:
            open(f"{trainer.group.rank}.pid", "w").write(str(os.getpid()))
            while not all(os.path.exists(f"{k}.pid") for k in range(trainer.group.size)):
                time.sleep(0.01)
    def on_step_end(self, trainer):
        if trainer.group.rank == 1 and trainer.progress.epoch >= 4:
            FAILURE
def loss(model, x):
    return (model(x) ** 2).mean()
batches = DataLoader(ArrayDataset(x), batch_size=8)
trainer = Trainer(model, optim.SGD(model.parameters(), lr=1e-3), loss, batches, epochs=10**9,
                  callbacks=[Fail(), Checkpoint("run.safetensors")])
trainer.run()
"""


def begin(folder, failure="pass", ranks=2, **variables):
    """Start a run and wait until it has saved."""
    path = program(folder, TRAIN.replace("FAILURE", failure))
    process = start(
        ranks,
        [sys.executable, "-m", "tinygrad_mask.distributed", path, folder],
        **variables,
    )
    pids = [folder / f"{rank}.pid" for rank in range(ranks)]
    end = time.monotonic() + 40
    while not all(path.exists() and path.read_text() for path in pids):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    return process, [int(path.read_text()) for path in pids]


def end(process, folder, began=None, limit=LIMIT):
    """Wait for the end; return our lines and check that nothing is left but a good state."""
    began = time.monotonic() if began is None else began
    done = finish(process)
    assert time.monotonic() - began < limit
    assert done.returncode != 0
    _, texts = serialization.load(folder / "run.safetensors")
    assert "progress" in texts
    lines = [line for line in done.stderr.splitlines() if re.match(r"rank \d+ of \d+ \(", line)]
    return lines, done


def assert_gone(pids):
    def alive(pid):
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    deadline = time.monotonic() + LIMIT
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("seed", range(3))
def test_a_rank_that_is_killed(tmp_path, seed):
    """At a random moment, a random one of three."""
    rng = random.Random(seed)
    process, pids = begin(tmp_path, ranks=3)
    time.sleep(rng.uniform(0, 0.5))
    killed = rng.randrange(3)
    os.kill(pids[killed], signal.SIGKILL)
    lines, _ = end(process, tmp_path)
    assert len(lines) == 1
    assert lines[0].startswith(f"rank {killed} of 3 (")
    assert lines[0].endswith("): killed by SIGKILL; all ranks end")
    assert_gone(pids)


def test_a_rank_that_ends_without_a_word(tmp_path):
    process, pids = begin(tmp_path, "os._exit(7)")
    [line], _ = end(process, tmp_path)
    assert re.fullmatch(r"rank 1 of 2 \(.+\): ended with exit code 7; all ranks end", line)
    assert_gone(pids)


def test_a_rank_that_raises(tmp_path):
    process, pids = begin(tmp_path, 'raise ValueError("this and\\n  that")')
    [line], done = end(process, tmp_path)
    assert re.fullmatch(r"rank 1 of 2 \(.+\): ValueError: this and that", line)
    assert done.stderr.count("Traceback") == 1
    assert_gone(pids)


def test_all_ranks_that_raise_the_same_are_one(tmp_path):
    path = program(tmp_path, 'distributed.init(); raise ValueError("nothing to do")')
    done = finish(start(3, [sys.executable, "-m", "tinygrad_mask.distributed", path]))
    assert done.returncode != 0
    assert done.stderr.count("nothing to do") == 3  # the traceback's two and ours
    assert re.search(r"^rank 0 of 3 \(.+\): ValueError: nothing to do$", done.stderr, re.M)


def test_a_rank_that_diverges(tmp_path):
    process, pids = begin(tmp_path, "model.weight.data[...] = np.inf")
    done = finish(process)
    assert done.returncode != 0
    found = [line for line in done.stderr.splitlines() if "the loss is" in line]
    assert len(found) == 1
    assert re.match(r"rank 1 of 2 \(.+\): the loss is (nan|inf) in epoch \d+, step \d;", found[0])
    assert "Traceback" not in done.stderr
    assert_gone(pids)


def test_a_rank_that_hangs(tmp_path):
    process, pids = begin(tmp_path, "time.sleep(1000)", TINYGRAD_MASK_TIMEOUT="2")
    [line], done = end(process, tmp_path, limit=LIMIT + 2)
    assert re.match(r"rank 0 of 2 \(.+\): rank 1 of 2 \(.+\) hangs: expected .+ within 2 s", line)
    assert "Traceback" not in done.stderr
    assert_gone(pids)


@pytest.mark.parametrize("to", ["launcher", "rank"])
def test_ctrl_c_saves_and_ends_all(tmp_path, to):
    process, pids = begin(tmp_path)
    (tmp_path / "run.safetensors").unlink()  # until it is written again
    os.kill(process.pid if to == "launcher" else pids[1], signal.SIGINT)
    began = time.monotonic()
    lines, done = end(process, tmp_path, began)
    assert done.returncode != 0  # the launcher makes of 130 what it likes
    assert lines == []
    assert done.stderr.count("stopped in epoch ") == 1
    assert "Traceback" not in done.stderr
    assert_gone(pids)
