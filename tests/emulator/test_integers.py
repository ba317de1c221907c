"""Integer instructions against Python's integers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("tools")


def signed(x: int, bits: int) -> int:
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> (bits - 1) else x


def truncated(a: int, b: int) -> int:
    """Return a / b rounded toward zero, as C divides."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def field(a: int, start: int, count: int, bits: int, is_signed: bool) -> int:
    start, count = start & 255, count & 255
    if count == 0:
        return 0
    sign = is_signed and a >> min(start + count - 1, bits - 1) & 1
    taken = [a >> (start + i) & 1 if start + i < bits else sign for i in range(min(count, bits))]
    taken += [sign] * (bits - len(taken))
    return sum(bit << i for i, bit in enumerate(taken))


def inserted(a: int, b: int, start: int, count: int, bits: int) -> int:
    start, count = start & 255, count & 255
    for i in range(count):
        if start + i < bits:
            b = b & ~(1 << (start + i)) | (a >> i & 1) << (start + i)
    return b


def permuted(a: int, b: int, selection: int) -> int:
    source = (b << 32 | a).to_bytes(8, "little")
    result = 0
    for i in range(4):
        choice = selection >> 4 * i & 15
        byte = source[choice & 7]
        result |= (255 * (byte >> 7) if choice & 8 else byte) << 8 * i
    return result


def logic(a: int, b: int, c: int, table: int) -> int:
    return sum(
        (table >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1) & 1) << i for i in range(32)
    )


