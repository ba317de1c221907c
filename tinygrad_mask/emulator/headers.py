"""Standard headers for kernels, which NVRTC does not bring, and the includes of a file.

CUDA's own headers (`cuda_fp16.h`, `cooperative_groups.h`, `cuda/std/...`) come from NVIDIA's wheels
`nvidia-cuda-runtime`, `nvidia-cuda-crt` and `nvidia-cuda-cccl`. The headers of the C and C++
standard libraries are in none of these; the ones that make sense in a kernel are here.
"""

import functools
import importlib.util
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_INTEGERS = {
    "int8_t": "signed char",
    "int16_t": "short",
    "int32_t": "int",
    "int64_t": "long long",
    "intptr_t": "long long",
    "intmax_t": "long long",
}
_UNSIGNED = {f"u{name}": f"unsigned {c.removeprefix('signed ')}" for name, c in _INTEGERS.items()}


def _typedefs(types: Mapping[str, str]) -> str:
    return "".join(f"typedef {c} {name};\n" for name, c in types.items())


def _into_std(names: str) -> str:
    return "namespace std { " + " ".join(f"using ::{name};" for name in names.split()) + " }\n"


_LIMITS = {
    "CHAR_BIT": "8",
    "SCHAR_MIN": "(-128)",
    "SCHAR_MAX": "127",
    "UCHAR_MAX": "255",
    "CHAR_MIN": "(-128)",
    "CHAR_MAX": "127",
    "SHRT_MIN": "(-32768)",
    "SHRT_MAX": "32767",
    "USHRT_MAX": "65535",
    "INT_MIN": "(-2147483647 - 1)",
    "INT_MAX": "2147483647",
    "UINT_MAX": "4294967295u",
    "LONG_MIN": "(-9223372036854775807l - 1)",
    "LONG_MAX": "9223372036854775807l",
    "ULONG_MAX": "18446744073709551615ul",
    "LLONG_MIN": "(-9223372036854775807ll - 1)",
    "LLONG_MAX": "9223372036854775807ll",
    "ULLONG_MAX": "18446744073709551615ull",
}
_INTEGER_LIMITS = {
    **{f"INT{n}_MAX": f"{2 ** (n - 1) - 1}{'ll' if n == 64 else ''}" for n in (8, 16, 32, 64)},
    **{f"INT{n}_MIN": f"(-INT{n}_MAX - 1)" for n in (8, 16, 32, 64)},
    **{f"UINT{n}_MAX": f"{2**n - 1}{'ull' if n == 64 else 'u'}" for n in (8, 16, 32, 64)},
    "SIZE_MAX": "UINT64_MAX",
}
_FLOATS = {
    "FLT_MAX": "3.402823466e+38f",
    "FLT_MIN": "1.175494351e-38f",
    "FLT_EPSILON": "1.192092896e-07f",
    "FLT_DIG": "6",
    "FLT_MANT_DIG": "24",
    "DBL_MAX": "1.7976931348623158e+308",
    "DBL_MIN": "2.2250738585072014e-308",
    "DBL_EPSILON": "2.2204460492503131e-16",
    "DBL_DIG": "15",
    "DBL_MANT_DIG": "53",
}
_MATH = {
    "INFINITY": "__int_as_float(0x7f800000)",
    "NAN": "__int_as_float(0x7fffffff)",
    "HUGE_VAL": "__longlong_as_double(0x7ff0000000000000ll)",
    "M_PI": "3.14159265358979323846",
    "M_E": "2.7182818284590452354",
    "M_SQRT2": "1.41421356237309504880",
}
_MATH_FUNCTIONS = (
    "abs acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 "
    "expm1 fabs fdim floor fma fmax fmin fmod frexp hypot isfinite isinf isnan ldexp lgamma log "
    "log10 log1p log2 modf nearbyint pow rint round signbit sin sinh sqrt tan tanh tgamma trunc"
)


def _defines(values: Mapping[str, str]) -> str:
    return "".join(f"#ifndef {n}\n#define {n} {value}\n#endif\n" for n, value in values.items())


_ASSERT = """\
#undef assert
#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
#define assert(condition) \\
    ((condition) ? (void)0 : __assertfail(#condition, __FILE__, __LINE__, __func__, sizeof(char)))
#endif
"""
_ONCE = "#pragma once\n"


