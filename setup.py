"""Build hooks: exact Clebsch-Gordan tables by Sympy, the CPU kernel by a C++ compiler.

The kernel is optional. Without a compiler (or with ``CORMORANT_CPU_KERNEL=0`` set while
installing) the package is built without it, says so, and works all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

if TYPE_CHECKING:
    from types import ModuleType

TABLES = Path("torch_cormorant", "cg")
KERNEL = "_cpu_kernel.so"


def load_generator() -> ModuleType:
    """Load the generator by its path: importing the package would need torch."""
    path = Path(__file__).resolve().parent / TABLES / "exact.py"
    spec = importlib.util.spec_from_file_location("cormorant_exact_tables", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tables(root: Path) -> None:
    """Write the tables into a tree of the package.

    Args:
        root: The folder that holds ``torch_cormorant``.
    """
    generator = load_generator()
    folder = root / TABLES
    folder.mkdir(parents=True, exist_ok=True)
    generator.write(folder / generator.FILE_NAME)


def say(text: str) -> None:
    """One line for the log of the build."""
    sys.stderr.write(f"torch-cormorant: {text}\n")


def compiler() -> list[str] | None:
    """Command of a C++ compiler, or None: GCC or Clang, for their vector types."""
    if os.environ.get("CORMORANT_CPU_KERNEL") == "0" or os.name == "nt":
        return None
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    return None


def machine_of(command: list[str]) -> str:
    """Processor that a compiler writes for: another one than this where it crosses."""
    found = subprocess.run(  # noqa: S603
        [*command, "-dumpmachine"], check=True, capture_output=True, text=True
    )
    return found.stdout.split("-")[0].lower()


def instruction_sets(machine: str) -> dict[str, list[str]]:
    """Compiler flags of every variant of the kernels; the best one is chosen later.

    ``CORMORANT_KERNEL_SET=avx2`` compiles this one alone, for a library that stays on
    machines like this one and for sanitizers.
    """
    variants = {"baseline": ["-DVECTOR_BYTES=16"]}
    if machine in {"x86_64", "amd64"}:
        # For processors from before 2013; small, as every wheel carries it.
        variants["baseline"].append("-Os")
        avx512 = [f"-mavx512{part}" for part in ("f", "dq", "vl", "bw")]
        variants["avx2"] = ["-DVECTOR_BYTES=32", "-mavx2", "-mfma"]
        variants["avx512"] = ["-DVECTOR_BYTES=64", *avx512, "-mavx2", "-mfma"]
    only = os.environ.get("CORMORANT_KERNEL_SET", "")
    if not only:
        return variants
    if only not in variants:
        raise SystemExit(f"CORMORANT_KERNEL_SET: {only!r} is none of {[*variants]}")
    return {"baseline": variants[only]}


def kernel_jobs(sources: Path, machine: str) -> dict[str, list[str]]:
    """Arguments of the compiler for every object of the kernel."""
    native, weighted = sources / "native", sources / "weighted"
    sets = instruction_sets(machine)
    several = ["-DSEVERAL_SETS"] if len(sets) > 1 else []
    jobs = {
        "dispatch": [*several, str(sources / "dispatch.cpp")],
        "native": [*several, str(native / "cormorant.cpp")],
    }
    for name, extra in sets.items():
        isa = [*extra, f"-DISA={name}"]
        jobs[name] = [*isa, f"-DKERNELS=kernels_{name}", str(sources / "kernels.cpp")]
        for real in ("float", "double"):
            given = [*isa, f"-DREAL={real}", "-DWEIGHTED_TOP=3"]
            jobs[f"weighted_{name}_{real}"] = [*given, str(weighted / "kernels.cpp")]
        fast = ["-fno-math-errno", "-fno-trapping-math"]
        for part in ("native", "painn"):
            jobs[f"{part}_{name}"] = [*isa, *fast, str(sources / part / "kernels.cpp")]
    return jobs


def kept_kernel(sources: Path, command: list[str], jobs: dict[str, list[str]]) -> Path:
    """Where a library is kept that the same compiler made of the same sources.

    Installing with other extras, or a wheel after that, takes it from there.
    """
    version = subprocess.run(  # noqa: S603
        [*command, "--version"], check=True, capture_output=True
    ).stdout
    text = repr((command, jobs)).replace(str(sources), "")
    digest = hashlib.sha256(version + text.encode())
    for path in sorted(p for p in sources.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(sources)).encode() + path.read_bytes())
    folder = Path(__file__).resolve().parent / "build" / "kernel"
    return folder / f"{digest.hexdigest()[:32]}.so"


def put(library: Path, target: Path) -> None:
    """Copy a library to its place; a running process keeps the old file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(f".{os.getpid()}.new")
    shutil.copyfile(library, fresh)
    fresh.replace(target)


