"""The README: its example runs, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def run(example: str) -> dict[str, Any]:
    """Return what an example has made."""
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - our own text
    return names


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_molecule_is_relaxed_as_printed() -> None:
    pytest.importorskip("ase", reason="the extra ase is not installed")
    pytest.importorskip("rdkit", reason="the extra chem is not installed")
    atoms = run(EXAMPLES[0])["atoms"]
    assert atoms.get_chemical_formula() == "C9H8O4"
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.01
    bonds = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
    assert 0.9 < bonds.min() < 1.1  # O-H and C-H, neither torn nor crushed


def test_example_runs_as_printed() -> None:
    names = run(EXAMPLES[1])
    assert names["x"].shape == (12, 16, 2, 16)
    assert names["h"].shape[0] == 12
    assert names["h"].isfinite().all()


def blocks() -> list[list[str]]:
    found = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    return [[line.split("#")[0].strip() for line in b.splitlines()] for b in found]


def test_readme_starts_with_exactly_two_commands() -> None:
    assert blocks()[0] == ["make qm9", "make test"]


def test_commands_of_the_command_line_exist() -> None:
    pytest.importorskip("lightning")
    from torch_cormorant.cli import main

    install, training, prediction = blocks()[1]
    assert install == 'pip install ".[train,ase]"'
    program, *words = training.split()
    assert program == "cormorant"
    config = ROOT / words[1]
    assert main([words[0], str(config), "--check"]) == 0
    with pytest.raises(SystemExit) as end:
        main([prediction.split()[1], "--help"])
    assert end.value.code == 0


def test_examples_that_are_named_exist() -> None:
    text = README.split("Examples to copy and change:")[1].split("##")[0]
    names = [Path(name).name for name in re.findall(r"`([\w/]+\.py)`", text)]
    assert len(names) == 10
    assert all((ROOT / "examples" / name).is_file() for name in names)
