"""Standard headers, CUDA's headers, and headers that include others; printf."""

from io import StringIO

import numpy as np
import pytest

from tinygrad_mask.emulator import CompileError, KernelError, Program, headers, nvrtc

pytestmark = pytest.mark.usefixtures("tools")

needs_cuda_headers = pytest.mark.skipif(
    not headers.include_folders(), reason="the wheels with CUDA's headers are not installed"
)
SIZES = """
#include <stdint.h>
#include <cstdint>
#include <stddef.h>
#include <limits.h>
#include <cfloat>
#include <cmath>
extern "C" __global__ void sizes(uint64_t* out, const double* x, float* y) {
    out[0] = sizeof(int8_t) + 10 * sizeof(std::uint16_t) + 100 * sizeof(int32_t);
    out[1] = sizeof(std::int64_t) + 10 * sizeof(uintptr_t) + 100 * sizeof(ptrdiff_t);
    out[2] = INT32_MAX;
    out[3] = UINT64_MAX;
    out[4] = (uint64_t)INT_MIN;
    y[0] = FLT_MAX, y[1] = FLT_EPSILON, y[2] = std::sqrt((float)x[0]), y[3] = INFINITY;
}"""


def test_standard_headers(compiled):
    out, y = np.zeros(5, np.uint64), np.zeros(4, np.float32)
    x = np.full(1, 2.25)
    compiled(SIZES).function("sizes").launch(1, 1, [out, x, y], mode="check")
    assert out.tolist() == [421, 888, 2**31 - 1, 2**64 - 1, 2**64 - 2**31]
    limits = np.finfo(np.float32)
    assert y.tolist() == [limits.max, limits.eps, 1.5, np.inf]


@pytest.mark.parametrize("name", ["cassert", "assert.h"])
@pytest.mark.parametrize("debug", [(), ("-G",)])
def test_an_assertion_that_fails_is_a_finding(compiled, name, debug):
    source = f"""
#include <{name}>
extern "C" __global__ void k(const int* x) {{
    assert(x[threadIdx.x] < 3);
}}"""
    program = compiled(source, options=("-std=c++17", *debug))
    program.function("k").launch(1, 3, [np.arange(3, dtype=np.int32)], mode="check")
    for mode in ("fast", "check"):
        with pytest.raises(KernelError) as caught:
            program.function("k").launch(1, 4, [np.arange(4, dtype=np.int32)], mode=mode)
        assert caught.value.kind == "assertion"
        assert (caught.value.line, caught.value.thread) == (4, (3, 0, 0))
        assert "`x[threadIdx.x] < 3` failed" in caught.value.detail
    quiet = compiled(source, options=("-std=c++17", "-DNDEBUG", *debug))
    quiet.function("k").launch(1, 4, [np.arange(4, dtype=np.int32)], mode="check")


HALVES = """
#include <cuda_fp16.h>
extern "C" __global__ void halves(const __half* x, __half* y, int n) {
    int i = threadIdx.x;
    if (i < n) y[i] = hexp(x[i]), y[n + i] = hsqrt(x[i]), y[2 * n + i] = __hadd(x[i], x[i]);
}"""


@needs_cuda_headers
@pytest.mark.parametrize("debug", [(), ("-G",)])
def test_half_precision(compiled, arch, debug):
    x = np.linspace(0.1, 8, 30).astype(np.float16)
    y = np.zeros((3, 30), np.float16)
    program = compiled(HALVES, arch, ("-std=c++17", *debug))
    program.function("halves").launch(1, 32, [x, y, np.int32(30)], mode="check")
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, [np.exp(wide), np.sqrt(wide), 2 * wide], rtol=2e-3)


GROUPS = """
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
extern "C" __global__ void groups(const int* x, int* out) {
    cg::thread_block block = cg::this_thread_block();
    __shared__ int kept[64];
    kept[block.thread_rank()] = x[block.thread_rank()];
    block.sync();
    auto tile = cg::tiled_partition<16>(block);
    int sum = kept[63 - block.thread_rank()];
    for (int d = 8; d; d /= 2) sum += tile.shfl_down(sum, d);
    if (tile.thread_rank() == 0) out[tile.meta_group_rank()] = sum;
    if (block.thread_rank() == 0) out[4] = block.size() + 1000 * cg::this_grid().size();
}"""