def _pair(c_name: str, text: str, names: str = "") -> dict[str, str]:
    """Return a header of C and the one of C++ that puts its names into `std`."""
    cpp = f"#pragma once\n#include <{c_name}.h>\n{_into_std(names) if names else ''}"
    return {f"{c_name}.h": text, f"c{c_name}": cpp}


STANDARD_HEADERS: dict[str, str] = {
    **_pair(
        "stdint",
        _ONCE + _typedefs({**_INTEGERS, **_UNSIGNED}) + _defines(_INTEGER_LIMITS),
        " ".join([*_INTEGERS, *_UNSIGNED]),
    ),
    **_pair("stddef", _ONCE, "size_t ptrdiff_t"),
    **_pair("limits", _ONCE + _defines(_LIMITS)),
    **_pair("float", _ONCE + _defines(_FLOATS)),
    **_pair("math", _ONCE + _defines(_MATH), _MATH_FUNCTIONS),
    "stdio.h": _ONCE,
    "cstdio": _ONCE + _into_std("printf"),
    "stdlib.h": _ONCE,
    "cstdlib": _ONCE,
    "string.h": _ONCE,
    "cstring": _ONCE + _into_std("memcpy memset"),
    # No guard: each inclusion takes NDEBUG anew, as the standard says.
    "assert.h": _ASSERT,
    "cassert": _ASSERT,
}
"""Texts of standard headers, by name; `size_t`, `printf`, `memcpy`, `sqrt`, ... are NVRTC's own."""


@functools.cache
def include_folders() -> tuple[Path, ...]:
    """Return the folders of CUDA's headers; none if the wheels that bring them are missing."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for folder in (*sorted(Path(root).glob("cu*/include")), Path(root, "cuda_runtime/include")):
            if (folder / "cuda_fp16.h").is_file():
                return tuple(f for f in (folder, folder / "cccl") if f.is_dir())
    return ()


@functools.cache
def is_system_header(path: str) -> bool:
    """Tell whether a file, by its name in PTX, is NVRTC's own header or one of CUDA's."""
    if path.endswith("__nv_nvrtc_builtin_header.h"):
        return True
    return any(Path(path).is_relative_to(folder) for folder in include_folders())


@functools.cache
def identity() -> str:
    """Return what tells one set of CUDA's headers from another: the wheels and their versions."""
    folders = include_folders()
    if not folders:
        return ""
    site = folders[0].parents[2]
    return " ".join(
        sorted(p.name for p in site.glob("nvidia_cuda_*.dist-info") if "nvrtc" not in p.name)
    )


_INCLUDE = re.compile(r'^([ \t]*#[ \t]*include[ \t]*)(["<])([^">\n]+)([">])', re.M)


def included(source: str) -> set[str]:
    """Return the names that a source includes itself."""
    return {match[3] for match in _INCLUDE.finditer(source)}


def gather(source: str, folder: Path, folders: Sequence[Path] = ()) -> tuple[str, dict[str, str]]:
    """Return a source, and the contents of all that it includes from disk, for NVRTC.

    As with other compilers a name in quotation marks is looked for next to the file that includes
    it, then in the folders. NVRTC knows headers by one name each, so an include that leads to a
    file is rewritten to that file's path from `folder`; lines stay where they are. What is in none
    of the folders is left to the compiler.

    Args:
        source: CUDA C++.
        folder: The folder that the source is in.
        folders: Further folders with headers.
    """
    headers: dict[str, str] = {}

    def name_of(file: Path) -> str:
        for root in (folder, *folders):
            if file.is_relative_to(root.resolve()):
                return file.relative_to(root.resolve()).as_posix()
        return posixpath.relpath(file.as_posix(), folder.resolve().as_posix())

    def rewriter(own: Path) -> Callable[[re.Match[str]], str]:
        def rewrite(match: re.Match[str]) -> str:
            near = [own] if match[2] == '"' else []
            candidates = (root / match[3] for root in (*near, folder, *folders))
            file = next((f.resolve() for f in candidates if f.is_file()), None)
            if file is None:
                return match[0]
            name = name_of(file)
            if name not in headers:
                headers[name] = ""  # a header that includes itself ends here
                headers[name] = _INCLUDE.sub(rewriter(file.parent), file.read_text())
            return f'{match[1]}"{name}"'

        return rewrite

    return _INCLUDE.sub(rewriter(folder), source), headers
