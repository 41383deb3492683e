"""The README: its example runs, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_example_runs_as_printed() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, torch.Tensor] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - our own text
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
