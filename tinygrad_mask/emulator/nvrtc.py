"""NVRTC, NVIDIA's compiler from CUDA C++ to PTX, from its wheel on PyPI: it needs no GPU."""

import ctypes
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinygrad_mask.emulator.errors import CompileError, EmulatorError
from tinygrad_mask.emulator.headers import include_folders

_PATTERNS = ("cu*/lib/libnvrtc.so.*", "cuda_nvrtc/lib/libnvrtc.so.*")


@dataclass(frozen=True)
class Compiled:
    """What NVRTC made of a source.

    Args:
        ptx: The PTX.
        names: The symbol of each name expression.
        log: What the compiler had to say, warnings among it.
        cubin: The machine code, where it was asked for.
    """

    ptx: str
    names: dict[str, str]
    log: str
    cubin: bytes = b""


@functools.cache
def library_path() -> Path:
    """Return where NVRTC is.

    Raises `EmulatorError` where it is not installed.
    """
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for pattern in _PATTERNS:
            found = [p for p in sorted(Path(root).glob(pattern)) if "alt" not in p.name]
            if found:
                return found[-1]
    raise EmulatorError(
        "NVRTC was not found: the emulator compiles kernels with it, on any machine; "
        'install it with pip install "tinygrad_mask[emulator]" (the package nvidia-cuda-nvrtc)'
    )


@functools.cache
def _library() -> ctypes.CDLL:
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise EmulatorError(f"NVRTC cannot be loaded from {path}: {error}") from error
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def _call(function: str, *arguments: object) -> None:
    library = _library()
    code = getattr(library, function)(*arguments)
    if code:
        raise EmulatorError(f"{function}: {library.nvrtcGetErrorString(code).decode()}")


@functools.cache
def version() -> tuple[int, int]:
    """Return NVRTC's version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


@functools.cache
def architectures() -> tuple[int, ...]:
    """Return the architectures that NVRTC compiles for: 75, 80, ..."""
    count = ctypes.c_int()
    _call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
    array = (ctypes.c_int * count.value)()
    _call("nvrtcGetSupportedArchs", array)
    return tuple(array)


def _text(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    _call(f"nvrtcGet{what}", program, buffer)
    return buffer.raw


def _strings(items: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(items))(*(item.encode() for item in items))


def compile_source(
    source: str,
    *,
    name: str,
    arch: str,
    headers: Mapping[str, str],
    options: Sequence[str] = (),
    name_expressions: Sequence[str] = (),
) -> Compiled:
    """Compile a source.

    Args:
        source: CUDA C++.
        name: What the file is called in messages.
        arch: "compute_90" for PTX alone, "sm_90" for machine code too.
        headers: Contents of what it includes, by name.
        options: Further options of NVRTC.
        name_expressions: Instances of templates to make, such as `scale<float, 4>`.

    Raises `CompileError` with NVRTC's log, and `EmulatorError` where NVRTC is missing.
    """
    program = ctypes.c_void_p()
    _call(
        "nvrtcCreateProgram",
        ctypes.byref(program),
        source.encode(),
        name.encode(),
        len(headers),
        _strings(list(headers.values())),
        _strings(list(headers)),
    )
    try:
        for expression in name_expressions:
            _call("nvrtcAddNameExpression", program, expression.encode())
        arguments = [f"--gpu-architecture={arch}", *options]
        code = _library().nvrtcCompileProgram(program, len(arguments), _strings(arguments))
        log = _text(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if code:
            reason = _library().nvrtcGetErrorString(code).decode()
            hint = ""
            if "open source file" in log and not include_folders():
                hint = "\npip install 'tinygrad_mask[emulator]' brings CUDA's headers"
            raise CompileError(f"NVRTC did not compile {name} for {arch}: {reason}\n{log}{hint}")
        names = {}
        for expression in name_expressions:
            symbol = ctypes.c_char_p()
            _call("nvrtcGetLoweredName", program, expression.encode(), ctypes.byref(symbol))
            names[expression] = (symbol.value or b"").decode()
        cubin = _text(program, "CUBIN") if arch.startswith("sm_") else b""
        ptx = _text(program, "PTX").rstrip(b"\0").decode()
        return Compiled(ptx, names, log, cubin)
    finally:
        _call("nvrtcDestroyProgram", ctypes.byref(program))


@functools.cache
def identity() -> str:
    """Return what tells one NVRTC from another, without the time that loading it takes."""
    path = library_path()
    packages = sorted(p.name for p in path.parents[3].glob("nvidia_cuda_nvrtc*.dist-info"))
    return " ".join([path.name, str(path.stat().st_size), *packages])
