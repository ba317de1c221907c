"""Build the CPU kernels, one extension module per instruction set.

The CUDA kernels are packaged as source: they are compiled where they run.

Which module is used is decided at run time (backends/cpu.py). By default only the best instruction
set of this machine is built. All modules are optional: without a compiler, or with one that lacks
the vector extension of GCC and Clang, the package still installs and runs on its NumPy kernels.

Object files are kept in `build/kernels` under a name that contains a hash of everything that
determines them (see `object_key`), so another `pip install -e` of unchanged sources only links. The
time stamps and folders that setuptools goes by are no help: pip builds each time in new ones.
If `ccache` is installed and CC and CXX are not set, it is used.

TINYGRAD_MASK_INSTRUCTION_SETS  `best` (the default), `all` (for wheels), or names: `baseline,avx2`.
TINYGRAD_MASK_SANITIZE=1        Build with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(path.as_posix() for path in Path("kernels/cpu").glob("*.cpp"))
HEADERS = sorted(path.as_posix() for path in Path("kernels/cpu").glob("*.h"))
OBJECTS = Path("build/kernels")

INSTRUCTION_SETS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS["avx2"] = ["-mavx2", "-mfma"]
    INSTRUCTION_SETS["avx512"] = ["-mavx512f", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
    # GCC 12 and 13 warn about their own intrinsics.
    INSTRUCTION_SETS["avx512"].append("-Wno-maybe-uninitialized")

VARIABLE = "TINYGRAD_MASK_INSTRUCTION_SETS"
WANTED = os.environ.get(VARIABLE, "best")
if WANTED not in ("best", "all") and not set(WANTED.split(",")) <= set(INSTRUCTION_SETS):
    names = ", ".join(INSTRUCTION_SETS)
    raise SystemExit(f"{VARIABLE}: expected best, all, or some of {names}, got {WANTED!r}")

# No flag that changes what NaN and infinity do; products may be fused with additions.
FLAGS = ["-std=c++17", "-O3", "-fvisibility=hidden", "-ffp-contract=fast"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra", "-g0", "-pthread"]
LINK_FLAGS = ["-pthread"]
if os.environ.get("TINYGRAD_MASK_SANITIZE") == "1":
    SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    # -fno-wrapv: Python's own flags would make an overflow of integers no error.
    FLAGS += [*SANITIZE, "-fno-omit-frame-pointer", "-fno-wrapv", "-O1", "-g1"]
    LINK_FLAGS += SANITIZE

FEATURES = Extension(
    "tinygrad_mask.backends._cpu_features", ["kernels/cpu/features.c"], optional=True
)
KERNELS = {
    name: Extension(
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
}


class BuildKernels(build_ext):
    """Build `_cpu_features` first, then the kernels it says run here; reuse unchanged objects."""

    def finalize_options(self) -> None:
        """Ignore `--parallel`: the objects of one module are compiled in parallel."""
        super().finalize_options()
        self.parallel = None

    def build_extensions(self) -> None:
        """Choose which instruction sets to build, and build them."""
        if shutil.which("ccache") and not {"CC", "CXX"} & set(os.environ):
            for name in ("compiler_so", "compiler_so_cxx"):
                if command := getattr(self.compiler, name, None):
                    setattr(self.compiler, name, ["ccache", *command])
        self.extensions = [FEATURES]
        super().build_extensions()
        kernels = [KERNELS[name] for name in self.instruction_sets()]
        self.extensions = kernels
        super().build_extensions()
        self.extensions = [FEATURES, *kernels]

    def instruction_sets(self) -> list[str]:
        """Return the instruction sets to build: those asked for, or the best of this machine."""
        if WANTED == "all":
            return list(INSTRUCTION_SETS)
        if WANTED != "best":
            return WANTED.split(",")
        path = self.get_ext_fullpath(FEATURES.name)
        try:
            spec = importlib.util.spec_from_file_location(FEATURES.name, path)
            features = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(features)
            return [name for name in features.runnable() if name in INSTRUCTION_SETS][:1]
        except ImportError as error:  # no compiler, or one for another machine
            self.warn(f"building the baseline kernels, as {path} cannot be loaded: {error}")
            return ["baseline"]

    def build_extension(self, ext: Extension) -> None:
        """Build one module; of the kernels, compile only what changed."""
        if ext is FEATURES:
            super().build_extension(ext)
            return
        ext.extra_objects = [str(path) for path in self.compile_changed(ext)]
        ext.sources, ext.depends = [], ext.extra_objects
        super().build_extension(ext)

    def compile_changed(self, ext: Extension) -> list[Path]:
        """Compile the sources of a module that have no object yet; return its objects."""
        folder, objects = object_folder(ext), self.objects(ext)
        folder.mkdir(parents=True, exist_ok=True)
        for path in set(folder.glob("*.o")) - set(objects.values()):
            path.unlink()
        missing = [source for source, path in objects.items() if not path.exists()]

        def compile_one(source: str) -> None:
            [made] = self.compiler.compile(
                [source],
                output_dir=str(folder),
                macros=ext.define_macros,
                include_dirs=ext.include_dirs,
                extra_postargs=ext.extra_compile_args,
            )
            os.replace(made, objects[source])  # an object under its final name is complete

        with ThreadPoolExecutor(processors()) as pool:
            list(pool.map(compile_one, missing))
        return list(objects.values())

    def objects(self, ext: Extension) -> dict[str, Path]:
        """Return where the object of each source of a kernel module is, or will be."""
        command = getattr(self.compiler, "compiler_so_cxx", None) or self.compiler.compiler_so
        command = [word for word in command if word != "ccache"]
        common = object_key(ext, command)
        folder, objects = object_folder(ext), {}
        for source in SOURCES:
            key = hashlib.sha256(common + Path(source).read_bytes()).hexdigest()[:16]
            objects[source] = folder / f"{Path(source).stem}-{key}.o"
        return objects

    def copy_extensions_to_source(self) -> None:
        """Copy the modules into the package; remove modules of other sets made from old sources."""
        super().copy_extensions_to_source()
        package = self.get_finalized_command("build_py").get_package_dir("tinygrad_mask.backends")
        for ext in KERNELS.values():
            module = Path(package, Path(self.get_ext_filename(ext.name)).name)
            if ext in self.extensions or not module.exists():
                continue
            objects = self.objects(ext).values()
            if not all(path.exists() for path in objects) or module.stat().st_mtime < max(
                path.stat().st_mtime for path in objects
            ):
                self.warn(f"removing {module}, which was built from other sources")
                module.unlink()


def object_folder(ext: Extension) -> Path:
    """Return the folder of a module's objects."""
    return OBJECTS / ext.name.rpartition(".")[2]


def object_key(ext: Extension, command: list[str]) -> bytes:
    """Hash what all objects of a module depend on besides their sources.

    That is the headers, the compiler and its flags, Python, NumPy and pybind11. The paths of their
    headers are left out: pip's build isolation installs them in a new temporary folder each time.
    """
    try:
        compiler = subprocess.run([command[0], "--version"], capture_output=True).stdout
    except OSError:  # there is none, which compiling will report
        compiler = b""
    parts = [*command, *ext.extra_compile_args, repr(ext.define_macros)]
    parts += [sysconfig.get_config_var("SOABI") or "", numpy.__version__, pybind11.__version__]
    key = hashlib.sha256(compiler + "\0".join(parts).encode())
    for header in HEADERS:
        key.update(Path(header).read_bytes())
    return key.digest()


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


setup(
    packages=[*find_packages(include=["tinygrad_mask*"]), "tinygrad_mask.kernels.cuda"],
    py_modules=["tinygrad_mask_command"],
    package_dir={"tinygrad_mask.kernels.cuda": "kernels/cuda"},
    ext_modules=[FEATURES, *KERNELS.values()],
    cmdclass={"build_ext": BuildKernels},
)
