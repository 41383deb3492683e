"""Which implementation does what, and how to get the ones that are missing.

Every function of the package works with torch alone. Some have a second, compiled
implementation in an extension that torch-cormorant never requires. Nothing of an
extension is imported before it is used or asked for here.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from torch_cormorant.errors import BackendError

__all__ = [
    "Backend",
    "Extension",
    "available_backends",
    "choose_backend",
    "find_extension",
    "load_extension",
    "show_backends",
]


@dataclass(frozen=True)
class Backend:
    """One way to compute one function.

    Attributes:
        function: What it computes, in the words of
            :func:`~torch_cormorant.show_backends`.
        name: The value of the ``backend`` argument.
        used: When it is used.
        extension: The module that it needs; None: torch is enough.
    """

    function: str
    name: str
    used: str
    extension: str | None = None


@dataclass(frozen=True)
class Extension:
    """A compiled extension as found on this machine.

    Attributes:
        name: Name of its module.
        version: Its version, None when it is not installed.
        problem: Why it cannot be used, empty when it can.
    """

    name: str
    version: str | None
    problem: str


CG_PRODUCTS = "CG products"
NEIGHBOUR_SEARCH = "neighbour search"
NEIGHBOUR_LIST = "neighbour list"
SEGMENT_SUM = "segment sum"
POTENTIALS = "potentials"

CPU_KERNEL = "torch_cormorant.ops.cpu_kernel"
"""Our own C++ kernels, which are no module but a library beside this one."""

PLAIN_WHEELS = {
    "matscipy": "matscipy",
    "nvalchemiops": "nvalchemi-toolkit-ops",
    "triton": "triton",
    "vesin": "vesin",
}
"""Projects of extensions that need no build against the installed torch, by module."""

# A new backend is a line here and a branch in its function. The extensions give equal
# results and, measured on a CPU, are not faster than what auto takes.
BACKENDS = (
    Backend(CG_PRODUCTS, "portable", "used where nothing faster works"),
    Backend(
        CG_PRODUCTS, "cpu_kernel", "used on CPUs, stages of layers whole", CPU_KERNEL
    ),
    Backend(CG_PRODUCTS, "triton", "used on CUDA devices", "triton"),
    Backend(NEIGHBOUR_SEARCH, "brute_force", "used for small molecules"),
    Backend(NEIGHBOUR_SEARCH, "cells", "used for large systems"),
    Backend(NEIGHBOUR_SEARCH, "torch_cluster", "used by name", "torch_cluster"),
    Backend(NEIGHBOUR_LIST, "cells", "used"),
    Backend(NEIGHBOUR_LIST, "torch_cluster", "open systems, by name", "torch_cluster"),
    Backend(NEIGHBOUR_LIST, "vesin", "used by name", "vesin"),
    Backend(NEIGHBOUR_LIST, "matscipy", "used by name", "matscipy"),
    Backend(NEIGHBOUR_LIST, "nvalchemi", "used by name", "nvalchemiops"),
    Backend(SEGMENT_SUM, "torch", "used"),
    Backend(SEGMENT_SUM, "torch_scatter", "used by name", "torch_scatter"),
    Backend(POTENTIALS, "native", "ASE on CPUs, where it covers the model", CPU_KERNEL),
    Backend(POTENTIALS, "model", "used elsewhere"),
)


def _import_quietly(name: str) -> tuple[ModuleType | None, str]:
    """Import an extension; a broken one gives its message instead of an exception."""
    try:
        with warnings.catch_warnings():
            # Notices of the extension about its own use of torch are not for our user.
            warnings.simplefilter("ignore")
            return importlib.import_module(name), ""
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return None, f"installed but broken: {reason}"


@functools.cache
def _module_and_state(name: str) -> tuple[ModuleType | None, Extension]:
    if importlib.util.find_spec(name) is None:
        return None, Extension(name, None, "not installed")
    module, problem = _import_quietly(name)
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = str(getattr(module, "__version__", "unknown"))
    return module, Extension(name, version, problem)


def find_extension(name: str) -> Extension:
    """Tell whether an extension is installed and can be imported.

    The answer is kept for the life of the process.

    Args:
        name: Name of its module, such as ``"torch_cluster"``.

    Returns:
        Its version and, when it cannot be used, why.

    Example:
        >>> find_extension("no_such_extension").problem
        'not installed'
    """
    if name == CPU_KERNEL:
        return _kernel_state()
    return _module_and_state(name)[1]


def _kernel_state() -> Extension:
    """Tell the same about our own kernels."""
    kernel = importlib.import_module(CPU_KERNEL)
    problem: str = kernel.problem()
    version = None if problem else f"C++, {kernel.instruction_set()}"
    return Extension(CPU_KERNEL, version, problem)


def load_extension(name: str) -> ModuleType:
    """Import an extension on first use.

    Args:
        name: Name of its module, such as ``"torch_cluster"``.

    Returns:
        The module.

    Raises:
        BackendError: It is missing or broken; the message holds the command to run.

    Example:
        >>> load_extension("no_such_extension")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        torch_cormorant.errors.BackendError: no_such_extension is not installed; ...
    """
    module, state = _module_and_state(name)
    if module is None:
        message = f"{name} is {state.problem}; to enable it: {_command(state)}"
        raise BackendError(message)
    return module


def _command(state: Extension) -> str:
    """Give the one command that installs an extension here."""
    if state.name == CPU_KERNEL:
        remedy: str = importlib.import_module(CPU_KERNEL).remedy()
        return remedy
    if state.name in PLAIN_WHEELS:
        return f"pip install {PLAIN_WHEELS[state.name]}"
    if (Path(__file__).parents[1] / "Makefile").is_file():
        return "make extensions"
    again = "" if state.version is None else " --force-reinstall --no-cache-dir"
    project = state.name.replace("_", "-")
    return f"pip install --no-build-isolation --no-deps{again} {project}"


def available_backends() -> dict[str, list[str]]:
    """List the backends that work on this machine.

    Returns:
        For every function the values that its ``backend`` argument takes here.

    Example:
        >>> available_backends()["neighbour search"][:2]
        ['brute_force', 'cells']
    """
    found: dict[str, list[str]] = {}
    for backend in BACKENDS:
        names = found.setdefault(backend.function, [])
        if not backend.extension or not find_extension(backend.extension).problem:
            names.append(backend.name)
    return found


def choose_backend(function: str, name: str) -> str:
    """Check the ``backend`` argument of a function.

    Args:
        function: The function, in the words of :func:`~torch_cormorant.show_backends`.
        name: What the user asked for: ``"auto"`` or the name of a backend.

    Returns:
        The same name.

    Raises:
        BackendError: No backend of this function has that name.

    Example:
        >>> choose_backend("segment sum", "torch")
        'torch'
    """
    names = [backend.name for backend in BACKENDS if backend.function == function]
    if name != "auto" and name not in names:
        message = (
            f"backend={name!r} is not known for {function}; expected 'auto' or one of "
            f"{', '.join(names)}"
        )
        raise BackendError(message)
    return name


def _row(backend: Backend) -> tuple[str, str, str, str]:
    """Give function, name, version and state of a backend, as words."""
    if backend.extension is None:
        version, use = f"torch {torch.__version__}", backend.used
    else:
        state = find_extension(backend.extension)
        version, use = state.version or "-", backend.used
        if state.problem:
            use = f"{state.problem}; to enable: {_command(state)}"
    return backend.function, backend.name, version, use


def show_backends() -> None:
    """Print which backends are used, which are missing and how to get them.

    Example:
        >>> show_backends()  # doctest: +ELLIPSIS +NORMALIZE_WHITESPACE
        function          backend        version       state
        CG products       portable       torch ...     used where nothing faster works
        ...
    """
    rows = [("function", "backend", "version", "state"), *map(_row, BACKENDS)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[3]]))  # noqa: T201 - printing is its purpose
