"""PTX instructions that branch, call, synchronise, and work across a warp."""

from collections.abc import Callable, Mapping

from tinygrad_mask.emulator.conversions import first_of
from tinygrad_mask.emulator.emitter import Emitter
from tinygrad_mask.emulator.instructions import split_types, unsupported
from tinygrad_mask.emulator.ptx import Instruction, Name, Register, Vector

_REFUSED = {
    "malloc": "the device's heap",
    "free": "the device's heap",
}


def c_name(name: str) -> str:
    """Return a name that C++ allows."""
    return name.replace("$", "_d_").replace("%", "_p_")


def label(name: str) -> str:
    """Return the C++ label of a PTX label."""
    return f"L_{c_name(name)}"


def branch(emitter: Emitter, instruction: Instruction) -> str:
    """`bra`."""
    (target,) = instruction.operands
    if not isinstance(target, Name) or set(instruction.modifiers) - {"uni"}:
        raise unsupported(instruction)
    return f"{_looped(emitter, instruction, target.name)}goto {label(target.name)};"


def _looped(emitter: Emitter, instruction: Instruction, target: str) -> str:
    """Return the statement that counts how often a thread goes back, if it goes back there.

    Now and then the runtime lets other threads go on then, and it ends what never ends.
    """
    if target not in emitter.passed:
        return ""
    emitter.loops = True
    site = emitter.site(instruction)
    return f"if (++loops_ == LOOPS) {{ loops_ = 0; R->looped(T, {site}); }} "


def branch_table(
    emitter: Emitter, instruction: Instruction, tables: Mapping[str, tuple[str, ...]]
) -> str:
    """`brx.idx`: to one of a list of labels."""
    index, table = instruction.operands
    if not isinstance(table, Name) or instruction.modifiers[0] != "idx":
        raise unsupported(instruction)
    cases = " ".join(
        f"case {i}: {_looped(emitter, instruction, name)}goto {label(name)};"
        for i, name in enumerate(tables[table.name])
    )
    return f"switch ({emitter.value(index, 'u32')}) {{ {cases} default: __builtin_unreachable(); }}"


def leave(emitter: Emitter, instruction: Instruction) -> str:
    """`ret` and `exit`."""
    if instruction.opcode == "exit" and not emitter.function.is_entry:
        raise unsupported(instruction, "exit from within a function that was not inlined")
    return "return;"


def call(
    emitter: Emitter,
    instruction: Instruction,
    functions: Mapping[str, bool],
    name_of: Callable[[str, Instruction], str],
) -> str:
    """`call` of a function that was not inlined.

    `functions` tells of each function in the module whether it has a body, `name_of` what it is
    called in C++.
    """
    operands = list(instruction.operands)
    results: tuple[str, ...] = ()
    if operands and isinstance(operands[0], Vector):
        results = tuple(_parameter(emitter, o, instruction) for o in operands[0].items)
        del operands[0]
    callee = operands.pop(0)
    arguments: tuple[str, ...] = ()
    if operands and isinstance(operands[0], Vector):
        arguments = tuple(_parameter(emitter, o, instruction) for o in operands[0].items)
        del operands[0]
    if operands or isinstance(callee, Register):
        raise unsupported(instruction, "a call through a pointer")
    if not isinstance(callee, Name):
        raise unsupported(instruction)
    if callee.name == "__assertfail":
        condition, file, function = (f"load<const char *>({arguments[i]})" for i in (0, 1, 3))
        line = f"load<u32>({arguments[2]})"
        site = emitter.site(instruction)
        return f"R->assertion(T, {site}, {condition}, {file}, {line}, {function});"
    if callee.name == "vprintf":
        texts = ", ".join(f"load<const char *>({argument})" for argument in arguments)
        site = emitter.site(instruction)
        return f"store<u32>({results[0]}, R->print(T, {site}, {texts}));"
    if not functions.get(callee.name):
        what = _REFUSED.get(callee.name, f"a call of {callee.name}, which has no body")
        raise unsupported(instruction, what)
    name = name_of(callee.name, instruction)
    return f"{name}({', '.join(['T', *results, *arguments])});"


