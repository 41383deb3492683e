"""The layers of the package: imports point downward only and never out of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import torch_cormorant

ROOT = Path(torch_cormorant.__file__).parent
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
OUTSIDE = {"benchmarks", "docs", "examples", "tests"}
"""What lies beside the package in the repository and is in no wheel."""

# What each part may import besides itself. The ground may be imported from everywhere.
FREE = {"backends", "elements", "errors", "irreps", "version"}
CORE = {"cg", "so3", "ops"}
MODELS = CORE | {"nn", "conv", "graph", "data", "networks", "models"}
ALLOWED: dict[str, set[str]] = {
    "backends": set(),
    "elements": set(),
    "errors": set(),
    "irreps": set(),
    "version": set(),
    "cg": set(),
    "so3": {"cg"},
    "ops": {"cg", "so3"},
    "graph": CORE,
    "data": CORE | {"graph"},
    "nn": CORE,
    "physics": CORE,
    "conv": CORE | {"nn"},
    "networks": CORE | {"nn", "conv", "graph"},
    "models": MODELS - {"models"},
    "train": MODELS | {"visualize"},
    "interfaces": MODELS,
    "testing": MODELS,
    "visualize": MODELS,
    "cli": MODELS | {"train", "visualize", "interfaces"},
    "__main__": {"cli"},
    "explain": MODELS,
    "__init__": MODELS | {"explain"},
}


def part_of(module: Path) -> str:
    """Return the folder, or the file's own name for a module at the top."""
    return module.parts[0] if len(module.parts) > 1 else module.stem


def imported_names(source: str) -> list[list[str]]:
    """Return all that a source text imports anywhere, each name at its dots."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are written in full"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name.split(".") for name in names]


def imported_parts(source: str) -> set[str]:
    """Return the parts of this package that a source text imports anywhere."""
    names = imported_names(source)
    return {parts[1] for parts in names if parts[0] == "torch_cormorant" and parts[1:]}


def upward_imports(part: str, source: str) -> set[str]:
    """Return what a module of one part imports against the rule."""
    return imported_parts(source) - ALLOWED[part] - FREE - {part}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_downward(module: Path) -> None:
    part = part_of(module)
    assert part in ALLOWED, f"{part} has no place in the order of the package"
    assert not upward_imports(part, (ROOT / module).read_text())


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_beside_the_package_is_imported(module: Path) -> None:
    source = (ROOT / module).read_text()
    assert not OUTSIDE & {parts[0] for parts in imported_names(source)}


def test_an_upward_import_is_noticed() -> None:
    upward = (
        "def f():\n    from torch_cormorant.conv import x\nimport torch_cormorant.cg"
    )
    assert upward_imports("so3", upward) == {"conv"}
    assert upward_imports("ops", "from torch_cormorant import graph") == {"graph"}


def test_the_rule_has_no_circle() -> None:
    placed: set[str] = set()
    while len(placed) < len(ALLOWED):
        ready = {part for part, below in ALLOWED.items() if below <= placed} - placed
        assert ready, f"circle among {set(ALLOWED) - placed}"
        placed |= ready
