"""Sorts instructions into the kinds that count mode reports."""

from tinygrad_mask.emulator.ptx import TYPES, Instruction, type_bytes

_MOVES = {"mov", "selp", "cvta", "prmt"}
_BRANCHES = {"bra", "brx", "ret", "exit", "call"}
_WARP = {"shfl", "vote", "match", "redux", "activemask", "elect"}
_SPACES = {"global", "shared", "local", "const", "param"}


def instruction_kind(instruction: Instruction) -> str:
    """Return the kind of an instruction.

    "fma.f32", "f32" (others on float32), "f64" (all on float64), "f16" (all on float16 and
    bfloat16), "integer", "move", "convert", "branch", "barrier", "warp", "other", or for memory
    "load.global.128": what is done, in which space, how many bits a thread. `cp.async` is
    "copy.128".
    """
    opcode, modifiers = instruction.opcode, instruction.modifiers
    types = [m for m in modifiers if m in TYPES]
    if opcode in ("ld", "ldu", "st", "atom", "red"):
        action = {"ld": "load", "ldu": "load", "st": "store"}.get(opcode, "atomic")
        space = next((s for m in modifiers if (s := m.split("::")[0]) in _SPACES), "generic")
        count = next((int(m[1]) for m in modifiers if m in ("v2", "v4", "v8")), 1)
        return f"{action}.{space}.{8 * type_bytes(types[-1]) * count}"
    if opcode == "cp" and "commit_group" not in modifiers and len(instruction.operands) >= 3:
        return f"copy.{8 * getattr(instruction.operands[2], 'value', 0)}"
    if opcode in _MOVES:
        return "move"
    if opcode == "cvt":
        return "convert"
    if opcode in _BRANCHES:
        return "branch"
    if opcode in ("bar", "barrier"):
        return "barrier"
    if opcode in _WARP:
        return "warp"
    if not types:
        return "other"
    if types[-1] == "f32":
        return "fma.f32" if opcode in ("fma", "mad") else "f32"
    if types[-1] == "f64":
        return "f64"
    if types[-1] in ("f16", "f16x2", "bf16", "bf16x2"):
        return "f16"
    if types[-1] == "f32x2":
        return "f32x2"
    return "integer"
