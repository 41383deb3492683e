"""Training and testing on properties of an own file, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from torch_cormorant import load_model
from torch_cormorant.data import MiniQM9, split_indices, write_extxyz

Command = Callable[..., str]
CONFIG = """
data: {source: extxyz, path: own.extxyz, train: 30, valid: 10, test: 20}
model: {network: recipe, options: {channels: 4, num_levels: 1, lmax: 2, hidden: 8}}
training: {epochs: 2, lr: 2e-3, dtype: float64}
output: {report: true}
"""


def bonds(data: Data) -> torch.Tensor:
    """Return a weight for each pair of atoms."""
    distance = (data.pos[:, None] - data.pos[None]).norm(dim=-1)
    weight: torch.Tensor = torch.exp(-(distance**2)) * (distance > 0)
    return weight


def write_own(path: Path) -> list[dict[str, torch.Tensor]]:
    """Write 60 molecules with labels of every kind, and return them."""
    frames, found = [], []
    for data in MiniQM9("gap")[:60]:
        pos = data.pos - data.pos.mean(dim=0)
        weight = bonds(data)
        charge = weight.sum(dim=1, keepdim=True) - 0.1 * data.z[:, None]
        frames.append(Data(z=data.z, pos=data.pos))
        found.append(
            {
                "own": data.y[0],
                "dipole": data.dipole[0],
                "spread": pos.T @ pos,
                "charge": charge,
                "field": weight @ data.pos - weight.sum(1, keepdim=True) * data.pos,
            }
        )
    info = [
        {
            k: " ".join(map(repr, one[k].flatten().tolist()))
            for k in ("own", "dipole", "spread")
        }
        for one in found
    ]
    write_extxyz(
        path,
        frames,
        info=info,
        arrays=[{k: one[k] for k in ("charge", "field")} for one in found],
    )
    return found


def numbers(text: str) -> dict[str, float]:
    """Return the errors of a table by the name before them."""
    lines = [line.rsplit(None, 1) for line in text.splitlines() if line[:2] == "  "]
    return {
        name.strip(): float(value)
        for name, value in lines
        if name.strip() != "model" and "model  " not in name
    }


@pytest.mark.parametrize(
    ("name", "unit", "head", "guess"),
    [
        ("own", "eV", "published", "least squares on the composition"),
        ("dipole", "Debye", "dipole", "always zero"),
        ("dipole", "1", "so3", "always zero"),
        ("spread", "Angstrom^2", "polarizability", "always zero"),
        ("charge", "e", "so3", "mean of each element in the training molecules"),
        ("field", "1", "so3", "always zero"),
    ],
)
def test_a_property_of_any_kind_is_trained_tested_and_predicted(
    cormorant: Command, tmp_path: Path, name: str, unit: str, head: str, guess: str
) -> None:
    labels = write_own(tmp_path / "own.extxyz")
    (tmp_path / "a.yaml").write_text(CONFIG)
    own = f"data.target={name}", f"data.units={{{name}: '{unit}'}}"
    printed = cormorant("train", "a.yaml", "--override", *own)
    file = tmp_path / "runs/a/model.safetensors"
    model = load_model(file)
    assert model.head.kind == head
    assert model.info.units == (unit,)
    rows = split_indices(60, 30, 10, 20).test.tolist()
    data: Any = MiniQM9("gap")
    wrong = []
    for row in rows:
        truth = labels[row][name]
        predicted = model.predict(data[row].z, data[row].pos).reshape(truth.shape)
        wrong.append((predicted - truth).flatten())
    error = torch.cat(wrong).abs().mean().item()
    factor = 1000 if unit == "eV" else 1
    table = numbers(printed)
    assert table["Cormorant"] == pytest.approx(error * factor, rel=1e-3)
    assert table[guess] > 0
    answer = cormorant("evaluate", file, "own.extxyz")
    assert numbers(answer)["model.safetensors"] == table["Cormorant"]
    assert numbers(answer)[guess] == table[guess]
    record = json.loads((tmp_path / "runs/a/results.json").read_text())
    errors = record["test"][name]
    assert errors["ours"] == pytest.approx(error, rel=1e-9)
    if guess == "always zero":
        zero = torch.cat([labels[row][name].flatten() for row in rows]).abs().mean()
        assert errors["zero"] == pytest.approx(zero.item(), rel=1e-12)
        assert errors["training_mean"] is None
    page = (tmp_path / "runs/a/report.html").read_text()
    assert f"worst {'atoms' if name in ('charge', 'field') else 'molecules'}" in page
    # What is predicted can be read again as labels, and is then met exactly.
    cormorant("predict", file, "own.extxyz", "-o", "new.extxyz")
    again = cormorant("evaluate", file, "new.extxyz")
    assert numbers(again)["model.safetensors"] < 1e-9


def test_several_numbers_of_atoms_each_have_a_head(
    cormorant: Command, tmp_path: Path
) -> None:
    write_own(tmp_path / "own.extxyz")
    text = (tmp_path / "own.extxyz").read_text()
    (tmp_path / "own.extxyz").write_text(text.replace("field:R:3", "x:R:1:y:R:1:w:R:1"))
    (tmp_path / "a.yaml").write_text(CONFIG)
    printed = cormorant(
        *("train", "a.yaml", "--override", "data.target=[charge, x]"),
        "data.units={charge: e, x: '1'}",
    )
    assert printed.count("mean of each element") == 2
    model = load_model(tmp_path / "runs/a/model.safetensors")
    assert (model.head.kind, model.head.per_atom) == ("list", True)


def test_units_are_converted_on_the_way(cormorant: Command, tmp_path: Path) -> None:
    write_own(tmp_path / "own.extxyz")
    (tmp_path / "a.yaml").write_text(CONFIG)
    cormorant(
        *("train", "a.yaml", "--override", "data.target=dipole"),
        *("data.units={dipole: e*bohr}", "data.unit=Debye"),
    )
    file = tmp_path / "runs/a/model.safetensors"
    assert load_model(file).info.units == ("Debye",)
    tables = [
        numbers(cormorant("evaluate", file, "own.extxyz", "--part", "all", *more))
        for more in ([], ["--unit", "dipole=e*bohr"])
    ]
    ratio = tables[1]["always zero"] / tables[0]["always zero"]
    assert ratio == pytest.approx(2.541746, rel=1e-3)


def test_several_seeds_of_a_vector(cormorant: Command, tmp_path: Path) -> None:
    write_own(tmp_path / "own.extxyz")
    (tmp_path / "a.yaml").write_text(CONFIG)
    printed = cormorant(
        *("train", "a.yaml", "--override", "data.target=dipole"),
        *("data.units={dipole: Debye}", "training.seeds=[0, 1]"),
    )
    found = json.loads((tmp_path / "runs/a/ensemble.json").read_text())
    parts = [
        json.loads((tmp_path / f"runs/a/seed-{k}/results.json").read_text())
        for k in (0, 1)
    ]
    errors = [part["test"]["dipole"]["ours"] for part in parts]
    assert found["mae"] == pytest.approx(errors, rel=1e-9)
    assert "dipole, 2 seeds" in printed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.target=dipole"], "none is given for 'dipole'"),
        (["data.target=nothing", "data.units={nothing: eV}"], "'nothing' is missing"),
        (
            ["data.target=[own, dipole]", "data.units={own: eV, dipole: Debye}"],
            "several properties must be one number each",
        ),
        (
            [
                "data.target=dipole",
                "data.units={dipole: Debye}",
                "model.network=published",
            ],
            "take network: recipe",
        ),
        (
            [
                "data.target=dipole",
                "data.units={dipole: Debye}",
                "training.reference=mean",
            ],
            "expected 'none'",
        ),
        (
            [
                "data.target=dipole",
                "data.units={dipole: Debye}",
                "model.network=potential",
            ],
            "a potential needs frames",
        ),
        (["data.target=uneven", "data.units={uneven: '1'}"], "is not symmetric"),
        (["data.target=nine", "data.units={nine: '1'}"], "no head predicts tensors"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_anything_is_written(
    cormorant: Command, tmp_path: Path, changes: list[str], words: str
) -> None:
    write_own(tmp_path / "own.extxyz")
    lines = (tmp_path / "own.extxyz").read_text()
    lines = lines.replace("own=", 'uneven="1 2 3 4 5 6 7 8 9" own=')
    columns = "charge:R:1:field:R:3"
    kept = [
        line if "=" in line or line.isdigit() else f"{line} 1 2 3 4 5 6 7 8 9"
        for line in lines.replace(columns, f"{columns}:nine:R:9").splitlines()
    ]
    (tmp_path / "own.extxyz").write_text("\n".join(kept) + "\n")
    (tmp_path / "a.yaml").write_text(CONFIG)
    assert words in cormorant("train", "a.yaml", "--override", *changes, code=2)
    assert not (tmp_path / "runs").exists()


def test_labels_of_another_shape_than_the_predictions(
    cormorant: Command, tmp_path: Path
) -> None:
    write_own(tmp_path / "own.extxyz")
    (tmp_path / "a.yaml").write_text(CONFIG)
    cormorant(
        *("train", "a.yaml", "--override", "data.target=dipole"),
        *("data.units={dipole: Debye}", "training.epochs=1"),
    )
    # `dipole` of the embedded set is another name of its length, mu.
    answer = cormorant("evaluate", "runs/a/model.safetensors", "mini_qm9", code=2)
    assert "'mu' has [1] for each molecule, the head 'dipole'" in answer
