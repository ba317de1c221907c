"""PTX instructions that touch memory."""

from tinygrad_mask.emulator.emitter import C_TYPES, Emitter
from tinygrad_mask.emulator.instructions import split_types, unsupported
from tinygrad_mask.emulator.ptx import Instruction, Integer, Name, Operand, Vector, type_bytes

_SPACES = ("global", "shared", "local", "const", "param")
_SCOPES = {"cta", "cluster", "gpu", "sys"}
_STRONG = {"relaxed", "acquire", "release", "acq_rel", "mmio"}
_CACHES = {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "weak", "volatile", "unified"}
_SPACE_CODES = {
    "global": "GLOBAL",
    "shared": "SHARED",
    "local": "LOCAL",
    "generic": "GENERIC",
    "const": "CONSTANT",
    "param": "PARAMETER",
}


def _space(modifiers: list[str]) -> tuple[str, list[str]]:
    """Return the space and the other modifiers."""
    for modifier in modifiers:
        space, _, scope = modifier.partition("::")
        if space in _SPACES and scope in ("", "cta", "entry", "func"):
            return space, [m for m in modifiers if m != modifier]
    return "generic", modifiers


def _pointer(emitter: Emitter, operand: Operand, space: str) -> str:
    address = emitter.address(operand, space)
    return f"SM + {address}" if space == "shared" else f"(char *){address}"


def told(
    emitter: Emitter,
    instruction: Instruction,
    operand: Operand,
    space: str,
    size: int | str,
    access: str,
    action: str,
) -> str:
    """Return the statement that tells the runtime of an access, where count mode wants it."""
    if emitter.mode != "count" or space in ("const", "param", "local"):
        return ""
    return f"{_access(emitter, instruction, operand, space, size, access, action)}; "


def _access(
    emitter: Emitter,
    instruction: Instruction,
    operand: Operand,
    space: str,
    size: int | str,
    access: str,
    action: str,
) -> str:
    address, site = emitter.address(operand, space), emitter.site(instruction, action)
    return f"R->access(T, {site}, {address}, {size}, {_SPACE_CODES[space]}, {access})"


def _place(
    emitter: Emitter,
    instruction: Instruction,
    operand: Operand,
    space: str,
    size: int,
    access: str,
    action: str,
) -> str:
    """Return the C++ expression of the host's address of an access, checked in check mode."""
    known = space == "param" and emitter.is_within(operand, size)
    if emitter.mode != "check" or known:
        return _pointer(emitter, operand, space)
    return _access(emitter, instruction, operand, space, size, access, action)


def load_store(emitter: Emitter, instruction: Instruction) -> str:
    """`ld`, `ldu`, `st`: one value or a vector of them."""
    (type_name,), modifiers = split_types(instruction)
    space, modifiers = _space(modifiers)
    count = 1
    strong = False
    for modifier in modifiers:
        if modifier in ("v2", "v4", "v8"):
            count = int(modifier[1])
        elif modifier in _STRONG:
            strong = True
        elif modifier not in _SCOPES | _CACHES and not modifier.startswith(("L1::", "L2::")):
            raise unsupported(instruction)
        elif modifier.endswith("cache_hint"):
            raise unsupported(instruction, "cache hints")
    stores = instruction.opcode == "st"
    address, other = instruction.operands if stores else reversed(instruction.operands)
    items = other.items if isinstance(other, Vector) else (other,)
    if len(items) != count:
        raise unsupported(instruction)
    width, c_type = type_bytes(type_name), C_TYPES[type_name]
    access = ("STRONG_" if strong else "") + ("WRITE" if stores else "READ")
    action = "store" if stores else "load"
    check = told(emitter, instruction, address, space, width * count, access, action)
    parts = []
    for i, item in enumerate(items):
        at = f"a_ + {width * i}" if i else "a_"
        if stores:
            parts.append(f"store<{c_type}>({at}, {emitter.value(item, type_name)});")
        elif item != Name("_"):
            parts.append(emitter.write(item, type_name, f"load<{c_type}>({at})"))
    place = _place(emitter, instruction, address, space, width * count, access, action)
    return f"{{ {check}char *a_ = {place}; {' '.join(parts)} }}"


_ATOMICS = {
    "and": "x_ & b_",
    "or": "x_ | b_",
    "xor": "x_ ^ b_",
    "exch": "b_",
    "cas": "x_ == b_ ? c_ : x_",
    "inc": "x_ >= b_ ? 0 : x_ + 1",
    "dec": "x_ == 0 || x_ > b_ ? b_ : x_ - 1",
    "min": "min(x_, b_)",
    "max": "max(x_, b_)",
}
_SMALL_SUMS = {
    "f16": "small_add<Half>(x_, b_)",
    "bf16": "small_add<Bfloat>(x_, b_)",
    "f16x2": "pair(small_add<Half>(lower(x_), lower(b_)), small_add<Half>(upper(x_), upper(b_)))",
    "bf16x2": "pair(small_add<Bfloat>(lower(x_), lower(b_)), "
    "small_add<Bfloat>(upper(x_), upper(b_)))",
}