@needs_cuda_headers
@pytest.mark.parametrize("debug", [(), ("-G",)])
def test_cooperative_groups(compiled, arch, debug):
    x, out = np.arange(64, dtype=np.int32) ** 2, np.zeros(5, np.int32)
    program = compiled(GROUPS, arch, ("-std=c++17", *debug))
    program.function("groups").launch(1, 64, [x, out], mode="check")
    assert out[:4].tolist() == x[::-1].reshape(4, 16).sum(axis=1).tolist()
    assert out[4] == 64064


PRINTS = r"""
extern "C" __global__ void prints(const double* x, int n) {
    const char* word = n > 2 ? "many" : "few";
    short small = -3;
    int written = printf("%d|%5.2f|%-6s|%c|%lld|%#x|%%|%u|%*d|%e|%hd\n", n, x[0], word, 'A',
                         1ll << 40, 255, 4000000000u, 6, 7, 1e300, small);
    printf("%d and %zu\n", written, sizeof(double));
}"""


@pytest.mark.parametrize("mode", ["fast", "check", "count"])
@pytest.mark.parametrize("debug", [(), ("-G",)])
def test_printf(compiled, mode, debug):
    """As C formats it."""
    text = StringIO()
    function = compiled(PRINTS, options=("-std=c++17", *debug)).function("prints")
    function.launch(1, 1, [np.array([2.5]), np.int32(3)], mode=mode, output=text)
    assert text.getvalue() == (
        "3| 2.50|many  |A|1099511627776|0xff|%|4000000000|     7|1.000000e+300|-3\n11 and 8\n"
    )


def test_printf_of_no_string_is_a_finding(compiled):
    source = """
    extern "C" __global__ void k(const char* text) { printf("%s\\n", text); }"""
    function = compiled(source).function("k")
    text = StringIO()
    function.launch(1, 1, [np.frombuffer(b"all\0", np.uint8)], mode="check", output=text)
    assert text.getvalue() == "all\n"
    with pytest.raises(KernelError, match=r"out of bounds.*byte 3 of text \(argument 0"):
        function.launch(1, 1, [np.frombuffer(b"all", np.uint8)], mode="check", output=text)


def test_headers_that_include_others_next_to_them(tmp_path):
    """The same name in two folders means the one next to the file that includes it."""
    for folder, factor in (("one", 2), ("two", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "inner.cuh").write_text(f"#define {folder.upper()} {factor}\n")
        (tmp_path / folder / "outer.cuh").write_text(
            '#pragma once\n#include "inner.cuh"\n#include "../both.cuh"\n'
        )
    (tmp_path / "both.cuh").write_text(
        "#pragma once\n__device__ inline int look(const int* x, int i) { return x[i]; }\n"
    )
    source = (
        '#include "one/outer.cuh"\n#include "two/outer.cuh"\n#include <inc.cuh>\n'
        'extern "C" __global__ void k(int* x) { x[0] = ONE * TWO * look(x, INC); }'
    )
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "inc.cuh").write_text("#define INC 1\n")
    text, found = headers.gather(source, tmp_path, [tmp_path / "include"])
    assert sorted(found) == [
        "both.cuh",
        "include/inc.cuh",
        "one/inner.cuh",
        "one/outer.cuh",
        "two/inner.cuh",
        "two/outer.cuh",
    ]
    program = Program(text, name="k.cu", headers=found)
    x = np.array([0, 7], np.int32)
    program.function("k").launch(1, 1, [x])
    assert x[0] == 42
    with pytest.raises(KernelError) as caught:
        program.function("k").launch(1, 1, [x[:1].copy()], mode="check")
    assert (caught.value.file, caught.value.line) == ("both.cuh", 2)


def test_missing_headers_are_told_with_the_remedy(tools, monkeypatch):
    for module in (headers, nvrtc):
        monkeypatch.setattr(module, "include_folders", lambda: ())
    source = "#include <cuda_fp16.h>\n#include <stdint.h>\n// missing\n"
    with pytest.raises(CompileError, match=r"(?s)cuda_fp16\.h.*pip install .tinygrad_mask\[emul"):
        Program(source, name="k.cu").function("k")
