"""Run programs on several ranks, as `mpiexec` starts them."""

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROLOGUE = """
import sys
import numpy as np
import tinygrad_mask as tg
from tinygrad_mask import Tensor, distributed, functions as F, nn, optim
from tinygrad_mask.data import ArrayDataset, DataLoader
from tinygrad_mask.training import Checkpoint, Trainer, Validation
"""


def mpiexec():
    """The launcher of the MPI that mpi4py loads; skip the test if there is none."""
    found = importlib.util.find_spec("mpi4py")
    if found is None:
        pytest.skip("mpi4py is not installed: pip install 'tinygrad_mask[mpi]'")
    beside = Path(found.origin).parents[4] / "bin" / "mpiexec"
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        pytest.skip("there is no mpiexec: pip install mpich")
    return launcher


def environment(**more):
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "MPI_", "HYDRA"))}
    return {**own, "TINYGRAD_MASK_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **more}


def start(ranks, arguments, **variables):
    """Start a command on some ranks; one rank is started without mpiexec."""
    launcher = [mpiexec(), "-n", str(ranks)] if ranks > 1 else []
    return subprocess.Popen(
        [*launcher, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def finish(process, timeout=60):
    out, error = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def program(folder, code, name="program.py"):
    """Write a program whose imports are those of `PROLOGUE`."""
    path = folder / name
    path.write_text(PROLOGUE + textwrap.dedent(code))
    return path


def run(ranks, folder, code, *arguments, check=True, supervised=False, **variables):
    """Run a program on some ranks and return what came of it."""
    how = ["-m", "tinygrad_mask.distributed"] if supervised else []
    command = [sys.executable, *how, program(folder, code), *arguments]
    done = finish(start(ranks, command, **variables))
    if check:
        assert done.returncode == 0, done.stderr
    return done
