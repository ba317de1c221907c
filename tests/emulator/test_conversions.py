"""Conversions between integers and floats, and float16 and bfloat16, against exact arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("tools")

INTEGERS = {"u8": (0, 8), "s8": (1, 8), "u16": (0, 16), "s16": (1, 16)}
INTEGERS |= {"u32": (0, 32), "s32": (1, 32), "u64": (0, 64), "s64": (1, 64)}
ROUNDINGS = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


FORMATS = {"f32": (24, -126, 127), "f16": (11, -14, 15), "bf16": (8, -126, 127)}
SMALL = ("f16", "bf16")


def bits_of(values: np.ndarray, form: str) -> np.ndarray:
    """Return float16 or bfloat16 bits as float64."""
    narrow = (values.astype(np.uint32) << 16).view(np.float32)
    if form == "f16":
        narrow = values.view(np.float16)
    with np.errstate(invalid="ignore"):  # signalling NaN
        return narrow.astype(np.float64)


def to_integers(source: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a kernel that converts a float to each integer type in each way, and these."""
    c_type, constraint = {"f32": ("float", "f"), "f64": ("double", "d")}[source]
    cases = [(mode, target) for mode in ROUNDINGS for target in INTEGERS]
    body = ""
    for i, (mode, target) in enumerate(cases):
        register = {"8": "b16", "16": "b16", "32": "b32", "64": "b64"}[target[1:]]
        widen = "mov.b64 %0, t;" if register == "b64" else f"cvt.{target[0]}64.{target} %0, t;"
        convert = f"{{ .reg .{register} t; cvt.{mode}.{target}.{source} t, %1; {widen} }}"
        body += (
            f'    asm volatile("{convert}" : "=l"(d) : "{constraint}"(x)); out[{i} * n + k] = d;\n'
        )
    return (
        f'extern "C" __global__ void to_integers(const {c_type}* a, long long* out, int n) {{\n'
        "    int k = blockIdx.x * blockDim.x + threadIdx.x;\n    if (k >= n) return;\n"
        f"    {c_type} x = a[k]; long long d;\n{body}}}\n"
    ), cases


