"""The report on the CUDA kernels, and its command."""

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from devices import needs_emulator, needs_nvdisasm

from tinygrad_mask import cli
from tinygrad_mask.backends import Window
from tinygrad_mask.backends.gpu.backend import GpuBackend
from tinygrad_mask.backends.launcher import kernel_folder
from tinygrad_mask.backends.report import commands, machine, network
from tinygrad_mask.backends.report.counting import count, count_all, tile_of
from tinygrad_mask.backends.report.gpus import GPUS, Gpu
from tinygrad_mask.backends.report.launchers import Instance, RecordingLauncher
from tinygrad_mask.backends.report.machine import ARCHITECTURES, compile_all
from tinygrad_mask.backends.report.network import Operation, Product
from tinygrad_mask.backends.report.survey import launched, survey
from tinygrad_mask.emulator import EmulatorError, nvrtc, sass
from tinygrad_mask.emulator.occupancy import LIMITS

ROOT = Path(__file__).parents[3]
OPERATIONS = {o.name: o for o in (*network.reference_network(), *network.other_primitives())}

# --- which kernels there are ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def instances():
    return survey("sm_90")


def test_the_survey_meets_every_kernel(instances):
    defined = set()
    for path in kernel_folder().glob("*.cu"):
        source = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        for match in re.finditer(
            r"__global__\s+void\s+(?:__launch_bounds__\([^{;]*?\)\s*)?(\w+)\(", source
        ):
            defined.add((path.name, match[1]))
    assert len(defined) > 20
    assert defined == {(i.file, i.function) for i in instances}


def test_the_survey_has_both_types_and_can_leave_one_out(instances):
    assert survey("sm_90", double=False) == [i for i in instances if not i.is_double]
    assert {i.function for i in instances if i.is_double} > {"max_pool2d", "matmul", "conv2d"}


