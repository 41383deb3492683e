"""The README: its example runs, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import torch

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_example_runs_as_printed() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, torch.Tensor] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - our own text
    assert names["x"].shape == (12, 16, 2, 16)
    assert names["h"].shape[0] == 12
    assert names["h"].isfinite().all()


def test_readme_has_exactly_two_commands() -> None:
    (commands,) = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    assert [line.split("#")[0].strip() for line in commands.splitlines()] == [
        "make qm9",
        "make test",
    ]
