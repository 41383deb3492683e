"""Own heads and radial functions on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from torch_cormorant import load_model
from torch_cormorant.nn.heads.make import HEAD_PARTS
from torch_cormorant.nn.radial import RADIAL_PARTS

Command = Callable[..., str]
PARTS = """
import torch
from torch_cormorant.nn import Radial, SumHead


class Ramp(Radial):
    bounded = True

    def __init__(self, num_basis, cutoff, *, complex=True):
        super().__init__(num_basis, complex=complex)
        self.cutoff, self.count = cutoff, num_basis

    def forward(self, length):
        share = (length / self.cutoff).unsqueeze(-1)
        return share ** torch.arange(1, self.count + 1, device=length.device)


class Plain(SumHead):
    def __init__(self, inputs, num_targets=1, *, width=4):
        super().__init__()
        self.shape = (num_targets,)
        self.one = torch.nn.Linear(inputs, width)
        self.two = torch.nn.Linear(width, num_targets)

    def contributions(self, values):
        return self.two(self.one(values).tanh())
"""
CONFIG = """data: {source: mini_ethanol, train: 6, valid: 3, test: 4}
model:
  network: potential
  options:
    num_levels: 1
    lmax: 1
    channels: 4
    head: {class: our_parts.Plain, width: 5}
    radial: {class: our_parts.Ramp}
training: {epochs: 1, batch_size: 3}
output: {report: false}
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a module that nobody has imported."""
    (tmp_path / "our_parts.py").write_text(PARTS)
    monkeypatch.delitem(sys.modules, "our_parts", raising=False)
    for registry in (HEAD_PARTS, RADIAL_PARTS):
        monkeypatch.setattr(registry, "classes", dict(registry.classes))
    return tmp_path


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as in a new process."""
    for registry in (HEAD_PARTS, RADIAL_PARTS):
        monkeypatch.setattr(registry, "classes", {})


def test_a_configuration_names_classes_and_files_need_parts(
    cormorant: Command, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (parts / "a.yaml").write_text(CONFIG)
    cormorant("train", "a.yaml", "--out", "run")
    model = load_model("run/model.safetensors")
    assert type(model.head).__name__ == "Plain"
    assert model.config["head"] == {"class": "our_parts.Plain", "width": 5}
    forget(monkeypatch)
    for command in (
        ("info", "run/model.safetensors"),
        ("evaluate", "run/model.safetensors", "mini_ethanol"),
    ):
        problem = cormorant(*command, code=2)
        assert "our_parts." in problem
        assert "--parts module:Name" in problem
    named = ("--parts", "our_parts:Plain", "our_parts:Ramp")
    assert "Ramp" in cormorant("info", "run/model.safetensors", *named)
    evaluate = ("evaluate", "run/model.safetensors", "mini_ethanol", *named)
    assert "energies" in cormorant(*evaluate)


def test_a_reference_follows_the_class(cormorant: Command, parts: Path) -> None:
    text = CONFIG.replace("{source: mini_ethanol,", "{source: mini_qm9, target: gap,")
    (parts / "a.yaml").write_text(text.replace("network: potential", "network: recipe"))
    cormorant("train", "a.yaml", "--out", "run")
    values = load_model("run/model.safetensors").info.normalisation.atom_values
    assert len(set(values.values())) > 1  # additive: the composition was subtracted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("our_parts.Plian", "line 8: model.options.head: our_parts.Plian: cannot be"),
        ("no_parts.Plain", "No module named 'no_parts'"),
        ("our_parts.torch", "parts must be classes"),
    ],
)
def test_what_cannot_be_imported_is_named_with_its_line(
    cormorant: Command, parts: Path, change: str, message: str
) -> None:
    (parts / "a.yaml").write_text(CONFIG.replace("our_parts.Plain", change))
    assert message in cormorant("train", "a.yaml", "--check", code=2)


def test_parts_that_cannot_be_imported_end_in_one_line(
    cormorant: Command, parts: Path
) -> None:
    assert parts.is_dir()
    problem = cormorant("info", "m.safetensors", "--parts", "our_parts:No", code=2)
    assert "our_parts:No: cannot be imported" in problem