def test_no_problem_leads_to_a_kernel_that_the_survey_missed(instances):
    launcher = RecordingLauncher("sm_90")
    backend = GpuBackend("emulator", launcher)
    rng = random.Random(0)
    channels, sizes = (1, 2, 3, 4, 5, 8, 16, 20, 64, 100, 256), (1, 3, 4, 8, 64, 100, 1000, 4096)
    for _ in range(400):
        dtype = rng.choice((np.float32, np.float32, np.float64))
        groups = rng.choice((1, 1, 1, 3, 8))
        c, o = (groups * rng.choice(channels) for _ in "co")
        n, side, kernel, stride = (rng.choice(a) for a in ((1, 32), (5, 16, 64), (1, 2, 5), (1, 2)))
        window = Window((kernel, kernel), (stride, stride))
        x = np.empty((n, side, side, c), dtype)
        y = np.empty((n, *window.output_size(side, side), o), dtype)
        weight = np.empty((kernel, kernel, c // groups, o), dtype)
        gate = rng.choice((("none", None), ("tanh", y)))
        backend.conv2d(x, weight, None, window, groups, "none")
        backend.conv2d_grad_input(y, weight, x.shape, window, groups, *gate)
        backend.conv2d_grad_weight(y, x, weight.shape, window, groups, *gate)
        m, k, n = (rng.choice(sizes) for _ in "mkn")
        backend.matmul(np.empty((2, m, k), dtype), np.empty((2, k, n), dtype))
        left, right, y = (np.empty(shape, dtype) for shape in ((m, k), (k, n), (m, n)))
        gate = rng.choice((("none", None), ("tanh", y)))
        backend.linear_grad(y, left, right, *gate, (True, True, True))
    known = {(i.file, i.kernel) for i in instances}
    assert {(i.file, i.kernel) for i in launcher.instances} <= known


def test_every_operation_launches_what_the_survey_knows(instances):
    known = {(i.file, i.kernel) for i in instances}
    for operation in OPERATIONS.values():
        found = launched(operation, "sm_90")
        assert found
        assert {(i.file, i.kernel) for i in found} <= known


def test_every_kernel_with_a_tile_has_a_known_one(instances):
    tiled = [i.kernel for i in instances if re.search("Tile|Strip", i.kernel)]
    assert tiled
    assert all(tile_of(kernel) for kernel in tiled)
    assert tile_of("max_pool2d<float, int, 4>") is None


def test_recording_launches_nothing():
    launcher = RecordingLauncher("sm_75")
    assert launcher.capability == (7, 5)
    launcher.launch("no_such_file.cu", "none<float>", (2, 1, 1), (8, 4, 1), [], shared_bytes=16)
    assert launcher.instances == {Instance("no_such_file.cu", "none<float>", 32, 16)}


# --- the least there is to do --------------------------------------------------------------------


def test_what_tiles_have_to_read():
    # 100 rows and 10 columns in tiles of 64 x 4: 2 tiles down and 3 across.
    product = Product(100, 10, left_bytes=1000, right_bytes=200)
    assert product.tiles_minimum(64, 4) == 3 * 1000 + 2 * 200
    assert product.tiles_minimum(128, 16) == 1200


def test_convolution_as_a_product():
    operation = OPERATIONS["conv2 forward"]
    pairs = 0  # of a pixel of a 32 x 32 image and a tap that meets one
    for p in range(32):
        for tap in range(-1, 2):
            pairs += 0 <= p + tap < 32
    assert operation.product == Product(32 * 32 * 32, 64, 32 * pairs**2 * 32 * 4, 9 * 32 * 64 * 4)
    assert operation.flops == 2 * 32 * 32 * 32 * 9 * 32 * 64


def test_operations_of_a_step():
    step = [o for o in OPERATIONS.values() if o.in_step]
    assert sum(o.direction == "forward" for o in step) == 8
    assert "conv1 grad_input" not in {o.name for o in step}
    parameters = sum(
        math.prod(s) for n, s in OPERATIONS["sgd update"].shapes.items() if n[:1] == "p"
    )
    assert parameters == (27 + 1) * 32 + (288 + 1) * 64 + (576 + 1) * 128 + 8193 * 128 + 129 * 3


def test_roofline():
    gpu = Gpu("made up", "sm_90", bandwidth=100.0, flops=1000.0, source="")
    assert gpu.seconds(flops=5000, moved=100) == 5
    assert gpu.seconds(flops=500, moved=200) == 2
    assert {gpu.arch for gpu in GPUS} >= {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_120"}
    for gpu in GPUS:  # so many multiplications and additions on float32 for each byte
        assert 4 < gpu.flops / gpu.bandwidth < 110
        assert gpu.source


def test_the_document_has_the_same_figures():
    text = (ROOT / "docs" / "cuda_report.md").read_text()
    for gpu in GPUS:
        figures = f"{gpu.bandwidth / 1e9:g} | {gpu.flops / 1e12:g}"
        assert f"| {gpu.name} | {gpu.arch} | {figures} | {gpu.source} |" in text


# --- counting ------------------------------------------------------------------------------------


@needs_emulator
@pytest.mark.parametrize("name", ["pool3 forward", "pool3 grad_input", "sigmoid grad_input"])
def test_the_blocks_of_some_images_stand_for_all(name):
    whole, part = (count(OPERATIONS[name], "sm_90", share) for share in (1.0, 2 / 32))
    assert part.launches[0].counted == 2 / 32
    assert whole.launches[0].counted == 1
    assert part.moved_bytes == whole.moved_bytes
    assert part.fewest_bytes == whole.fewest_bytes
    assert part.arithmetic == pytest.approx(whole.arithmetic, rel=0.01)


@needs_emulator
def test_pooling_moves_each_byte_once():
    counted = count(OPERATIONS["pool3 forward"], "sm_90", 1 / 32)
    pixels, channels = 32 * 8 * 8, 128
    assert counted.fewest_bytes == pixels * channels * (4 * 4 + 4 + 1)  # x, the maximum, its tap
    assert counted.moved_bytes == counted.fewest_bytes
    assert counted.sector_efficiency == counted.bank_conflicts == 1.0
    assert counted.tiles_minimum is None
    assert counted.seconds(GPUS[0], fewest=True) == counted.fewest_bytes / GPUS[0].bandwidth


@needs_emulator
def test_updates_are_counted_whole():
    counted = count(OPERATIONS["adam update"], "sm_90", 1 / 32)
    (launch,) = counted.launches
    assert launch.counted == 1
    parameters = (9 * 64 + 1) * 64
    assert counted.fewest_bytes == (4 + 3) * 4 * parameters
    assert counted.moved_bytes == pytest.approx(counted.fewest_bytes, rel=0.05)


@needs_emulator
def test_a_convolution_does_no_less_than_it_must():
    counted = count(OPERATIONS["conv3 forward"], "sm_90", 1 / 32)
    assert counted.flops <= counted.arithmetic < 1.2 * counted.flops
    assert counted.fewest_bytes < counted.tiles_minimum
    # Padding is not read; tiles may find no fewer sectors than bytes.
    assert counted.tiles_minimum <= counted.moved_bytes
    data = json.loads(json.dumps(counted.to_json()))
    assert data["seconds"]["H100"] == pytest.approx(counted.flops / 67e12)
    assert data["seconds_without_caches"]["H100"] >= data["seconds"]["H100"]
    assert data["launches"][0]["kernel"].startswith("conv2d<")


@needs_emulator
def test_results_between_launches_count_as_traffic():
    splits = Operation(
        "dense",
        "forward",
        {"x": (4, 4096), "weight": (4096, 4), "bias": (4,)},
        lambda backend, a: backend.linear(a["x"], a["weight"], a["bias"], "relu"),
        product=Product(4, 4, 4 * 4 * 4096, 4 * 4 * 4096),
        per_image=False,
    )
    (counted,) = count_all([splits], "sm_90", 1.0)
    product, total = counted.launches
    assert total.instance.function == "sum_splits"
    assert counted.fewest_bytes == 2 * 4 * 4 * 4096 + 4 * 4 + 4 * 4 * 4
    parts = product.fresh_bytes
    assert parts > 4 * 4 * 4
    assert counted.tiles_minimum == 2 * 4 * 4 * 4096 + parts + parts + 4 * 4 + 4 * 4 * 4


# --- machine code --------------------------------------------------------------------------------


@needs_emulator
@needs_nvdisasm
def test_compiled_instances_in_their_order():
    wanted = [
        (Instance("splits.cu", "sum_splits<float>", 256, 0), "sm_90"),
        (Instance("splits.cu", "sum_splits<double>", 256, 1000), "sm_75"),
        (Instance("splits.cu", "sum_splits<float>", 256, 0), "sm_75"),
    ]
    compiled = compile_all(wanted)
    assert [(c.instance, c.arch) for c in compiled] == wanted
    for c in compiled:
        assert 8 <= c.registers <= 64
        assert c.spill_bytes == c.stack_bytes == 0
        assert c.hot_loop is not None
        data = json.loads(json.dumps(c.to_json()))
        assert data["kernel"] == c.instance.kernel
        assert data["occupancy"]["blocks"] == c.occupancy.blocks > 0
        assert data["hot_loop_fma_share"] == c.hot_loop.fma_share


def test_every_architecture_has_limits():
    assert {int(arch.removeprefix("sm_")) for arch in ARCHITECTURES} <= set(LIMITS)
    assert compile_all([]) == []


# --- the command ---------------------------------------------------------------------------------


@needs_emulator
@needs_nvdisasm
def test_the_report_on_one_kernel(capsys):
    arguments = ["--arch", "sm_80,sm_75", "--kernel", "^max_pool2d<float, unsigned char, 4>"]
    assert cli.main(["kernels", "report", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err.startswith(
        "2 instances of kernels to compile, for 2 architectures, and 4 operations"
    )
    assert re.search(r"report: 100%.* 6/6 ", err)
    assert max(map(len, out.splitlines())) <= 100
    tables = out.strip().split("\n\n")
    assert [table.split()[0] for table in tables] == [
        "sm_80:",
        "sm_75:",
        "Operations",
        "Microseconds",
    ]
    assert re.search(
        r"max_pool2d<float, unsigned char, 4>\n +256 +\d+ +0 +0 +0 +\d+ +\d+% .*", tables[0]
    )
    assert re.search(r"pool1 forward .* 22\.02 +22\.02 +1\.00 +- +100\.0% +1\.00 +max_pool2d", out)
    assert all(gpu.name in tables[3] for gpu in GPUS)
    assert cli.main(["kernels", "report", *arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["counted_arch"] == "sm_80"
    assert [k["arch"] for k in data["kernels"]] == ["sm_80", "sm_75"]
    assert {o["layer"] for o in data["operations"]} == {"pool1", "pool2", "pool3", "max_pool 3x3"}
    assert {gpu["name"] for gpu in data["gpus"]} == {gpu.name for gpu in GPUS}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "sm_90,sm_70"], "'sm_70' is none of sm_75, sm_80"),
        (["--kernel", "["], "'[' is no regular expression"),
        (["--images", "33"], "--images"),
    ],
)
def test_what_it_cannot_be_told(capsys, arguments, message):
    with pytest.raises(SystemExit) as left:
        cli.main(["kernels", "report", *arguments])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_a_pattern_that_matches_nothing_is_told(capsys):
    with pytest.raises(SystemExit, match="error: no kernel matches 'no_such'"):
        cli.main(["kernels", "report", "--arch", "sm_90", "--kernel", "no_such"])


@needs_emulator
@needs_nvdisasm
def test_rows_come_as_they_are_known_in_100_columns(capsys, monkeypatch):
    """Of all kernels, though each of them is compiled for nothing here."""
    one = compile_all([(Instance("splits.cu", "sum_splits<float>", 256, 0), "sm_90")])[0]
    seen = []

    def compile_each(wanted):
        for instance, arch in wanted:
            seen.append(capsys.readouterr().out)
            yield [replace(one, instance=instance, arch=arch, static_shared_bytes=65536)]

    monkeypatch.setattr(commands, "compile_each", compile_each)
    monkeypatch.setattr(commands, "count_each", lambda *arguments: iter(()))
    assert cli.main(["kernels", "report", "--arch", "sm_90"]) == 0
    seen.append(capsys.readouterr().out)
    assert all(text.count("65536") == 1 for text in seen[1:])
    assert max(len(line) for text in seen for line in text.splitlines()) <= 100


@pytest.mark.parametrize("missing", ["nvrtc", "nvdisasm"])
def test_a_missing_tool_is_one_line(monkeypatch, capsys, missing):
    def none():
        raise EmulatorError(f"{missing} was not found")

    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0})  # in this process
    monkeypatch.setattr(sass, "disassembler", lambda: Path(__file__))
    module, name = (nvrtc, "identity") if missing == "nvrtc" else (sass, "disassembler")
    monkeypatch.setattr(module, name, none)
    arguments = ["--arch", "sm_90", "--kernel", "^scatter_add<float>"]
    assert cli.main(["kernels", "report", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: {missing} was not found\n"
    assert captured.out == ""


def test_the_bare_command_goes_on_to_work(capsys):
    assert cli.main(["kernels"]) == 0
    assert capsys.readouterr().out.startswith("cpu: ")
    assert cli.main(["kernels", "--json"]) == 0
    assert "in_use" in json.loads(capsys.readouterr().out)


@needs_emulator
def test_check_is_there_and_shows_all_that_the_compiler_says(tmp_path, capsys):
    (tmp_path / "wrong.cu").write_text('extern "C" __global__ void f() { int x = y;\n z(); }\n')
    (tmp_path / "wrong.py").write_text(
        "from tinygrad_mask.emulator.check import Launch\n"
        "def launches(rng):\n    yield Launch('f', 1, 1, [])\n"
    )
    with pytest.raises(SystemExit) as left:
        cli.main(["kernels", "check", str(tmp_path / "wrong.cu")])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "wrong.cu(1): error" in error
    assert "wrong.cu(2): error" in error
    with pytest.raises(SystemExit) as left:
        cli.main(["kernels", "check", str(tmp_path / "none.cu")])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_columns_are_aligned():
    assert commands.aligned([["a", "1"], ["bc", "23"]], left=(0,)) == ["a    1", "bc  23"]
