"""Packs the arguments of a launch, and checks them against a kernel's parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinygrad_mask.emulator.abi import CBuffer, CPointer
from tinygrad_mask.emulator.errors import EmulatorError
from tinygrad_mask.emulator.signatures import KernelParameter
from tinygrad_mask.emulator.translate import ParameterInfo
from tinygrad_mask.emulator.unwritten import mask_of


@dataclass(frozen=True)
class Packed:
    """Arguments as the runtime wants them.

    Args:
        parameters: The parameter block; pointers in it are filled in by the runtime.
        pointers: Which places in it point to which buffers.
        buffers: Arguments, then what is reachable, then variables.
        labels: What each buffer is called in findings.
        names: What each parameter is called in findings.
        keep: What must live as long as the launch.
    """

    parameters: bytes
    pointers: list[CPointer]
    buffers: list[CBuffer]
    labels: list[str]
    names: list[str]
    keep: list[Any]


def pack(
    kernel: str,
    parameters: Sequence[ParameterInfo],
    declared: Sequence[KernelParameter] | None,
    arguments: Sequence[Any],
    reachable: Sequence[np.ndarray],
    variables: Mapping[str, tuple[np.ndarray, bool]],
    *,
    checked: bool,
) -> Packed:
    """Return arguments packed; raises `EmulatorError` where they are not what the kernel takes.

    Args:
        kernel: The kernel's name.
        parameters: Its parameters, as PTX has them.
        declared: Its parameters, as its source declares them, where that is known.
        arguments: What is passed.
        reachable: Arrays that the kernel gets at through pointers kept elsewhere.
        variables: Those of the module, each with whether the kernel may only read it.
        checked: Whether the runtime has to know which bytes nobody has written.
    """
    if len(arguments) != len(parameters):
        raise EmulatorError(
            f"{kernel} takes {len(parameters)} arguments, {len(arguments)} were given"
        )
    size = parameters[-1].offset + parameters[-1].bytes if parameters else 0
    packed = Packed(b"", [], [], [], [], [])
    block = bytearray(size)
    for number, (parameter, argument) in enumerate(zip(parameters, arguments, strict=True)):
        source = declared[number] if declared else None
        name = source.name if source and source.name else ""
        label = f"{name} (argument {number}, " if name else f"argument {number} ("
        packed.names.append(f"{label}{parameter.bytes} bytes)")
        where = f"argument {number}{f' ({name})' if name else ''} of {kernel}"
        if _is_pointer(argument, where):
            if parameter.bytes != 8 or parameter.type not in ("u64", "b64", "s64"):
                raise EmulatorError(
                    f"{where} is a pointer, the kernel takes {_describe_parameter(parameter)}"
                )
            if argument is not None:
                if source and not argument.dtype.hasobject and not source.accepts(argument.dtype):
                    raise EmulatorError(
                        f"{where}: expected {source.expected} for {source.type}, "
                        f"got {argument.dtype}"
                    )
                packed.pointers.append(CPointer(parameter.offset, len(packed.buffers)))
                _add(packed, argument, label, where, stays=False, checked=checked)
            continue
        data = argument.tobytes()
        if len(data) != parameter.bytes or not _kinds_agree(argument.dtype, parameter.type):
            raise EmulatorError(
                f"{where} is {argument.dtype} of {len(data)} bytes, "
                f"the kernel takes {_describe_parameter(parameter)}"
            )
        block[parameter.offset : parameter.offset + parameter.bytes] = data
    for number, array in enumerate(reachable):
        where = f"reachable array {number} of {kernel}"
        if not isinstance(array, np.ndarray):
            raise EmulatorError(f"{where} is no NumPy array but {type(array).__name__}")
        _add(packed, array, f"reachable array {number} (", where, stays=True, checked=checked)
    for name, (array, read_only) in variables.items():
        _add(packed, array, f"{name} (", name, stays=False, read_only=read_only, granule=4)
    return replace(packed, parameters=bytes(block))


def _is_pointer(argument: Any, where: str) -> bool:
    """Tell whether an argument is passed as a pointer, else it is a scalar or a struct."""
    if argument is None:
        return True
    if isinstance(argument, np.ndarray):
        if argument.ndim or argument.dtype.names is None:
            if argument.ndim == 0:
                raise EmulatorError(
                    f"{where} is an array of no dimensions: pass a NumPy scalar for a number, an "
                    "array of shape (1,) for a pointer"
                )
            return True
        return False
    if isinstance(argument, np.generic):
        return False
    raise EmulatorError(
        f"{where} is of type {type(argument).__name__}, which does not tell its width: "
        "pass a NumPy array, a NumPy scalar such as np.int32(3), or None for a null pointer"
    )


def _kinds_agree(dtype: np.dtype[Any], ptx_type: str) -> bool:
    """Tell whether a scalar is a float just where PTX says that one is wanted."""
    if dtype.names is not None or ptx_type.startswith("b"):
        return True
    return (dtype.kind == "f") == ptx_type.startswith("f")


def _describe_parameter(parameter: ParameterInfo) -> str:
    return f"{parameter.bytes} bytes (.{parameter.type} in PTX)"


def _add(
    packed: Packed,
    array: np.ndarray,
    label: str,
    where: str,
    *,
    stays: bool,
    read_only: bool | None = None,
    granule: int | None = None,
    checked: bool = False,
) -> None:
    if not array.flags.c_contiguous:
        raise EmulatorError(f"{where} is not C-contiguous")
    if array.dtype.hasobject or not array.dtype.isnative:
        raise EmulatorError(f"{where} is of dtype {array.dtype}, which no kernel understands")
    address = array.ctypes.data
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    unwritten = mask_of(array) if checked else None
    packed.buffers.append(
        CBuffer(
            address,
            array.nbytes,
            granule or {1: 1, 2: 2}.get(array.dtype.itemsize, 4),
            not array.flags.writeable if read_only is None else read_only,
            stays,
            (address - base.ctypes.data) % 256,
            None if unwritten is None else unwritten.ctypes.data,
        )
    )
    size = f"{array.nbytes} bytes"
    if granule is None:
        size = f"{array.dtype} array of shape {array.shape}, {size}"
    packed.labels.append(f"{label}{size})")
    packed.keep.append((array, unwritten))
