"""Build hooks: Sympy writes the exact Clebsch-Gordan tables into what is built."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

if TYPE_CHECKING:
    from types import ModuleType

TABLES = Path("torch_cormorant", "cg")


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


class BuildWithTables(build_py):
    """Copy the package, then write the tables beside the copied modules."""

    def run(self) -> None:
        """Run the step; an editable install copies nothing and is dealt with below."""
        super().run()
        if not self.editable_mode:
            write_tables(Path(self.build_lib))


class EditableWithTables(editable_wheel):
    """Write the tables into the source tree, where an editable install reads them."""

    def run(self) -> None:
        """Run the step; here, unlike in ``build_py``, a failure stops the install."""
        write_tables(Path(__file__).resolve().parent)
        super().run()


setup(cmdclass={"build_py": BuildWithTables, "editable_wheel": EditableWithTables})
