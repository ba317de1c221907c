"""PTX instructions that move, convert and compare values, and sums with a carry."""

from tinygrad_mask.emulator.emitter import C_TYPES, Emitter
from tinygrad_mask.emulator.instructions import ROUNDINGS, split_types, unsupported
from tinygrad_mask.emulator.ptx import Instruction, Name, Operand, Pair, Vector, type_bytes

_INTEGRAL = {"rni": "RN", "rzi": "RZ", "rmi": "RM", "rpi": "RP"}
_ORDERED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNSIGNED = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
_BOOLEAN = {"and": "&", "or": "|", "xor": "^"}


def is_float(type_name: str) -> bool:
    """Tell whether a type is one of floating-point numbers."""
    return type_name in ("f16", "bf16", "f32", "f64")


def move(emitter: Emitter, instruction: Instruction) -> str:
    """`mov`: a register, a constant, an address; packs and unpacks vectors."""
    (type_name,), modifiers = split_types(instruction)
    if modifiers:
        raise unsupported(instruction)
    target, source = instruction.operands
    width = type_bytes(type_name)
    if isinstance(target, Vector):
        part = width // len(target.items)
        value = emitter.value(source, f"b{8 * width}")
        parts = [
            emitter.write(item, f"b{8 * part}", f"q_ >> {8 * part * i}")
            for i, item in enumerate(target.items)
            if item != Name("_")
        ]
        return f"{{ u64 q_ = {value}; {' '.join(parts)} }}"
    if isinstance(source, Vector):
        part = width // len(source.items)
        parts = [
            f"(u64){emitter.value(item, f'b{8 * part}')} << {8 * part * i}"
            for i, item in enumerate(source.items)
        ]
        return emitter.write(target, f"b{8 * width}", " | ".join(parts))
    return emitter.write(target, type_name, emitter.value(source, type_name))


def convert(emitter: Emitter, instruction: Instruction) -> str:
    """`cvt`: from one type to another."""
    types, modifiers = split_types(instruction)
    operands = instruction.operands
    if "tf32" in modifiers and types == ["f32"] and "rna" in modifiers:
        value = f"as<u32>(to_tf32({emitter.value(operands[1], 'f32')}))"
        return emitter.write(operands[0], "b32", value)
    if len(types) != 2:
        raise unsupported(instruction)
    target, source = types
    integral = next((_INTEGRAL[m] for m in modifiers if m in _INTEGRAL), None)
    rounding = next((m.upper() for m in modifiers if m in ROUNDINGS), None)
    known = {*_INTEGRAL, *ROUNDINGS, "ftz", "sat"}
    if not set(modifiers) <= known:
        raise unsupported(instruction)
    if target in ("f16x2", "bf16x2"):
        if source != "f32" or len(operands) != 3 or set(modifiers) - {"rn", "rz"}:
            raise unsupported(instruction)
        high, low = (
            _narrowed(emitter.value(o, "f32"), target[:-2], rounding) for o in operands[1:]
        )
        return emitter.write(operands[0], "b32", f"pair({low}, {high})")
    value = emitter.value(operands[1], source)
    if not is_float(source) and not is_float(target):
        if "sat" in modifiers:
            value = f"clamp<{C_TYPES[target]}>({value})"
        return emitter.write(operands[0], target, value)
    if not is_float(source):
        if target in ("f16", "bf16"):
            value = _narrowed(f"from_integer<double, RN>({value})", target, rounding)
        else:
            value = f"from_integer<{C_TYPES[target]}, {rounding or 'RN'}>({value})"
        return emitter.write(operands[0], target, value)
    if source == "f16":
        value = f"from_half({value})"
    elif source == "bf16":
        value = f"from_bfloat({value})"
    elif source == "f32" and "ftz" in modifiers:
        value = emitter.flushed(value, always=True)
    if not is_float(target):
        if integral is None:
            raise unsupported(instruction)
        value = f"to_integer<{C_TYPES[target]}, {integral}>({value})"
        return emitter.write(operands[0], target, value)
    if integral:
        value = f"to_integral({value}, {integral})"
    if target == "f32" and source == "f64":
        value = f"narrow<{rounding or 'RN'}>({value})"
    elif target == "f64" and source != "f64":
        value = f"(double){value}"
    if target == "f32" and "ftz" in modifiers:
        value = emitter.flushed(value, always=True)
    if "sat" in modifiers:
        value = f"saturate({value})"
    if target in ("f16", "bf16"):
        value = _narrowed(value, target, rounding)
    return emitter.write(operands[0], target, value)


def _narrowed(value: str, target: str, rounding: str | None) -> str:
    function = {"f16": "to_half", "bf16": "to_bfloat"}[target]
    return f"{function}({value}, {'true' if rounding == 'RZ' else 'false'})"


def convert_address(emitter: Emitter, instruction: Instruction) -> str:
    """`cvta`: between the addresses of a space and generic ones, which are the host's."""
    (type_name,), modifiers = split_types(instruction)
    space = modifiers[-1].split("::")[0]
    to = modifiers[:1] == ["to"]
    if space not in ("global", "shared", "local", "const", "param") or len(modifiers) != 1 + to:
        raise unsupported(instruction)
    value = emitter.value(instruction.operands[1], "u64")
    if space == "shared":
        value = f"{value} - (u64)SM" if to else f"(u64)SM + {value}"
    return emitter.write(instruction.operands[0], type_name, value)


