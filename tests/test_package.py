"""The package as a whole: import, version, public names."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import torch_cormorant

PUBLIC = [
    "Cormorant",
    "CormorantConv",
    "CormorantMD17",
    "CormorantQM9",
    "EdgeGeometry",
    "Gate",
    "Invariants",
    "SO3Linear",
    "SO3Norm",
    "cg_product",
    "clebsch_gordan",
    "load_model",
    "pretrained",
    "radius_graph",
    "save_model",
    "show_backends",
    "spherical_harmonics",
    "wigner_D",
]
HEAVY = [
    "ase",
    "e3nn",
    "lightning",
    "matplotlib",
    "pytorch_lightning",
    "safetensors",
    "scipy",
    "sympy",
    "tensorboard",
    "torch._dynamo",
    "torch._inductor",
    "torch_cluster",
    "torch_scatter",
    "torchmetrics",
    "triton",
]
# What the import of torch_cormorant adds to that of torch_geometric.nn.
ADDED = """
import json, sys, warnings
warnings.filterwarnings("ignore", message="'torch-cluster' is no longer necessary")
import torch_geometric.nn
before = set(sys.modules)
with warnings.catch_warnings():
    warnings.simplefilter("error")
    import torch_cormorant
    for name in torch_cormorant.__all__:
        getattr(torch_cormorant, name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def added_modules() -> list[str]:
    """Return the modules that a fresh Python loads for this package."""
    command = [sys.executable, "-c", ADDED]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, "the import prints to standard error"
    modules: list[str] = json.loads(result.stdout)
    return modules


@pytest.mark.parametrize("heavy", HEAVY)
def test_import_stays_light(added_modules: list[str], heavy: str) -> None:
    assert heavy not in added_modules


def test_import_gives_no_warning(added_modules: list[str]) -> None:
    # The fixture turns warnings into errors before the import.
    assert "torch_cormorant" in added_modules


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, torch_cormorant.cli\n"
        "try: torch_cormorant.cli.main(sys.argv[1:])\n"
        "except SystemExit as leave: code = leave.code\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules, code)"
    )
    for arguments, expected in (
        (["--help"], "False False 0"),
        (["predict", "--help"], "False False 0"),
        (["--version"], "False False 0"),
        (["trian"], "False False 2"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == expected


def test_parts_are_there_without_an_import_of_their_own() -> None:
    code = (
        "import torch_cormorant as t\n"
        "print(t.ops.EdgeGeometry is t.EdgeGeometry, hasattr(t, 'no'), 'nn' in dir(t))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False True\n"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_there(name: str) -> None:
    assert name in torch_cormorant.__all__
    assert getattr(torch_cormorant, name).__doc__


def test_all_names_exist_once() -> None:
    names = torch_cormorant.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(torch_cormorant, name) for name in names)


def test_version_is_that_of_the_installed_package() -> None:
    assert torch_cormorant.__version__ == importlib.metadata.version("torch-cormorant")


def test_compiled_packages_are_never_required() -> None:
    requirements = importlib.metadata.requires("torch-cormorant") or []
    assert not [
        requirement
        for requirement in requirements
        if requirement.startswith(("torch-scatter", "torch-cluster", "pyg-lib"))
    ]


def test_package_is_marked_as_typed_and_ships_its_tables() -> None:
    root = Path(torch_cormorant.__file__).parent
    assert (root / "py.typed").is_file()
    assert (root / "cg" / "_tables.bin").is_file()


def test_missing_tables_stop_neither_import_nor_generation(tmp_path: Path) -> None:
    # A copy of cg/ and of what it imports, without the table file.
    root = Path(torch_cormorant.__file__).parent
    copy = tmp_path / "torch_cormorant"
    (copy / "cg").mkdir(parents=True)
    (copy / "__init__.py").touch()
    for file in [root / "errors.py", *sorted((root / "cg").glob("*.py"))]:
        target = copy / file.relative_to(root)
        target.write_text(file.read_text())

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    ask = "from torch_cormorant.cg import max_degree; print(max_degree())"
    failed = python("-c", ask)
    assert "DataError" in failed.stderr
    assert "python -m torch_cormorant.cg.generate" in failed.stderr
    written = python("-m", "torch_cormorant.cg.generate", "--lmax", "2")
    assert (written.returncode, written.stderr) == (0, "")
    assert python("-c", ask).stdout == "2\n"