@pytest.mark.parametrize("source", ["f32", "f64"])
def test_floats_to_integers(compiled, arch, source):
    text, cases = to_integers(source)
    function = compiled(text, arch).function("to_integers")
    dtype, width = (np.float32, 32) if source == "f32" else (np.float64, 64)
    edges = [2.0**n + d for n in (7, 8, 15, 16, 31, 32, 63, 64) for d in (-1, -0.5, 0, 0.5)]
    edges += [0.0, 0.5, 1.5, 2.5, 1e-40, math.inf, math.nan]
    edges = [float(dtype(x)) for x in edges]

    @given(
        st.lists(
            st.sampled_from(edges + [-x for x in edges])
            | st.floats(width=width)
            | st.floats(-300, 300, width=width),
            min_size=1,
            max_size=20,
        )
    )
    def agrees(values):
        out = np.zeros((len(cases), len(values)), np.int64)
        function.launch(1, 32, [np.array(values, dtype), out, np.int32(len(values))])
        for (mode, target), row in zip(cases, out.tolist(), strict=True):
            sign, bits = INTEGERS[target]
            low, high = (
                (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if sign else (0, (1 << bits) - 1)
            )
            for value, result in zip(values, row, strict=True):
                if value != value:
                    wanted = 0
                elif math.isinf(value):
                    wanted = high if value > 0 else low
                else:
                    wanted = min(max(ROUNDINGS[mode](value), low), high)
                assert result % 2**64 == wanted % 2**64, (mode, target, value)

    agrees()


def test_integers_to_floats(compiled, rounded, arch):
    cases = [
        (mode, target, source)
        for mode in ("rn", "rz", "rm", "rp")
        for target in ("f32", "f64")
        for source in ("u32", "s32", "u64", "s64")
    ]
    body = ""
    for i, (mode, target, source) in enumerate(cases):
        if source.endswith("32"):
            narrow, operand = f".reg .b32 i; cvt.u32.u64 i, %1; cvt.{mode}.{target}.{source}", "i"
        else:
            narrow, operand = f"cvt.{mode}.{target}.{source}", "%1"
        convert = f"{{ .reg .{target} t; {narrow} t, {operand}; "
        convert += "cvt.f64.f32 %0, t; }" if target == "f32" else "mov.f64 %0, t; }"
        body += f'    asm volatile("{convert}" : "=d"(d) : "l"(x)); out[{i} * n + k] = d;\n'
    function = compiled(
        'extern "C" __global__ void to_floats(const long long* a, double* out, int n) {\n'
        "    int k = blockIdx.x * blockDim.x + threadIdx.x;\n    if (k >= n) return;\n"
        f"    long long x = a[k]; double d;\n{body}}}\n",
        arch,
    ).function("to_floats")

    edges = [0, 1, 2**24 + 1, 2**53 + 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**63 + 2**39]

    @given(st.lists(st.sampled_from(edges) | st.integers(0, 2**64 - 1), min_size=1, max_size=20))
    def agrees(values):
        out = np.zeros((len(cases), len(values)))
        function.launch(1, 32, [np.array(values, np.uint64), out, np.int32(len(values))])
        for (mode, target, source), row in zip(cases, out.tolist(), strict=True):
            sign, bits = INTEGERS[source]
            form = FORMATS["f32"] if target == "f32" else (53, -1022, 1023)
            for value, result in zip(values, row, strict=True):
                number = value % 2**bits
                if sign and number >> (bits - 1):
                    number -= 2**bits
                assert result == rounded(Fraction(number), mode, *form), (mode, source, number)

    agrees()


NARROW = """
extern "C" __global__ void narrow(const float* a, const double* b, float* floats,
                                  unsigned short* out, int n) {
    int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= n) return;
    float x = a[k], f; double y = b[k]; unsigned short h;
    asm volatile("cvt.rn.f32.f64 %0, %1;" : "=f"(f) : "d"(y)); floats[k] = f;
    asm volatile("cvt.rz.f32.f64 %0, %1;" : "=f"(f) : "d"(y)); floats[n + k] = f;
    asm volatile("cvt.rm.f32.f64 %0, %1;" : "=f"(f) : "d"(y)); floats[2 * n + k] = f;
    asm volatile("cvt.rp.f32.f64 %0, %1;" : "=f"(f) : "d"(y)); floats[3 * n + k] = f;
    asm volatile("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x)); out[k] = h;
    asm volatile("cvt.rz.f16.f32 %0, %1;" : "=h"(h) : "f"(x)); out[n + k] = h;
    asm volatile("cvt.rn.f16.f64 %0, %1;" : "=h"(h) : "d"(y)); out[2 * n + k] = h;
#if __CUDA_ARCH__ >= 800
    asm volatile("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(x)); out[3 * n + k] = h;
#endif
}"""


def test_narrowing(compiled, rounded, arch):
    function = compiled(NARROW, arch).function("narrow")
    numbers = st.one_of(
        st.floats(-1e5, 1e5, width=32),
        st.floats(-(2.0**-9), 2.0**-9, width=32),
        st.floats(allow_nan=False, width=32),
        st.sampled_from([65504.0, 65519.0, 65520.0, 2.0**-24, 2.0**-25, 3 * 2.0**-26, 2049.0]),
    )

    @given(
        st.lists(st.tuples(numbers, st.floats(allow_nan=False) | numbers), min_size=1, max_size=20)
    )
    def agrees(pairs):
        a, b = np.array([x for x, _ in pairs], np.float32), np.array([y for _, y in pairs])
        n = len(pairs)
        floats, out = np.zeros((4, n), np.float32), np.zeros((4, n), np.uint16)
        function.launch(1, 32, [a, b, floats, out, np.int32(n)])
        cases = [(mode, b, "f32", floats[i]) for i, mode in enumerate(("rn", "rz", "rm", "rp"))]
        cases += [("rn", a, "f16", out[0]), ("rz", a, "f16", out[1]), ("rn", b, "f16", out[2])]
        if arch != "sm_75":
            cases.append(("rn", a, "bf16", out[3]))
        for mode, values, form, results in cases:
            if form in SMALL:
                results = bits_of(results, form)
            for value, result in zip(values.tolist(), results.tolist(), strict=True):
                wanted = value
                if math.isfinite(value):
                    wanted = rounded(Fraction(value), mode, *FORMATS[form])
                assert result == wanted, (mode, form, value)

    agrees()


def small_source(form: str) -> str:
    """Return a kernel of arithmetic on float16 or bfloat16, one and two at a time."""
    body = ""
    for i, name in enumerate(
        ("fma.rn", "min", "max") + (("add", "sub", "mul") if form == "f16" else ())
    ):
        operands = "%1, %2, %3" if name == "fma.rn" else "%1, %2"
        body += (
            f'    asm volatile("{name}.{form} %0, {operands};"'
            ' : "=h"(d) : "h"(x), "h"(y), "h"(z));\n'
            f"    out[{i} * n + k] = d;\n"
            f'    asm volatile("{name}.{form}x2 %0, {operands};" : "=r"(e) : "r"(x | x << 16), '
            '"r"(y << 16 | y), "r"(z << 16 | z));\n'
            f"    if (e != (d | (unsigned)d << 16)) out[{i} * n + k] = 0x7fff;\n"
        )
    return (
        'extern "C" __global__ void small(const unsigned short* a, const unsigned short* b, '
        "const unsigned short* c, unsigned short* out, float* wide, int n) {\n"
        "    int k = blockIdx.x * blockDim.x + threadIdx.x;\n    if (k >= n) return;\n"
        "    unsigned short x = a[k], y = b[k], z = c[k], d; unsigned e; float f;\n"
        f'    asm volatile("cvt.f32.{form} %0, %1;" : "=f"(f) : "h"(x)); wide[k] = f;\n{body}}}\n'
    )


@pytest.mark.parametrize(
    ("form", "target"), [("f16", "sm_80"), ("f16", "sm_90"), ("bf16", "sm_90")]
)
def test_small_floats(compiled, rounded, form, target):
    function = compiled(small_source(form), target).function("small")
    digits, least, most = FORMATS[form]

    @given(st.lists(st.tuples(*[st.integers(0, 65535)] * 3), min_size=1, max_size=20))
    def agrees(triples):
        columns = [np.array(column, np.uint16) for column in zip(*triples, strict=True)]
        n = len(triples)
        out, wide = np.zeros((6, n), np.uint16), np.zeros(n, np.float32)
        function.launch(1, 32, [*columns, out, wide, np.int32(n)])
        a, b, c = (bits_of(column, form) for column in columns)
        np.testing.assert_array_equal(wide, a)
        results = bits_of(out.reshape(-1), form).reshape(6, n)
        for k in range(n):
            x, y, z = float(a[k]), float(b[k]), float(c[k])
            if not all(map(math.isfinite, (x, y, z))):
                continue
            exact = [
                Fraction(x) * Fraction(y) + Fraction(z),
                Fraction(min(x, y)),
                Fraction(max(x, y)),
            ]
            if form == "f16":
                exact += [
                    Fraction(x) + Fraction(y),
                    Fraction(x) - Fraction(y),
                    Fraction(x) * Fraction(y),
                ]
            for i, value in enumerate(exact):
                assert results[i, k] == rounded(value, "rn", digits, least, most), (i, x, y, z)

    agrees()


def test_rounding_to_tf32(compiled):
    source = """
    extern "C" __global__ void tf32(const float* a, float* out) {
        float d;
        asm("cvt.rna.tf32.f32 %0, %1;" : "=f"(d) : "f"(a[threadIdx.x]));
        out[threadIdx.x] = d;
    }"""
    values = np.array([1.0, 1 + 2.0**-11, 1 + 2.0**-11 - 2.0**-20, -1 - 2.0**-11, 0], np.float32)
    out = np.zeros_like(values)
    compiled(source).function("tf32").launch(1, len(values), [values, out])
    assert out.tolist() == [1.0, 1 + 2.0**-10, 1.0, -1 - 2.0**-10, 0]
