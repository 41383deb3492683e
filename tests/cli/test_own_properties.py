"""Training and testing on properties of an own file, from the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from torch_cormorant import Cormorant, load_model, save_model, spherical_harmonics
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


def real_degree_2(pos: torch.Tensor) -> torch.Tensor:
    """Return the sum over atoms of harmonics of degree 2 times the distance."""
    harmonics = spherical_harmonics(pos, 2)[:, 4:]
    return (harmonics * pos.norm(dim=1, keepdim=True)).sum(dim=0)


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
                "five": real_degree_2(pos),
                "field": weight @ data.pos - weight.sum(1, keepdim=True) * data.pos,
            }
        )
    info = [
        {
            k: " ".join(map(repr, one[k].flatten().tolist()))
            for k in ("own", "dipole", "spread", "five")
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
    found = {}
    for line in text.splitlines():
        name, *columns = re.split(r"\s{2,}", line.strip())
        if line[:2] == "  " and columns and columns[0][0].isdigit():
            found["ours" if "(epoch" in name else name] = float(columns[0])
    return found


@pytest.mark.parametrize(
    ("name", "unit", "head", "guess"),
    [
        ("own", "eV", "published", "least squares on the composition"),
        ("dipole", "Debye", "dipole", "always zero"),
        ("dipole", "1", "so3", "always zero"),
        ("spread", "Angstrom^2", "polarizability", "always zero"),
        ("charge", "e", "so3", "mean of each element in the training molecules"),
        ("field", "1", "so3", "always zero"),
        ("five", "1", "so3", "always zero"),
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
    assert table["ours"] == pytest.approx(error * factor, rel=1e-3)
    assert table[guess] > 0
    answer = cormorant("evaluate", file, "own.extxyz")
    assert numbers(answer)["model.safetensors"] == table["ours"]
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


def test_energies_of_own_files_keep_their_unit(
    cormorant: Command, tmp_path: Path
) -> None:
    write_own(tmp_path / "own.extxyz")
    text = (tmp_path / "own.extxyz").read_text().replace("own=", "energy=")
    (tmp_path / "own.extxyz").write_text(text)
    (tmp_path / "other.extxyz").write_text(text.replace("dipole=", "mine="))
    (tmp_path / "a.yaml").write_text(CONFIG)
    for unit in ("Hartree", "1"):
        cormorant(
            *("train", "a.yaml", "--overwrite", "--override", "data.target=energy"),
            f"data.units={{energy: '{unit}'}}",
        )
        file = tmp_path / "runs/a/model.safetensors"
        whole = numbers(cormorant("evaluate", file, "own.extxyz", "--part", "all"))
        other = cormorant("evaluate", file, "other.extxyz")
        assert f"energy {unit}, pos Angstrom" in other
        found = numbers(other)["model.safetensors"]
        assert found == pytest.approx(whole["model.safetensors"], rel=1e-12)


def test_a_model_without_a_unit_is_compared_as_it_is(
    cormorant: Command, tmp_path: Path
) -> None:
    labels = write_own(tmp_path / "own.extxyz")
    torch.manual_seed(0)
    model = Cormorant(channels=4, num_levels=1, lmax=1, hidden=8).double()
    save_model(tmp_path / "m.safetensors", model, targets=["own"], units=[""])
    printed = cormorant("evaluate", "m.safetensors", "own.extxyz")
    data: Any = MiniQM9("gap")
    wrong = [
        (model.eval().predict(data[k].z, data[k].pos) - one["own"]).abs().item()
        for k, one in enumerate(labels)
    ]
    expected = sum(wrong) / len(wrong)
    assert numbers(printed)["m.safetensors"] == pytest.approx(expected, rel=1e-3)
    answer = cormorant(
        "evaluate", "m.safetensors", "own.extxyz", "--unit", "own=eV", code=2
    )
    assert "the model file tells none" in answer


def test_predictions_of_a_file_in_bohr(cormorant: Command, tmp_path: Path) -> None:
    write_own(tmp_path / "own.extxyz")
    (tmp_path / "a.yaml").write_text(CONFIG)
    cormorant(
        *("train", "a.yaml", "--override", "data.target=own"),
        "data.units={own: eV, pos: bohr}",
    )
    file = tmp_path / "runs/a/model.safetensors"
    text = (tmp_path / "own.extxyz").read_text()
    (tmp_path / "other.extxyz").write_text(text.replace("dipole=", "mine="))
    cormorant("predict", file, "own.extxyz", "-o", "a.csv")
    cormorant("predict", file, "other.extxyz", "-o", "b.csv", "--unit", "pos=bohr")
    cormorant("predict", file, "other.extxyz", "-o", "c.csv")
    first, second, third = ((tmp_path / f"{k}.csv").read_text() for k in "abc")
    assert first == second != third
    arguments = ("predict", file, "other.extxyz", "-o", "d.csv", "--unit")
    assert "only that of the positions" in cormorant(*arguments, "own=eV", code=2)


def test_any_text_may_be_a_name_or_a_unit(cormorant: Command, tmp_path: Path) -> None:
    write_own(tmp_path / "own.extxyz")
    text = (tmp_path / "own.extxyz").read_text().replace("own=", "a_$^$=")
    (tmp_path / "own.extxyz").write_text(text)
    (tmp_path / "a.yaml").write_text(CONFIG)
    cormorant(
        *("train", "a.yaml", "--override", "data.target=a_$^$"),
        *("data.units={a_$^$: $/mol}", "training.seeds=[0, 1]"),
    )
    assert (tmp_path / "runs/a/seed-1/report.html").exists()
    assert (tmp_path / "runs/a/calibration.png").exists()


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
    whole = ("--part", "all")
    # The file of the training: its units are known.
    printed = cormorant("evaluate", file, "own.extxyz", *whole)
    assert "taken as" not in printed
    known = numbers(printed)
    # The same molecules in another file: the unit of the model, unless it is said.
    text = (tmp_path / "own.extxyz").read_text()
    (tmp_path / "other.extxyz").write_text(text.replace("own=", "mine="))
    printed = cormorant("evaluate", file, "other.extxyz")
    assert "taken as the units of the file: dipole Debye, pos Angstrom" in printed
    ratio = known["always zero"] / numbers(printed)["always zero"]
    assert ratio == pytest.approx(2.541746, rel=1e-3)
    said = cormorant("evaluate", file, "other.extxyz", "--unit", "dipole=e*bohr")
    assert numbers(said) == known


def test_a_file_in_bohr_stays_in_bohr(cormorant: Command, tmp_path: Path) -> None:
    write_own(tmp_path / "own.extxyz")
    (tmp_path / "a.yaml").write_text(CONFIG)
    cormorant(
        *("train", "a.yaml", "--override", "data.target=own"),
        "data.units={own: eV, pos: bohr}",
    )
    file = tmp_path / "runs/a/model.safetensors"
    known = numbers(cormorant("evaluate", file, "own.extxyz", "--part", "all"))
    ours = known["model.safetensors"]
    text = (tmp_path / "own.extxyz").read_text()
    (tmp_path / "other.extxyz").write_text(text.replace("dipole=", "mine="))
    silent = numbers(cormorant("evaluate", file, "other.extxyz"))
    assert silent["model.safetensors"] != ours
    said = cormorant("evaluate", file, "other.extxyz", "--unit", "pos=bohr")
    assert numbers(said)["model.safetensors"] == ours


@pytest.mark.parametrize(
    ("target", "source", "columns"),
    [("energy", "own=", None), ("energy", "", "charge:R:1"), ("my own", "own=", None)],
)
def test_any_name_can_be_trained_evaluated_and_predicted(
    cormorant: Command, tmp_path: Path, target: str, source: str, columns: str | None
) -> None:
    write_own(tmp_path / "own.extxyz")
    text = (tmp_path / "own.extxyz").read_text()
    quoted = f'"{target}"=' if " " in target else f"{target}="
    text = text.replace(source or "no such", quoted)
    if columns:
        text = text.replace(columns, f"{target}:R:1")
    (tmp_path / "own.extxyz").write_text(text)
    (tmp_path / "a.yaml").write_text(CONFIG)
    printed = cormorant(
        *("train", "a.yaml", "--override", f"data.target={target}"),
        f"data.units={{{target}: Hartree}}",
    )
    file = tmp_path / "runs/a/model.safetensors"
    found = numbers(cormorant("evaluate", file, "own.extxyz"))
    ours = found["model.safetensors"]
    assert ours == pytest.approx(numbers(printed)["ours"], rel=1e-3)
    cormorant("predict", file, "own.extxyz", "-o", "new.extxyz")
    again = numbers(cormorant("evaluate", file, "new.extxyz"))
    assert again["model.safetensors"] < 1e-6 * ours


def test_notes_name_absent_elements_and_units_that_nobody_knows(
    cormorant: Command, tmp_path: Path
) -> None:
    write_own(tmp_path / "own.extxyz")
    lines = (tmp_path / "own.extxyz").read_text().splitlines()
    rows = split_indices(60, 30, 10, 20).test.tolist()
    starts = [k for k, line in enumerate(lines) if line.isdigit()]
    first = starts[rows[0]] + 2
    lines[first] = " ".join(["Si", *lines[first].split()[1:]])
    (tmp_path / "own.extxyz").write_text("\n".join(lines) + "\n")
    (tmp_path / "a.yaml").write_text(CONFIG)
    printed = cormorant(
        *("train", "a.yaml", "--override", "data.target=dipole"),
        "data.units={dipole: Debey}",
    )
    assert "note: no training molecule holds Si" in printed
    assert "note: the unit 'Debey' is not understood" in printed
    assert "head so3" in printed


def test_a_resumed_run_keeps_its_units(cormorant: Command, tmp_path: Path) -> None:
    write_own(tmp_path / "own.extxyz")
    (tmp_path / "a.yaml").write_text(CONFIG)
    start = ("train", "a.yaml", "--override", "data.target=dipole")
    cormorant(*start, "data.units={dipole: e*Angstrom}")
    for change in ("{dipole: Debye}", "{dipole: e*Angstrom, pos: bohr}"):
        answer = cormorant(*start, f"data.units={change}", "--resume", code=2)
        assert "cannot be resumed with" in answer
    answer = cormorant(
        *start, "data.units={dipole: e*Angstrom}", "data.unit=Debye", "--resume", code=2
    )
    assert "target_units" in answer


def test_cells_that_mean_nothing_are_left_alone(
    cormorant: Command, tmp_path: Path
) -> None:
    write_own(tmp_path / "own.extxyz")
    text = (tmp_path / "own.extxyz").read_text()
    box = 'Lattice="9 0 0 0 9 0 0 0 9" pbc="F F F" own='
    (tmp_path / "own.extxyz").write_text(text.replace("own=", box))
    (tmp_path / "a.yaml").write_text(CONFIG)
    own = ("data.target=own", "data.units={own: eV}")
    cormorant("train", "a.yaml", "--override", *own)
    file = tmp_path / "runs/a/model.safetensors"
    cormorant("predict", file, "own.extxyz", "-o", "new.csv")
    cell = text.replace("own=", box.replace("F F F", "T T T"), 1)
    (tmp_path / "cell.extxyz").write_text(cell)
    answer = cormorant("predict", file, "cell.extxyz", "-o", "b.csv", code=2)
    assert "structure 0: pbc: properties are of molecules" in answer


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
        (["data.target=[]"], "an empty list; name at least one"),
        (["data.target=own", "data.units={own: eV, positions: A}"], "no 'positions'"),
        (
            ["data.target=own", "data.units={own: eV}", "loss.forces=5"],
            "loss: is for energies and forces",
        ),
        (
            ["data.target=own", "data.units={own: eV}", "data.stress=s"],
            "data.stress: is for energies and forces",
        ),
        (["loss.forces=1"], "or, to learn a property, with data.target"),
        (["data.energy=own", "loss.forces=0"], "frame 0 has no 'forces'"),
        (
            [
                "data.target=neg",
                "data.units={neg: Debye}",
                "model.options.head=dipole_norm",
            ],
            "'neg' is negative somewhere",
        ),
        (
            [
                "data.target=[own, neg]",
                "data.units={own: Debye, neg: Debye}",
                "model.network=published",
                "model.options.head=dipole_norm",
            ],
            "'neg' is negative somewhere",
        ),
        (
            ["data.target=own", "data.units={own: eV}", "data.energy=e"],
            "data.energy: is for energies and forces",
        ),
        (["data.target=own", "data.units={own: 1}"], "write '1' in quotes"),
        (["data.target=uneven", "data.units={uneven: '1'}"], "is not symmetric"),
        (["data.target=nine", "data.units={nine: '1'}"], "no head predicts tensors"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_anything_is_written(
    cormorant: Command, tmp_path: Path, changes: list[str], words: str
) -> None:
    write_own(tmp_path / "own.extxyz")
    lines = (tmp_path / "own.extxyz").read_text()
    lines = lines.replace("own=", 'uneven="1 2 3 4 5 6 7 8 9" neg=-1 own=')
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
