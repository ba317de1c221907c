"""The table of PTX instructions that compute a value from values, and what each is in C++.

A rule names the types that it holds for, the modifiers that it needs and those that it allows; an
instruction for which there is no rule is an error that names it. In an expression, `{a}` to `{d}`
stand for the sources, `{t}` for the C++ type, `{u}` for it unsigned, `{R}` for the rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tinygrad_mask.emulator.emitter import BITS, C_TYPES, Emitter
from tinygrad_mask.emulator.errors import UnsupportedError
from tinygrad_mask.emulator.ptx import TYPES, Instruction, type_bytes

ROUNDINGS = ("rn", "rz", "rm", "rp")


@dataclass(frozen=True)
class Rule:
    """How one form of an instruction is computed.

    Args:
        types: The types of the form, a space between them.
        expression: The C++ expression of the result.
        sources: Types of the source operands: "t" is the instruction's own, "w" twice as wide,
            "i" an integer constant that goes into the expression as it is.
        result: Type of the result, likewise.
        needs: Modifiers without which it is another form.
        allows: Modifiers that may be there: "round" (any rounding), "ftz", "sat", or such as
            change nothing here.
        bitwise: The host's own flushing of denormals does not reach it.
    """

    types: str
    expression: str
    sources: str = "t t"
    result: str = "t"
    needs: str = ""
    allows: str = ""
    bitwise: bool = False


INTEGERS = "u16 s16 u32 s32 u64 s64"
WORDS = "u32 s32 u64 s64"
FLOATS = "f32 f64"
ALL_BITS = "b16 b32 b64"

_HALVES = (("f16", "Half"), ("bf16", "Bfloat"))


def _small(operation: str, sources: str, needs: str = "", allows: str = "rn") -> list[Rule]:
    """Return the rules of an operation on float16 and bfloat16, one or two at a time."""
    rules = []
    letters = "abc"[: len(sources.split())]
    for type_name, c_name in _HALVES:
        call = operation.replace("S>", f"{c_name}>")
        one = ", ".join(f"{{{x}}}" for x in letters)
        low = ", ".join(f"lower({{{x}}})" for x in letters)
        high = ", ".join(f"upper({{{x}}})" for x in letters)
        rules.append(Rule(type_name, f"{call}({one})", sources, needs=needs, allows=allows))
        rules.append(
            Rule(
                f"{type_name}x2",
                f"pair({call}({low}), {call}({high}))",
                sources,
                needs=needs,
                allows=allows,
            )
        )
    return rules


def _packed(operation: str, sources: str) -> Rule:
    """Return the rule of an operation on two float32 at a time (sm_100)."""
    letters = "abc"[: len(sources.split())]
    halves = [
        "as<u32>("
        + operation
        + "<{R}>("
        + ", ".join(f"as<float>((u32)({{{x}}} >> {s}))" for x in letters)
        + "))"
        for s in (0, 32)
    ]
    return Rule("f32x2", f"(u64){halves[0]} | (u64){halves[1]} << 32", sources, allows="round")


def _dots(function: str, width: int, halves: dict[str, str]) -> Iterator[Rule]:
    """Yield the rules of scalar products of small integers, with and without signs."""
    for a in "us":
        for b in "us":
            call = f"{function}<{a}{width}, {b}8>({{a}}, {{b}}, {{c}}"
            for half, upper in halves.items():
                yield Rule(f"{b}32", f"{call}{upper})", "b32 b32 b32", "b32", f"{a}32 {half}")


RULES: dict[str, list[Rule]] = {
    "add": [
        Rule(INTEGERS, "({u})({a}) + ({u})({b})"),
        Rule("s32", "saturated<{t}>((Wide<{t}>){a} + {b})", needs="sat"),
        Rule(FLOATS, "add<{R}>({a}, {b})", allows="round ftz sat"),
        _packed("add", "t t"),
        *_small("small_add<S>", "t t"),
    ],
    "sub": [
        Rule(INTEGERS, "({u})({a}) - ({u})({b})"),
        Rule("s32", "saturated<{t}>((Wide<{t}>){a} - {b})", needs="sat"),
        Rule(FLOATS, "sub<{R}>({a}, {b})", allows="round ftz sat"),
        *_small("small_sub<S>", "t t"),
    ],
    "mul": [
        Rule(WORDS, "({u}){a} * ({u}){b}", needs="lo"),
        Rule("u16 s16", "(u32){a} * (u32){b}", needs="lo"),
        Rule(INTEGERS, "high<{t}>({a}, {b})", needs="hi"),
        Rule("u16 s16 u32 s32", "(Wide<{t}>){a} * (Wide<{t}>){b}", result="w", needs="wide"),
        Rule(FLOATS, "mul<{R}>({a}, {b})", allows="round ftz sat"),
        _packed("mul", "t t"),
        *_small("small_mul<S>", "t t"),
    ],
    "mad": [
        Rule(WORDS, "({u}){a} * ({u}){b} + ({u}){c}", "t t t", needs="lo"),
        Rule("u16 s16", "(u32){a} * (u32){b} + (u32){c}", "t t t", needs="lo"),
        Rule(INTEGERS, "({u})high<{t}>({a}, {b}) + ({u}){c}", "t t t", needs="hi"),
        Rule(
            "s32", "saturated<{t}>((Wide<{t}>)high<{t}>({a}, {b}) + {c})", "t t t", needs="hi sat"
        ),
        Rule("u16 s16", "(u32)((Wide<{t}>){a} * (Wide<{t}>){b}) + (u32){c}", "t t w", "w", "wide"),
        Rule("u32 s32", "(u64)((Wide<{t}>){a} * (Wide<{t}>){b}) + (u64){c}", "t t w", "w", "wide"),
        Rule(FLOATS, "fma<{R}>({a}, {b}, {c})", "t t t", allows="round ftz sat"),
    ],
    "fma": [
        Rule(FLOATS, "fma<{R}>({a}, {b}, {c})", "t t t", allows="round ftz sat"),
        _packed("fma", "t t t"),
        *_small("small_fma<S>", "t t t"),
    ],
    "mul24": [Rule("u32 s32", "mul24<{t}>({a}, {b})", needs="lo")],
    "mad24": [Rule("u32 s32", "(u32)mul24<{t}>({a}, {b}) + (u32){c}", "t t t", needs="lo")],
    "div": [
        Rule(INTEGERS, "divide<{t}>({a}, {b})"),
        Rule(FLOATS, "div<{R}>({a}, {b})", allows="round ftz approx full"),
    ],
    "rem": [Rule(INTEGERS, "remainder<{t}>({a}, {b})")],
    "sad": [Rule(INTEGERS, "({u})absolute_difference<{t}>({a}, {b}) + ({u}){c}", "t t t")],
    "abs": [
        Rule("s16 s32 s64", "absolute<{t}>({a})", "t"),
        Rule(FLOATS, "fabs({a})", "t", allows="ftz", bitwise=True),
        *_small("small_abs", "t", allows=""),
    ],
    "neg": [
        Rule("s16 s32 s64", "({u})0 - ({u}){a}", "t"),
        Rule(FLOATS, "neg({a})", "t", allows="ftz", bitwise=True),
        *_small("small_neg", "t", allows=""),
    ],
    "min": [
        Rule(INTEGERS, "min<{t}>({a}, {b})"),
        Rule(FLOATS, "fmin({a}, {b})", allows="ftz", bitwise=True),
        Rule("f32", "fmin(fmin({a}, {b}), {c})", "t t t", allows="ftz", bitwise=True),
        Rule("f32", "fmin_nan({a}, {b})", needs="NaN", allows="ftz", bitwise=True),
        Rule(
            "f32",
            "xor_sign(fmin(fabs({a}), fabs({b})), {a}, {b})",
            needs="xorsign abs",
            allows="ftz",
            bitwise=True,
        ),
        *_small("small_min<S>", "t t", allows=""),
        *_small("small_min_nan<S>", "t t", needs="NaN", allows=""),
    ],
    "max": [
        Rule(INTEGERS, "max<{t}>({a}, {b})"),
        Rule("s32", "max<{t}>(max<{t}>({a}, {b}), 0)", needs="relu"),
        Rule(FLOATS, "fmax({a}, {b})", allows="ftz", bitwise=True),
        Rule("f32", "fmax(fmax({a}, {b}), {c})", "t t t", allows="ftz", bitwise=True),
        Rule("f32", "fmax_nan({a}, {b})", needs="NaN", allows="ftz", bitwise=True),
        Rule(
            "f32",
            "xor_sign(fmax(fabs({a}), fabs({b})), {a}, {b})",
            needs="xorsign abs",
            allows="ftz",
            bitwise=True,
        ),
        *_small("small_max<S>", "t t", allows=""),
        *_small("small_max_nan<S>", "t t", needs="NaN", allows=""),
    ],
    "copysign": [Rule(FLOATS, "copysign({a}, {b})", bitwise=True)],
    "rcp": [
        Rule(FLOATS, "rcp<{R}>({a})", "t", allows="round ftz approx"),
        Rule("f64", "upper_half(rcp<RN>({a}))", "t", needs="approx ftz"),
    ],
    "sqrt": [Rule(FLOATS, "sqrt<{R}>({a})", "t", allows="round ftz approx")],
    "rsqrt": [
        Rule("f32", "(float)rsqrt((double){a})", "t", needs="approx", allows="ftz"),
        Rule("f64", "rsqrt({a})", "t", needs="approx"),
        Rule("f64", "upper_half(rsqrt({a}))", "t", needs="approx ftz"),
    ],
    "ex2": [Rule("f32", "ex2({a})", "t", needs="approx", allows="ftz")],
    "lg2": [Rule("f32", "lg2({a})", "t", needs="approx", allows="ftz")],
    "sin": [Rule("f32", "sin({a})", "t", needs="approx", allows="ftz")],
    "cos": [Rule("f32", "cos({a})", "t", needs="approx", allows="ftz")],
    "tanh": [Rule("f32", "tanh({a})", "t", needs="approx")],
    "testp": [
        Rule(FLOATS, "finite({a})", "t", "pred", "finite"),
        Rule(FLOATS, "infinite({a})", "t", "pred", "infinite"),
        Rule(FLOATS, "!is_nan({a})", "t", "pred", "number"),
        Rule(FLOATS, "is_nan({a})", "t", "pred", "notanumber"),
        Rule(FLOATS, "normal({a})", "t", "pred", "normal"),
        Rule(FLOATS, "subnormal({a})", "t", "pred", "subnormal"),
    ],
    "and": [Rule(f"pred {ALL_BITS}", "{a} & {b}")],
    "or": [Rule(f"pred {ALL_BITS}", "{a} | {b}")],
    "xor": [Rule(f"pred {ALL_BITS}", "{a} ^ {b}")],
    "not": [Rule("pred", "!{a}", "t"), Rule(ALL_BITS, "~{a}", "t")],
    "cnot": [Rule(ALL_BITS, "{a} == 0", "t")],
    "lop3": [Rule("b32", "logic({a}, {b}, {c}, {d})", "t t t i")],
    "shl": [Rule(ALL_BITS, "shift_left<{t}>({a}, {b})", "t u32")],
    "shr": [Rule(f"{ALL_BITS} {INTEGERS}", "shift_right<{t}>({a}, {b})", "t u32")],
    "shf": [
        Rule("b32", "funnel_left({a}, {b}, {c} & 31)", "t t u32", needs="l wrap"),
        Rule("b32", "funnel_right({a}, {b}, {c} & 31)", "t t u32", needs="r wrap"),
        Rule("b32", "funnel_left({a}, {b}, min<u32>({c}, 32))", "t t u32", needs="l clamp"),
        Rule("b32", "funnel_right({a}, {b}, min<u32>({c}, 32))", "t t u32", needs="r clamp"),
    ],
    "bfe": [Rule(WORDS, "extract<{t}>({a}, {b}, {c})", "t u32 u32")],
    "bfi": [Rule("b32 b64", "insert<{t}>({a}, {b}, {c}, {d})", "t t u32 u32")],
    "bfind": [
        Rule(WORDS, "find_leading<{t}>({a}, false)", "t", "u32"),
        Rule(WORDS, "find_leading<{t}>({a}, true)", "t", "u32", "shiftamt"),
    ],
    "bmsk": [
        Rule("b32", "bit_mask({a}, {b}, false)", "u32 u32", needs="clamp"),
        Rule("b32", "bit_mask({a}, {b}, true)", "u32 u32", needs="wrap"),
    ],
    "szext": [
        Rule("u32", "sign_extend({a}, {b}, false, false)", "b32 u32", needs="clamp"),
        Rule("u32", "sign_extend({a}, {b}, true, false)", "b32 u32", needs="wrap"),
        Rule("s32", "sign_extend({a}, {b}, false, true)", "b32 u32", needs="clamp"),
        Rule("s32", "sign_extend({a}, {b}, true, true)", "b32 u32", needs="wrap"),
    ],
    "brev": [Rule("b32 b64", "reverse_bits<{t}>({a})", "t")],
    "popc": [Rule("b32 b64", "ones({a})", "t", "u32")],
    "clz": [Rule("b32 b64", "leading_zeros<{t}>({a})", "t", "u32")],
    "prmt": [
        Rule("b32", "permute({a}, {b}, {c})", "t t t"),
        *(
            Rule("b32", f"permute_mode({{a}}, {{b}}, {{c}}, {m.upper()})", "t t t", needs=m)
            for m in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")
        ),
    ],
    "selp": [Rule(f"{ALL_BITS} {INTEGERS} {FLOATS}", "{c} ? {a} : {b}", "t t pred")],
    "dp4a": list(_dots("dot4", 8, {"": ""})),
    "dp2a": list(_dots("dot2", 16, {"lo": ", false", "hi": ", true"})),
}


def split_types(instruction: Instruction) -> tuple[list[str], list[str]]:
    """Return the types and the other modifiers of an instruction."""
    types = [m for m in instruction.modifiers if m in TYPES]
    return types, [m for m in instruction.modifiers if m not in TYPES]


def find_rule(instruction: Instruction) -> tuple[Rule, str, set[str]] | None:
    """Return the rule for an instruction, its type and its further modifiers."""
    types, modifiers = split_types(instruction)
    if not types:
        return None
    type_name, given = types[-1], {*modifiers, *types[:-1]}
    best: tuple[Rule, str, set[str]] | None = None
    for rule in RULES.get(instruction.opcode, ()):
        needs, allows = set(rule.needs.split()), set(rule.allows.split())
        if "round" in allows:
            allows.update(ROUNDINGS)
        rest = given - needs
        if type_name not in rule.types.split() or not needs <= given or not rest <= allows:
            continue
        if len(instruction.operands) != 1 + len(rule.sources.split()):
            continue
        if best is None or len(needs) > len(best[0].needs.split()):
            best = (rule, type_name, rest)
    return best


def compute(emitter: Emitter, instruction: Instruction) -> str | None:
    """Return the C++ statement of an instruction that the table has; None if it has none."""
    found = find_rule(instruction)
    if found is None:
        return None
    rule, type_name, modifiers = found

    def resolve(name: str) -> str:
        if name == "t":
            return type_name
        return f"{type_name[0]}{16 * type_bytes(type_name)}" if name == "w" else name

    sources = rule.sources.split()
    flush, always = "ftz" in modifiers, rule.bitwise
    values = {}
    for letter, source, operand in zip("abcd", sources, instruction.operands[1:], strict=False):
        if source == "i":
            values[letter] = emitter.value(operand, "u32")
            continue
        value = emitter.value(operand, resolve(source))
        if flush and C_TYPES[resolve(source)] == "float":
            value = emitter.flushed(value, always=always)
        values[letter] = value
    rounding = next((m.upper() for m in ROUNDINGS if m in modifiers), "RN")
    c_type = C_TYPES[type_name]
    unsigned = c_type if c_type == "bool" else BITS[type_bytes(type_name)]
    expression = rule.expression.format(**values, t=c_type, u=unsigned, R=rounding)
    result = resolve(rule.result)
    if flush and C_TYPES[result] == "float":
        expression = emitter.flushed(expression, always=always)
    if "sat" in modifiers and "sat" in rule.allows.split():
        expression = f"saturate({expression})"
    return emitter.write(instruction.operands[0], result, expression)


def unsupported(instruction: Instruction, why: str = "") -> UnsupportedError:
    """Return the error of an instruction that is not known."""
    reason = f": {why}" if why else ""
    return UnsupportedError(
        f"the emulator does not know '{instruction.text}' (PTX line {instruction.line}){reason}"
    )
