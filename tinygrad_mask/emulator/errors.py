"""What can go wrong: the emulator cannot run a kernel, or the kernel is wrong."""

from collections.abc import Sequence

KINDS = (
    "nothing",
    "out of bounds",
    "misaligned",
    "uninitialised shared memory",
    "write to read-only memory",
    "race",
    "asynchronous copy not waited for",
    "divergent barrier",
    "wrong warp mask",
    "divergent warp operation",
    "trap",
    "assertion",
    "endless loop",
    "uninitialised global memory",
)
"""What a finding can be, in the order of the runtime's `Kind` (abi.h)."""


class EmulatorError(RuntimeError):
    """The emulator cannot do what was asked: a missing tool, a wrong argument, ..."""


class CompileError(EmulatorError):
    """NVRTC did not compile the source; the message has its log."""


class UnsupportedError(EmulatorError):
    """The PTX has something that the emulator does not know; the message names it and its line."""


class KernelError(EmulatorError):
    """A finding: what a kernel does wrong, where, and which thread does it.

    Args:
        kind: One of `KINDS`.
        detail: What was done and what is wrong with it.
        kernel: The kernel, as it was asked for.
        file: The source file, as it was named to the compiler.
        line: The line in it, 0 where the compiler tells none.
        callers: File and line of the calls through which an inlined line got into the kernel,
            innermost first.
        block: `blockIdx` of the thread.
        thread: `threadIdx` of the thread.
        other: File and line of the other access or operation, where two do not go together.

    `findings` has all findings of the launch, this one first.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        kernel: str,
        file: str,
        line: int,
        callers: Sequence[tuple[str, int]] = (),
        block: tuple[int, int, int],
        thread: tuple[int, int, int],
        other: tuple[str, int] | None = None,
    ) -> None:
        inlined = "".join(f", called at {f}:{n}" for f, n in callers)
        super().__init__(
            f"{file}:{line}: {kind} in {kernel}, block {block}, thread {thread}{inlined}: {detail}"
        )
        self.kind = kind
        self.detail = detail
        self.kernel = kernel
        self.file = file
        self.line = line
        self.callers = tuple(callers)
        self.block = block
        self.thread = thread
        self.other = other
        self.findings: tuple[KernelError, ...] = (self,)