def dot(a: int, b: int, c: int, a_bits: int, signs: tuple[bool, bool], high: bool = False) -> int:
    total = c
    for i in range(32 // a_bits):
        x = a >> a_bits * i & ((1 << a_bits) - 1)
        y = b >> 8 * (i + 2 * high) & 255
        total += (signed(x, a_bits) if signs[0] else x) * (signed(y, 8) if signs[1] else y)
    return total


def leading(a: int, bits: int, is_signed: bool) -> int:
    if is_signed and a >> (bits - 1):
        a = ~a & ((1 << bits) - 1)
    return a.bit_length() - 1  # -1 where there is none


def clamped(x: int, low: int, high: int) -> int:
    return min(max(x, low), high)


@dataclass(frozen=True)
class Operation:
    """An instruction on a, b, c (bits), and what it gives; `%0` is the result, `%1` to `%3` these.

    `%4` is the low half of c.
    """

    text: str
    oracle: Callable[[int, int, int], int]


def operations(bits: int) -> list[Operation]:
    """Return the instructions that there are for 32 and for 64 bits."""
    s = partial(signed, bits=bits)
    found = []

    def add(text: str, oracle: Callable[[int, int, int], int]) -> None:
        found.append(Operation(text, oracle))

    n, most = bits, (1 << (bits - 1)) - 1
    add(f"add.s{n} %0, %1, %2;", lambda a, b, c: a + b)
    add(f"sub.u{n} %0, %1, %2;", lambda a, b, c: a - b)
    add(f"mul.lo.s{n} %0, %1, %2;", lambda a, b, c: a * b)
    add(f"mul.hi.s{n} %0, %1, %2;", lambda a, b, c: s(a) * s(b) >> n)
    add(f"mul.hi.u{n} %0, %1, %2;", lambda a, b, c: a * b >> n)
    add(f"mad.lo.s{n} %0, %1, %2, %3;", lambda a, b, c: a * b + c)
    add(f"mad.hi.u{n} %0, %1, %2, %3;", lambda a, b, c: (a * b >> n) + c)
    add(f"div.s{n} %0, %1, %2;", lambda a, b, c: truncated(s(a), s(b)) if b else -1)
    add(f"div.u{n} %0, %1, %2;", lambda a, b, c: a // b if b else -1)
    add(f"rem.s{n} %0, %1, %2;", lambda a, b, c: s(a) - s(b) * truncated(s(a), s(b)) if b else a)
    add(f"rem.u{n} %0, %1, %2;", lambda a, b, c: a % b if b else a)
    add(f"sad.s{n} %0, %1, %2, %3;", lambda a, b, c: c + abs(s(a) - s(b)))
    add(f"sad.u{n} %0, %1, %2, %3;", lambda a, b, c: c + abs(a - b))
    add(f"abs.s{n} %0, %1;", lambda a, b, c: abs(s(a)))
    add(f"neg.s{n} %0, %1;", lambda a, b, c: -a)
    add(f"min.s{n} %0, %1, %2;", lambda a, b, c: min(s(a), s(b)))
    add(f"max.u{n} %0, %1, %2;", lambda a, b, c: max(a, b))
    add(f"and.b{n} %0, %1, %2;", lambda a, b, c: a & b)
    add(f"or.b{n} %0, %1, %2;", lambda a, b, c: a | b)
    add(f"xor.b{n} %0, %1, %2;", lambda a, b, c: a ^ b)
    add(f"not.b{n} %0, %1;", lambda a, b, c: ~a)
    add(f"cnot.b{n} %0, %1;", lambda a, b, c: int(a == 0))
    add(f"shl.b{n} %0, %1, %4;", lambda a, b, c: a << min(c & 0xFFFFFFFF, n))
    add(f"shr.u{n} %0, %1, %4;", lambda a, b, c: a >> min(c & 0xFFFFFFFF, n))
    add(f"shr.s{n} %0, %1, %4;", lambda a, b, c: s(a) >> min(c & 0xFFFFFFFF, n))
    add(f"bfe.u{n} %0, %1, %4, 5;", lambda a, b, c: field(a, c, 5, n, False))
    add(f"bfe.s{n} %0, %1, 3, %4;", lambda a, b, c: field(a, 3, c, n, True))
    add(f"bfe.s{n} %0, %1, %4, 11;", lambda a, b, c: field(a, c, 11, n, True))
    add(f"bfi.b{n} %0, %1, %2, %4, 9;", lambda a, b, c: inserted(a, b, c, 9, n))
    add(f"bfi.b{n} %0, %1, %2, 4, %4;", lambda a, b, c: inserted(a, b, 4, c, n))
    add(f"brev.b{n} %0, %1;", lambda a, b, c: int(f"{a:0{n}b}"[::-1], 2))
    small = "" if n == 32 else "{ .reg .u32 t; "
    d, end = ("%0", "") if n == 32 else ("t", " cvt.u64.u32 %0, t; }")
    add(f"{small}popc.b{n} {d}, %1;{end}", lambda a, b, c: a.bit_count())
    add(f"{small}clz.b{n} {d}, %1;{end}", lambda a, b, c: n - a.bit_length())
    add(f"{small}bfind.u{n} {d}, %1;{end}", lambda a, b, c: leading(a, n, False) & 0xFFFFFFFF)
    add(f"{small}bfind.s{n} {d}, %1;{end}", lambda a, b, c: leading(a, n, True) & 0xFFFFFFFF)
    add(
        f"{small}bfind.shiftamt.u{n} {d}, %1;{end}",
        lambda a, b, c: n - 1 - leading(a, n, False) if a else 0xFFFFFFFF,
    )
    for name, test in {
        "eq": lambda a, b: a == b,
        "ne": lambda a, b: a != b,
        "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b,
    }.items():
        add(
            f"{{ .reg .pred p; setp.{name}.s{n} p, %1, %2; selp.b{n} %0, %1, %3, p; }}",
            lambda a, b, c, test=test: a if test(s(a), s(b)) else c,
        )
        add(
            f"{{ .reg .pred p, q; setp.{name}.u{n} p|q, %1, %2; @q mov.b{n} %0, %3; "
            f"@!q mov.b{n} %0, %1; }}",
            lambda a, b, c, test=test: a if test(a, b) else c,
        )
    add(
        f"{{ .reg .pred p, q, r; setp.ne.b{n} r, %3, 0; setp.lt.and.s{n} p|q, %1, %2, r; "
        f"selp.b{n} %0, 1, 0, p; @q add.s{n} %0, %0, 2; }}",
        lambda a, b, c: int(s(a) < s(b) and c != 0) + 2 * int(not s(a) < s(b) and c != 0),
    )
    add(
        f"{{ .reg .b{n} t; add.cc.u{n} t, %1, %2; addc.u{n} %0, %3, 0; }}",
        lambda a, b, c: c + (a + b >> n),
    )
    add(
        f"{{ .reg .b{n} t; sub.cc.u{n} t, %1, %2; subc.u{n} %0, %3, 0; }}",
        lambda a, b, c: c - int(a < b),
    )
    add(
        f"{{ .reg .b{n} t; mad.lo.cc.u{n} t, %1, %2, %3; madc.hi.u{n} %0, %1, %2, %3; }}",
        lambda a, b, c: (a * b >> n) + c + ((a * b & ((1 << n) - 1)) + c >> n),
    )
    if n == 64:
        return found
    add("add.sat.s32 %0, %1, %2;", lambda a, b, c: clamped(s(a) + s(b), -most - 1, most))
    add("sub.sat.s32 %0, %1, %2;", lambda a, b, c: clamped(s(a) - s(b), -most - 1, most))
    for sign in (True, False):
        kind = "s" if sign else "u"
        w = (lambda x, n: signed(x, n)) if sign else (lambda x, n: x & ((1 << n) - 1))
        add(
            f"{{ .reg .b64 t; mul.wide.{kind}32 t, %1, %2; shr.u64 t, t, 7; cvt.u32.u64 %0, t; }}",
            lambda a, b, c, w=w: w(a, 32) * w(b, 32) >> 7,
        )
        add(
            f"{{ .reg .b64 t; cvt.u64.u32 t, %3; mad.wide.{kind}32 t, %1, %2, t; "
            "shr.u64 t, t, 19; cvt.u32.u64 %0, t; }",
            lambda a, b, c, w=w: w(a, 32) * w(b, 32) + c >> 19,
        )
        add(
            "{ .reg .b16 t, v; cvt.u16.u32 t, %1; cvt.u16.u32 v, %2; "
            f"mul.wide.{kind}16 %0, t, v; }}",
            lambda a, b, c, w=w: w(a, 16) * w(b, 16),
        )
        add(
            f"mul24.lo.{kind}32 %0, %1, %2;",
            lambda a, b, c, w=w: w(a, 24) * w(b, 24),
        )
        add(f"cvt.{kind}32.{kind}8 %0, %1;", lambda a, b, c, w=w: w(a, 8))
        add(f"cvt.{kind}32.{kind}16 %0, %1;", lambda a, b, c, w=w: w(a, 16))
        low, high = (-128, 127) if sign else (0, 255)
        add(
            f"cvt.sat.{kind}8.s32 %0, %1;",
            lambda a, b, c, low=low, high=high: clamped(s(a), low, high),
        )
        add(
            f"cvt.sat.{kind}8.u32 %0, %1;",
            lambda a, b, c, low=low, high=high: clamped(a, low, high),
        )
        for other in (True, False):
            name = f"{kind}32.{'s' if other else 'u'}32"
            add(
                f"dp4a.{name} %0, %1, %2, %3;",
                lambda a, b, c, signs=(sign, other): dot(a, b, c, 8, signs),
            )
            add(
                f"dp2a.hi.{name} %0, %1, %2, %3;",
                lambda a, b, c, signs=(sign, other): dot(a, b, c, 16, signs, True),
            )
    both = lambda a, b: b << 32 | a  # noqa: E731
    add("shf.l.wrap.b32 %0, %1, %2, %3;", lambda a, b, c: both(a, b) << (c & 31) >> 32)
    add("shf.r.wrap.b32 %0, %1, %2, %3;", lambda a, b, c: both(a, b) >> (c & 31))
    add("shf.l.clamp.b32 %0, %1, %2, %3;", lambda a, b, c: both(a, b) << min(c, 32) >> 32)
    add("shf.r.clamp.b32 %0, %1, %2, %3;", lambda a, b, c: both(a, b) >> min(c, 32))
    add("prmt.b32 %0, %1, %2, %3;", permuted)
    for mode, picks in {
        "f4e": lambda k: [k, k + 1, k + 2, k + 3],
        "b4e": lambda k: [k % 8, (k - 1) % 8, (k - 2) % 8, (k - 3) % 8],
        "rc8": lambda k: [k] * 4,
        "ecl": lambda k: [max(k, i) for i in range(4)],
        "ecr": lambda k: [min(k, i) for i in range(4)],
        "rc16": lambda k: [2 * (k & 1), 2 * (k & 1) + 1] * 2,
    }.items():
        add(
            f"prmt.b32.{mode} %0, %1, %2, %3;",
            lambda a, b, c, picks=picks: permuted(
                a, b, sum(p << 4 * i for i, p in enumerate(picks(c & 3)))
            ),
        )
    for table in (0x00, 0x96, 0xE8, 0xCA, 0x1D, 0xFF):
        add(
            f"lop3.b32 %0, %1, %2, %3, {table};",
            lambda a, b, c, table=table: logic(a, b, c, table),
        )
    return found


def source_of(bits: int) -> str:
    """Return a kernel that executes each instruction on each element."""
    c_type, constraint = ("unsigned", "r") if bits == 32 else ("unsigned long long", "l")
    body = "".join(
        f'    asm volatile("{op.text}" : "=&{constraint}"(d) : "{constraint}"(x), '
        f'"{constraint}"(y), "{constraint}"(z), "r"((unsigned)z)); out[{i} * n + k] = d;\n'
        for i, op in enumerate(operations(bits))
    )
    return (
        f'extern "C" __global__ void integers(const {c_type}* a, const {c_type}* b, '
        f"const {c_type}* c, {c_type}* out, int n) {{\n"
        "    int k = blockIdx.x * blockDim.x + threadIdx.x;\n    if (k >= n) return;\n"
        f"    {c_type} x = a[k], y = b[k], z = c[k], d;\n{body}}}\n"
    )


def numbers(bits: int) -> st.SearchStrategy[int]:
    """Draw bit patterns, those at which something happens more often."""
    corners = [0, 1, 2, 7, 31, 32, 33, 63, 64, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    corners += [1 << (bits - 1), (1 << (bits - 1)) - 1, (1 << bits) - 1, (1 << bits) - 2]
    return st.one_of(st.sampled_from(corners), st.integers(0, (1 << bits) - 1))


@pytest.mark.parametrize("bits", [32, 64])
def test_integers(compiled, arch, bits):
    function = compiled(source_of(bits), arch).function("integers")
    dtype = np.dtype(f"u{bits // 8}")
    ops = operations(bits)

    @given(st.lists(st.tuples(*[numbers(bits)] * 3), min_size=1, max_size=20))
    def agrees(triples):
        a, b, c = (np.array(column, dtype) for column in zip(*triples, strict=True))
        out = np.zeros((len(ops), len(triples)), dtype)
        function.launch(1, 32, [a, b, c, out, np.int32(len(triples))])
        for op, row in zip(ops, out.tolist(), strict=True):
            for triple, result in zip(triples, row, strict=True):
                wanted = op.oracle(*triple) & ((1 << bits) - 1)
                assert result == wanted, f"{op.text} {triple}: {result:#x}, not {wanted:#x}"

    agrees()