def compile_kernel(root: Path) -> None:
    """Compile the CPU kernel into a tree of the package; never fails, says why not.

    Args:
        root: The folder that holds ``torch_cormorant``.
    """
    command = compiler()
    target = root / "torch_cormorant" / "ops" / KERNEL
    if command is None:
        target.unlink(missing_ok=True)
        say("no C++ compiler, built without the CPU kernel")
        return
    sources = Path(__file__).resolve().parent / "torch_cormorant" / "csrc"
    flags = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-pthread"]
    flags += shlex.split(os.environ.get("CORMORANT_KERNEL_FLAGS", ""))

    def run(arguments: list[str]) -> None:
        subprocess.run([*command, *arguments], check=True)  # noqa: S603

    try:
        given = kernel_jobs(sources, machine_of(command))
        jobs = {name: [*flags, *job] for name, job in given.items()}
        kept = kept_kernel(sources, command, jobs)
        if kept.is_file():
            put(kept, target)
            return
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
            objects = {name: str(Path(folder, f"{name}.o")) for name in jobs}
            made = [
                pool.submit(run, ["-c", *arguments, "-o", objects[name]])
                for name, arguments in jobs.items()
            ]
            for job in made:
                job.result()
            built = Path(folder, KERNEL)
            run([*flags, "-shared", *objects.values(), "-o", str(built)])
            put(built, target)
            with contextlib.suppress(OSError):  # a folder that cannot be written
                put(built, kept)
    except (OSError, subprocess.CalledProcessError) as error:
        target.unlink(missing_ok=True)
        say(f"built without the CPU kernel: {error}")


class BuildWithTables(build_py):
    """Copy the package, then write tables and kernel beside the copied modules."""

    def run(self) -> None:
        """Run the step; an editable install copies nothing and is dealt with below."""
        super().run()
        if not self.editable_mode:
            write_tables(Path(self.build_lib))
            compile_kernel(Path(self.build_lib))


class EditableWithTables(editable_wheel):
    """Write both into the source tree, where an editable install reads them."""

    def run(self) -> None:
        """Run the step; here, unlike in ``build_py``, a failure stops the install."""
        root = Path(__file__).resolve().parent
        write_tables(root)
        compile_kernel(root)
        super().run()


class WheelForPlatform(bdist_wheel):
    """A wheel with a kernel fits one platform, but any Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """``py3-none-<platform>`` with the kernel, ``py3-none-any`` without."""
        tag = super().get_tag()
        return tag if self.root_is_pure else ("py3", "none", tag[2])


class WithKernel(Distribution):
    """A distribution that holds compiled code if there is a compiler."""

    def has_ext_modules(self) -> bool:
        """Tell setuptools that the wheel belongs to one platform."""
        return compiler() is not None


if __name__ == "__main__" and sys.argv[1:] == ["kernel"]:
    # ``python setup.py kernel`` compiles in place: for work on the kernel itself
    compile_kernel(Path(__file__).resolve().parent)
else:
    setup(
        distclass=WithKernel,
        cmdclass={
            "build_py": BuildWithTables,
            "editable_wheel": EditableWithTables,
            "bdist_wheel": WheelForPlatform,
        },
    )
