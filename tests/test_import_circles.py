"""No file imports itself by way of others, wherever in a file an import stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import torch_cormorant

ROOT = Path(torch_cormorant.__file__).parent
Graph = dict[str, set[str]]


class Package:
    """All files of a package by the name of their module, and what each imports.

    Imports inside functions and under ``TYPE_CHECKING`` count, relative ones and
    ``import_module`` with a written name too. A name that a package hands on counts as
    an import of the file that defines it.

    Args:
        root: The folder of the package.
    """

    def __init__(self, root: Path) -> None:
        self.top = root.name
        self.packages: set[str] = set()
        self.trees: dict[str, ast.Module] = {}
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            if path.name == "__init__.py":
                parts = parts[:-1]
                self.packages.add(".".join(parts))
            self.trees[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"))

    def graph(self) -> Graph:
        """What every file imports of the others."""
        return {
            name: set(self._imports(name)) & self.trees.keys() - {name}
            for name in self.trees
        }

    def _imports(self, module: str) -> Iterator[str]:
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                yield from (self._file(base, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from (self._unless_package(alias.name) for alias in node.names)
            elif isinstance(node, ast.Call) and _is_import_module(node):
                yield self._unless_package(ast.literal_eval(node.args[0]))

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        """The module that stands between ``from`` and ``import``, in full."""
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        up = node.level - (module in self.packages)
        kept = parts[: len(parts) - up]
        return ".".join([*kept, node.module] if node.module else kept)

    def _file(self, base: str, name: str) -> str:
        """The file that defines a name, "" for a package as a whole."""
        if f"{base}.{name}" in self.trees:
            return self._unless_package(f"{base}.{name}")
        if base not in self.packages:
            return base
        for node in ast.walk(self.trees[base]):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self._file(self._base(base, node), alias.name)
        return self._unless_package(base)

    def _unless_package(self, name: str) -> str:
        return "" if name in self.packages else name


def _is_import_module(node: ast.Call) -> bool:
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    written = node.args and isinstance(node.args[0], ast.Constant)
    return called == "import_module" and bool(written)


def circles(graph: Graph) -> set[frozenset[str]]:
    """Largest sets of files that all import one another, directly or by others."""
    reached = {start: _reached(graph, start) for start in graph}
    mutual = {
        frozenset(other for other in found if start in reached[other])
        for start, found in reached.items()
    }
    return {members for members in mutual if members}


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = graph[waiting.pop()] - found
        found |= fresh
        waiting += fresh
    return found


def chain(graph: Graph, members: frozenset[str]) -> str:
    """A shortest way from the first of the files back to it, to be read."""
    start = min(members)
    ways = [[start]]
    while True:
        longer = [
            [*way, after] for way in ways for after in sorted(graph[way[-1]] & members)
        ]
        for way in longer:
            if way[-1] == start:
                return " -> ".join(way)
        ways = list({way[-1]: way for way in reversed(longer)}.values())


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = Package(ROOT).graph()
    found = [chain(graph, members) for members in circles(graph)]
    assert not found, "import circles:\n" + "\n".join(found)


BACK = "from box.one import x"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("from box.two import y", BACK),
        ("import box.two as other", BACK),
        ("from box import two", BACK),
        ("def f():\n    from box.two import y", BACK),
        ("if TYPE_CHECKING:\n    from box.two import y", BACK),
        ("from .two import y", "from . import one"),
        ("importlib.import_module('box.two')", "import_module('box.one')"),
        ("from box import y", BACK),
        ("from box import again", BACK),
        ("from box.inner import y", BACK),
        ("from box.inner import y", "from .inner import z"),
    ],
)
def test_a_circle_is_noticed(one: str, two: str, tmp_path: Path) -> None:
    box = tmp_path / "box"
    (box / "inner").mkdir(parents=True)
    handed = "from box.inner import y\nfrom box.inner import y as again\n"
    (box / "__init__.py").write_text(handed)
    (box / "inner" / "__init__.py").write_text(
        "from ..two import y\nfrom ..one import z"
    )
    (box / "one.py").write_text(one)
    (box / "two.py").write_text(two)
    graph = Package(box).graph()
    (found,) = circles(graph)
    assert chain(graph, found) == "box.one -> box.two -> box.one"


def test_handing_on_is_no_circle(tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    (box / "__init__.py").write_text("from box.one import x\nfrom box.two import y")
    (box / "one.py").write_text("import box\nfrom box import two\nimport torch")
    (box / "two.py").write_text("y = 1")
    assert not circles(Package(box).graph())