def atomic(emitter: Emitter, instruction: Instruction) -> str:
    """`atom` and `red`: changes memory in one step."""
    (type_name,), modifiers = split_types(instruction)
    space, modifiers = _space(modifiers)
    known = set(_ATOMICS) | {"add"}
    operations = [m for m in modifiers if m in known]
    if len(operations) != 1 or set(modifiers) - known - _SCOPES - _STRONG - {"noftz"}:
        raise unsupported(instruction)
    (operation,) = operations
    operands = list(instruction.operands)
    target: Operand = operands.pop(0) if instruction.opcode == "atom" else Name("_")
    floating = type_name in ("f32", "f64", *_SMALL_SUMS)
    if floating and operation not in ("add", "exch"):
        raise unsupported(instruction)
    if len(operands) != (3 if operation == "cas" else 2) or space in ("const", "param"):
        raise unsupported(instruction)
    c_type = C_TYPES[type_name]
    if operation != "add":
        function = _ATOMICS[operation]
    elif type_name == "f32" and space == "global":  # it flushes there, whatever the options
        function = "flush(flush(x_) + flush(b_))"
    else:
        function = _SMALL_SUMS.get(type_name, "x_ + b_")
    if operation == "add" and type_name in ("s32", "s64"):
        function = f"({c_type})((Bits<{c_type}>)x_ + (Bits<{c_type}>)b_)"
    values = f"{c_type} b_ = {emitter.value(operands[1], type_name)}; "
    captured = "b_"
    if operation == "cas":
        values += f"{c_type} c_ = {emitter.value(operands[2], type_name)}; "
        captured = "b_, c_"
    access = {"exch": "STRONG_WRITE", "cas": "COMPARE_AND_SWAP"}.get(operation, "ATOMIC")
    size = type_bytes(type_name)
    check = told(emitter, instruction, operands[0], space, size, access, "atomic")
    place = _place(emitter, instruction, operands[0], space, size, access, "atomic")
    call = (
        f"{c_type} old_ = atomic<{c_type}>({place}, "
        f"[{captured}]({c_type} x_) {{ return {function}; }}); "
    )
    return f"{{ {check}{values}{call}{emitter.write(target, type_name, 'old_')} }}"


def copy_async(emitter: Emitter, instruction: Instruction) -> str:
    """`cp.async`: from global to shared memory, there when it was waited for."""
    _, *modifiers = instruction.modifiers  # async
    operands = instruction.operands
    if instruction.modifiers[:1] != ("async",):
        raise unsupported(instruction)
    if modifiers == ["commit_group"]:
        return "R->commit(T);"
    if modifiers == ["wait_all"]:
        return "R->wait(T, 0, 1);"
    if modifiers == ["wait_group"]:
        return f"R->wait(T, {emitter.value(operands[0], 'u32')}, 0);"
    hints = {m for m in modifiers if m.startswith("L2::") and m.endswith("B")}
    spaces = {m.split("::")[0] for m in modifiers if m not in hints} - {"ca", "cg"}
    if spaces != {"shared", "global"} or not 3 <= len(operands) <= 4:
        raise unsupported(instruction)
    if not isinstance(operands[2], Integer):
        raise unsupported(instruction)
    size = operands[2].value
    used = emitter.value(operands[3], "u32") if len(operands) > 3 else str(size)
    site = emitter.site(instruction)
    count = ""
    if emitter.mode == "count":
        count = told(emitter, instruction, operands[1], "global", used, "READ", "load")
        count += told(emitter, instruction, operands[0], "shared", size, "WRITE", "store")
    return (
        f"{{ {count}R->copy(T, {site}, {emitter.address(operands[0], 'shared')}, "
        f"{_pointer(emitter, operands[1], 'global')}, {size}, {used}); }}"
    )


def fence(emitter: Emitter, instruction: Instruction) -> str:
    """`membar` and `fence`: order what a thread does before and after for other threads."""
    known = {"sc", "acq_rel", "acquire", "release", "cta", "cluster", "gpu", "sys", "gl"}
    if set(instruction.modifiers) - known:
        raise unsupported(instruction)
    return "__atomic_thread_fence(__ATOMIC_SEQ_CST);"


def nothing(emitter: Emitter, instruction: Instruction) -> str:
    """`prefetch` and the like: hints, without effect here."""
    return ";"
