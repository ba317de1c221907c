"""The gate against worse CUDA kernels, benchmarks/cuda_gate.py."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest
from devices import needs_emulator, needs_nvdisasm

from tinygrad_mask.backends.report import network
from tinygrad_mask.backends.report.launchers import Instance, RecordingLauncher
from tinygrad_mask.backends.report.machine import CompiledInstance
from tinygrad_mask.backends.report.survey import launched, survey
from tinygrad_mask.emulator import EmulatorError, sass
from tinygrad_mask.emulator.occupancy import Occupancy

ROOT = Path(__file__).parents[3]
OPERATIONS = {o.name: o for o in (*network.reference_network(), *network.other_primitives())}


@pytest.fixture(scope="module")
def gate():
    path = ROOT / "benchmarks" / "cuda_gate.py"
    spec = importlib.util.spec_from_file_location("cuda_gate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def convolution(**changes):
    """A convolution's machine code that passes, but for changes."""
    kernel = next(i for i in survey("sm_90") if i.kernel.startswith("conv2d<Tile<float"))
    mix = sass._mix(
        [sass.MachineInstruction("FFMA", "")] * 8 + [sass.MachineInstruction("IADD3", "")] * 2
    )
    compiled = CompiledInstance(
        kernel, "sm_90", 128, 0, 0, 0, mix, mix, Occupancy(2, 0.25, ("registers",))
    )
    return dataclasses.replace(compiled, **changes)


def test_the_gate_sees_what_is_wrong_with_machine_code(gate):
    good = convolution()
    assert list(gate.machine_misses(good)) == []

    def miss(**changes):
        (line,) = gate.machine_misses(convolution(**changes))
        return line

    assert miss(spill_bytes=4) == "0 bytes of local memory, 4 bytes spilled"
    assert miss(stack_bytes=8) == "8 bytes of local memory, 0 bytes spilled"
    assert "local memory" in miss(mix=dataclasses.replace(good.mix, local=1))
    slow = dataclasses.replace(good.hot_loop, ffma=6)
    assert miss(hot_loop=slow) == "60.0% FFMA in the hot loop, at least 70%"
    assert miss(hot_loop=None) == "0.0% FFMA in the hot loop, at least 70%"
    few = Occupancy(1, 0.1, ("registers", "threads"))
    assert miss(occupancy=few).startswith("1 blocks a multiprocessor for want of registers and")
    # What is no convolution by tiles may have few of them.
    other = dataclasses.replace(good.instance, kernel="scatter_add<float>")
    assert list(gate.machine_misses(convolution(instance=other, hot_loop=None))) == []


class Counted:
    """A launch, or an operation, with traffic as the test wants it."""

    def __init__(self, file="pool2d.cu", global_=(8, 8), shared=(8, 8), moved=0, minimum=None):
        self.instance = Instance(file, "kernel<float>", 32, 0)
        self.operation = OPERATIONS["conv2 forward"]
        self.moved_bytes, self.tiles_minimum = moved, minimum
        self._traffic = {"global": global_, "shared": shared}

    def traffic(self, space):
        return self._traffic[space]


def test_the_gate_sees_what_is_wrong_with_traffic(gate):
    assert list(gate.launch_misses(Counted())) == []
    assert list(gate.launch_misses(Counted(shared=(109, 100)))) == []
    assert list(gate.launch_misses(Counted(shared=(111, 100)))) == [
        "bank-conflict ratio 1.11, at most 1.1"
    ]
    assert list(gate.launch_misses(Counted(global_=(10, 9)))) == [
        "90.0% of the sectors' bytes used, all of them wanted"
    ]
    assert list(gate.launch_misses(Counted("conv2d.cu", global_=(10, 9)))) == []
    assert list(gate.traffic_misses(Counted(moved=149, minimum=100))) == []
    assert list(gate.traffic_misses(Counted(moved=200, minimum=None))) == []
    assert list(gate.traffic_misses(Counted(moved=151, minimum=100))) == [
        "1.51 times its tiles' minimum of traffic, at most 1.5"
    ]


@needs_emulator
@pytest.mark.parametrize("name", ["conv2 forward", "pool2 forward", "sgd update"])
def test_what_the_gate_counts_is_the_same_for_all_its_architectures(gate, name):
    found = set()
    for arch in gate.ARCHITECTURES:
        (instance,) = launched(OPERATIONS[name], arch)
        ptx = RecordingLauncher(arch).function(instance.file, instance.kernel).program.ptx
        code = ptx.partition("\t.section")[0]  # what follows is for debuggers
        found.add((instance, re.sub(r"\.(target|loc|file)\b.*", "", code)))
    assert len(found) == 1
    assert gate.COUNTED_ARCHITECTURE in gate.ARCHITECTURES


def test_the_gate_counts_what_it_finds(gate, monkeypatch, capsys):
    monkeypatch.setattr(gate, "misses", lambda: iter(["one", "two"]))
    assert gate.main() == 1
    assert re.fullmatch(r"one\ntwo\ncuda_gate: 2 misses, \d+ s\n", capsys.readouterr().out)
    monkeypatch.setattr(gate, "misses", lambda: iter([]))
    assert gate.main() == 0
    assert re.fullmatch(r"cuda_gate: no misses, \d+ s\n", capsys.readouterr().out)

    def missing():
        raise EmulatorError("NVRTC was not found")
        yield

    monkeypatch.setattr(gate, "misses", missing)
    assert gate.main() == 1
    assert capsys.readouterr().err == "cuda_gate: NVRTC was not found\n"


@needs_emulator
@needs_nvdisasm
def test_the_gate_judges_kernels_and_operations(gate, monkeypatch):
    only = [i for i in survey("sm_90") if i.kernel.startswith("max_pool2d<float, unsigned")]
    monkeypatch.setattr(gate, "ARCHITECTURES", ("sm_90",))
    monkeypatch.setattr(gate, "survey", lambda arch, double: only)
    monkeypatch.setattr(gate, "reference_network", lambda: [OPERATIONS["pool3 forward"]])
    monkeypatch.setattr(gate, "other_primitives", list)
    assert list(gate.misses()) == []
    monkeypatch.setattr(gate, "machine_misses", lambda compiled: ["bad code"])
    monkeypatch.setattr(gate, "launch_misses", lambda launch: ["bad accesses"])
    monkeypatch.setattr(gate, "traffic_misses", lambda counted: ["too much traffic"])
    lines = list(gate.misses())
    assert lines[: len(only)] == [f"sm_90 {i.kernel}: bad code" for i in only]
    assert re.fullmatch(r"pool3 forward, max_pool2d<.*>: bad accesses", lines[len(only)])
    assert lines[len(only) + 1 :] == ["pool3 forward: too much traffic"]
