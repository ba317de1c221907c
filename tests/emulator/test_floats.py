"""Floating-point instructions against exact rational arithmetic, rounded once."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("tools")

Rounded = Callable[[Fraction, str, int, int, int], float]
MODES = ("rn", "rz", "rm", "rp")


@dataclass(frozen=True)
class Format:
    name: str
    dtype: type
    digits: int  # of the significand, the hidden one too
    least: int  # exponent of the least normal number
    most: int

    @property
    def least_normal(self) -> Fraction:
        return Fraction(2) ** self.least


F32 = Format("f32", np.float32, 24, -126, 127)
F64 = Format("f64", np.float64, 53, -1022, 1023)


def flushed(x: float, form: Format) -> float:
    tiny = math.isfinite(x) and abs(Fraction(x)) < form.least_normal
    return math.copysign(0.0, x) if tiny else x


def exact(operation: str, *operands: float) -> Fraction | None:
    """Return the result of finite operands without rounding; None for one that is not finite."""
    x, *rest = map(Fraction, operands)
    if operation == "rcp":
        return 1 / x if x else None
    if operation == "div":
        return x / rest[0] if rest[0] else None
    if operation == "fma":
        return x * rest[0] + rest[1]
    return {"add": x + rest[0], "sub": x - rest[0], "mul": x * rest[0]}[operation]


def special(operation: str, a: float, b: float, c: float, mode: str) -> float:
    """Return the result where it is zero, infinite or not a number."""
    with np.errstate(all="ignore"):
        x, y, z = np.float64(a), np.float64(b), np.float64(c)
        if operation == "fma":
            product = float(x * y) if not (np.isfinite(x) and np.isfinite(y)) else None
            if product is None:  # of finite numbers: its sign and whether it is zero suffice
                sign = math.copysign(1.0, a) * math.copysign(1.0, b)
                product = sign * (0.0 if a == 0 or b == 0 else 1.0)
                if np.isfinite(z) and product != 0:  # an exact cancellation
                    return -0.0 if mode == "rm" else 0.0
            return special("add", product, c, 0.0, mode)
        result = {
            "add": lambda: x + y,
            "sub": lambda: x - y,
            "mul": lambda: x * y,
            "div": lambda: x / y,
            "rcp": lambda: np.float64(1) / x,
        }[operation]()
    if operation in ("add", "sub") and result == 0:
        second = -b if operation == "sub" else b
        if math.copysign(1.0, a) != math.copysign(1.0, second) or a != 0:
            return -0.0 if mode == "rm" else 0.0
    return float(result)


def arithmetic(
    operation: str,
    a: float,
    b: float,
    c: float,
    mode: str,
    form: Format,
    ftz: bool,
    rounded: Rounded,
) -> set[float]:
    """Return the results that are right."""
    if ftz:
        a, b, c = (flushed(x, form) for x in (a, b, c))
    used = {"fma": (a, b, c), "rcp": (a,)}.get(operation, (a, b))
    value = exact(operation, *used) if all(map(math.isfinite, used)) else None
    if not value:
        return {special(operation, a, b, c, mode)}
    result = rounded(value, mode, form.digits, form.least, form.most)
    if not ftz:
        return {result}
    # Where rounding makes a denormal the least normal number, hardware may flush or not.
    kept = flushed(result, form)
    unflushed = abs(value) < form.least_normal and kept != 0
    return {kept, math.copysign(0.0, kept)} if unflushed else {kept}


def root(a: float, mode: str, form: Format, ftz: bool, rounded: Rounded) -> set[float]:
    if ftz:
        a = flushed(a, form)
    if a == 0 or a != a or a == math.inf:
        return {a}
    if a < 0:
        return {math.nan}
    # A few digits more than the format has, and a last one that says that there are more.
    value = Fraction(a)
    shift = 4 * form.digits - (value.numerator.bit_length() - value.denominator.bit_length()) // 2
    scaled = math.floor(value * Fraction(4) ** shift)
    digits = math.isqrt(scaled)
    sticky = digits * digits != value * Fraction(4) ** shift
    exact_root = (Fraction(digits) + Fraction(sticky, 2)) / Fraction(2) ** shift
    return {rounded(exact_root, mode, form.digits, form.least, form.most)}


def same(a: float, b: float) -> bool:
    return (a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b))


@dataclass(frozen=True)
class Operation:
    text: str  # %0 is the result, %1 to %3 are a, b, c
    oracle: Callable[[float, float, float], set[float]]


def minimum(a: float, b: float, *, largest: bool, nan: bool) -> float:
    if a != a or b != b:
        return math.nan if nan or (a != a and b != b) else b if a != a else a
    if a == b == 0:
        negative = {math.copysign(1, a), math.copysign(1, b)}
        return (1.0 if 1.0 in negative else -1.0) * 0.0 if largest else min(negative) * 0.0
    return max(a, b) if largest else min(a, b)


def operations(form: Format, ftz: bool, rounded: Rounded) -> list[Operation]:
    f, z = form.name, ".ftz" if ftz else ""
    keep = (lambda x: flushed(x, form)) if ftz else (lambda x: x)
    found = []

    def add(text: str, oracle: Callable[[float, float, float], set[float]]) -> None:
        found.append(Operation(text, oracle))

    for mode in MODES:
        for name, count in (("add", 2), ("sub", 2), ("mul", 2), ("fma", 3), ("div", 2), ("rcp", 1)):
            operands = ", ".join(f"%{i + 1}" for i in range(count))
            add(
                f"{name}.{mode}{z}.{f} %0, {operands};",
                lambda a, b, c, name=name, mode=mode: arithmetic(
                    name, a, b, c, mode, form, ftz, rounded
                ),
            )
        add(
            f"sqrt.{mode}{z}.{f} %0, %1;",
            lambda a, b, c, mode=mode: root(a, mode, form, ftz, rounded),
        )
    add(f"neg{z}.{f} %0, %1;", lambda a, b, c: {-keep(a)})
    add(f"abs{z}.{f} %0, %1;", lambda a, b, c: {abs(keep(a))})
    for name, largest in (("min", False), ("max", True)):
        add(
            f"{name}{z}.{f} %0, %1, %2;",
            lambda a, b, c, largest=largest: {
                minimum(keep(a), keep(b), largest=largest, nan=False)
            },
        )
    for name, test in {
        "eq": lambda a, b: a == b,
        "lt": lambda a, b: a < b,
        "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b,
        "ne": lambda a, b: a < b or a > b,
        "equ": lambda a, b: not (a < b or a > b),
        "neu": lambda a, b: a != b,
        "ltu": lambda a, b: not a >= b,
        "leu": lambda a, b: not a > b,
        "gtu": lambda a, b: not a <= b,
        "geu": lambda a, b: not a < b,
        "num": lambda a, b: a == a and b == b,
        "nan": lambda a, b: a != a or b != b,
    }.items():
        add(
            f"{{ .reg .pred p; setp.{name}{z}.{f} p, %1, %2; selp.{f} %0, %3, %2, p; }}",
            lambda a, b, c, test=test: {c if test(keep(a), keep(b)) else b},
        )
    for mode, function in (("rni", round), ("rzi", math.trunc), ("rmi", math.floor)):
        add(
            f"cvt.{mode}{z}.{f}.{f} %0, %1;",
            lambda a, b, c, function=function: {integral(keep(a), function)},
        )
    if form is F32:
        add(
            f"add.sat{z}.f32 %0, %1, %2;",
            lambda a, b, c: saturated(arithmetic("add", a, b, c, "rn", form, ftz, rounded)),
        )
        add(
            f"fma.rn.sat{z}.f32 %0, %1, %2, %3;",
            lambda a, b, c: saturated(arithmetic("fma", a, b, c, "rn", form, ftz, rounded)),
        )
    if form is F64 or not ftz:
        add(f"copysign.{f} %0, %1, %2;", lambda a, b, c: {math.copysign(b, a)})
    return found


def saturated(values: set[float]) -> set[float]:
    return {0.0 if x != x else min(max(x, 0.0), 1.0) + 0.0 for x in values}


def integral(a: float, function: Callable[[float], int]) -> float:
    return math.copysign(float(function(a)), a) if math.isfinite(a) else a


def source_of(form: Format, ftz: bool, rounded: Rounded) -> str:
    c_type, constraint = ("float", "f") if form is F32 else ("double", "d")
    body = "".join(
        f'    asm volatile("{op.text}" : "=&{constraint}"(d) : "{constraint}"(x), '
        f'"{constraint}"(y), "{constraint}"(z)); out[{i} * n + k] = d;\n'
        for i, op in enumerate(operations(form, ftz, rounded))
    )
    return (
        f'extern "C" __global__ void floats(const {c_type}* a, const {c_type}* b, '
        f"const {c_type}* c, {c_type}* out, int n) {{\n"
        "    int k = blockIdx.x * blockDim.x + threadIdx.x;\n    if (k >= n) return;\n"
        f"    {c_type} x = a[k], y = b[k], z = c[k], d;\n{body}}}\n"
    )


def floats(form: Format) -> st.SearchStrategy[float]:
    """Draw floats of any kind, ties and the edges of the format more often."""
    width = 32 if form is F32 else 64
    least, largest = 2.0**form.least, (2 - 2.0 ** (1 - form.digits)) * 2.0**form.most
    tiny = 2.0 ** (form.least - form.digits + 1)
    corners = [0.0, 1.0, 0.5, 1.5, 2.5, least, largest, tiny, least - tiny, math.inf, math.nan]
    corners += [1 + 2.0 ** (1 - form.digits), 2.0 ** (form.digits - 1) + 0.5, least / 2, 1 / 3]
    corners = [float(form.dtype(x)) for x in corners]
    return st.one_of(
        st.sampled_from(corners + [-x for x in corners]),
        st.floats(width=width),
        st.floats(-4, 4, width=width),
    )


@pytest.mark.parametrize(("form", "ftz"), [(F32, False), (F32, True), (F64, False)])
def test_floats(compiled, rounded, arch, form, ftz):
    function = compiled(source_of(form, ftz, rounded), arch).function("floats")
    ops = operations(form, ftz, rounded)

    @given(st.lists(st.tuples(*[floats(form)] * 3), min_size=1, max_size=10))
    def agrees(triples):
        a, b, c = (np.array(column, form.dtype) for column in zip(*triples, strict=True))
        out = np.zeros((len(ops), len(triples)), form.dtype)
        function.launch(1, 32, [a, b, c, out, np.int32(len(triples))])
        for op, row in zip(ops, out.tolist(), strict=True):
            for triple, result in zip(triples, row, strict=True):
                wanted = op.oracle(*triple)
                assert any(same(result, w) for w in wanted), (
                    f"{op.text} {triple}: {result} {wanted}"
                )

    agrees()


@pytest.mark.parametrize("ftz", [False, True])
def test_host_flushes_only_where_all_instructions_do(compiled, rounded, ftz):
    """A kernel of `.ftz` alone lets the host flush; another has it done instruction by one."""
    plain = compiled(source_of(F32, ftz, rounded)).function("floats")
    assert plain._load("fast")[0].flush is ftz


def test_denormals_of_doubles_survive_beside_flushed_floats(compiled):
    source = """
    extern "C" __global__ void mixed(float* x, double* y) {
        x[0] = x[0] * 0.5f;
        y[0] = y[0] * 0.5;
    }"""
    x, y = np.array([2.0**-126], np.float32), np.array([2.0**-1022])
    compiled(source).function("mixed").launch(1, 1, [x, y])
    assert x[0] == 0
    assert y[0] == 2.0**-1023


APPROXIMATE = """
extern "C" __global__ void approximate(const float* x, float* out, int n) {
    int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= n) return;
    float a = x[k], d;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a)); out[k] = d;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a)); out[n + k] = d;
    asm("sin.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a)); out[2 * n + k] = d;
    asm("cos.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a)); out[3 * n + k] = d;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a)); out[4 * n + k] = d;
    asm("tanh.approx.f32 %0, %1;" : "=f"(d) : "f"(a)); out[5 * n + k] = d;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a)); out[6 * n + k] = d;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a)); out[7 * n + k] = d;
}"""


@given(st.lists(st.floats(2.0**-100, 100, width=32), min_size=1, max_size=40))
def test_approximations_are_near(compiled, values):
    x = np.array(values, np.float32)
    out = np.zeros((8, len(x)), np.float32)
    compiled(APPROXIMATE).function("approximate").launch(2, 32, [x, out, np.int32(len(x))])
    wide = x.astype(np.float64)
    wanted = [np.exp2(wide), np.log2(wide), np.sin(wide), np.cos(wide), wide**-0.5, np.tanh(wide)]
    wanted += [1 / wide, np.sqrt(wide)]
    flush = np.abs(wanted[0]) < 2.0**-126
    wanted[0][flush] = 0
    np.testing.assert_allclose(out, wanted, rtol=3e-7, atol=1e-7)
