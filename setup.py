"""Builds the kernels for the CPU, one extension module an instruction set, and takes those for CUDA
along as they are: they are compiled where they run.

Which of the modules is used is decided at run time (backends/cpu.py), so that what one machine
built runs on another. All are optional: where there is no compiler, or one without the vector
extension of GCC and Clang, the package installs all the same and runs on its NumPy kernels.

TINYGRAD_MASK_SANITIZE=1 builds them with AddressSanitizer and UndefinedBehaviorSanitizer,
TINYGRAD_MASK_INSTRUCTION_SETS=baseline,avx2 (say) only these.
"""

import os
import platform
from pathlib import Path

import numpy
import pybind11
from pybind11.setup_helpers import ParallelCompile
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(path.as_posix() for path in Path("kernels/cpu").glob("*.cpp"))
HEADERS = sorted(path.as_posix() for path in Path("kernels/cpu").glob("*.h"))

INSTRUCTION_SETS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS["avx2"] = ["-mavx2", "-mfma"]
    INSTRUCTION_SETS["avx512"] = ["-mavx512f", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
    # GCC 12 and 13 warn of their own intrinsics.
    INSTRUCTION_SETS["avx512"].append("-Wno-maybe-uninitialized")

wanted = os.environ.get("TINYGRAD_MASK_INSTRUCTION_SETS", ",".join(INSTRUCTION_SETS)).split(",")
INSTRUCTION_SETS = {name: INSTRUCTION_SETS[name] for name in wanted}

# No flag that changes what NaN and infinity do; products may be fused with additions.
FLAGS = ["-std=c++17", "-O3", "-fvisibility=hidden", "-ffp-contract=fast"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra", "-g0", "-pthread"]
LINK_FLAGS = ["-pthread"]
if os.environ.get("TINYGRAD_MASK_SANITIZE") == "1":
    SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    # -fno-wrapv: Python's own flags would make an overflow of integers no error.
    FLAGS += [*SANITIZE, "-fno-omit-frame-pointer", "-fno-wrapv", "-O1", "-g1"]
    LINK_FLAGS += SANITIZE


class BuildKernels(build_ext):
    """Compiles the same sources for each instruction set, one set at a time."""

    def finalize_options(self) -> None:
        """Take no `--parallel`: object files have the same names; those of a set are parallel."""
        super().finalize_options()
        self.parallel = None

    def build_extension(self, ext: Extension) -> None:
        """Build one module, its object files apart from the others'."""
        folder = self.build_temp
        self.build_temp = os.path.join(folder, ext.name)
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = folder


ParallelCompile().install()
setup(
    packages=[*find_packages(include=["tinygrad_mask*"]), "tinygrad_mask.kernels.cuda"],
    package_dir={"tinygrad_mask.kernels.cuda": "kernels/cuda"},
    ext_modules=[
        Extension(
            f"tinygrad_mask.backends._cpu_{name}",
            SOURCES,
            depends=HEADERS,
            include_dirs=[pybind11.get_include(), numpy.get_include()],
            define_macros=[("MODULE_NAME", f"_cpu_{name}")],
            extra_compile_args=[*FLAGS, *flags],
            extra_link_args=list(LINK_FLAGS),
            language="c++",
            optional=True,
        )
        for name, flags in INSTRUCTION_SETS.items()
    ],
    cmdclass={"build_ext": BuildKernels},
)