def _parameter(emitter: Emitter, operand: object, instruction: Instruction) -> str:
    if not isinstance(operand, Name) or operand.name not in emitter.symbols:
        raise unsupported(instruction)
    return f"(char *){emitter.symbols[operand.name]}"


def barrier(emitter: Emitter, instruction: Instruction) -> str:
    """`bar` and `barrier`: of a block, of a part of it, of lanes of a warp."""
    types, modifiers = split_types(instruction)
    modifiers = [m for m in modifiers if m not in ("cta", "aligned")]
    operands = list(instruction.operands)
    site = emitter.site(instruction)
    if modifiers == ["warp", "sync"]:
        mask = emitter.value(operands[0], "u32")
        return f"R->meet(T, {site}, WARP_SYNC, {mask}, 0, 0);"
    if modifiers == ["sync"] and 1 <= len(operands) <= 2:
        values = [emitter.value(o, "u32") for o in operands] + ["0"]
        return f"R->barrier(T, {site}, {values[0]}, {values[1]}, REDUCE_NONE, 0);"
    if modifiers == ["arrive"] and len(operands) == 2:
        values = [emitter.value(o, "u32") for o in operands]
        return f"R->arrive(T, {site}, {values[0]}, {values[1]});"
    if modifiers[:1] == ["red"] and len(modifiers) == 2 and 3 <= len(operands) <= 4:
        kind = {"and": "REDUCE_AND", "or": "REDUCE_OR", "popc": "REDUCE_POPC"}[modifiers[1]]
        count = emitter.value(operands[2], "u32") if len(operands) == 4 else "0"
        value = emitter.value(operands[-1], "pred")
        result = (
            f"R->barrier(T, {site}, {emitter.value(operands[1], 'u32')}, {count}, {kind}, {value})"
        )
        if types == ["pred"]:
            result += " != 0"
        return emitter.write(operands[0], types[0], result)
    raise unsupported(instruction)


def shuffle(emitter: Emitter, instruction: Instruction) -> str:
    """`shfl.sync`: reads another lane's register."""
    modes = {"up": "UP", "down": "DOWN", "bfly": "BUTTERFLY", "idx": "INDEXED"}
    types, modifiers = split_types(instruction)
    if types != ["b32"] or modifiers[:1] != ["sync"] or modifiers[1] not in modes:
        raise unsupported(instruction)
    target, predicate = first_of(instruction.operands[0])
    value = emitter.value(instruction.operands[1], "b32")
    b, c, mask = (emitter.value(o, "u32") for o in instruction.operands[2:])
    site = emitter.site(instruction)
    writes = emitter.write(target, "b32", "q_")
    if predicate is not None:
        writes += " " + emitter.write(predicate, "pred", "s_.valid")
    return (
        f"{{ Source s_ = source({modes[modifiers[1]]}, T->lane, {b}, {c}); "
        f"u32 q_ = (u32)R->meet(T, {site}, WARP_SHUFFLE, {mask}, {value}, s_.lane); {writes} }}"
    )


def vote(emitter: Emitter, instruction: Instruction) -> str:
    """`vote.sync`: a predicate of all lanes."""
    types, modifiers = split_types(instruction)
    if modifiers[:1] != ["sync"] or len(modifiers) != 2:
        raise unsupported(instruction)
    target, predicate, mask_operand = instruction.operands
    value, mask = emitter.value(predicate, "pred"), emitter.value(mask_operand, "u32")
    ballot = f"R->meet(T, {emitter.site(instruction)}, WARP_BALLOT, {mask}, "
    if modifiers[1] == "ballot":
        return emitter.write(target, types[0], f"(u32){ballot}{value}, 0)")
    if modifiers[1] == "any":
        return emitter.write(target, "pred", f"(u32){ballot}{value}, 0) != 0")
    if modifiers[1] == "all":
        return emitter.write(target, "pred", f"(u32){ballot}!({value}), 0) == 0")
    if modifiers[1] == "uni":
        test = emitter.write(target, "pred", "(u32)q_ == 0 || (u32)q_ == q_ >> 32")
        return f"{{ u64 q_ = {ballot}{value}, 0); {test} }}"
    raise unsupported(instruction)


