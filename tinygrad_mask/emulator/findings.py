"""Says in words what the runtime found."""

import re
from collections.abc import Sequence

from tinygrad_mask.emulator.abi import SPACES, CFinding
from tinygrad_mask.emulator.errors import KINDS, KernelError
from tinygrad_mask.emulator.translate import Description, SiteInfo

_ACCESSES = {1: "read", 2: "write", 5: "atomic read", 6: "atomic write", 7: "atomic operation"}
_ACCESSES[15] = "compare-and-swap"
_PAST = {1: "read", 2: "written", 5: "read", 6: "written atomically", 7: "changed atomically"}


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    return (values[0], values[1], values[2])


def _at(site: SiteInfo) -> str:
    return f"{site.file}:{site.line}"


def shared_name(symbol: str) -> str:
    """Return the name of a shared variable in the source from its symbol."""
    match = re.search(r"E(\d+)(\w+)$", symbol)
    if symbol.startswith("_Z") and match:
        return match[2][: int(match[1])]
    return symbol


def kernel_error(
    finding: CFinding,
    kernel: str,
    description: Description,
    labels: Sequence[str],
    parameters: Sequence[str],
    dynamic_bytes: int,
) -> KernelError:
    """Return a finding as an exception.

    `labels` are the names of the buffers in the order in which the runtime was given them,
    `parameters` those of the kernel's parameters.
    """
    site = description.sites[finding.site]
    kind = KINDS[finding.kind]
    text = finding.text.decode(errors="replace")
    if kind in ("divergent barrier", "divergent warp operation", "wrong warp mask"):
        detail = _synchronisation(finding, kind, description, text)
    elif kind == "endless loop":
        detail = f"the thread went back to the beginning of loops {finding.offset} times"
    elif kind in ("trap", "assertion"):
        detail = text or f"the kernel executed '{site.text}'"
    else:
        detail = _access(finding, kind, description, labels, parameters, dynamic_bytes)
    other = description.sites[finding.other_site] if finding.has_other else None
    return KernelError(
        kind,
        detail,
        kernel=kernel,
        file=site.file,
        line=site.line,
        callers=site.callers,
        block=_triple(finding.block),
        thread=_triple(finding.thread),
        other=(other.file, other.line) if other else None,
    )


def _other(finding: CFinding, description: Description) -> str:
    other = description.sites[finding.other_site]
    block, thread = _triple(finding.other_block), _triple(finding.other_thread)
    where = f"thread {thread}" if block == _triple(finding.block) else f"block {block}, {thread}"
    return f"by {where} at {_at(other)}"


def _access(
    finding: CFinding,
    kind: str,
    description: Description,
    labels: Sequence[str],
    parameters: Sequence[str],
    dynamic_bytes: int,
) -> str:
    space, access = SPACES[finding.space], _ACCESSES[finding.access]
    offset, number = finding.offset, finding.object
    if space == "shared" and number >= 0:
        variable = description.shared[number]
        size = dynamic_bytes if variable.dynamic else variable.bytes
        kept = "dynamic shared" if variable.dynamic else "shared"
        where = f"byte {offset} of {kept} {shared_name(variable.name)} ({size} bytes)"
    elif space == "shared":
        where = f"shared address {offset}, where there is no variable"
    elif space == "local":
        where = f"byte {offset} of the thread's local arrays"
        if number >= 0:
            where += f" ({number} bytes)"
    elif space == "parameter":
        where = f"byte {offset} of {parameters[number] if number >= 0 else 'no parameter'}"
    elif number >= 0:
        where = f"byte {offset} of {labels[number]}"
    elif offset == 0:
        where = "a null pointer"
    else:
        where = f"address {offset & (2**64 - 1):#x}, which is in no array of this launch"
    what = f"{access} of {finding.bytes} bytes at {where}"
    if kind == "race":
        past = _PAST[finding.other_access]
        return f"{what}, {past} {_other(finding, description)}: nothing orders the two"
    if kind == "misaligned":
        return f"{what}: the address is not a multiple of {finding.bytes}"
    if kind == "uninitialised shared memory":
        return f"{what}, which nobody has written in this block"
    if kind == "uninitialised global memory":
        return f"{what}, which nobody has written"
    if kind == "asynchronous copy not waited for":
        return f"{what}, which a copy begun {_other(finding, description)} may not have reached yet"
    return what


def _synchronisation(finding: CFinding, kind: str, description: Description, text: str) -> str:
    parts = [text] if text else []
    if kind != "divergent barrier":
        parts.append(f"mask {finding.mask:#010x}")
    if finding.other_mask:
        lanes = ", ".join(str(i) for i in range(32) if finding.other_mask >> i & 1)
        if kind == "divergent warp operation":
            parts.append(f"lanes {lanes} do not come")
        elif "returned" in text:
            parts.append(f"lanes {lanes}")
        else:
            parts.append(f"the other mask is {finding.other_mask:#010x}")
    if finding.threads:
        tally = [f"{finding.waiting} wait here"] if kind == "divergent barrier" else []
        if finding.elsewhere:
            tally.append(f"{finding.elsewhere} wait at other barriers")
        if finding.in_warp:
            tally.append(f"{finding.in_warp} wait in a warp operation")
        if kind != "divergent barrier" and finding.waiting:
            tally.append(f"{finding.waiting} wait at a barrier")
        if finding.exited:
            tally.append(f"{finding.exited} have returned")
        parts.append(f"of {finding.threads} threads {', '.join(tally)}")
    if finding.has_other:
        parts.append(f"the other is at {_at(description.sites[finding.other_site])}")
    return "; ".join(parts)