def is_in_space(emitter: Emitter, instruction: Instruction) -> str:
    """`isspacep`: whether a generic address is of a space."""
    space = instruction.modifiers[0].split("::")[0]  # "param::entry" is "param"
    value = emitter.value(instruction.operands[1], "u64")
    constant = " || ".join(f"{value} - {at} < {size}" for at, size in emitter.constants) or "false"
    test = {
        "shared": f"in_shared(T, {value})",
        "local": f"in_local(T, {value})",
        "const": constant,
        "param": f"{value} - (u64)P < {emitter.parameter_bytes}",
        # The window of a kernel's parameters is within that of global memory, says the PTX manual.
        "global": f"!in_shared(T, {value}) && !in_local(T, {value}) && !({constant})",
    }
    if space not in test or len(instruction.modifiers) != 1:
        raise unsupported(instruction)
    return emitter.write(instruction.operands[0], "pred", test[space])


def _comparison(
    emitter: Emitter, instruction: Instruction, comparison: str, type_name: str, flush: bool
) -> str:
    a, b = (emitter.value(o, type_name) for o in instruction.operands[1:3])
    if is_float(type_name):
        if type_name in ("f16", "bf16"):
            convert_name = {"f16": "from_half", "bf16": "from_bfloat"}[type_name]
            a, b = f"{convert_name}({a})", f"{convert_name}({b})"
        elif flush and type_name == "f32":
            a, b = emitter.flushed(a), emitter.flushed(b)
        if comparison == "num":
            return f"({a} == {a} && {b} == {b})"
        if comparison == "nan":
            return f"({a} != {a} || {b} != {b})"
        if comparison == "ne":
            return f"({a} < {b} || {a} > {b})"
        if comparison in _ORDERED:
            return f"({a} {_ORDERED[comparison]} {b})"
        if comparison == "equ":
            return f"!({a} < {b} || {a} > {b})"
        if comparison == "neu":
            return f"({a} != {b})"
        inverse = {"ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}
        if comparison in inverse:
            return f"!({a} {inverse[comparison]} {b})"
    elif comparison in _ORDERED or comparison in _UNSIGNED:
        return f"({a} {(_ORDERED | _UNSIGNED)[comparison]} {b})"
    raise unsupported(instruction)


def set_predicate(emitter: Emitter, instruction: Instruction) -> str:
    """`setp`: compares, combines with another predicate, and may give the opposite too."""
    (type_name,), modifiers = split_types(instruction)
    flush = "ftz" in modifiers
    comparison, *rest = [m for m in modifiers if m != "ftz"]
    if len(rest) > 1 or (rest and rest[0] not in _BOOLEAN):
        raise unsupported(instruction)
    test = _comparison(emitter, instruction, comparison, type_name, flush)
    target = instruction.operands[0]
    combine = ""
    if rest:
        combine = f" {_BOOLEAN[rest[0]]} {emitter.value(instruction.operands[3], 'pred')}"
    if not isinstance(target, Pair):
        return emitter.write(target, "pred", f"{test}{combine}" if combine else test)
    first = emitter.write(target.first, "pred", f"x_{combine}")
    second = emitter.write(target.second, "pred", "y_")
    return f"{{ bool x_ = {test}, y_ = !x_{combine}; {first} {second} }}"


def set_value(emitter: Emitter, instruction: Instruction) -> str:
    """`set`: compares, to ones or zeros."""
    (target, source), modifiers = split_types(instruction)
    flush = "ftz" in modifiers
    comparison, *rest = [m for m in modifiers if m != "ftz"]
    if len(rest) > 1 or (rest and rest[0] not in _BOOLEAN):
        raise unsupported(instruction)
    test = _comparison(emitter, instruction, comparison, source, flush)
    if rest:
        test = f"({test} {_BOOLEAN[rest[0]]} {emitter.value(instruction.operands[3], 'pred')})"
    ones = "1.0f" if target == "f32" else "0xffffffffu"
    return emitter.write(instruction.operands[0], target, f"{test} ? {ones} : 0")


def select(emitter: Emitter, instruction: Instruction) -> str:
    """`slct`: by the sign of the third operand."""
    (target, source), modifiers = split_types(instruction)
    if set(modifiers) - {"ftz"}:
        raise unsupported(instruction)
    a, b = (emitter.value(o, target) for o in instruction.operands[1:3])
    c = emitter.value(instruction.operands[3], source)
    if "ftz" in modifiers:
        c = emitter.flushed(c)
    return emitter.write(instruction.operands[0], target, f"{c} >= 0 ? {a} : {b}")


def carried_sum(emitter: Emitter, instruction: Instruction) -> str | None:
    """`add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`; None if there is no carry."""
    opcode = instruction.opcode
    keep = "cc" in instruction.modifiers
    use = opcode in ("addc", "subc", "madc")
    if not keep and not use:
        return None
    (type_name,), modifiers = split_types(instruction)
    unsigned = f"u{8 * type_bytes(type_name)}"
    a, *rest = (emitter.value(o, type_name) for o in instruction.operands[1:])
    first, second = f"({unsigned}){a}", f"({unsigned}){rest[0]}"
    allowed = {"cc"}
    if opcode in ("mad", "madc"):
        allowed |= {"lo", "hi"}
        c_type = C_TYPES[type_name]
        product = f"{first} * {second}"
        if "hi" in modifiers:
            product = f"high<{c_type}>({a}, {rest[0]})"
        first, second = f"({unsigned})({product})", f"({unsigned}){rest[1]}"
    if set(modifiers) - allowed:
        raise unsupported(instruction)
    function = "sub_borrow" if opcode.startswith("sub") else "add_carry"
    flags = f"{'true' if use else 'false'}, {'true' if keep else 'false'}"
    emitter.needs_carry = True
    call = f"{function}<{unsigned}>({first}, {second}, carry_, {flags})"
    return emitter.write(instruction.operands[0], unsigned, call)


def first_of(operand: Operand) -> tuple[Operand, Operand | None]:
    """Return the one or two results of an instruction."""
    return (operand.first, operand.second) if isinstance(operand, Pair) else (operand, None)