def match(emitter: Emitter, instruction: Instruction) -> str:
    """`match.sync`: which lanes hold the same value."""
    (type_name,), modifiers = split_types(instruction)
    target, predicate = first_of(instruction.operands[0])
    value = emitter.value(instruction.operands[1], type_name)
    mask = emitter.value(instruction.operands[2], "u32")
    same = f"u64 q_ = R->meet(T, {emitter.site(instruction)}, WARP_MATCH, {mask}, {value}, 0); "
    if sorted(modifiers) == ["any", "sync"]:
        return f"{{ {same}{emitter.write(target, 'b32', '(u32)q_')} }}"
    if sorted(modifiers) == ["all", "sync"]:
        writes = emitter.write(target, "b32", "all_ ? (u32)q_ : 0")
        if predicate is not None:
            writes += " " + emitter.write(predicate, "pred", "all_")
        return f"{{ {same}bool all_ = (u32)q_ == q_ >> 32; {writes} }}"
    raise unsupported(instruction)


def reduce(emitter: Emitter, instruction: Instruction) -> str:
    """`redux.sync`: a sum, minimum, ... over lanes."""
    (type_name,), modifiers = split_types(instruction)
    operations = {
        "add": "WARP_ADD",
        "and": "WARP_AND",
        "or": "WARP_OR",
        "xor": "WARP_XOR",
        "min": "WARP_MIN",
        "max": "WARP_MAX",
    }
    if modifiers[:1] != ["sync"] or len(modifiers) != 2 or modifiers[1] not in operations:
        raise unsupported(instruction)
    operation = operations[modifiers[1]]
    if type_name not in ("u32", "s32", "b32"):
        raise unsupported(instruction)
    if type_name == "s32" and modifiers[1] in ("min", "max"):
        operation += "_SIGNED"
    extended = "s64" if type_name == "s32" else "u64"
    value = f"(u64)({extended}){emitter.value(instruction.operands[1], type_name)}"
    mask = emitter.value(instruction.operands[2], "u32")
    call_text = f"(u32)R->meet(T, {emitter.site(instruction)}, {operation}, {mask}, {value}, 0)"
    return emitter.write(instruction.operands[0], type_name, call_text)


def active_mask(emitter: Emitter, instruction: Instruction) -> str:
    """`activemask`: which lanes happen to run together; here each thread runs on its own."""
    return emitter.write(instruction.operands[0], "b32", "1u << T->lane")


def elect(emitter: Emitter, instruction: Instruction) -> str:
    """`elect.sync`: one lane of a mask."""
    target, predicate = first_of(instruction.operands[0])
    mask = emitter.value(instruction.operands[1], "u32")
    ballot = f"(u32)R->meet(T, {emitter.site(instruction)}, WARP_BALLOT, {mask}, 1, 0)"
    writes = emitter.write(target, "b32", "leader_")
    if predicate is not None:
        writes += " " + emitter.write(predicate, "pred", "leader_ == T->lane")
    return f"{{ u32 leader_ = (u32)__builtin_ctz({ballot}); {writes} }}"


def trap(emitter: Emitter, instruction: Instruction) -> str:
    """`trap` and `brkpt`: the kernel itself says that something is wrong."""
    return f"R->fail(T, {emitter.site(instruction)}, TRAP, nullptr);"


def sleep(emitter: Emitter, instruction: Instruction) -> str:
    """`nanosleep`: other threads go on."""
    return "R->give_way(T);"
